/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 * 1. A coroutine's stack runs on its home loop's thread only, entered by coroutine_resume() alone
 *    and left by leave() alone; so resumers form a stack, as calls do.
 * 2. state and link are touched by the home loop alone. Another thread's wake-up is a job.
 * 3. Between WAITING and the next RUNNING there is exactly one wake-up.
 */
#include "block/coroutine.h"

#include <assert.h>
#include <errno.h>

#include "block/coroutine_pool.h"
#include "block/coroutine_private.h"
#include "block/coroutine_switch.h"
#include "block/coroutine_tools.h"

static _Thread_local struct coroutine *running;

/* Both are real calls, always: a loop that was turned by one thread may later be turned by another
 * (tools open images before the threads start), and a compiler that has looked up the variable's
 * address before a switch would use the old thread's after it. */
__attribute__((noinline)) struct coroutine *coroutine_self(void)
{
    __asm__ volatile("");
    return running;
}

static __attribute__((noinline)) void set_self(struct coroutine *co)
{
    __asm__ volatile("");
    running = co;
}

struct loop *coroutine_loop(const struct coroutine *co)
{
    return co->loop;
}

void coroutine_resume(struct coroutine *co)
{
    assert(co->state != COROUTINE_RUNNING);
    co->resumer = coroutine_self();
    co->state = COROUTINE_RUNNING;
    set_self(co);
    tools_before_resume(co);
    coroutine_context_switch(&co->resumer_context, co->context);
    tools_after_resume(co);
    set_self(co->resumer);
    if (co->state == COROUTINE_ENDED) {
        tools_ended(co);
        coroutine_pool_put(loop_coroutine_pool(co->loop), co);
    }
}

/* Back to whoever resumed co; returns when it is resumed again. */
static void leave(struct coroutine *co, enum coroutine_state state)
{
    /* A wake-up that came before the yield has made it READY already. */
    if (co->state == COROUTINE_RUNNING)
        co->state = state;
    tools_before_leave(co, state == COROUTINE_ENDED);
    coroutine_context_switch(&co->context, co->resumer_context);
    tools_after_enter(co);
}

/* Not instrumented: AddressSanitizer forgets its fake frames at each end, and this one goes on. */
TOOLS_NO_ASAN void coroutine_main(void *arg)
{
    struct coroutine *co = arg;
    tools_after_enter(co);
    for (;;) {
        co->entry(co->arg);
        assert(co->state == COROUTINE_RUNNING); /* nobody wakes what does not wait */
        leave(co, COROUTINE_ENDED);
    }
}

int coroutine_start(struct loop *loop, coroutine_entry *entry, void *arg)
{
    assert(!loop_current() || loop_current() == loop);
    struct coroutine *co = coroutine_pool_take(loop_coroutine_pool(loop), loop);
    if (!co)
        return -ENOMEM;
    co->entry = entry;
    co->arg = arg;
    tools_started(co);
    struct loop *previous = loop_enter(loop);
    coroutine_resume(co);
    loop_leave(previous);
    return 0;
}

void coroutine_yield(void)
{
    struct coroutine *co = coroutine_self();
    assert(co);
    leave(co, COROUTINE_WAITING);
}

static void make_ready(struct coroutine *co)
{
    assert(co->state == COROUTINE_RUNNING || co->state == COROUTINE_WAITING);
    co->state = COROUTINE_READY;
    loop_make_ready(co->loop, co);
}

static void wake_posted(struct loop_job *job)
{
    struct coroutine *co = container_of(job, struct coroutine, wake_job);
    atomic_store_explicit(&co->wake_posted, false, memory_order_relaxed);
    make_ready(co);
}

void coroutine_wake(struct coroutine *co)
{
    if (loop_current() == co->loop) {
        make_ready(co);
        return;
    }
    bool twice = atomic_exchange_explicit(&co->wake_posted, true, memory_order_relaxed);
    assert(!twice);
    (void)twice;
    co->wake_job.run = wake_posted;
    loop_post(co->loop, &co->wake_job);
}

void coroutine_co_pause(void)
{
    coroutine_wake(coroutine_self());
    coroutine_yield();
}
