/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Power cuts: so many states of each format's images, over all of its shapes.
 *
 *     test_power_cut [--format NAME] [--shape NAME] [--states N] [--seed N]
 *                    [--sequences [--stride N]] [--kills] [--foreign-once-in N] [--only]
 *                    [--trace]
 *
 * --sequences: instead of workloads that are drawn, every stride-th of all short sequences of
 * requests; with --stride 1 all of them (of slow shapes some), however many states that makes.
 * --kills: the server is killed (kill.h), and the power is cut seldom and while the next one
 * replays its redo log. PLATTER_CRASH_STATES, PLATTER_CRASH_SEED and PLATTER_CRASH_STRIDE say the
 * same as --states,
 * --seed and --stride. --only runs the one seed alone: that is how one that failed is run again;
 * --trace prints what led to it.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/clock.h"
#include "tests/crash/kill.h"
#include "tests/crash/run.h"

#define SEED_DEFAULT 20260601
#define STATES_DEFAULT 20000
#define STRIDE_DEFAULT 97
#define SEQUENCES_STATES_DEFAULT 6000
#define KILLS_STATES_DEFAULT 3000
#define KILLS_STATES_OF                                                       \
    10 /* of a number of states that is given: a kill takes longer than a cut \
        */
#define FOREIGN_ONCE_IN_DEFAULT 200

struct wanted {
    const char *program;
    struct crash_selection shapes;
    uint64_t states, seed, stride;
    unsigned foreign_once_in;
    bool sequences, kills, only, trace;
};

struct sums {
    uint64_t states, cuts, runs, foreign, leaky, leaks_max;
    bool is_bad;
};

static uint64_t default_states(const struct wanted *wanted)
{
    uint64_t otherwise = wanted->sequences ? SEQUENCES_STATES_DEFAULT
                         : wanted->kills   ? KILLS_STATES_DEFAULT * KILLS_STATES_OF
                                           : STATES_DEFAULT;
    uint64_t states = crash_number_from("PLATTER_CRASH_STATES", otherwise);
    return wanted->kills ? states / KILLS_STATES_OF : states;
}

