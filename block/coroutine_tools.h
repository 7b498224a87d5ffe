/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_COROUTINE_TOOLS_H
#define BLOCK_COROUTINE_TOOLS_H

/*
 * Tells AddressSanitizer, ThreadSanitizer, LeakSanitizer and valgrind about stacks and switches;
 * each function is empty without its tool.
 *
 * The sanitizers' protocol: before a switch say where it goes, after it say that one has arrived.
 * A coroutine that ends stays suspended in coroutine_main() and is later started again on the same
 * stack, so ThreadSanitizer's fiber lives as long as the stack (its shadow call stack stays in
 * step: no function is left without returning). AddressSanitizer's fake stack is given up at each
 * end.
 */

#include "block/coroutine_private.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TOOLS_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define TOOLS_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TOOLS_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define TOOLS_TSAN 1
#endif

#ifdef TOOLS_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#define TOOLS_NO_ASAN __attribute__((no_sanitize_address))
#else
#define TOOLS_NO_ASAN
#endif

#ifdef TOOLS_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define TOOLS_VALGRIND 1
#endif
#endif

#if defined(TOOLS_ASAN) || defined(TOOLS_TSAN)
#define TOOLS_STACK_FACTOR 4 /* instrumented frames are that much larger */
#else
#define TOOLS_STACK_FACTOR 1
#endif

/* The sanitizers want the whole stack, the coroutine at its top included or not: not. */
static inline size_t tools_stack_bytes(const struct coroutine *co)
{
    return (size_t)((const char *)co - (const char *)co->stack_low);
}

/* A new stack. */
static inline void tools_stack_made(struct coroutine *co)
{
    (void)co;
#ifdef TOOLS_TSAN
    co->tools.tsan_fiber = __tsan_create_fiber(0);
#endif
#ifdef TOOLS_VALGRIND
    co->tools.valgrind_stack_id = VALGRIND_STACK_REGISTER(co->stack_low, co);
#endif
}

/* The stack goes back to the kernel. */
static inline void tools_stack_gone(struct coroutine *co)
{
    (void)co;
#ifdef TOOLS_ASAN
    /* The next mapping at this address starts without our poison. */
    __asan_unpoison_memory_region(co->stack_low, tools_stack_bytes(co));
#endif
#ifdef TOOLS_TSAN
    __tsan_destroy_fiber(co->tools.tsan_fiber);
#endif
#ifdef TOOLS_VALGRIND
    VALGRIND_STACK_DEREGISTER(co->tools.valgrind_stack_id);
#endif
}

/* A coroutine starts: what it alone points at is no leak from now on. */
static inline void tools_started(struct coroutine *co)
{
    (void)co;
#ifdef TOOLS_ASAN
    /* The last user's frames left their red zones where they never returned normally. */
    __asan_unpoison_memory_region(co->stack_low, tools_stack_bytes(co));
    __lsan_register_root_region(co->stack_low, tools_stack_bytes(co));
#endif
}

/* It has ended: what is left on the pooled stack hides no leak. */
static inline void tools_ended(struct coroutine *co)
{
    (void)co;
#ifdef TOOLS_ASAN
    __lsan_unregister_root_region(co->stack_low, tools_stack_bytes(co));
#endif
}

/* The resumer, before it switches to co. */
static inline void tools_before_resume(struct coroutine *co)
{
    (void)co;
#ifdef TOOLS_ASAN
    __sanitizer_start_switch_fiber(&co->tools.asan_resumer_fake_stack, co->stack_low,
                                   tools_stack_bytes(co));
#endif
#ifdef TOOLS_TSAN
    co->tools.tsan_resumer_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(co->tools.tsan_fiber, 0);
#endif
}

/* The resumer, back from co. */
static inline void tools_after_resume(struct coroutine *co)
{
    (void)co;
#ifdef TOOLS_ASAN
    __sanitizer_finish_switch_fiber(co->tools.asan_resumer_fake_stack, NULL, NULL);
#endif
}

/* The coroutine, before it switches back to its resumer. */
static inline void tools_before_leave(struct coroutine *co, bool ended)
{
    (void)co;
    (void)ended;
#ifdef TOOLS_ASAN
    __sanitizer_start_switch_fiber(ended ? NULL : &co->tools.asan_fake_stack,
                                   co->tools.asan_resumer_low, co->tools.asan_resumer_bytes);
    if (ended)
        co->tools.asan_fake_stack = NULL;
#endif
#ifdef TOOLS_TSAN
    __tsan_switch_to_fiber(co->tools.tsan_resumer_fiber, 0);
#endif
}

/* The coroutine, resumed. */
static inline void tools_after_enter(struct coroutine *co)
{
    (void)co;
#ifdef TOOLS_ASAN
    __sanitizer_finish_switch_fiber(co->tools.asan_fake_stack, &co->tools.asan_resumer_low,
                                    &co->tools.asan_resumer_bytes);
#endif
}

#endif
