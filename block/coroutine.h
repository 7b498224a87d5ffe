/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_COROUTINE_H
#define BLOCK_COROUTINE_H

/*
 * Coroutines: functions with a stack of their own that can wait. A coroutine starts, waits and ends
 * on its home loop; whoever wakes it from another thread only posts it there.
 *
 * States: running -> (coroutine_yield) waiting -> (coroutine_wake) ready -> (its loop's turn)
 * running; it ends when its entry function returns. Only a waiting coroutine, or one that is about
 * to yield, may be woken, and exactly once for each wait; coroutine_wake() on the home loop before
 * the yield is allowed because the loop resumes nobody before the one that runs has yielded.
 *
 * Stacks are pooled a loop, with a guard page below, and switched without a system call. The
 * AddressSanitizer, ThreadSanitizer and valgrind are told of each switch.
 */

#include <stdbool.h>
#include <stddef.h>

struct coroutine;
struct loop;

/* Usable stack, without the guard page; sanitizer builds get four times as much. */
#define COROUTINE_STACK_BYTES (128 * 1024)

typedef void coroutine_entry(void *arg);

/* Starts entry(arg) on this thread's loop and runs it until its first wait or its end, then
 * returns. Also called from inside a coroutine. 0, or -ENOMEM: nothing was run. */
int coroutine_start(struct loop *loop, coroutine_entry *entry, void *arg);

/* Waits until somebody calls coroutine_wake(). Only inside a coroutine. */
void coroutine_yield(void);

/* From any thread: makes co ready to go on. Wake-ups made by one thread keep their order; one of
 * the home loop itself may overtake one that another thread has posted. */
void coroutine_wake(struct coroutine *co);

/* Lets everything that is ready now go first. Only inside a coroutine. */
void coroutine_co_pause(void);

/* The one that runs on this thread; NULL outside. */
struct coroutine *coroutine_self(void);
static inline bool coroutine_inside(void)
{
    return coroutine_self() != NULL;
}
/* The home loop. */
struct loop *coroutine_loop(const struct coroutine *co);

#endif
