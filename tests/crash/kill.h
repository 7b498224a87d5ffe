/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_KILL_H
#define TESTS_CRASH_KILL_H

/*
 * The kill: while a tape is played, the server is gone between two events, or between two changes
 * of kept memory (kept.h) that come before the next one. What has taken effect on the disks stays,
 * as in the page cache, and so does that memory; of what was under way any part is made. The image
 * is opened again, and all is there that was answered, flushed or not, where the format says so
 * (outlives_kill).
 *
 * What the second server does is on a tape of its own, behind what led to the kill. That is played
 * too: the power is cut after each change of it, and then what was flushed before the kill must be
 * there; and it is killed at some event, and then again all that was answered.
 */

#include "tests/crash/life.h"

struct crash_kills {
    unsigned disk_count;
    struct crash_kept live;                  /* while a life is recorded */
    struct crash_disk cached[CRASH_WRITTEN]; /* what has taken effect so far */
    struct crash_sizes sizes;                /* that a read may find right now */
    unsigned once_in;                        /* of this life's moments one is tried */

    /* Of the last kill: */
    struct crash_disk killed[CRASH_WRITTEN], again[CRASH_WRITTEN];
    struct crash_kept left;
    bool is_excused; /* a call of the disks has failed, and the log is of no use, or gone */
    struct crash_tape tape;
    struct crash_survivors survivors;
    char what[160]; /* for people; empty: it was all right */

    uint64_t kills, with_changes, cuts, second_kills; /* with_changes: there was a log to replay */
};

struct crash_kills *crash_kills_new(unsigned disk_count);
void crash_kills_free(struct crash_kills *kills); /* takes NULL */

/* The image on runner->next is about to be played. */
void crash_kills_start(struct crash_life *life);
/* The event was played; disks and oracle have it. Maybe it is killed now, once or twice. False: the
 * sim has failed. */
bool crash_kills_play(struct crash_life *life, uint64_t index);

#endif
