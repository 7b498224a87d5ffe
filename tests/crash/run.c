/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAUSES_MAX 6
#define LIVES_MAX 2

/* One life of the image, from an open to a close. */
struct life {
    struct crash_runner *runner;
    struct sim sim;
    struct oracle oracle; /* of what clients see; then, anew, of the tape */
    struct random random;
    uint32_t alignment;
    unsigned pauses_max;
    uint8_t *base; /* what the disk shows at the beginning; NULL: not known yet */
    uint32_t flush_sent[CRASH_FLUSHES_MAX]; /* the oracle's moments of them */
    bool wants_next;
    uint64_t survivors_seen;
    uint8_t *next_base;
};

void crash_runner_init(struct crash_runner *runner, const struct crash_format *format,
                       const struct crash_shape *shape)
{
    memset(runner, 0, sizeof(*runner));
    crash_bench_init(&runner->bench, format, shape);
    crash_survivors_init(&runner->survivors, runner->bench.disk_count, CRASH_ROOM_BYTES);
    for (unsigned i = 0; i < runner->bench.disk_count; i++) {
        crash_disk_init(&runner->live[i], CRASH_ROOM_BYTES);
        crash_disk_init(&runner->next[i], CRASH_ROOM_BYTES);
    }
}

void crash_runner_fini(struct crash_runner *runner)
{
    for (unsigned i = 0; i < runner->bench.disk_count; i++) {
        crash_disk_fini(&runner->live[i]);
        crash_disk_fini(&runner->next[i]);
    }
    crash_survivors_fini(&runner->survivors);
    crash_tape_fini(&runner->tape);
    crash_bench_fini(&runner->bench);
}

/* --- recording ----------------------------------------------------------------------------------
 */

static void init_oracle(struct life *life)
{
    oracle_init(&life->oracle, &life->sim, life->runner->bench.shape->disk_bytes);
    oracle_go_on_with(&life->oracle, life->base);
}

/* What the image shows at the beginning, in a copy, since the open may repair it. */
static void co_load_base(void *arg)
{
    struct life *life = arg;
    struct block_node *node;
    struct error err = {.message = ""};
    uint64_t length;
    struct crash_open how = {.disks = life->runner->live, .alignment = 1};
    if (crash_bench_co_open(&life->runner->bench, &how, &node, &err) < 0)
        crash_die("%s: %s", life->runner->bench.shape->name, err.message);
    if (crash_co_read_all(node, &life->base, &length) < 0 ||
        length != life->runner->bench.shape->disk_bytes)
        crash_die("%s: it cannot be read, or has another size", life->runner->bench.shape->name);
    block_co_node_unref(node);
}

static void record_disks(struct life *life, struct crash_tape *tape)
{
    struct crash_runner *runner = life->runner;
    for (unsigned i = 0; i < runner->bench.disk_count; i++) {
        struct crash_disk *disk = &runner->live[i];
        disk->tape = tape;
        disk->number = i;
        disk->random = tape ? &life->random : NULL;
        disk->pauses_max = tape ? life->pauses_max : 0;
        disk->discards_late = tape ? runner->discards_late : 0;
    }
}

static void co_record(void *arg)
{
    struct life *life = arg;
    struct crash_runner *runner = life->runner;
    struct block_node *node;
    struct error err = {.message = ""};
    struct crash_open how = {.disks = runner->live, .alignment = life->alignment};
    struct crash_worker worker = {.bench = &runner->bench,
                                  .oracle = &life->oracle,
                                  .tape = &runner->tape,
                                  .pauses_max = life->pauses_max};
    random_seed(&worker.random, random_u64(&life->random));
    crash_forget_logged();
    if (crash_bench_co_open(&runner->bench, &how, &node, &err) < 0 ||
        block_backend_new(&worker.backend, node, false, &err) < 0)
        crash_die("%s: %s", runner->bench.shape->name, err.message);
    block_co_node_unref(node);
    crash_co_work(&worker, &runner->workload);
    int rc = block_co_backend_free(worker.backend);
    if (rc < 0)
        sim_fail(&life->sim, "closing failed: %s", error_text(rc));
    else
        crash_tape_note(&runner->tape, (struct crash_event){.kind = CRASH_CLOSED});
    if (*crash_logged_error())
        sim_fail(&life->sim, "an error was logged: %s", crash_logged_error());
}

/* What the image is on now begins the life: it is all durable. */
static void record(struct life *life)
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
    init_oracle(life);
    record_disks(life, &runner->tape);
    crash_bench_run(&runner->bench, co_record, life);
    record_disks(life, NULL);
    oracle_fini(&life->oracle);
}

