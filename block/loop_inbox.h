/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_LOOP_INBOX_H
#define BLOCK_LOOP_INBOX_H

/*
 * What other threads leave for a loop: the jobs of loop_post().
 *
 * The inbox is one word: a stack of jobs, pushed by any thread with a compare-and-swap and taken
 * whole by the loop. A mark at its bottom says that the loop sleeps. The one poster that replaces
 * the mark owes the loop a wake-up; all others owe nothing. Because mark and jobs are the same
 * word, no order between two words has to be argued for: the loop cannot put the mark into an inbox
 * that holds a job, and a poster cannot miss the mark.
 *
 * The loop counts the wake-ups it was owed, posters count those they have given, and the end of the
 * inbox waits until the two are equal: a poster touches the loop after its push in this one case,
 * and by then its job may have run and brought the end of the loop.
 *
 * Nothing here waits but loop_inbox_settle().
 */

#include <stdatomic.h>
#include <stdbool.h>

struct loop_job;

struct loop_inbox {
    /* What other threads touch, on a cache line of its own. */
    _Atomic(struct loop_job *) top __attribute__((aligned(64)));
    atomic_uint wakes_given;
    unsigned wakes_owed __attribute__((aligned(64))); /* touched by the loop alone */
};

/* --- any thread ----------------------------------------------------------------------------------
 */

/* True: the caller owes a wake-up, and says so when he has given it. Otherwise the job may be gone
 * when this returns, and the loop too. */
bool loop_inbox_push(struct loop_inbox *inbox, struct loop_job *job);
void loop_inbox_woken(struct loop_inbox *inbox);

/* --- the loop ------------------------------------------------------------------------------------
 */

bool loop_inbox_has_jobs(const struct loop_inbox *inbox);
/* All that are there, the first posted first, linked by `next`; NULL: none. */
struct loop_job *loop_inbox_take(struct loop_inbox *inbox);

/* From now on who pushes owes a wake-up. False: there are jobs to do first. */
bool loop_inbox_sleep(struct loop_inbox *inbox);
/* The sleep is over, whoever ended it. */
void loop_inbox_wake_up(struct loop_inbox *inbox);

/* Returns when every poster that owed a wake-up has given it. */
void loop_inbox_settle(const struct loop_inbox *inbox);

#endif
