/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether the power cuts find anything: each planted bug (plants.h) must be found within so many
 * cuts, by the runs of the first seeds, in the shape where it can show.
 *
 *     test_teeth [SEED]
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/crash/kill.h"
#include "tests/crash/plants.h"
#include "tests/crash/run.h"

#define SEED_DEFAULT 20260601
#define LATE_CALLS 12 /* a late punch comes after so many other calls */

static const struct tooth {
    enum crash_plant plant;
    const char *name, *shape;
    uint64_t cuts_max;
} teeth[] = {
    {PLANT_REFCOUNT_AFTER_L2, "refcount after L2", "plain-4k", 200},
    {PLANT_L2_BEFORE_DATA, "L2 before copied data", "lazy-backed", 500},
    {PLANT_L1_BEFORE_L2, "L1 before L2", "plain-512", 1500},
    {PLANT_EARLY_REUSE, "early reuse of a freed cluster", "filled-512", 500},
    {PLANT_LATE_PUNCH, "late hole punch on a reused one", "filled-512", 1000},
    {PLANT_DETACHED_PUNCH, "a punch that nobody waits for", "filled-512", 5000},
    {PLANT_TORN_HEADER, "torn header", "growth", 500},
    {PLANT_LYING_FLUSH, "a flush that lies", "plain-4k", 100},
    {PLANT_EARLY_DECREMENT, "a decrement before the removal is durable", "filled-512", 1000},
    {PLANT_CHANGING_SLOT, "a slot written while it changes", "plain-512", 2000},
    {PLANT_NO_GRACE, "reuse while somebody still reads", "filled-512", 10000},
};

/* The same of gow1. What is reused changes nothing in the header, so only the need is in the way.
 */
static const struct tooth gow1_teeth[] = {
    {PLANT_MAP_BEFORE_ALLOCATED, "an entry before allocated", "empty", 200},
    {PLANT_L2_BEFORE_DATA, "an entry before its data", "leaky", 500},
    {PLANT_STALE_BLOCK, "old bytes around a first write", "leaky", 100},
    {PLANT_LYING_FLUSH, "a flush that lies", "filled", 200},
};

/* The same of kills and of cuts in a replay. */
static const struct tooth redo_teeth[] = {
    {PLANT_STORE_NOT_LOGGED, "a change that is not in the redo log", "plain-4k", 200},
    {PLANT_EARLY_TRIM, "a redo log that is trimmed too early", "plain-4k", 200},
    {PLANT_FORGET_NOT_LOGGED, "a replay over what is no table any more", "plain-512", 2000},
    {PLANT_REPLAY_BACKWARD, "a replay in the wrong order", "plain-512", 2000},
};

static const struct crash_shape *shape_of(const struct crash_format *format, const char *name)
{
    const struct crash_shape *shape = format->shapes;
    while (shape->name && strcmp(shape->name, name) != 0)
        shape++;
    if (!shape->name)
        crash_die("there is no shape %s", name);
    return shape;
}

static uint64_t cuts_of(const struct crash_runner *runner)
{
    return runner->survivors.cuts +
           (runner->kills ? runner->kills->kills + runner->kills->cuts : 0);
}

static bool bites(const struct crash_format *format, const struct tooth *tooth, bool has_kills,
                  uint64_t seed)
{
    struct crash_runner runner;
    bool is_found = false;
    crash_runner_init(&runner, format, shape_of(format, tooth->shape));
    runner.ends_quietly = true;
    if (has_kills)
        crash_runner_add_kills(&runner);
    runner.discards_late = tooth->plant == PLANT_LATE_PUNCH ? LATE_CALLS : 0;
    crash_plant(tooth->plant);
    while (!is_found && cuts_of(&runner) < tooth->cuts_max)
        is_found = !crash_run_seed(&runner, seed++);
    crash_plant(PLANT_NONE);
    is_found &= cuts_of(&runner) <= tooth->cuts_max;
    printf("%s, %s: %s after %" PRIu64 " cuts, %" PRIu64 " states, %" PRIu64
           " runs; at most %" PRIu64 "%s%s\n",
           format->name, tooth->name, is_found ? "found" : "NOT FOUND", cuts_of(&runner),
           runner.verdicts.states, runner.runs, tooth->cuts_max, is_found ? ": " : "",
           runner.failure);
    fflush(stdout);
    crash_runner_fini(&runner);
    return is_found;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? crash_number(argv[1]) : SEED_DEFAULT;
    unsigned missed = 0;
    printf("seed %" PRIu64 "\n", seed);
    for (size_t i = 0; i < sizeof(teeth) / sizeof(*teeth); i++)
        missed += !bites(&crash_qcow2, &teeth[i], false, seed);
    for (size_t i = 0; i < sizeof(redo_teeth) / sizeof(*redo_teeth); i++)
        missed += !bites(&crash_qcow2, &redo_teeth[i], true, seed);
    for (size_t i = 0; i < sizeof(gow1_teeth) / sizeof(*gow1_teeth); i++)
        missed += !bites(&crash_gow1, &gow1_teeth[i], false, seed);
    return missed > 0;
}
