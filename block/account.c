/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/account.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/env.h"

/*
 * What a request costs here: two counters of its loop's own lane, and a step on a *run*. A run is
 * how many requests of a kind that began at the same moment of the loop's cached clock have ended
 * in this round. At the end of the round, beside the sends of the replies, the loop's batch reads
 * the clock once for all accounts, and each run goes into its histograms as a whole.
 *
 * So a request begins at the loop's cached time, which is that of the receive that brought it, and
 * ends when its round does: it is what a client sees of it, never 0 for one that began and ended in
 * the same round, and the clock is read once a batch. The price is that times are of whole rounds:
 * what a driver took of a round, the others of the same round seem to have taken too.
 *
 * A *book* is one loop's latencies of one account. It is made when the first request has ended, and
 * the histograms of a kind with the first of that kind: a node that nobody reads costs a lane.
 *
 * Who touches what:
 * 1. Counters, runs and the list of pending books: the loop itself, without a lock; counters are
 *    read by anyone.
 * 2. Latencies: the loop under its batch's mutex, once a round; readers under it.
 * 3. An account may go on another thread, while its last requests' round has not ended. So a book
 *    is not freed with its account but put on its batch's list of dead ones, and freed by the batch
 *    after that has emptied its list of pending ones. When a book is found dead, the batch does not
 *    hold it any more: its last request ended, on the batch's thread, before the account went; so
 *    it became pending before the round's end that is under way, and was taken off at its begin.
 * 4. No loop turns at the end of the environment: what is pending or dead then is freed.
 */

#define RUNS_MAX 32

struct run {
    uint64_t start_ns;
    uint32_t count;
    enum account_kind kind;
};

struct account_book {
    struct account_book *next_pending, *next_dead;
    unsigned run_count; /* more than 0: pending */
    struct run runs[RUNS_MAX];
    uint8_t last_run[ACCOUNT_KIND_COUNT];          /* where the kind's last one may be */
    struct latency *latencies[ACCOUNT_KIND_COUNT]; /* NULL: none of that kind has ended */
};

static void add(_Atomic uint64_t *counter, uint64_t by)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + by, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static struct account_lane *lane_of(struct account *account)
{
    unsigned index = loop_index(loop_current());
    assert(index < account->env->loop_count);
    return &account->lanes[index];
}

/* --- books ----------------------------------------------------------------------------------- */

static void book_free(struct account_book *book)
{
    for (unsigned i = 0; i < ACCOUNT_KIND_COUNT; i++)
        free(book->latencies[i]);
    free(book);
}

/* The batch's mutex is held. Without memory for the histograms these requests go untimed. */
static void record_runs(struct account_book *book, uint64_t now_ns)
{
    for (unsigned i = 0; i < book->run_count; i++) {
        const struct run *run = &book->runs[i];
        struct latency **latency = &book->latencies[run->kind];
        if (!*latency)
            *latency = calloc(1, sizeof(**latency));
        if (*latency)
            latency_add(*latency, now_ns, now_ns > run->start_ns ? now_ns - run->start_ns : 0,
                        run->count);
    }
    book->run_count = 0;
}

static void record_pending(struct account_batch *batch)
{
    struct clock *clock = loop_clock(batch->loop);
    uint64_t now_ns = clock->now_ns(clock);
    pthread_mutex_lock(&batch->mutex);
    for (struct account_book *book = batch->pending; book; book = book->next_pending)
        record_runs(book, now_ns);
    pthread_mutex_unlock(&batch->mutex);
    batch->pending = NULL;
}

static void free_dead(struct account_batch *batch)
{
    if (!atomic_load_explicit(&batch->dead, memory_order_relaxed))
        return;
    struct account_book *book = atomic_exchange(&batch->dead, NULL);
    while (book) {
        struct account_book *next = book->next_dead;
        book_free(book);
        book = next;
    }
}

static void end_round(struct loop_task *task)
{
    struct account_batch *batch = container_of(task, struct account_batch, task);
    record_pending(batch);
    free_dead(batch);
}

void account_batch_init(struct account_batch *batch, struct loop *loop)
{
    *batch = (struct account_batch){.loop = loop, .task.run = end_round};
    link_init(&batch->task.link);
    pthread_mutex_init(&batch->mutex, NULL);
}

void account_batch_fini(struct account_batch *batch)
{
    loop_task_cancel(&batch->task);
    free_dead(batch);
    pthread_mutex_destroy(&batch->mutex);
}

struct settling {
    struct loop_job job;
    struct account_batch *batch;
    struct coroutine *waiter;
};

static void settle_here(struct loop_job *job)
{
    struct settling *settling = container_of(job, struct settling, job);
    if (settling->batch->pending)
        record_pending(settling->batch);
    coroutine_wake(settling->waiter);
}

void account_co_settle(struct block_env *env)
{
    for (unsigned i = 0; i < env->loop_count; i++) {
        struct account_batch *batch = &env->locals[i].accounts;
        struct settling settling = {
            .job.run = settle_here, .batch = batch, .waiter = coroutine_self()};
        loop_post(batch->loop, &settling.job);
        coroutine_yield();
    }
}

/* --- accounts -------------------------------------------------------------------------------- */

int account_init(struct account *account, struct block_env *env)
{
    size_t size = env->loop_count * sizeof(struct account_lane);
    *account = (struct account){.env = env};
    account->lanes = aligned_alloc(_Alignof(struct account_lane), size);
    if (!account->lanes)
        return -ENOMEM;
    memset(account->lanes, 0, size);
    return 0;
}

static void bury(struct account_batch *batch, struct account_book *book)
{
    book->next_dead = atomic_load(&batch->dead);
    while (!atomic_compare_exchange_weak(&batch->dead, &book->next_dead, book))
        ;
}

