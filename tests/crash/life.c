/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/life.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/crash/kill.h"
#include "tests/crash/no_memory.h"

#define CUT_ONCE_IN 20 /* events, where servers are killed */

void crash_life_init(struct crash_life *life, struct crash_runner *runner, uint64_t seed)
{
    *life = (struct crash_life){.runner = runner};
    sim_init(&life->sim, seed, false);
    life->random = sim_random(&life->sim, "run", 0);
    runner->runs++;
    for (unsigned i = 0; i < runner->bench.disk_count; i++)
        crash_disk_copy(&runner->live[i], &runner->bench.start[i]);
}

void crash_life_fini(struct crash_life *life)
{
    free(life->base);
    sim_fini(&life->sim);
}

/* --- recording ----------------------------------------------------------------------------------
 */

static void init_oracle(struct crash_life *life)
{
    oracle_init(&life->oracle, &life->sim, life->runner->bench.shape->disk_bytes);
    oracle_go_on_with(&life->oracle, life->base);
    life->sizes = (struct crash_sizes){.all = {life->base_bytes}, .count = 1};
}

/* What the image shows at the beginning, in a copy, since the open may repair it. */
static void co_load_base(void *arg)
{
    struct crash_life *life = arg;
    struct block_node *node;
    struct error err = {.message = ""};
    uint64_t length, whole = life->runner->bench.shape->disk_bytes;
    struct crash_open how = {.disks = life->runner->live, .alignment = 1};
    if (crash_bench_co_open(&life->runner->bench, &how, &node, &err) < 0)
        crash_die("%s: %s", life->runner->bench.shape->name, err.message);
    if (crash_co_read_all(node, &life->base, &length) < 0 || length > whole)
        crash_die("%s: it cannot be read, or is too large", life->runner->bench.shape->name);
    life->base = crash_realloc(life->base, whole + 1);
    memset(life->base + length, 0, whole - length);
    life->base_bytes = length;
    block_co_node_unref(node);
}

static void record_disks(struct crash_life *life, struct crash_tape *tape)
{
    struct crash_runner *runner = life->runner;
    for (unsigned i = 0; i < runner->bench.disk_count; i++) {
        struct crash_disk *disk = &runner->live[i];
        disk->tape = tape;
        disk->number = i;
        disk->random = tape ? &life->random : NULL;
        disk->pauses_max = tape ? life->pauses_max : 0;
        disk->slow_once_in = life->slow_once_in;
        disk->reads_slowly = tape && runner->workload.reads_slowly;
        disk->discards_late = tape ? runner->discards_late : 0;
        disk->faults = tape && life->trouble ? &life->trouble->faults : NULL;
    }
    if (runner->kills)
        runner->live[CRASH_FILE].kept = tape ? &runner->kills->live : NULL;
}

static bool is_by_host(const struct crash_life *life)
{
    return life->trouble && life->trouble->host != CRASH_HOST_NONE;
}

static bool may_fail(const struct crash_life *life)
{
    return life->trouble && !is_by_host(life);
}

/* What happened without trouble, or may not have. */
static void must_not(struct crash_life *life, const char *what, const char *why)
{
    if (!may_fail(life))
        sim_fail(&life->sim, "%s: %s", what, why);
}

static int co_open(struct crash_life *life, struct block_backend **ret_backend)
{
    struct crash_runner *runner = life->runner;
    struct block_node *node;
    struct error err = {.message = ""};
    struct crash_open how = {
        .disks = runner->live, .alignment = life->alignment, .by_host = is_by_host(life)};
    int rc = crash_bench_co_open(&runner->bench, &how, &node, &err);
    if (rc == 0) {
        rc = block_backend_new(ret_backend, node, false, &err);
        block_co_node_unref(node);
    }
    if (rc < 0)
        must_not(life, "it cannot be opened", err.message);
    return rc;
}

static int co_close(struct crash_life *life, struct block_backend *backend)
{
    int rc = block_co_backend_free(backend);
    if (rc < 0)
        must_not(life, "it cannot be closed", error_text(rc));
    if (rc == 0 && !*crash_logged_error())
        crash_tape_note(&life->runner->tape, (struct crash_event){.kind = CRASH_CLOSED});
    return rc;
}

