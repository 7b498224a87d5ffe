/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A turn is rounds, then the poller. A round takes the posted jobs, resumes what was ready when it
 * began, runs the tasks, and gives each source its share. Rounds are bounded: a busy source or a
 * coroutine that pauses for ever does not keep the loop from its sockets, they are looked at
 * without sleeping. The same when a turn has copied much on the spot.
 */
#include "block/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/coroutine_private.h"
#include "block/loop_backlog.h"
#include "block/loop_private.h"

#define ROUNDS_MAX 16 /* in one turn, before the poller has its share */

static _Thread_local struct loop *current;

/* A real call, always: see coroutine_self(). */
__attribute__((noinline)) struct loop *loop_current(void)
{
    __asm__ volatile("");
    return current;
}

__attribute__((noinline)) struct loop *loop_enter(struct loop *loop)
{
    struct loop *previous = current;
    current = loop;
    return previous;
}

__attribute__((noinline)) void loop_leave(struct loop *previous)
{
    __asm__ volatile("");
    current = previous;
}

static void stop_asked(struct loop_job *job)
{
    struct loop *loop = container_of(job, struct loop, stop_job);
    atomic_store(&loop->stop_posted, false);
    loop->stopping = true;
    loop->stay_awake = true;
}

int loop_new(struct loop **ret_loop, unsigned index, const struct poller_ops *poller_ops,
             struct clock *clock, struct error *err)
{
    assert(index < LOOP_COUNT_MAX);
    struct loop *loop;
    if (posix_memalign((void **)&loop, 64, sizeof(*loop)))
        return error_set(err, -ENOMEM, "out of memory for event loop %u", index);
    *loop = (struct loop){.index = index, .poller_ops = poller_ops, .clock = clock};
    loop_room_init(&loop->room);
    loop_nap_init(&loop->nap);
    loop->stop_job.run = stop_asked;
    list_init(&loop->ready);
    list_init(&loop->timers);
    list_init(&loop->tasks);
    list_init(&loop->sources);
    list_init(&loop->backlog_tasks);
    coroutine_pool_init(&loop->coroutine_pool);
    int rc = poller_ops->open(loop, &loop->poller, err);
    if (rc < 0) {
        free(loop);
        return rc;
    }
    *ret_loop = loop;
    return 0;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    struct loop_job *left = loop_inbox_take(&loop->inbox);
    assert(!left || (left == &loop->stop_job && !left->next));
    (void)left;
    assert(list_is_empty(&loop->ready) && list_is_empty(&loop->timers));
    assert(list_is_empty(&loop->tasks) && list_is_empty(&loop->sources));
    assert(list_is_empty(&loop->backlog_tasks) && loop->room.backlog == 0);
    loop_inbox_settle(&loop->inbox);
    coroutine_pool_fini(&loop->coroutine_pool);
    loop->poller_ops->close(loop->poller);
    free(loop);
}

unsigned loop_index(const struct loop *loop)
{
    return loop->index;
}

void *loop_poller(const struct loop *loop)
{
    return loop->poller;
}

struct coroutine_pool *loop_coroutine_pool(struct loop *loop)
{
    return &loop->coroutine_pool;
}

uint64_t loop_now_ns(struct loop *loop)
{
    if (!loop->now_is_known || loop_current() != loop) {
        loop->now_ns = loop->clock->now_ns(loop->clock);
        loop->now_is_known = true;
    }
    return loop->now_ns;
}

__attribute__((noinline)) struct loop_moment loop_moment(void)
{
    struct loop *loop = current;
    __asm__ volatile("");
    if (!loop->now_is_known)
        loop_now_ns(loop);
    return (struct loop_moment){.now_ns = loop->now_ns, .index = loop->index};
}

struct clock *loop_clock(const struct loop *loop)
{
    return loop->clock;
}

