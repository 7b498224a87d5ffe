/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_COROUTINE_SWITCH_H
#define BLOCK_COROUTINE_SWITCH_H

/*
 * From one stack to another. Two ways, of which the build picks one file:
 *
 * - coroutine_switch_x86_64.S: saves what the System V ABI says a call keeps and changes the stack
 *   pointer. A few nanoseconds, no system call.
 * - coroutine_switch_ucontext.c: makecontext() and swapcontext(), for every other machine. Each
 *   switch is a system call, because swapcontext() also keeps the signal mask.
 *
 * A context is a pointer into a stack that does not run. It is used once: going there consumes it.
 */

/* A context that calls run(arg) on the stack that ends below stack_top, which is a multiple of 16;
 * stack_low is its lowest byte. run() never returns. */
void *coroutine_context_make(void *stack_low, void *stack_top, void (*run)(void *), void *arg);

/* Goes on at context; *ret_own is where the caller's own context is put, before the switch. */
void coroutine_context_switch(void **ret_own, void *context);

#endif