static void co_record(void *arg)
{
    struct crash_life *life = arg;
    struct crash_runner *runner = life->runner;
    struct crash_trouble none = {.lacks_memory = false};
    struct crash_trouble *trouble = life->trouble ? life->trouble : &none;
    struct crash_worker worker = {.bench = &runner->bench,
                                  .oracle = &life->oracle,
                                  .tape = &runner->tape,
                                  .pauses_max = life->pauses_max,
                                  .lacks_memory = trouble->lacks_memory,
                                  .may_fail = may_fail(life)};
    random_seed(&worker.random, random_u64(&life->random));
    crash_forget_logged();
    if (trouble->lacks_memory)
        crash_no_memory_arm(trouble->fail_at, trouble->is_sticky);
    crash_host_arm(&runner->bench.host, trouble->host, trouble->fail_at, trouble->is_sticky,
                   life->sim.seed);
    trouble->open_code = co_open(life, &worker.backend);
    crash_no_memory_disarm();
    if (trouble->open_code == 0) {
        crash_co_work(&worker, &runner->workload);
        crash_no_memory_rearm(trouble->lacks_memory);
        trouble->close_code = co_close(life, worker.backend);
        crash_no_memory_disarm();
    }
    trouble->allocations = crash_no_memory_count();
    trouble->failed_allocations = crash_no_memory_failed();
    trouble->host_calls = runner->bench.host.calls;
    trouble->host_hits = runner->bench.host.hits;
    trouble->failed_requests = worker.failed;
    trouble->is_logged = *crash_logged_error();
    if (trouble->is_logged)
        must_not(life, "an error was logged", crash_logged_error());
}

/* What the image is on now begins the life: it is all durable. */
void crash_life_record(struct crash_life *life)
{
    struct crash_runner *runner = life->runner;
    for (unsigned i = 0; i < runner->bench.disk_count; i++)
        crash_disk_copy(&runner->next[i], &runner->live[i]);
    if (!life->base) {
        crash_bench_run(&runner->bench, co_load_base, life);
        for (unsigned i = 0; i < runner->bench.disk_count; i++)
            crash_disk_revert(&runner->live[i], &runner->next[i]);
    }
    crash_tape_clear(&runner->tape);
    if (runner->kills) {
        crash_kept_drop(&runner->kills->live);
        runner->tape.kept.kept = &runner->kills->live;
    }
    init_oracle(life);
    record_disks(life, &runner->tape);
    crash_bench_run(&runner->bench, co_record, life);
    if (runner->kills)
        crash_kept_tape_finish(&runner->tape.kept, runner->tape.event_count);
    record_disks(life, NULL);
    oracle_fini(&life->oracle);
}

/* --- playing ------------------------------------------------------------------------------------
 */

/* One client alone resizes, and nothing is in flight when it flushes. */
static void keep_last_size(struct crash_sizes *sizes)
{
    sizes->all[0] = sizes->all[sizes->count - 1];
    sizes->count = 1;
}

static void add_size(struct crash_sizes *sizes, uint64_t size_bytes)
{
    if (sizes->count == CRASH_SIZES_MAX)
        crash_die("too many sizes");
    sizes->all[sizes->count++] = size_bytes;
}

static void play_client(struct crash_life *life, const struct crash_event *event)
{
    struct oracle *oracle = &life->oracle;
    switch (event->kind) {
    case CRASH_SENT:
        oracle_send(oracle, event->client, event->request, event->offset, event->length);
        break;
    case CRASH_ANSWERED:
        oracle_answer(oracle, event->number);
        break;
    case CRASH_FAILED:
        oracle_fail(oracle, event->number);
        break;
    case CRASH_FORCED:
        oracle_forced(oracle, event->number, NULL, NULL);
        break;
    case CRASH_FLUSH_SENT:
        life->flush_sent[event->number] = oracle_flush_send(oracle);
        break;
    case CRASH_FLUSHED:
        oracle_flushed(oracle, life->flush_sent[event->number], NULL, NULL);
        keep_last_size(&life->sizes);
        break;
    case CRASH_CLOSED:
        oracle_closed(oracle, NULL);
        keep_last_size(&life->sizes);
        break;
    case CRASH_RESIZE_SENT:
    case CRASH_RESIZED:
        add_size(&life->sizes, event->length);
        break;
    default:
        break;
    }
}

/* The next life begins with one of the survivors, each as likely as the others. */
static bool is_next(struct crash_life *life)
{
    return life->wants_next && random_once_in(&life->random, ++life->survivors_seen);
}

