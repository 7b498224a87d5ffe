/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_LOOP_CROWD_H
#define BLOCK_LOOP_CROWD_H

/*
 * Whether a loop is crowded out by the worker to whom it hands a file's writes, and who is never
 * idle while there are any. It is *crowded* when it had to wait for a processor an eighth of the
 * time, or more, in a window of 10 ms; and for 100 ms after.
 *
 * Then it does not look on before it sleeps: the scheduler charges it for the time in which it only
 * looked, and makes it wait that much longer when there is something to do. And the worker keeps
 * off the loop's processor (block/posix_writer.c). docs/ARCHITECTURE.md has what each brings.
 *
 * Where loop and client have a processor each it waits up to 3 percent of the time, beside such a
 * writer on two processors 30 to 40, whether it looks on or not. Beside many clients it may be 25;
 * but they are served sooner by a loop that looks on, so without a writer nobody measures.
 *
 * Numbers alone, but for loop_crowd_measure().
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"

struct loop;

struct loop_crowd {
    uint64_t window_began_ns;
    uint64_t waited_ns; /* by then, since the loop's thread began */
    uint64_t until_ns;  /* it is crowded */
};

#define LOOP_CROWD_WINDOW_NS (10 * NS_PER_MS)
#define LOOP_CROWD_SHARE 8 /* one in so many */
#define LOOP_CROWDED_NS (100 * NS_PER_MS)

/* A window is over: loop_crowd_learn() is due. */
static inline bool loop_crowd_is_due(const struct loop_crowd *crowd, uint64_t now_ns)
{
    return now_ns - crowd->window_began_ns >= LOOP_CROWD_WINDOW_NS;
}

/* How long the loop's thread has waited for a processor until now, in all. */
void loop_crowd_learn(struct loop_crowd *crowd, uint64_t now_ns, uint64_t waited_ns);

static inline bool loop_crowd_is_on(const struct loop_crowd *crowd, uint64_t now_ns)
{
    return now_ns < crowd->until_ns;
}

/* On the loop, in a turn, by who hands writes to a worker: true when the loop is crowded. Does not
 * wait; a system call every 10 ms. */
bool loop_crowd_measure(struct loop *loop);

#endif
