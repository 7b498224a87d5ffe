/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/loop_inbox.h"

#include <sched.h>
#include <stddef.h>

#include "block/loop.h"

static struct loop_job asleep; /* only its address counts */

bool loop_inbox_push(struct loop_inbox *inbox, struct loop_job *job)
{
    struct loop_job *top = atomic_load_explicit(&inbox->top, memory_order_relaxed);
    do {
        job->next = top;
    } while (!atomic_compare_exchange_weak_explicit(&inbox->top, &top, job, memory_order_release,
                                                    memory_order_relaxed));
    return top == &asleep;
}

void loop_inbox_woken(struct loop_inbox *inbox)
{
    atomic_fetch_add_explicit(&inbox->wakes_given, 1, memory_order_release);
}

bool loop_inbox_has_jobs(const struct loop_inbox *inbox)
{
    struct loop_job *top = atomic_load_explicit(&inbox->top, memory_order_relaxed);
    return top && top != &asleep;
}

struct loop_job *loop_inbox_take(struct loop_inbox *inbox)
{
    if (!atomic_load_explicit(&inbox->top, memory_order_relaxed))
        return NULL;
    struct loop_job *job = atomic_exchange_explicit(&inbox->top, NULL, memory_order_acquire);
    struct loop_job *first = NULL;
    while (job && job != &asleep) { /* the last pushed is on top: turn them round */
        struct loop_job *next = job->next;
        job->next = first;
        first = job;
        job = next;
    }
    if (job == &asleep)
        inbox->wakes_owed++;
    return first;
}

bool loop_inbox_sleep(struct loop_inbox *inbox)
{
    struct loop_job *top = NULL;
    return atomic_compare_exchange_strong(&inbox->top, &top, &asleep);
}

void loop_inbox_wake_up(struct loop_inbox *inbox)
{
    struct loop_job *top = &asleep;
    atomic_compare_exchange_strong(&inbox->top, &top, NULL); /* still there: nobody posted */
}

void loop_inbox_settle(const struct loop_inbox *inbox)
{
    while (atomic_load(&inbox->wakes_given) != inbox->wakes_owed)
        sched_yield(); /* a poster is between its push and the end of its wake-up */
}
