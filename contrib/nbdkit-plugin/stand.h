/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CONTRIB_NBDKIT_PLUGIN_STAND_H
#define CONTRIB_NBDKIT_PLUGIN_STAND_H

/*
 * What the block layer stands on in a process that belongs to somebody else: workers, an
 * environment, and loops. The host's threads share the loops (block/loop_share.h): each request
 * runs on the thread that brings it. The first loop is *home*: a thread of our own turns it, from
 * stand_start() to stand_stop(). Images are opened and closed there, their timers are at home
 * there, and so is what goes on behind requests.
 */

#include <pthread.h>
#include <stdbool.h>

#include "block/env.h"
#include "block/loop.h"
#include "block/loop_share.h"
#include "common/error.h"

struct stand {
    struct loop *loops[LOOP_COUNT_MAX]; /* the first is home */
    unsigned loop_count;
    struct workers *workers;
    struct block_env env;
    bool has_env;
    struct loop_share share; /* of all loops but home */
    pthread_t home_thread;
    bool is_started;
};

/* loop_count: 2 to LOOP_COUNT_MAX, home included. No thread yet. */
int stand_init(struct stand *stand, unsigned loop_count, struct error *err);
/* Every node is closed. Also after a stand_init() that failed, and for what is all zero. */
void stand_fini(struct stand *stand);

/* Home is turned by a thread from here on. It leaves signals to the host's threads. */
int stand_start(struct stand *stand, struct error *err);
/* Lets no request in any more and returns when the last one has left. Once. */
void stand_end_requests(struct stand *stand);
/* Ends the thread. Harmless when it was never started. */
void stand_stop(struct stand *stand);

/* A request: entry(arg) in a coroutine on the calling thread. See loop_share_run_co(). */
static inline int stand_run_co(struct stand *stand, void (*entry)(void *arg), void *arg)
{
    return loop_share_run_co(&stand->share, entry, arg);
}

/* entry(arg) in a coroutine on the home loop; returns when it has ended. Not from the home thread.
 * 0, or -ENOMEM: nothing was run. */
int stand_run_home_co(struct stand *stand, void (*entry)(void *arg), void *arg);

#endif