void loop_post(struct loop *loop, struct loop_job *job)
{
    if (!loop_inbox_push(&loop->inbox, job))
        return; /* job may be gone, and the loop too */
    loop->poller_ops->wake(loop->poller);
    loop_inbox_woken(&loop->inbox);
}

void loop_stop(struct loop *loop)
{
    if (!atomic_exchange(&loop->stop_posted, true))
        loop_post(loop, &loop->stop_job);
}

bool loop_has_posted(const struct loop *loop)
{
    return loop_inbox_has_jobs(&loop->inbox);
}

static bool run_posted(struct loop *loop)
{
    struct loop_job *job = loop_inbox_take(&loop->inbox);
    bool any = job;
    while (job) {
        struct loop_job *next = job->next;
        job->run(job); /* and it may be gone */
        job = next;
    }
    return any;
}

void loop_make_ready(struct loop *loop, struct coroutine *co)
{
    list_append(&loop->ready, &co->link);
}

/* Those that become ready meanwhile wait for the next round, so the sources have theirs between. */
static bool resume_ready(struct loop *loop)
{
    struct list batch;
    struct list_link *link;
    if (list_is_empty(&loop->ready))
        return false;
    list_init(&batch);
    list_move_all(&batch, &loop->ready);
    while ((link = list_pop(&batch)))
        coroutine_resume(container_of(link, struct coroutine, link));
    return true;
}

static bool turn_sources(struct loop *loop)
{
    bool any = false;
    list_for_each (link, &loop->sources) {
        struct loop_source *source = container_of(link, struct loop_source, link);
        any |= source->turn(source);
    }
    return any;
}

static bool run_tasks(struct loop *loop)
{
    struct list batch;
    struct list_link *link;
    if (list_is_empty(&loop->tasks))
        return false;
    list_init(&batch);
    list_move_all(&batch, &loop->tasks);
    while ((link = list_pop(&batch))) {
        struct loop_task *task = container_of(link, struct loop_task, link);
        task->run(task);
    }
    return true;
}

/* In order, each as long as those before it did not bring the backlog back. */
static bool run_backlog_tasks(struct loop *loop)
{
    bool any = false;
    struct list_link *link;
    while (!loop_is_backlogged(loop) && (link = list_pop(&loop->backlog_tasks))) {
        struct loop_task *task = container_of(link, struct loop_task, link);
        task->run(task);
        any = true;
    }
    return any;
}

/* What the poller or the last round brought may have used the room up: then its answers are sent
 * before there is room again. */
static bool run_round(struct loop *loop)
{
    bool any = !loop_has_room(loop) && run_tasks(loop);
    loop_room_begin_round(&loop->room);
    any |= run_posted(loop);
    any |= resume_ready(loop);
    any |= run_tasks(loop);
    any |= run_backlog_tasks(loop);
    any |= turn_sources(loop);
    /* The sources may have brought it down without anything to resume. */
    return any || (!list_is_empty(&loop->backlog_tasks) && !loop_is_backlogged(loop));
}

/* True when anything was done; *ret_idle when nothing is left to do without the poller. */
static bool run_rounds(struct loop *loop, bool *ret_idle)
{
    bool any = false;
    loop->room.turn_bytes = 0;
    for (unsigned round = 0; round < ROUNDS_MAX && loop->room.turn_bytes < LOOP_TURN_BYTES;
         round++) {
        if (!run_round(loop)) {
            *ret_idle = true;
            return any;
        }
        any = true;
    }
    *ret_idle = false;
    return any;
}

static bool expire_timers(struct loop *loop)
{
    struct list batch;
    struct list_link *link;
    if (list_is_empty(&loop->timers))
        return false;
    uint64_t now_ns = loop_now_ns(loop);
    list_init(&batch); /* first taken, then run: one that is set again waits for the next turn */
    while ((link = list_first(&loop->timers)) &&
           container_of(link, struct loop_timer, link)->due_ns <= now_ns) {
        list_remove(link);
        list_append(&batch, link);
    }
    bool any = !list_is_empty(&batch);
    while ((link = list_pop(&batch))) {
        struct loop_timer *timer = container_of(link, struct loop_timer, link);
        timer->expired(timer);
    }
    return any;
}