/* --- playing ------------------------------------------------------------------------------------
 */

static void play_client(struct life *life, const struct crash_event *event)
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
        break;
    case CRASH_CLOSED:
        oracle_closed(oracle, NULL);
        break;
    default:
        break;
    }
}

/* The next life begins with one of the survivors, each as likely as the others. */
static bool is_next(struct life *life)
{
    return life->wants_next && random_once_in(&life->random, ++life->survivors_seen);
}

static bool judge(void *arg)
{
    struct life *life = arg;
    struct crash_runner *runner = life->runner;
    if (runner->states_max > 0 && runner->verdicts.states >= runner->states_max)
        return false;
    struct crash_judging judging = {.bench = &runner->bench,
                                    .disks = runner->survivors.shown,
                                    .oracle = &life->oracle,
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
    }
    return is_good;
}

/* After a change began, all that has it; after an answer that promises something, all there is. */
static bool cut_after(struct life *life, const struct crash_event *event)
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

static void play(struct life *life)
{
    struct crash_runner *runner = life->runner;
    bool goes_on = true;
    crash_survivors_start(&runner->survivors, &runner->tape, runner->next,
                          random_u64(&life->random));
    init_oracle(life);
    for (uint64_t i = 0; i < runner->tape.event_count && goes_on; i++) {
        const struct crash_event *event = &runner->tape.events[i];
        play_client(life, event);
        crash_survivors_play(&runner->survivors, i);
        goes_on = cut_after(life, event);
    }
    oracle_fini(&life->oracle);
}

/* --- a run --------------------------------------------------------------------------------------
 */

static void say_failure(struct life *life, unsigned number, uint64_t cuts_before)
{
    struct crash_runner *runner = life->runner;
    char changes[2048];
    runner->cuts_before = runner->survivors.cuts - cuts_before;
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
    printf("  power cut %" PRIu64 " of this life, after event %" PRIu64 " of %zu\n  pending: %s\n"
           "  %s\n",
           runner->cuts_before, runner->survivors.now, runner->tape.event_count,
           *changes ? changes : "nothing", life->sim.failure);
    fflush(stdout);
}

static void draw_life(struct life *life)
{
    static const uint32_t alignments[] = {1, 1, 512, 4096};
    life->alignment = alignments[random_below(&life->random, 4)];
    life->pauses_max = random_once_in(&life->random, 4)
                           ? 0
                           : 1 + (unsigned)random_below(&life->random, PAUSES_MAX);
}

/* Of the image on `live`; next_base is what the next one may begin with. */
static bool live(struct life *life, unsigned number)
{
    struct crash_runner *runner = life->runner;
    uint64_t cuts_before = runner->survivors.cuts;
    record(life);
    if (!sim_failed(&life->sim))
        play(life);
    free(life->base);
    life->base = life->next_base;
    life->next_base = NULL;
    life->survivors_seen = 0;
    if (!sim_failed(&life->sim))
        return true;
    say_failure(life, number, cuts_before);
    return false;
}

static void begin(struct life *life, struct crash_runner *runner, uint64_t seed)
{
    *life = (struct life){.runner = runner};
    sim_init(&life->sim, seed, false);
    life->random = sim_random(&life->sim, "run", 0);
    runner->runs++;
    for (unsigned i = 0; i < runner->bench.disk_count; i++)
        crash_disk_copy(&runner->live[i], &runner->bench.start[i]);
}

static void end(struct life *life)
{
    free(life->base);
    sim_fini(&life->sim);
}

bool crash_run_seed(struct crash_runner *runner, uint64_t seed)
{
    struct life life;
    bool is_good = true;
    begin(&life, runner, seed);
    unsigned lives = random_once_in(&life.random, 3) ? LIVES_MAX : 1;
    for (unsigned i = 0; i < lives && is_good; i++) {
        life.wants_next = i + 1 < lives;
        draw_life(&life);
        crash_workload_draw(&runner->workload, &runner->bench, &life.random);
        is_good = live(&life, i);
        if (i + 1 < lives && !life.base) /* the workload changed nothing: no power was cut */
            break;
    }
    end(&life);
    return is_good;
}

bool crash_run_sequence(struct crash_runner *runner, uint64_t number, uint64_t seed)
{
    struct life life;
    begin(&life, runner, seed);
    life.alignment = 1;
    bool is_good = crash_workload_sequence(&runner->workload, &runner->bench, number);
    if (!is_good)
        crash_die("there is no sequence %" PRIu64, number);
    is_good = live(&life, 0);
    end(&life);
    return is_good;
}
