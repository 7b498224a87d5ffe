/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_JUDGE_H
#define TESTS_CRASH_JUDGE_H

/*
 * Whether an image is what a crash may leave: it opens for writing, every byte is one that the
 * oracle allows, nothing that may lose data is found by the format's checker, and what it shows
 * under shape->still has not changed. Leaks are allowed, and counted. After a kill every byte is
 * one that a read right then may show.
 */

#include "tests/crash/bench.h"
#include "tests/harness/oracle.h"

struct crash_verdicts {
    uint64_t states, foreign;              /* that were judged; by the foreign program too */
    uint64_t leaky, leaks_max, leaks_last; /* states with leaks; clusters */
};

/* The size that a disk had when it was durable last, and those that it was given since then. */
#define CRASH_SIZES_MAX (2 * 24 + 1)
struct crash_sizes {
    uint64_t all[CRASH_SIZES_MAX];
    unsigned count;
};

struct crash_judging {
    struct crash_bench *bench;
    struct crash_disk *disks;
    struct oracle *oracle; /* fails the run; its rule 8 says what may be there */
    const struct crash_sizes *sizes;
    uint32_t alignment;
    unsigned foreign_once_in; /* 0: never */
    bool was_killed;          /* and no power was cut: all is there that was answered */
    bool keeps_bytes;         /* what it showed is wanted: */
    uint8_t *bytes;           /* the caller's to free; zeroes behind the size up to the oracle's */
    uint64_t size_bytes;
    struct crash_verdicts *verdicts;
};

/* True: it is good. Else the sim of the oracle has failed. Runs the loop. */
bool crash_judge_image(struct crash_judging *judging);

/* By the foreign program; NULL: it is good, or there is none. Else what it said. */
const char *crash_foreign_findings(const struct crash_bench *bench, const struct crash_disk *disks);

#endif