struct run_co {
    coroutine_entry *entry;
    void *arg;
    bool waits_for_all; /* coroutines of the loop */
    bool has_ended;
};

static bool run_co_is_over(const struct loop *loop)
{
    const struct run_co *run = loop->run_co;
    return run && run->has_ended && (!run->waits_for_all || loop->coroutine_pool.used_count == 0);
}

enum sleep { SLEEP_NEVER, SLEEP_IF_NOTHING_WAS_DONE, SLEEP };

static bool turn(struct loop *loop, enum sleep sleep)
{
    assert(!loop_current() && !coroutine_inside());
    struct loop *previous = loop_enter(loop);
    bool idle;
    loop->stay_awake = false;
    bool any = run_rounds(loop, &idle);
    bool is_over = run_co_is_over(loop);
    bool may_sleep = sleep == SLEEP || (sleep == SLEEP_IF_NOTHING_WAS_DONE && !any);
    if (!is_over || !idle) { /* else nobody waits for what the poller could tell */
        any |= loop_wait(loop, may_sleep && idle && !loop->stay_awake);
        any |= expire_timers(loop);
    }
    loop_leave(previous);
    return any;
}

bool loop_turn(struct loop *loop, bool may_sleep)
{
    loop->now_is_known = false; /* who knows how long ago the last turn was */
    return turn(loop, may_sleep ? SLEEP_IF_NOTHING_WAS_DONE : SLEEP_NEVER);
}

void loop_run(struct loop *loop)
{
    loop->now_is_known = false;
    while (!loop->stopping)
        turn(loop, SLEEP);
    loop->stopping = false;
}

static void run_co_main(void *arg)
{
    struct run_co *run = arg;
    run->entry(run->arg);
    run->has_ended = true;
}

static int run_co(struct loop *loop, struct run_co *run)
{
    assert(!loop_current() && !coroutine_inside() && !loop->run_co);
    loop->now_is_known = false;
    int rc = coroutine_start(loop, run_co_main, run);
    if (rc < 0)
        return rc;
    loop->run_co = run;
    while (!run_co_is_over(loop))
        turn(loop, SLEEP);
    loop->run_co = NULL;
    return 0;
}

int loop_run_co(struct loop *loop, void (*entry)(void *arg), void *arg)
{
    return run_co(loop, &(struct run_co){.entry = entry, .arg = arg});
}

int loop_run_all_co(struct loop *loop, void (*entry)(void *arg), void *arg)
{
    return run_co(loop, &(struct run_co){.entry = entry, .arg = arg, .waits_for_all = true});
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t due_ns)
{
    list_remove(&timer->link);
    timer->due_ns = due_ns;
    struct list_link *at = loop->timers.head.prev;
    while (at != &loop->timers.head && container_of(at, struct loop_timer, link)->due_ns > due_ns)
        at = at->prev;
    list_insert_before(at->next, &timer->link);
}

void loop_timer_clear(struct loop_timer *timer)
{
    list_remove(&timer->link);
}

struct loop_room *loop_room(struct loop *loop)
{
    return &loop->room;
}

void loop_when_backlog_falls(struct loop *loop, struct loop_task *task)
{
    assert(loop_is_backlogged(loop));
    if (!link_is_listed(&task->link))
        list_append(&loop->backlog_tasks, &task->link);
}

void loop_at_round_end(struct loop *loop, struct loop_task *task)
{
    if (!link_is_listed(&task->link))
        list_append(&loop->tasks, &task->link);
}

void loop_task_cancel(struct loop_task *task)
{
    list_remove(&task->link);
}

void loop_source_add(struct loop *loop, struct loop_source *source)
{
    list_append(&loop->sources, &source->link);
}

void loop_source_remove(struct loop_source *source)
{
    list_remove(&source->link);
}
