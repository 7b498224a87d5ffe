/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>

#include "block/env.h"
#include "cache/table.h"

/*
 * Which requests may still rely on what tables said a while ago.
 *
 * Every loop counts its open uses, in two counters; the parity of the epoch says which of them a
 * use that begins now goes into. To wait for all that are open: raise the epoch, so that new ones
 * go to the other counter, and wait until the old counter of every loop has been seen at zero; then
 * do it all a second time. Twice, because a use may read the epoch, be held up, and count itself
 * into the counter of before after that was seen at zero. It has read no table by then, so it may
 * be missed this time; but it must not be missed by the next wait, whose first half looks at one
 * counter and whose second half at the other.
 *
 * The wake-up is not lost: an end lowers the counter, then reads `awaited`; the waiter sets
 * `awaited`, then reads the counters; all of it sequentially consistent, so one of them sees the
 * other. The waker takes the mutex, and so comes after the waiter is on the queue.
 */

void uses_init(struct cache_uses *uses)
{
    pthread_mutex_init(&uses->mutex, NULL);
    co_queue_init(&uses->waiters);
}

static bool is_any_open(struct cache *cache, unsigned parity)
{
    for (unsigned i = 0; i < cache->env->loop_count; i++) {
        if (atomic_load(&cache->lanes[i].uses[parity]) > 0)
            return true;
    }
    return false;
}

void uses_fini(struct cache *cache)
{
    if (cache->lanes)
        assert(!is_any_open(cache, 0) && !is_any_open(cache, 1));
    pthread_mutex_destroy(&cache->uses.mutex);
}

void cache_use_begin(struct cache *cache, struct cache_use *use)
{
    use->parity = atomic_load(&cache->uses.epoch) % 2;
    atomic_fetch_add(&cache_lane(cache)->uses[use->parity], 1);
}

void cache_use_end(struct cache *cache, struct cache_use *use)
{
    struct cache_uses *uses = &cache->uses;
    uint64_t before = atomic_fetch_sub(&cache_lane(cache)->uses[use->parity], 1);
    assert(before > 0);
    (void)before;
    if (!atomic_load(&uses->awaited))
        return;
    pthread_mutex_lock(&uses->mutex);
    co_queue_wake_all(&uses->waiters);
    pthread_mutex_unlock(&uses->mutex);
}

static void co_wait_for(struct cache *cache, unsigned parity)
{
    struct cache_uses *uses = &cache->uses;
    pthread_mutex_lock(&uses->mutex);
    atomic_store(&uses->awaited, true);
    while (is_any_open(cache, parity))
        co_queue_wait(&uses->waiters, &uses->mutex);
    atomic_store(&uses->awaited, false);
    pthread_mutex_unlock(&uses->mutex);
}

/* One at a time: the reaper. */
void uses_co_grace(struct cache *cache)
{
    for (unsigned half = 0; half < 2; half++) {
        unsigned old = atomic_fetch_add(&cache->uses.epoch, 1);
        co_wait_for(cache, old % 2);
    }
}
