/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_HOME_TIMER_H
#define BLOCK_HOME_TIMER_H

/*
 * A timer of an object that all loops share. A loop's timers belong to that loop; this one belongs
 * to the environment's first loop, which is turned longest (it opens and closes the images), and
 * may be set from any of them.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/coroutine_lock.h"
#include "block/loop.h"

struct block_env;

struct home_timer {
    struct loop *home;
    void (*co_expired)(struct home_timer *timer);
    pthread_mutex_t mutex; /* guards what follows */
    uint64_t due_ns;
    bool is_set;
    bool is_posted;  /* the job is on its way to the home loop */
    bool is_running; /* co_expired is */
    bool is_over;
    struct co_queue waiters; /* for it to be neither */
    struct loop_job job;
    struct loop_timer timer; /* touched by the home loop alone */
};

/* co_expired runs in a coroutine of the first loop, and may set the timer again. */
void home_timer_init(struct home_timer *timer, struct block_env *env,
                     void (*co_expired)(struct home_timer *timer));
/* Takes it off and waits for co_expired to end. Nobody else uses it any more. */
void home_timer_co_fini(struct home_timer *timer);
/* From any loop; moves it when it is set. */
void home_timer_set(struct home_timer *timer, uint64_t due_ns);

#endif
