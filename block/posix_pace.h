/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_POSIX_PACE_H
#define BLOCK_POSIX_PACE_H

/*
 * What is quickest as long as it is quick: counts of how often the other way is taken after it was
 * not. What two loops note at the same time may get lost, and costs some operations more or less.
 */

#include <stdatomic.h>
#include <stdbool.h>

static inline void posix_set_count(_Atomic unsigned *count, unsigned value)
{
    atomic_store_explicit(count, value, memory_order_relaxed);
}

/* How many are due after a setback, `least` and *more; the next time twice as many, up to max. */
static inline unsigned posix_back_off(_Atomic unsigned *more, unsigned least, unsigned max)
{
    unsigned count = atomic_load_explicit(more, memory_order_relaxed);
    unsigned next = 2 * count + least;
    posix_set_count(more, next < max - least ? next : max - least);
    return least + count;
}

/* False when none is due; else there is one less. */
static inline bool posix_take_due(_Atomic unsigned *due)
{
    unsigned count = atomic_load_explicit(due, memory_order_relaxed);
    if (count > 0)
        posix_set_count(due, count - 1);
    return count > 0;
}

/*
 * Calls that may stop the loop, and are made in it while they are quick. After one that was not,
 * a worker makes them, until 64 in a row were quick: more than one, because who is slow now and
 * then is quick most of the time. And twice as many each time that the loop was stopped again, up
 * to 8192, until as many went well in the loop: who is slow for seconds stops it a few times, not a
 * hundred.
 */
struct posix_pace {
    /* So many quick calls must be made by a worker before the next is made in the loop. */
    _Atomic unsigned worker_due;
    /* How many more than usual will be due when one has stopped the loop again. */
    _Atomic unsigned worker_more;
};

#define POSIX_QUICK_CALLS_WANTED 64
#define POSIX_QUICK_CALLS_WANTED_MAX 8192

static inline bool posix_is_quick(const struct posix_pace *pace)
{
    return atomic_load_explicit(&pace->worker_due, memory_order_relaxed) == 0;
}

static inline void posix_note_in_loop(struct posix_pace *pace, bool was_quick)
{
    if (was_quick)
        posix_take_due(&pace->worker_more);
    else
        posix_set_count(&pace->worker_due,
                        posix_back_off(&pace->worker_more, POSIX_QUICK_CALLS_WANTED,
                                       POSIX_QUICK_CALLS_WANTED_MAX));
}

static inline void posix_note_by_worker(struct posix_pace *pace, bool was_quick)
{
    unsigned more = atomic_load_explicit(&pace->worker_more, memory_order_relaxed);
    if (was_quick)
        posix_take_due(&pace->worker_due);
    else
        posix_set_count(&pace->worker_due, POSIX_QUICK_CALLS_WANTED + more);
}

#endif
