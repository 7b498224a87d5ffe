/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_COROUTINE_PRIVATE_H
#define BLOCK_COROUTINE_PRIVATE_H

/* What coroutine.c, coroutine_pool.c and loop.c know of a coroutine, and nobody else. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "block/coroutine.h"
#include "block/loop.h"
#include "common/list.h"

/* Who moves a coroutine on: coroutine_start() and the loop to RUNNING, coroutine_yield() to
 * WAITING, coroutine_wake() (on the home loop) to READY, the return of entry() to ENDED. */
enum coroutine_state {
    COROUTINE_ENDED, /* in the pool, or about to go there */
    COROUTINE_RUNNING,
    COROUTINE_WAITING,
    COROUTINE_READY,
};

/* What the sanitizers and valgrind must be told; unused without them. */
struct coroutine_tools {
    void *asan_fake_stack;         /* ours, while we do not run */
    void *asan_resumer_fake_stack; /* of the stack we go back to */
    const void *asan_resumer_low;
    size_t asan_resumer_bytes;
    void *tsan_fiber;
    void *tsan_resumer_fiber;
    unsigned valgrind_stack_id;
};

/* Lives at the top of its own stack. */
struct coroutine {
    struct loop *loop;
    coroutine_entry *entry;
    void *arg;
    enum coroutine_state state; /* touched on the home loop only */
    atomic_bool wake_posted;    /* wake_job is on its way to the home loop */

    void *context;             /* where to go on; see coroutine_switch.h */
    void *resumer_context;     /* where coroutine_yield() goes back to */
    struct coroutine *resumer; /* who runs there; NULL: the loop */

    struct list_link link;    /* READY: the loop's list; ENDED: the pool's */
    struct loop_job wake_job; /* a wake-up from another thread */

    void *stack_low; /* the lowest usable byte; the stack ends at the coroutine itself */
    struct coroutine_tools tools;
};

/* On the home loop: runs co until it waits or ends. */
void coroutine_resume(struct coroutine *co);

/* The first thing that runs on a new stack; never returns. */
void coroutine_main(void *co);

/* In loop.c. */
struct coroutine_pool *loop_coroutine_pool(struct loop *loop);
/* Makes loop the one that this thread turns; returns what was before, for loop_leave(). */
struct loop *loop_enter(struct loop *loop);
void loop_leave(struct loop *previous);
/* On the home loop: co goes on in this turn's next round. */
void loop_make_ready(struct loop *loop, struct coroutine *co);

#endif