static bool judge(void *arg)
{
    struct crash_life *life = arg;
    struct crash_runner *runner = life->runner;
    if (runner->states_max > 0 && runner->verdicts.states >= runner->states_max)
        return false;
    struct crash_judging judging = {.bench = &runner->bench,
                                    .disks = runner->survivors.shown,
                                    .oracle = &life->oracle,
                                    .sizes = &life->sizes,
                                    .alignment = 1,
                                    .foreign_once_in = runner->foreign_once_in,
                                    .keeps_bytes = is_next(life),
                                    .verdicts = &runner->verdicts};
    if (judging.keeps_bytes) {
        for (unsigned i = 0; i < runner->bench.disk_count; i++)
            crash_disk_copy(&runner->live[i], &runner->survivors.shown[i]);
    }
    bool is_good = crash_judge_image(&judging);
    if (judging.keeps_bytes) {
        free(life->next_base);
        life->next_base = judging.bytes;
        life->next_base_bytes = judging.size_bytes;
    }
    return is_good;
}

/* With trouble: what was promised, after it and before; and at the end, whatever it was. */
static bool cut_in_trouble(struct crash_life *life, const struct crash_event *event, bool is_last)
{
    struct crash_survivors *survivors = &life->runner->survivors;
    bool is_promise =
        event->kind == CRASH_FORCED || event->kind == CRASH_FLUSHED || event->kind == CRASH_CLOSED;
    if (life->trouble->host == CRASH_HOST_ODD) /* see host.h */
        is_promise = event->kind == CRASH_CLOSED;
    if (!is_promise && (!is_last || is_by_host(life)))
        return true;
    uint64_t pending = survivors->pending_count;
    bool goes_on = crash_survivors_cut(survivors, false, judge, life);
    if (event->kind == CRASH_CLOSED && pending == 0) {
        life->trouble->is_leak_known = true;
        life->trouble->leaks = life->runner->verdicts.leaks_last;
    }
    return goes_on;
}

/* After a change began, all that has it; after an answer that promises something, all there is. */
static bool cut_after(struct crash_life *life, const struct crash_event *event)
{
    struct crash_survivors *survivors = &life->runner->survivors;
    const struct crash_tape *tape = survivors->tape;
    switch (event->kind) {
    case CRASH_BEGAN:
        if (tape->changes[event->number].kind == CRASH_FLUSH ||
            tape->changes[event->number].kind == CRASH_FLUSH_FAILED)
            return true;
        return crash_survivors_cut(survivors, true, judge, life);
    case CRASH_FORCED:
    case CRASH_FLUSHED:
    case CRASH_CLOSED:
        return crash_survivors_cut(survivors, false, judge, life);
    default:
        return true;
    }
}

/* The power cuts are those of a server with a redo log. */
static bool kill_or_cut(struct crash_life *life, uint64_t index)
{
    return crash_kills_play(life, index) && (!random_once_in(&life->random, CUT_ONCE_IN) ||
                                             cut_after(life, &life->runner->tape.events[index]));
}

void crash_life_play(struct crash_life *life)
{
    struct crash_runner *runner = life->runner;
    bool goes_on = true;
    crash_survivors_start(&runner->survivors, &runner->tape, runner->next,
                          random_u64(&life->random));
    init_oracle(life);
    if (runner->kills)
        crash_kills_start(life);
    for (uint64_t i = 0; i < runner->tape.event_count && goes_on; i++) {
        const struct crash_event *event = &runner->tape.events[i];
        play_client(life, event);
        crash_survivors_play(&runner->survivors, i);
        goes_on = runner->kills   ? kill_or_cut(life, i)
                  : life->trouble ? cut_in_trouble(life, event, i + 1 == runner->tape.event_count)
                                  : cut_after(life, event);
    }
    oracle_fini(&life->oracle);
}

/* --- for people ---------------------------------------------------------------------------------
 */

void crash_life_say_failure(struct crash_life *life, unsigned number)
{
    struct crash_runner *runner = life->runner;
    char changes[2048];
    snprintf(runner->failure, sizeof(runner->failure), "%s", life->sim.failure);
    if (runner->ends_quietly)
        return;
    crash_survivors_describe(&runner->survivors, changes, sizeof(changes));
    printf("FAILED: %s, %s, seed %" PRIu64 ", life %u, requests of %u clients, disks aligned to "
           "%" PRIu32 ":\n",
           runner->bench.format->name, runner->bench.shape->name, life->sim.seed, number + 1,
           runner->workload.client_count, life->alignment);
    crash_workload_print(&runner->workload);
    if (runner->is_traced)
        crash_tape_print(&runner->tape, runner->survivors.now);
    if (runner->kills && *runner->kills->what)
        printf("  %s\n", runner->kills->what);
    printf("  power cut %" PRIu64 " of this life, after event %" PRIu64 " of %zu\n  pending: %s\n"
           "  %s\n",
           runner->cuts_before, runner->survivors.now, runner->tape.event_count,
           *changes ? changes : "nothing", life->sim.failure);
    fflush(stdout);
}
