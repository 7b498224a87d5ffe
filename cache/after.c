/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>

#include "cache/table.h"

/*
 * The quarantine: what waits until a removal is durable and nobody can have seen what was there.
 *
 * after_new -> (a round takes its copies) the round's own list -> (it succeeded) after_ready ->
 * (every use that was open then has ended) co_run(). One coroutine at a time, the *reaper*, does
 * the last two steps; those who flush do not wait for it, since they may be inside of a use.
 */

void cache_after_durable(struct cache *cache, struct cache_after *after)
{
    link_init(&after->link);
    list_append(&cache->after_new, &after->link);
    cache->after_count++;
}

unsigned cache_after_count(const struct cache *cache)
{
    return cache->after_count;
}

struct cache_after *cache_abandon_after(struct cache *cache)
{
    assert(!cache->reaper_running && !cache->round_running);
    struct list_link *link = list_pop(&cache->after_ready);
    if (!link)
        link = list_pop(&cache->after_new);
    if (!link)
        return NULL;
    cache->after_count--;
    return container_of(link, struct cache_after, link);
}

void after_round_ended(struct cache *cache, struct list *list, int rc)
{
    if (rc == 0) {
        list_move_all(&cache->after_ready, list);
        return;
    }
    list_move_all(list, &cache->after_new); /* the older ones first */
    list_move_all(&cache->after_new, list);
}

/* Monitor; given up meanwhile. Ours is the reaper. */
static void co_reap(struct cache *cache)
{
    while (!list_is_empty(&cache->after_ready)) {
        struct list batch;
        struct list_link *link;
        list_init(&batch);
        list_move_all(&batch, &cache->after_ready);
        pthread_mutex_unlock(cache->monitor);
        uses_co_grace(cache);
        unsigned count = 0;
        for (; (link = list_pop(&batch)); count++) {
            struct cache_after *after = container_of(link, struct cache_after, link);
            after->co_run(after);
        }
        pthread_mutex_lock(cache->monitor);
        cache->after_count -= count;
    }
    cache->reaper_running = false;
    co_queue_wake_all(&cache->reaper_waiters);
}

static void reaper_co_run(struct background *reaper)
{
    struct cache *cache = container_of(reaper, struct cache, reaper);
    pthread_mutex_lock(cache->monitor);
    co_reap(cache);
    pthread_mutex_unlock(cache->monitor);
}

/* The next round tries again. */
static void reaper_refused(struct background *reaper)
{
    struct cache *cache = container_of(reaper, struct cache, reaper);
    pthread_mutex_lock(cache->monitor);
    cache->reaper_running = false;
    co_queue_wake_all(&cache->reaper_waiters);
    pthread_mutex_unlock(cache->monitor);
}

void after_start_reaper(struct cache *cache)
{
    if (cache->reaper_running || list_is_empty(&cache->after_ready))
        return;
    cache->reaper_running = true;
    cache->reaper =
        (struct background){.env = cache->env, .co_run = reaper_co_run, .refused = reaper_refused};
    pthread_mutex_unlock(cache->monitor);
    background_start(&cache->reaper);
    pthread_mutex_lock(cache->monitor);
}

void after_co_drain(struct cache *cache)
{
    while (cache->reaper_running)
        co_queue_wait(&cache->reaper_waiters, cache->monitor);
    if (list_is_empty(&cache->after_ready))
        return;
    cache->reaper_running = true;
    co_reap(cache);
}
