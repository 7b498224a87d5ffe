/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_LOOP_PRIVATE_H
#define BLOCK_LOOP_PRIVATE_H

/* What a loop consists of: for loop.c, its turns, and loop_wait.c, how it waits between them. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/coroutine_pool.h"
#include "block/loop.h"
#include "block/loop_crowd.h"
#include "block/loop_inbox.h"
#include "block/loop_nap.h"
#include "block/loop_room.h"

struct run_co;

/* Looking on without sleep; see loop_set_busy_poll(). */
struct busy_poll {
    uint64_t limit_ns;
    unsigned sleeps_between; /* two tries; 2^n - 1 after n that did not pay */
    unsigned sleeps_left;    /* until the next try */
};

struct loop {
    /* What other threads touch, on cache lines of its own. */
    struct loop_inbox inbox;
    atomic_bool stop_posted __attribute__((aligned(64)));
    struct loop_job stop_job;

    /* Touched by the loop alone. */
    unsigned index __attribute__((aligned(64)));
    const struct poller_ops *poller_ops;
    void *poller;
    struct clock *clock;
    uint64_t now_ns;
    bool now_is_known;
    bool stopping;               /* loop_run() returns after this turn */
    bool stay_awake;             /* this turn does not sleep */
    const struct run_co *run_co; /* loop_run_co() that turns it; NULL: somebody else does */
    struct list ready;
    struct list timers; /* by due_ns, then in the order they were set */
    struct list tasks;
    struct list sources;
    struct list backlog_tasks; /* of those who wait until the backlog falls */
    struct busy_poll busy_poll;
    struct loop_watch *likely;    /* see loop_watch_came() */
    bool came;                    /* loop_watch_came() was called */
    struct loop_watch *last_came; /* and by whom */
    struct loop_nap nap;
    struct loop_crowd crowd;
    struct loop_room room;
    struct coroutine_pool coroutine_pool;
};

/* Sleeps if it may, and something has to be waited for; else it only looks. True when the poller
 * called anybody, or a job was posted. */
bool loop_wait(struct loop *loop, bool may_sleep);

#endif