void account_fini(struct account *account)
{
    if (!account->lanes)
        return;
    for (unsigned i = 0; i < account->env->loop_count; i++) {
        struct account_book *book = atomic_load(&account->lanes[i].book);
        if (book)
            bury(&account->env->locals[i].accounts, book);
    }
    free(account->lanes);
    account->lanes = NULL;
}

/* --- counting -------------------------------------------------------------------------------- */

/* What happens once for all that began together and end together. */
static __attribute__((noinline)) void begin_run(struct account *account, struct account_lane *lane,
                                                enum account_kind kind, uint64_t start_ns)
{
    struct account_batch *batch = &account->env->locals[lane - account->lanes].accounts;
    struct account_book *book = atomic_load_explicit(&lane->book, memory_order_relaxed);
    if (!book) {
        book = calloc(1, sizeof(*book));
        if (!book)
            return;
        atomic_store_explicit(&lane->book, book, memory_order_release);
    }
    if (book->run_count == RUNS_MAX) { /* a long round: those before are taken to end here */
        struct clock *clock = loop_clock(batch->loop);
        uint64_t now_ns = clock->now_ns(clock);
        pthread_mutex_lock(&batch->mutex);
        record_runs(book, now_ns);
        pthread_mutex_unlock(&batch->mutex);
    } else if (book->run_count == 0) {
        book->next_pending = batch->pending;
        batch->pending = book;
        loop_at_round_end(batch->loop, &batch->task);
    }
    book->last_run[kind] = (uint8_t)book->run_count;
    book->runs[book->run_count++] = (struct run){.start_ns = start_ns, .count = 1, .kind = kind};
}

void account_end(struct account *account, enum account_kind kind, struct loop_moment start,
                 uint64_t bytes, int code)
{
    assert(start.index < account->env->loop_count);
    struct account_lane *lane = &account->lanes[start.index];
    if (code < 0) {
        add(&lane->kinds[kind].failed, 1);
    } else {
        add(&lane->kinds[kind].operations, 1);
        add(&lane->kinds[kind].bytes, bytes);
    }
    struct account_book *book = atomic_load_explicit(&lane->book, memory_order_relaxed);
    if (book && book->last_run[kind] < book->run_count) {
        struct run *run = &book->runs[book->last_run[kind]];
        if (run->start_ns == start.now_ns && run->kind == kind) {
            run->count++;
            return;
        }
    }
    begin_run(account, lane, kind, start.now_ns);
}

void account_invalid(struct account *account, enum account_kind kind)
{
    add(&lane_of(account)->kinds[kind].invalid, 1);
}

void account_bytes(struct account *account, enum account_kind kind, uint64_t bytes)
{
    add(&lane_of(account)->kinds[kind].bytes, bytes);
}

void account_turned_bad(struct account *account, enum account_kind kind, uint64_t bytes)
{
    struct account_lane *lane = lane_of(account);
    add(&lane->kinds[kind].operations, (uint64_t)-1);
    add(&lane->kinds[kind].bytes, -bytes);
    add(&lane->kinds[kind].failed, 1);
}

void account_merged(struct account *account, enum account_kind kind, uint64_t count)
{
    add(&lane_of(account)->kinds[kind].merged, count);
}

unsigned account_new_counter(struct account *account, const char *name)
{
    assert(account->counter_count < ACCOUNT_COUNTERS_MAX);
    account->counter_names[account->counter_count] = name;
    return account->counter_count++;
}

void account_count(struct account *account, unsigned counter, uint64_t by)
{
    assert(counter < account->counter_count);
    add(&lane_of(account)->counters[counter], by);
}

/* --- reading --------------------------------------------------------------------------------- */

const char *account_kind_name(enum account_kind kind)
{
    static const char *const names[ACCOUNT_KIND_COUNT] = {
        [ACCOUNT_READ] = "read",       [ACCOUNT_WRITE] = "write", [ACCOUNT_ZERO] = "zero",
        [ACCOUNT_DISCARD] = "discard", [ACCOUNT_FLUSH] = "flush", [ACCOUNT_STATUS] = "status",
        [ACCOUNT_CACHE] = "cache",
    };
    return names[kind];
}

uint64_t account_counter(const struct account *account, unsigned counter)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < account->env->loop_count; i++)
        sum += get(&account->lanes[i].counters[counter]);
    return sum;
}

void account_read_counts(const struct account *account, enum account_kind kind,
                         struct account_counts *ret)
{
    *ret = (struct account_counts){0};
    for (unsigned i = 0; i < account->env->loop_count; i++) {
        const struct account_lane *lane = &account->lanes[i];
        ret->operations += get(&lane->kinds[kind].operations);
        ret->bytes += get(&lane->kinds[kind].bytes);
        ret->failed += get(&lane->kinds[kind].failed);
        ret->invalid += get(&lane->kinds[kind].invalid);
        ret->merged += get(&lane->kinds[kind].merged);
    }
}

void account_read_latency(const struct account *account, enum account_kind kind,
                          enum latency_span span, struct latency_summary *ret)
{
    struct histogram sum = {.count = 0};
    for (unsigned i = 0; i < account->env->loop_count; i++) {
        struct account_book *book =
            atomic_load_explicit(&account->lanes[i].book, memory_order_acquire);
        if (!book)
            continue;
        struct account_batch *batch = &account->env->locals[i].accounts;
        struct clock *clock = loop_clock(batch->loop);
        uint64_t now_ns = clock->now_ns(clock);
        pthread_mutex_lock(&batch->mutex);
        if (book->latencies[kind])
            latency_merge(book->latencies[kind], span, now_ns, &sum);
        pthread_mutex_unlock(&batch->mutex);
    }
    histogram_summarise(&sum, ret);
}
