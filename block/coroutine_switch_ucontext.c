/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coroutine_switch.h by makecontext() and swapcontext(). A context is a ucontext_t on the stack
 * that does not run: the switcher's own local variable, or one at the top of a new stack.
 */
#include "block/coroutine_switch.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

struct first {
    ucontext_t context; /* first, so that a pointer to one is a pointer to the other */
    void (*run)(void *);
    void *arg;
};

/* makecontext() hands over ints only, so a pointer comes in two halves. */
static void trampoline(unsigned high, unsigned low)
{
    struct first *first = (struct first *)(((uintptr_t)high << 16 << 16) | low);
    first->run(first->arg);
    __builtin_trap();
}

void *coroutine_context_make(void *stack_low, void *stack_top, void (*run)(void *), void *arg)
{
    uintptr_t at = ((uintptr_t)stack_top - sizeof(struct first)) & ~(uintptr_t)63;
    struct first *first = (struct first *)at;
    int rc = getcontext(&first->context);
    assert(rc == 0);
    (void)rc;
    first->run = run;
    first->arg = arg;
    first->context.uc_stack.ss_sp = stack_low;
    first->context.uc_stack.ss_size = at - (uintptr_t)stack_low;
    first->context.uc_link = NULL;
    makecontext(&first->context, (void (*)(void))trampoline, 2, (unsigned)(at >> 16 >> 16),
                (unsigned)at);
    return first;
}

void coroutine_context_switch(void **ret_own, void *context)
{
    ucontext_t own;
    /* swapcontext() leaves uc_stack alone, and AddressSanitizer looks at it. */
    memset(&own.uc_stack, 0, sizeof(own.uc_stack));
    *ret_own = &own;
    int rc = swapcontext(&own, context);
    assert(rc == 0);
    (void)rc;
}
