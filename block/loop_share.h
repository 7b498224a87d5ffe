/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_LOOP_SHARE_H
#define BLOCK_LOOP_SHARE_H

/*
 * Loops for a process whose threads are not ours: they come and go, each comes in for one request,
 * waits for it, and leaves. A thread has a loop to itself for the time of one call, so a request
 * begins, waits and ends on the thread that brought it, and nothing is handed from one thread to
 * another.
 *
 * A thread comes back to the loop that it had last, whose memory and descriptors are warm, unless
 * another has it. When all loops are out, it waits for the first that comes back. Between two calls
 * nobody turns a loop: nothing may be left on it, which loop_run_all_co() sees to, and work behind
 * requests has another home (block/background.h).
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/error.h"

struct loop;
struct loop_seat;

struct loop_share {
    struct loop_seat *seats;
    unsigned seat_count;
    atomic_uint next; /* where a thread that was never here begins to look */
    atomic_uint waiting_count;
    atomic_bool is_over;
    pthread_mutex_t mutex; /* of the wait alone */
    pthread_cond_t came_back;
};

/* The loops stay the caller's; at least one. */
int loop_share_init(struct loop_share *share, struct loop *const *loops, unsigned loop_count,
                    struct error *err);
/* After loop_share_end(), or where no thread ever came in. */
void loop_share_fini(struct loop_share *share);

/* Runs entry(arg) as a coroutine, on this thread, and returns when it has ended. From any thread
 * that turns no loop. 0; -ESHUTDOWN after loop_share_end() has begun, and -ENOMEM without a stack:
 * nothing was run. */
int loop_share_run_co(struct loop_share *share, void (*entry)(void *arg), void *arg);

/* Lets nobody in any more and returns when the last one has left. Once. */
void loop_share_end(struct loop_share *share);

#endif
