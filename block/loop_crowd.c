/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/loop_crowd.h"

#include "block/loop_private.h"

void loop_crowd_learn(struct loop_crowd *crowd, uint64_t now_ns, uint64_t waited_ns)
{
    uint64_t span_ns = now_ns - crowd->window_began_ns;
    uint64_t waited_in_it_ns = waited_ns - crowd->waited_ns;
    if (waited_ns > crowd->waited_ns && waited_in_it_ns >= span_ns / LOOP_CROWD_SHARE)
        crowd->until_ns = now_ns + LOOP_CROWDED_NS;
    crowd->window_began_ns = now_ns;
    crowd->waited_ns = waited_ns;
}

bool loop_crowd_measure(struct loop *loop)
{
    uint64_t now_ns = loop_now_ns(loop);
    if (loop->poller_ops->waited_ns && loop_crowd_is_due(&loop->crowd, now_ns))
        loop_crowd_learn(&loop->crowd, now_ns, loop->poller_ops->waited_ns(loop->poller));
    return loop_crowd_is_on(&loop->crowd, now_ns);
}
