/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/loop_share.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "block/loop.h"

/*
 * A seat is taken by an exchange, and given back by a store, without a lock. Only where all are
 * taken is there a mutex: who waits is counted, looks at all seats once more, and then sleeps, all
 * of it under the mutex; who gives a seat back looks at the count afterwards, and takes the mutex
 * to wake. Both are sequentially consistent, so the one sees the free seat or the other the count.
 *
 * Whoever ends it takes every seat and keeps it.
 */

struct loop_seat {
    struct loop *loop;
    atomic_bool is_taken;
} __attribute__((aligned(64)));

/* Where this thread was last; a hint, of whichever share. */
static _Thread_local unsigned last_seat = UINT_MAX;

int loop_share_init(struct loop_share *share, struct loop *const *loops, unsigned loop_count,
                    struct error *err)
{
    *share = (struct loop_share){.seat_count = loop_count};
    share->seats = aligned_alloc(_Alignof(struct loop_seat), loop_count * sizeof(*share->seats));
    if (!share->seats)
        return error_set(err, -ENOMEM, "no memory for %u loops", loop_count);
    for (unsigned i = 0; i < loop_count; i++)
        share->seats[i] = (struct loop_seat){.loop = loops[i]};
    pthread_mutex_init(&share->mutex, NULL);
    pthread_cond_init(&share->came_back, NULL);
    return 0;
}

void loop_share_fini(struct loop_share *share)
{
    if (!share->seats)
        return;
    pthread_mutex_destroy(&share->mutex);
    pthread_cond_destroy(&share->came_back);
    free(share->seats);
    share->seats = NULL;
}

static struct loop_seat *try_take(struct loop_share *share)
{
    if (last_seat == UINT_MAX)
        last_seat = atomic_fetch_add(&share->next, 1);
    for (unsigned i = 0; i < share->seat_count; i++) {
        unsigned index = (last_seat % share->seat_count + i) % share->seat_count;
        struct loop_seat *seat = &share->seats[index];
        if (i > 0 && atomic_load(&seat->is_taken))
            continue; /* no write to the cache line of somebody who is at work */
        if (!atomic_exchange(&seat->is_taken, true)) {
            last_seat = index;
            return seat;
        }
    }
    return NULL;
}

/* NULL: it is over. `ends`: by whoever ends it, who waits for the last ones all the same. */
static struct loop_seat *wait_and_take(struct loop_share *share, bool ends)
{
    struct loop_seat *seat = NULL;
    pthread_mutex_lock(&share->mutex);
    atomic_fetch_add(&share->waiting_count, 1);
    while ((ends || !atomic_load(&share->is_over)) && !(seat = try_take(share)))
        pthread_cond_wait(&share->came_back, &share->mutex);
    atomic_fetch_sub(&share->waiting_count, 1);
    pthread_mutex_unlock(&share->mutex);
    return seat;
}

static void give_back(struct loop_share *share, struct loop_seat *seat)
{
    atomic_store(&seat->is_taken, false);
    if (atomic_load(&share->waiting_count) == 0)
        return;
    pthread_mutex_lock(&share->mutex);
    pthread_cond_signal(&share->came_back);
    pthread_mutex_unlock(&share->mutex);
}

int loop_share_run_co(struct loop_share *share, void (*entry)(void *arg), void *arg)
{
    if (atomic_load(&share->is_over))
        return -ESHUTDOWN;
    struct loop_seat *seat = try_take(share);
    if (!seat)
        seat = wait_and_take(share, false);
    if (!seat)
        return -ESHUTDOWN;
    int rc = loop_run_all_co(seat->loop, entry, arg);
    give_back(share, seat);
    return rc;
}

void loop_share_end(struct loop_share *share)
{
    pthread_mutex_lock(&share->mutex);
    atomic_store(&share->is_over, true);
    pthread_cond_broadcast(&share->came_back);
    pthread_mutex_unlock(&share->mutex);
    for (unsigned i = 0; i < share->seat_count; i++)
        wait_and_take(share, true);
}
