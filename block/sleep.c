/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/sleep.h"

#include "block/coroutine.h"
#include "block/loop.h"
#include "common/checked.h"
#include "common/list.h"

struct sleeper {
    struct loop_timer timer;
    struct coroutine *co;
};

static void wake(struct loop_timer *timer)
{
    coroutine_wake(container_of(timer, struct sleeper, timer)->co);
}

void sleep_co_ns(uint64_t duration_ns)
{
    if (duration_ns == 0)
        return;
    struct sleeper sleeper = {.timer.expired = wake, .co = coroutine_self()};
    struct loop *loop = coroutine_loop(sleeper.co);
    struct clock *clock = loop_clock(loop);
    uint64_t due_ns;
    /* Not loop_now_ns(): the turn may have gone on for a while since that was read. */
    if (!checked_add(clock->now_ns(clock), duration_ns, &due_ns))
        due_ns = UINT64_MAX;
    link_init(&sleeper.timer.link);
    loop_timer_set(loop, &sleeper.timer, due_ns);
    coroutine_yield();
}
