/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_WORKERS_H
#define TESTS_HARNESS_SIM_WORKERS_H

/*
 * Workers without threads: a job is worked off at a moment drawn from the seed (at once, or later
 * and so behind others that came after it), and its end is told at a later turn of the loop that
 * submitted it. Some take longer than every time limit of the server, while others pass them.
 */

#include "block/workers.h"
#include "tests/harness/sim.h"

struct sim_workers {
    struct workers workers;
    struct sim *sim;
    struct random random;
    uint64_t slow_ns;        /* the longest that a job takes, but for */
    unsigned stalls_once_in; /* one in so many, which takes longer than every time limit; 0: none */
    uint64_t jobs;           /* that were submitted */
    unsigned in_flight;
};

void sim_workers_init(struct sim_workers *workers, struct sim *sim);

#endif
