/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_REPLAY_REPLAY_H
#define TESTS_REPLAY_REPLAY_H

/*
 * Replays a trace against a guest's disk, whichever it is, and holds every answer against what may
 * be there (judge.h).
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/loop.h"
#include "tests/harness/guest_device.h"
#include "tests/replay/content.h"
#include "tests/replay/trace.h"

/* What has been found. In memory that is shared: a crash ends the process that replays. */
struct replay_result {
    unsigned next_step; /* where to go on after a crash; trace->step_count: it has ended */
    unsigned requests, crashes;
    /* What all reads brought, and what the whole disk held in the end: the same for every way to
     * serve the disk, unless is_loose. */
    uint64_t read_hash, end_hash;
    bool is_loose; /* a crash had something to lose, or requests overlapped */
    bool is_cache_off;
    char failure[200]; /* "": none */
};

/* From result->next_step to the trace's end, where the whole disk is read, or to its next crash,
 * which is for the caller to make. In both cases nothing is in flight. 0, or -1 with a failure. In
 * a coroutine of the device's loop. */
int replay_co_run(const struct trace *trace, struct guest_device *device, struct content *content,
                  struct replay_result *result);

#endif
