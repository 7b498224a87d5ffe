/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a loop waits for, and how: when a turn has left nothing to do it looks on for a while, where
 * that pays, or naps meanwhile (block/loop_nap.h), and then it sleeps.
 */
#include <assert.h>

#include "block/loop_private.h"

#define BUSY_POLL_SLEEPS_MAX 255
#define LOOKS_AT_LIKELY 4 /* to one by the poller */

void loop_set_busy_poll(struct loop *loop, uint64_t limit_ns)
{
    loop->busy_poll = (struct busy_poll){.limit_ns = limit_ns};
}

/* --- watches ------------------------------------------------------------------------------------
 */

void loop_watch_init(struct loop_watch *watch, int fd,
                     void (*ready)(struct loop_watch *watch, unsigned events))
{
    *watch = (struct loop_watch){.fd = fd, .ready = ready};
}

/* Also of one that is off: its owner may have read without being told, and end. */
static void forget_who_came(struct loop *loop, const struct loop_watch *watch)
{
    if (loop->likely == watch)
        loop->likely = NULL;
    if (loop->last_came == watch)
        loop->last_came = NULL;
}

void loop_watch_set(struct loop *loop, struct loop_watch *watch, unsigned wanted)
{
    assert(!watch->loop || watch->loop == loop);
    if (wanted == 0)
        forget_who_came(loop, watch);
    if (watch->loop && watch->wanted == wanted)
        return;
    watch->wanted = wanted;
    loop->poller_ops->watch(loop->poller, watch);
    watch->loop = loop;
}

void loop_watch_came(struct loop *loop, struct loop_watch *watch, size_t bytes, bool is_likely_next)
{
    loop->came = true;
    loop->last_came = watch;
    loop_nap_came(&loop->nap, bytes);
    if (is_likely_next)
        loop->likely = watch;
    else if (loop->likely == watch)
        loop->likely = NULL;
}

/* --- waiting ------------------------------------------------------------------------------------
 */

/* How long the poller may sleep: until the first timer, or without limit. */
static int64_t sleep_ns(struct loop *loop)
{
    struct list_link *link = list_first(&loop->timers);
    if (!link)
        return -1;
    uint64_t due_ns = container_of(link, struct loop_timer, link)->due_ns;
    loop->now_is_known = false; /* the turn itself has taken time */
    uint64_t now_ns = loop_now_ns(loop);
    if (due_ns <= now_ns)
        return 0;
    return due_ns - now_ns > INT64_MAX ? INT64_MAX : (int64_t)(due_ns - now_ns);
}

static bool wait_without_sleep(struct loop *loop)
{
    loop->now_is_known = false;
    return loop->poller_ops->wait(loop->poller, 0);
}

/* How it goes on after a busy poll: more sleeps without one, the longer nothing came of it. */
static void judge_busy_poll(struct busy_poll *busy, bool paid)
{
    if (paid)
        busy->sleeps_between = 0;
    else if (busy->sleeps_between < BUSY_POLL_SLEEPS_MAX)
        busy->sleeps_between = 2 * busy->sleeps_between + 1;
    busy->sleeps_left = busy->sleeps_between;
}

/* True when there was something, or it has left something to do. */
static bool try_likely(struct loop *loop)
{
    struct loop_watch *watch = loop->likely;
    if (!watch || !(watch->wanted & LOOP_READABLE))
        return false;
    loop->now_is_known = false;
    loop->came = false;
    watch->ready(watch, LOOP_READABLE);
    return loop->came || !list_is_empty(&loop->tasks) || !list_is_empty(&loop->ready) ||
           !list_is_empty(&loop->backlog_tasks);
}

/* The client whom a nap would be for: nobody else is waited for. */
static struct loop_watch *only_client(struct loop *loop)
{
    struct loop_watch *watch = loop->last_came;
    if (!watch || !watch->unread || watch->wanted != LOOP_READABLE || loop_is_shared(loop) ||
        loop_inbox_has_jobs(&loop->inbox))
        return NULL;
    return watch;
}

/* Leaves a client to his unread answers. */
static void nap(struct loop *loop, uint64_t limit_ns)
{
    uint64_t began_ns = loop_now_ns(loop);
    struct loop_watch *watch = only_client(loop);
    struct loop_nap_taken taken;
    if (!watch || !loop->poller_ops->nap || !loop_nap_is_on(&loop->nap, began_ns))
        return;
    taken.unread_before = watch->unread(watch);
    taken.asked_ns = loop_nap_ns(&loop->nap, taken.unread_before, limit_ns);
    if (taken.asked_ns == 0)
        return;
    loop->poller_ops->nap(loop->poller, taken.asked_ns);
    loop->now_is_known = false;
    taken.took_ns = loop_now_ns(loop) - began_ns;
    taken.unread_after = watch->unread(watch);
    loop_nap_learn(&loop->nap, &taken);
}

/* Looks on for a while where a sleep is due. True when something came, or a job was posted. It does
 * not give the processor to others meanwhile (sched_yield): with nobody there that costs a look,
 * and who has it then may keep it for milliseconds. A client that waits for this very processor
 * makes it a look that did not pay. */
static bool poll_busily(struct loop *loop, int64_t timeout_ns)
{
    struct busy_poll *busy = &loop->busy_poll;
    if (busy->sleeps_left > 0) {
        busy->sleeps_left--;
        return false;
    }
    loop->now_is_known = false; /* the turn itself has taken time */
    if (loop_crowd_is_on(&loop->crowd, loop_now_ns(loop)))
        return false;
    uint64_t limit_ns = busy->limit_ns;
    if (timeout_ns > 0 && (uint64_t)timeout_ns < limit_ns)
        limit_ns = (uint64_t)timeout_ns;
    nap(loop, limit_ns);
    uint64_t end_ns = loop_now_ns(loop) + limit_ns;
    bool came;
    unsigned looks = 0;
    do {
        came = try_likely(loop) ||
               ((!loop->likely || looks++ % LOOKS_AT_LIKELY == 0) && wait_without_sleep(loop)) ||
               loop_inbox_has_jobs(&loop->inbox);
    } while (!came && loop->clock->now_ns(loop->clock) < end_ns);
    /* What came after its time came while another had the processor, which is wanted, then: who
     * sleeps is let in when he is woken. */
    judge_busy_poll(busy, came && loop_now_ns(loop) < end_ns);
    return came;
}

bool loop_wait(struct loop *loop, bool may_sleep)
{
    int64_t timeout_ns = may_sleep ? sleep_ns(loop) : 0;
    if (timeout_ns == 0)
        return wait_without_sleep(loop);
    if (loop->busy_poll.limit_ns > 0 && poll_busily(loop, timeout_ns))
        return true;
    if (!loop_inbox_sleep(&loop->inbox))
        return wait_without_sleep(loop);
    loop->now_is_known = false;
    bool any = loop->poller_ops->wait(loop->poller, timeout_ns);
    loop_inbox_wake_up(&loop->inbox);
    return any;
}
