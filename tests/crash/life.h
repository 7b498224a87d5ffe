/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_LIFE_H
#define TESTS_CRASH_LIFE_H

/*
 * One life of an image, from an open to a close: recorded, then played. For run.c and trouble.c.
 */

#include "tests/crash/run.h"

/* What goes wrong in a life, and what became of it. */
struct crash_trouble {
    struct crash_faults faults; /* of the disks */
    bool lacks_memory;          /* allocations fail: */
    enum crash_host_fault host; /* the disks are files, whose calls are carried on: all goes well */
    uint64_t fail_at;           /* this allocation, or call; counted from 1; 0: none */
    bool is_sticky;             /* and all behind it */

    uint64_t allocations, failed_allocations;
    uint64_t host_calls, host_hits;
    int open_code, close_code;
    unsigned failed_requests;
    bool is_logged;     /* an error was */
    bool is_leak_known; /* it was closed, and nothing is pending: */
    uint64_t leaks;
};

struct crash_life {
    struct crash_runner *runner;
    struct sim sim;
    struct oracle oracle; /* of what clients see; then, anew, of the tape */
    struct random random;
    uint32_t alignment;
    unsigned pauses_max, slow_once_in;
    uint8_t *base; /* what the disk shows at the beginning; NULL: not known yet */
    uint32_t flush_sent[CRASH_FLUSHES_MAX]; /* the oracle's moments of them */
    uint64_t base_bytes;                    /* how large it was at the beginning */
    struct crash_sizes sizes;               /* that it may have now */
    bool wants_next;
    uint64_t survivors_seen;
    uint64_t next_base_bytes;
    uint8_t *next_base; /* what the one shows that is on runner->live */

    struct crash_trouble *trouble; /* NULL: all goes well, or the run fails */
};

/* Of an image at its beginning, on runner->live. */
void crash_life_init(struct crash_life *life, struct crash_runner *runner, uint64_t seed);
void crash_life_fini(struct crash_life *life);

/* The image on runner->live, which is all durable, is opened, runner->workload is carried out, and
 * it is closed. */
void crash_life_record(struct crash_life *life);
/* Cuts the power in what was recorded; with trouble only where something was promised, and at the
 * end. */
void crash_life_play(struct crash_life *life);

void crash_life_say_failure(struct crash_life *life, unsigned number);

#endif
