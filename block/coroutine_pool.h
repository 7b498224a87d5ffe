/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_COROUTINE_POOL_H
#define BLOCK_COROUTINE_POOL_H

/*
 * A loop's stacks that wait for their next coroutine. Touched by that loop alone.
 *
 * A stack is one mapping: a guard that may not be touched, the stack, and the struct coroutine at
 * its top, so starting one allocates nothing when the pool has one. The one used last is taken
 * first: its pages are in the processor's cache.
 *
 * Up to COROUTINE_POOL_MAX idle ones are kept. That bounds the number that wait, not the number
 * that run: a load that swings by less than this between two moments maps and unmaps nothing. Idle
 * stacks are not given back with madvise(): an idle one holds only the pages it has touched (two or
 * three as a rule, so about 3 MiB a loop at the worst), and giving them back would cost a system
 * call now and page faults later.
 */

#include "common/list.h"

struct coroutine;
struct loop;

#define COROUTINE_POOL_MAX 256

struct coroutine_pool {
    struct list idle;
    unsigned idle_count;
    unsigned used_count;
};

void coroutine_pool_init(struct coroutine_pool *pool);
/* No coroutine of it is left. */
void coroutine_pool_fini(struct coroutine_pool *pool);

/* A coroutine that waits in coroutine_main() for its entry; NULL when no stack could be mapped. */
struct coroutine *coroutine_pool_take(struct coroutine_pool *pool, struct loop *loop);
void coroutine_pool_put(struct coroutine_pool *pool, struct coroutine *co);

#endif
