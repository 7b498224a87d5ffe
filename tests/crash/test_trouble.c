/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Disks and allocations that fail, at each call in turn, over all shapes; and calls of a host that
 * are interrupted, and transfers that are short.
 *
 *     test_trouble [--memory | --host all|interrupted|short|odd] [--format NAME] [--shape NAME]
 *                  [--workloads N] [--seed N] [--stride N] [--at N [--sticky] [--enospc]] [--trace]
 *
 * Of each workload every stride-th call fails (PLATTER_CRASH_STRIDE; 1 is all of them). --at: that
 * one alone, of the one workload of the seed.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/crash/trouble.h"

#define SEED_DEFAULT 20260701
#define WORKLOADS_DEFAULT 2
#define STRIDE_DEFAULT 17
#define STRIDE_HOST_DEFAULT 61 /* of six faults */

struct wanted {
    struct crash_selection shapes;
    uint64_t workloads, seed, stride;
    struct crash_spot spot;
    bool is_host, trace;
};

/* all: CRASH_HOST_NONE. */
static enum crash_host_fault host_fault(const char *name)
{
    if (strcmp(name, "all") == 0)
        return CRASH_HOST_NONE;
    for (enum crash_host_fault fault = CRASH_HOST_NONE + 1; fault < CRASH_HOST_FAULTS; fault++)
        if (strcmp(name, crash_host_fault_names[fault]) == 0)
            return fault;
    crash_die("no fault of a host is called %s", name);
}

static struct wanted take_arguments(int argc, char **argv)
{
    static const struct option options[] = {
        {"memory", no_argument, NULL, 'm'},          {"host", required_argument, NULL, 'h'},
        {"format", required_argument, NULL, 'f'},    {"shape", required_argument, NULL, 's'},
        {"workloads", required_argument, NULL, 'n'}, {"seed", required_argument, NULL, 'S'},
        {"stride", required_argument, NULL, 'r'},    {"at", required_argument, NULL, 'a'},
        {"sticky", no_argument, NULL, 'k'},          {"enospc", no_argument, NULL, 'e'},
        {"trace", no_argument, NULL, 't'},           {NULL, 0, NULL, 0}};
    struct wanted wanted = {.workloads = WORKLOADS_DEFAULT,
                            .seed = crash_number_from("PLATTER_CRASH_SEED", SEED_DEFAULT),
                            .spot.code = -EIO};
    for (int letter; (letter = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (letter == 'm')
            wanted.spot.is_memory = true;
        else if (letter == 'h')
            wanted.is_host = true, wanted.spot.host = host_fault(optarg);
        else if (letter == 'f')
            wanted.shapes.format = optarg;
        else if (letter == 's')
            wanted.shapes.shape = optarg;
        else if (letter == 'n')
            wanted.workloads = crash_number(optarg);
        else if (letter == 'S')
            wanted.seed = crash_number(optarg);
        else if (letter == 'r')
            wanted.stride = crash_number(optarg);
        else if (letter == 'a')
            wanted.spot.at = crash_number(optarg);
        else if (letter == 'k')
            wanted.spot.is_sticky = true;
        else if (letter == 'e')
            wanted.spot.code = -ENOSPC;
        else if (letter == 't')
            wanted.trace = true;
        else
            crash_die("see the beginning of tests/crash/test_trouble.c");
    }
    if (wanted.stride == 0)
        wanted.stride = crash_number_from("PLATTER_CRASH_STRIDE",
                                          wanted.is_host ? STRIDE_HOST_DEFAULT : STRIDE_DEFAULT);
    if (wanted.stride == 0)
        crash_die("a stride is 1 or more");
    return wanted;
}

static bool run_seed(struct crash_runner *runner, const struct wanted *wanted, uint64_t seed,
                     struct crash_trouble_sums *sums)
{
    if (wanted->spot.at > 0)
        return crash_try_spot(runner, seed, &wanted->spot, sums);
    uint64_t stride = wanted->stride * (CRASH_SHARE_USUAL / crash_share_of(runner->bench.shape));
    if (wanted->is_host)
        return crash_try_host(runner, seed, wanted->spot.host, stride, sums);
    return wanted->spot.is_memory ? crash_try_no_memory(runner, seed, stride, sums)
                                  : crash_try_faults(runner, seed, stride, sums);
}

static bool run_shape(const struct wanted *wanted, const struct crash_format *format,
                      const struct crash_shape *shape)
{
    struct crash_runner runner;
    struct crash_trouble_sums sums = {.lives = 0};
    bool is_good = true;
    uint64_t workloads = wanted->spot.at > 0 ? 1 : wanted->workloads;
    crash_runner_init(&runner, format, shape);
    runner.is_traced = wanted->trace;
    for (uint64_t i = 0; i < workloads && is_good; i++)
        is_good = run_seed(&runner, wanted, wanted->seed + i, &sums);
    printf("%s %-18s %5" PRIu64 " lives, %6" PRIu64 " calls failed, told %5" PRIu64
           ", quiet %4" PRIu64 ", leaks in %" PRIu64 ", at most %" PRIu64
           ", none allowed in %" PRIu64 ", %6" PRIu64 " states%s\n",
           format->name, shape->name, sums.lives, sums.failed_calls, sums.told, sums.quiet,
           sums.leaky, sums.leaks_max, sums.leakless, runner.verdicts.states,
           is_good ? "" : ", BAD");
    fflush(stdout);
    crash_runner_fini(&runner);
    return is_good;
}

int main(int argc, char **argv)
{
    struct wanted wanted = take_arguments(argc, argv);
    bool is_good = true;
    printf("PLATTER_CRASH_SEED=%" PRIu64 " PLATTER_CRASH_STRIDE=%" PRIu64 "\n", wanted.seed,
           wanted.stride);
    struct crash_choice choice = {NULL, NULL};
    if (!crash_next_shape(&wanted.shapes, &choice))
        crash_die("there is no such format or shape");
    do
        is_good &= run_shape(&wanted, choice.format, choice.shape);
    while (crash_next_shape(&wanted.shapes, &choice));
    return !is_good;
}
