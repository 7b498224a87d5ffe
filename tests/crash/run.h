/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_RUN_H
#define TESTS_CRASH_RUN_H

/*
 * A run: a workload is recorded, and its tape is played with a power cut at each step. What is
 * drawn comes from the seed alone.
 */

#include "tests/crash/bench.h"
#include "tests/crash/judge.h"
#include "tests/crash/survivors.h"
#include "tests/crash/workload.h"

struct crash_kills;

struct crash_runner {
    struct crash_bench bench;
    struct crash_disk live[CRASH_WRITTEN], next[CRASH_WRITTEN]; /* next: of the next life */
    struct crash_survivors survivors;
    struct crash_tape tape;
    struct crash_workload workload;
    struct crash_verdicts verdicts;
    struct crash_kills *kills; /* NULL: nothing is kept, and nobody killed */
    uint64_t runs;
    uint64_t states_max; /* a run ends when so many were judged in all; 0: no limit */
    unsigned foreign_once_in;
    unsigned discards_late; /* a planted bug; see plants.h */
    bool ends_quietly;      /* a failed run says nothing */
    bool is_traced;         /* it prints its tape */
    uint64_t cuts_before;   /* this life */
    char failure[SIM_FAILURE_MAX];
};

void crash_runner_init(struct crash_runner *runner, const struct crash_format *format,
                       const struct crash_shape *shape);
void crash_runner_fini(struct crash_runner *runner);
/* From now on servers are killed (kill.h), and the power is cut now and then. */
void crash_runner_add_kills(struct crash_runner *runner);

/* A workload that the seed draws, in one life or two. False: something was wrong; it was printed.
 */
bool crash_run_seed(struct crash_runner *runner, uint64_t seed);
/* One of all short sequences; seed draws what is torn. */
bool crash_run_sequence(struct crash_runner *runner, uint64_t number, uint64_t seed);

#endif
