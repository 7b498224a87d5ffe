/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/kill.h"
#include "tests/crash/life.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PAUSES_MAX 6
#define LIVES_MAX 2
#define FAULT_CALLS 100

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
    crash_kills_free(runner->kills);
    crash_survivors_fini(&runner->survivors);
    crash_tape_fini(&runner->tape);
    crash_bench_fini(&runner->bench);
}

void crash_runner_add_kills(struct crash_runner *runner)
{
    runner->kills = crash_kills_new(runner->bench.disk_count);
}

static void draw_life(struct crash_life *life)
{
    static const uint32_t alignments[] = {1, 1, 512, 4096};
    life->alignment = alignments[random_below(&life->random, 4)];
    life->pauses_max = random_once_in(&life->random, 4)
                           ? 0
                           : 1 + (unsigned)random_below(&life->random, PAUSES_MAX);
    life->slow_once_in = random_once_in(&life->random, 3) ? 5 : 30;
}

/* Where servers are killed, requests may fail, and in some lives a call of the disks does: what was
 * begun is undone then, and that too is in the redo log. */
static void draw_trouble(struct crash_life *life, struct crash_trouble *trouble)
{
    *trouble = (struct crash_trouble){.faults = {.code = -EIO}};
    if (random_once_in(&life->random, 3))
        trouble->faults.fail_at = 1 + random_below(&life->random, FAULT_CALLS);
    random_seed(&trouble->faults.random, random_u64(&life->random));
    life->trouble = trouble;
}

/* Of the image on `live`; next_base is what the next one may begin with. */
static bool live(struct crash_life *life, unsigned number)
{
    crash_life_record(life);
    if (!sim_failed(&life->sim))
        crash_life_play(life);
    free(life->base);
    life->base = life->next_base;
    life->base_bytes = life->next_base_bytes;
    life->next_base = NULL;
    life->survivors_seen = 0;
    if (!sim_failed(&life->sim))
        return true;
    crash_life_say_failure(life, number);
    return false;
}

bool crash_run_seed(struct crash_runner *runner, uint64_t seed)
{
    struct crash_life life;
    struct crash_trouble trouble;
    bool is_good = true;
    crash_life_init(&life, runner, seed);
    unsigned lives = random_once_in(&life.random, 3) ? LIVES_MAX : 1;
    for (unsigned i = 0; i < lives && is_good; i++) {
        life.wants_next = i + 1 < lives;
        draw_life(&life);
        if (runner->kills)
            draw_trouble(&life, &trouble);
        crash_workload_draw(&runner->workload, &runner->bench, &life.random);
        is_good = live(&life, i);
        if (i + 1 < lives && !life.base) /* the workload changed nothing: no power was cut */
            break;
    }
    crash_life_fini(&life);
    return is_good;
}

bool crash_run_sequence(struct crash_runner *runner, uint64_t number, uint64_t seed)
{
    struct crash_life life;
    struct crash_trouble trouble;
    crash_life_init(&life, runner, seed);
    life.alignment = 1;
    if (runner->kills)
        draw_trouble(&life, &trouble);
    bool is_good = crash_workload_sequence(&runner->workload, &runner->bench, number);
    if (!is_good)
        crash_die("there is no sequence %" PRIu64, number);
    is_good = live(&life, 0);
    crash_life_fini(&life);
    return is_good;
}
