/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_BACKGROUND_H
#define BLOCK_BACKGROUND_H

/*
 * Work that goes on behind the request that began it, which does not wait for it: giving clusters
 * back, say. It is at home on the loop of that request, as long as all loops are turned all the
 * time. Where they are not, as in a process whose threads come in for one request each, it goes to
 * the environment's background loop, which is.
 */

#include "block/env.h"
#include "block/loop.h"

/* Lives in its owner, until co_run or refused is called. */
struct background {
    struct block_env *env;
    void (*co_run)(struct background *work);
    /* Instead of co_run: no stack could be had. Not inside a coroutine of its own. */
    void (*refused)(struct background *work);
    struct loop_job job;
};

/* co_run becomes a coroutine; it may run to its first wait, or to its end, before this returns. One
 * of the two is called, once. On a loop. */
void background_start(struct background *work);

#endif
