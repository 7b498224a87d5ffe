/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>

#include "block/driver.h"
#include "cache/table.h"

/*
 * When rounds happen, who waits for which, and what "durable" is.
 *
 * Rounds have numbers. Who wants what is in memory now to be durable wants the first round that
 * starts from now on; one that runs has taken its copies already. Whoever finds no round running
 * while his has not been made leads it himself; the others wait. A round that succeeds after one
 * that failed has written that one's tables too, so the result of the latest is the true one for
 * everybody who waited for it or for an earlier one.
 *
 * Syncs of a node have numbers too. What was written to a node, the write having ended, is durable
 * when a sync with a higher number than the last one *started* by then is complete. A table that
 * points to such bytes keeps this number (cache_needs); so a sync that somebody else made in the
 * meantime counts.
 *
 * One direction of classes, so that what waits for what cannot turn in a circle; the price is that
 * a decrement may not be in the class of the increments before the pointer is gone for good: that
 * is what cache_after_durable() is for.
 */

int order_co_sync(struct cache *cache, unsigned node_index)
{
    struct cache_node *node = &cache->nodes[node_index];
    pthread_mutex_lock(cache->monitor);
    uint64_t number = ++node->syncs_started;
    cache->syncs++;
    pthread_mutex_unlock(cache->monitor);

    int rc = node_co_flush(node->node);
    pthread_mutex_lock(cache->monitor);
    if (rc < 0) {
        if (cache->redo) /* what it has may point to data that is lost; the old tables do not */
            redo_break_for_good(cache->redo);
        pthread_mutex_unlock(cache->monitor);
        return rc;
    }
    if (number > node->syncs_completed)
        node->syncs_completed = number;
    pthread_mutex_unlock(cache->monitor);
    return 0;
}

/* Monitor; given up meanwhile. */
static void co_lead(struct cache *cache)
{
    unsigned classes = cache->want_all > 0 ? ~0u : ~cache->postponed;
    uint64_t number = ++cache->rounds_started;
    cache->round_running = true;
    int rc = writeback_co_round(cache, classes);
    cache->round_running = false;
    cache->rounds_done = number;
    cache->rounds_failed += rc < 0;
    cache->done_rc = rc;
    co_queue_wake_all(&cache->round_waiters);
    after_start_reaper(cache);
    if (rc == 0) /* else it would only fail again */
        order_start_trimmer(cache);
}

/* Monitor; given up meanwhile. */
static int co_round(struct cache *cache, uint64_t wanted)
{
    int rc = 0;
    while (cache->rounds_done < wanted) {
        if (cache->round_running)
            co_queue_wait(&cache->round_waiters, cache->monitor);
        else
            co_lead(cache);
        rc = cache->done_rc;
    }
    return rc;
}

/* --- rounds for the sake of the redo log --------------------------------------------------------
 *
 * The log wants a round when it is half full, and when it is broken. Whoever finds that out holds
 * the monitor and may not give it up, so the round is started by who asks for the next table, or
 * has just led a round.
 */

static void end_trimmer(struct cache *cache)
{
    cache->trimmer_running = false;
    co_queue_wake_all(&cache->trimmer_waiters);
}

static void trimmer_co_run(struct background *trimmer)
{
    struct cache *cache = container_of(trimmer, struct cache, trimmer);
    pthread_mutex_lock(cache->monitor);
    while (co_round(cache, cache->rounds_started + 1) == 0 && cache->redo &&
           redo_take_wanted(cache->redo))
        ;
    end_trimmer(cache);
    pthread_mutex_unlock(cache->monitor);
}

/* A log that becomes full is broken, and asks once more. */
static void trimmer_refused(struct background *trimmer)
{
    struct cache *cache = container_of(trimmer, struct cache, trimmer);
    pthread_mutex_lock(cache->monitor);
    end_trimmer(cache);
    pthread_mutex_unlock(cache->monitor);
}

void order_start_trimmer(struct cache *cache)
{
    if (!cache->redo || cache->trimmer_running || !redo_take_wanted(cache->redo))
        return;
    cache->trimmer_running = true;
    cache->trimmer = (struct background){
        .env = cache->env, .co_run = trimmer_co_run, .refused = trimmer_refused};
    pthread_mutex_unlock(cache->monitor);
    background_start(&cache->trimmer);
    pthread_mutex_lock(cache->monitor);
}

/* Monitor; given up meanwhile. Nothing goes on in the background. */
static void co_await_background(struct cache *cache)
{
    after_co_drain(cache);
    while (cache->trimmer_running) {
        co_queue_wait(&cache->trimmer_waiters, cache->monitor);
        after_co_drain(cache); /* of what its rounds have made durable */
    }
}

/* ------------------------------------------------------------------------------------------------
 */

int order_co_round_of_all(struct cache *cache)
{
    cache->want_all++;
    int rc = co_round(cache, cache->rounds_started + 1);
    cache->want_all--;
    return rc;
}

static bool has_work(const struct cache *cache, unsigned classes)
{
    for (unsigned i = 0; i < CACHE_CLASSES_MAX; i++) {
        if ((classes & (1u << i)) && !list_is_empty(&cache->dirty[i]))
            return true;
    }
    if (cache->redo && redo_has_work(cache->redo))
        return true;
    return !list_is_empty(&cache->after_new);
}

static int co_sync_all(struct cache *cache)
{
    int rc = 0;
    for (unsigned i = 0; i < cache->node_count && rc == 0; i++)
        rc = order_co_sync(cache, i);
    return rc;
}

int cache_co_flush(struct cache *cache)
{
    pthread_mutex_lock(cache->monitor);
    /* With nothing new, the one that runs is all there is to wait for. */
    bool is_new = has_work(cache, ~cache->postponed);
    int rc = co_round(cache, cache->rounds_started + is_new);
    pthread_mutex_unlock(cache->monitor);
    return rc < 0 ? rc : co_sync_all(cache);
}

int cache_co_flush_all(struct cache *cache)
{
    pthread_mutex_lock(cache->monitor);
    int rc = order_co_round_of_all(cache);
    pthread_mutex_unlock(cache->monitor);
    return rc < 0 ? rc : co_sync_all(cache);
}

int cache_co_settle(struct cache *cache)
{
    int rc = 0;
    pthread_mutex_lock(cache->monitor);
    do {
        if (has_work(cache, ~0u) || cache->round_running)
            rc = order_co_round_of_all(cache);
        co_await_background(cache);
    } while (rc == 0 && (has_work(cache, ~0u) || cache->after_count > 0));
    pthread_mutex_unlock(cache->monitor);
    return rc < 0 ? rc : co_sync_all(cache);
}

void cache_postpone(struct cache *cache, unsigned classes)
{
    cache->postponed = classes;
}

void cache_refuse_writes(struct cache *cache, int code)
{
    assert(code < 0);
    cache->refused_rc = code;
    if (cache->redo)
        redo_break_for_good(cache->redo);
}

void cache_round_counters(struct cache *cache, struct cache_round_counters *ret_counters)
{
    pthread_mutex_lock(cache->monitor);
    *ret_counters = (struct cache_round_counters){
        .rounds = cache->rounds_done, .rounds_failed = cache->rounds_failed, .syncs = cache->syncs};
    pthread_mutex_unlock(cache->monitor);
}