static struct wanted take_arguments(int argc, char **argv)
{
    static const struct option options[] = {{"format", required_argument, NULL, 'f'},
                                            {"shape", required_argument, NULL, 's'},
                                            {"states", required_argument, NULL, 'n'},
                                            {"seed", required_argument, NULL, 'S'},
                                            {"foreign-once-in", required_argument, NULL, 'F'},
                                            {"sequences", no_argument, NULL, 'q'},
                                            {"stride", required_argument, NULL, 'r'},
                                            {"kills", no_argument, NULL, 'k'},
                                            {"only", no_argument, NULL, 'o'},
                                            {"trace", no_argument, NULL, 't'},
                                            {NULL, 0, NULL, 0}};
    struct wanted wanted = {
        .program = argv[0],
        .seed = crash_number_from("PLATTER_CRASH_SEED", SEED_DEFAULT),
        .stride = crash_number_from("PLATTER_CRASH_STRIDE", STRIDE_DEFAULT),
        .foreign_once_in = FOREIGN_ONCE_IN_DEFAULT,
    };
    for (int letter; (letter = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (letter == 'f')
            wanted.shapes.format = optarg;
        else if (letter == 's')
            wanted.shapes.shape = optarg;
        else if (letter == 'n')
            wanted.states = crash_number(optarg);
        else if (letter == 'S')
            wanted.seed = crash_number(optarg);
        else if (letter == 'F')
            wanted.foreign_once_in = (unsigned)crash_number(optarg);
        else if (letter == 'q')
            wanted.sequences = true;
        else if (letter == 'r')
            wanted.stride = crash_number(optarg);
        else if (letter == 'k')
            wanted.kills = true;
        else if (letter == 'o')
            wanted.only = true;
        else if (letter == 't')
            wanted.trace = true;
        else
            crash_die("see the beginning of tests/crash/test_power_cut.c");
    }
    if (wanted.states == 0)
        wanted.states = default_states(&wanted);
    return wanted;
}

/* All shapes of all formats that are wanted. */
static uint64_t all_weights(const struct wanted *wanted)
{
    uint64_t sum = 0;
    struct crash_choice choice = {NULL, NULL};
    while (crash_next_shape(&wanted->shapes, &choice))
        sum += crash_share_of(choice.shape);
    return sum;
}

/* The runs of one shape. */
struct plan {
    uint64_t runs_max, states_max; /* 0: there is no end to them */
    uint64_t step;                 /* from one seed to the next */
};

/* Of a slow shape not all sequences: its share says how many. */
static struct plan make_plan(const struct wanted *wanted, const struct crash_shape *shape,
                             uint64_t states)
{
    if (wanted->only)
        return (struct plan){.runs_max = 1};
    if (!wanted->sequences)
        return (struct plan){.states_max = states, .step = 1};
    uint64_t slow_stride = CRASH_SHARE_USUAL / crash_share_of(shape);
    uint64_t stride = wanted->stride > slow_stride ? wanted->stride : slow_stride;
    return (struct plan){.runs_max = (crash_sequence_count() + stride - 1) / stride,
                         .states_max = wanted->stride > 1 ? states : 0,
                         .step = stride};
}

static bool goes_on(const struct crash_runner *runner, const struct plan *plan)
{
    return (plan->runs_max == 0 || runner->runs < plan->runs_max) &&
           (plan->states_max == 0 || runner->verdicts.states < plan->states_max);
}

static bool run_one(struct crash_runner *runner, const struct wanted *wanted, uint64_t seed)
{
    bool is_good = wanted->sequences
                       ? crash_run_sequence(runner, seed % crash_sequence_count(), seed)
                       : crash_run_seed(runner, seed);
    if (!is_good)
        printf("  again: %s --format %s --shape %s --seed %" PRIu64 " --only%s%s%s\n",
               wanted->program, runner->bench.format->name, runner->bench.shape->name, seed,
               wanted->sequences ? " --sequences" : "", wanted->kills ? " --kills" : "",
               wanted->trace ? "" : " --trace");
    return is_good;
}

static void print_kills(const struct crash_kills *kills)
{
    printf("    %" PRIu64 " kills, %" PRIu64 " with a log to replay; in the next server %" PRIu64
           " kills, %" PRIu64 " cuts\n",
           kills->kills, kills->with_changes, kills->second_kills, kills->cuts);
}

static void run_shape(const struct wanted *wanted, const struct crash_format *format,
                      const struct crash_shape *shape, uint64_t states, struct sums *sums)
{
    struct crash_runner runner;
    crash_runner_init(&runner, format, shape);
    runner.foreign_once_in = wanted->foreign_once_in;
    runner.is_traced = wanted->trace;
    if (wanted->kills)
        crash_runner_add_kills(&runner);
    struct plan plan = make_plan(wanted, shape, states);
    runner.states_max = plan.states_max;
    uint64_t began_ns = clock_monotonic.now_ns(&clock_monotonic);
    bool is_good = true;
    while (is_good && goes_on(&runner, &plan))
        is_good = run_one(&runner, wanted, wanted->seed + runner.runs * plan.step);
    double seconds = (double)(clock_monotonic.now_ns(&clock_monotonic) - began_ns) / 1e9;
    printf("%s %-18s %6" PRIu64 " runs %7" PRIu64 " cuts %8" PRIu64 " states %7.0f/s, %" PRIu64
           " by others, leaks in %" PRIu64 ", at most %" PRIu64 "%s\n",
           format->name, shape->name, runner.runs, runner.survivors.cuts, runner.verdicts.states,
           (double)runner.verdicts.states / seconds, runner.verdicts.foreign, runner.verdicts.leaky,
           runner.verdicts.leaks_max, is_good ? "" : ", BAD");
    if (runner.kills)
        print_kills(runner.kills);
    fflush(stdout);
    sums->states += runner.verdicts.states;
    sums->cuts += runner.survivors.cuts;
    sums->runs += runner.runs;
    sums->foreign += runner.verdicts.foreign;
    sums->leaky += runner.verdicts.leaky;
    if (runner.verdicts.leaks_max > sums->leaks_max)
        sums->leaks_max = runner.verdicts.leaks_max;
    sums->is_bad |= !is_good;
    crash_runner_fini(&runner);
}

int main(int argc, char **argv)
{
    struct wanted wanted = take_arguments(argc, argv);
    struct sums sums = {.states = 0};
    uint64_t weights = all_weights(&wanted);
    if (weights == 0)
        crash_die("there is no such format or shape");
    if (wanted.stride == 0)
        crash_die("a stride is 1 or more");
    printf("PLATTER_CRASH_SEED=%" PRIu64 " PLATTER_CRASH_STATES=%" PRIu64
           " PLATTER_CRASH_STRIDE=%" PRIu64 "\n",
           wanted.seed, wanted.states, wanted.stride);
    struct crash_choice choice = {NULL, NULL};
    while (crash_next_shape(&wanted.shapes, &choice))
        run_shape(&wanted, choice.format, choice.shape,
                  (wanted.states * crash_share_of(choice.shape) + weights - 1) / weights, &sums);
    printf("%s: %" PRIu64 " runs, %" PRIu64 " cuts, %" PRIu64 " states (%" PRIu64
           " judged by others too), leaks in %" PRIu64 ", at most %" PRIu64 " clusters\n",
           sums.is_bad ? "BAD" : "all good", sums.runs, sums.cuts, sums.states, sums.foreign,
           sums.leaky, sums.leaks_max);
    return sums.is_bad;
}
