/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>
#include <sys/mman.h>

#include "block/coroutine.h"
#include "cache/table.h"
#include "common/align.h"
#include "common/clock.h"

/*
 * Room for a table that is wanted: an empty one, or one that was never used, or else a clean one
 * that has had its second chance. The clock's hand goes round; a table that was asked for since the
 * hand was there last is left this time. Dirty ones are written in a round first.
 */

#define PAGE_BYTES 4096

static bool may_go(const struct cache_table *table)
{
    return table->state == TABLE_CLEAN && table->pins == 0;
}

/* Out of the hash, content gone; on no list. */
static void drop(struct cache_table *table)
{
    table_begin_change(table);
    table_unhash(table);
    table->state = TABLE_EMPTY;
    table->kind->evictions++;
}

void evict_release(struct cache_table *table)
{
    assert(table->pins == 0);
    table->state = TABLE_EMPTY;
    list_append(&table->kind->free, &table->link);
}

static struct cache_table *touch_next(struct cache_kind *kind)
{
    struct cache_table *table = &kind->tables[kind->touched++];
    table->kind = kind;
    link_init(&table->link);
    co_queue_init(&table->waiters);
    table_begin_change(table); /* there is no content yet */
    return table;
}

static struct cache_table *take_clean(struct cache_kind *kind)
{
    for (uint64_t steps = 0; steps < 2 * (uint64_t)kind->capacity; steps++) {
        struct cache_table *table = &kind->tables[kind->hand];
        kind->hand = kind->hand + 1 < kind->capacity ? kind->hand + 1 : 0;
        if (!may_go(table))
            continue;
        if (atomic_load_explicit(&table->referenced, memory_order_relaxed)) {
            atomic_store_explicit(&table->referenced, 0, memory_order_relaxed);
            continue;
        }
        drop(table);
        return table;
    }
    return NULL;
}

struct cache_table *evict_take(struct cache_kind *kind)
{
    struct list_link *link = list_pop(&kind->free);
    if (link)
        return container_of(link, struct cache_table, link);
    if (kind->touched < kind->capacity)
        return touch_next(kind);
    return take_clean(kind);
}

bool evict_is_dirty_enough(const struct cache_kind *kind)
{
    return kind->dirty_count >= kind->capacity - kind->capacity / 4;
}

int evict_co_make_room(struct cache_kind *kind)
{
    struct cache *cache = kind->cache;
    if (kind->dirty_count > 0)
        return order_co_round_of_all(cache);
    if (cache->round_running)
        co_queue_wait(&cache->round_waiters, cache->monitor);
    else
        co_queue_wait(&kind->room, cache->monitor);
    return 0;
}

/* --- giving memory back -------------------------------------------------------------------------
 */

/* The whole pages of tables [first, end), which are empty. */
static void give_back(struct cache_kind *kind, uint32_t first, uint32_t end)
{
    uint64_t from = align_up((uint64_t)first * kind->config.table_bytes, PAGE_BYTES);
    uint64_t to = align_down((uint64_t)end * kind->config.table_bytes, PAGE_BYTES);
    if (from < to)
        madvise(kind->data + from, to - from, MADV_DONTNEED);
}

static void give_back_empty(struct cache_kind *kind)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i <= kind->touched; i++) {
        if (i < kind->touched && kind->tables[i].state == TABLE_EMPTY)
            continue;
        give_back(kind, first, i);
        first = i + 1;
    }
}

static void clean_kind(struct cache_kind *kind, bool recent_too)
{
    bool any = false;
    for (uint32_t i = 0; i < kind->touched; i++) {
        struct cache_table *table = &kind->tables[i];
        if (!may_go(table))
            continue;
        bool is_recent = atomic_exchange_explicit(&table->referenced, 0, memory_order_relaxed);
        if (is_recent && !recent_too)
            continue;
        drop(table);
        evict_release(table);
        any = true;
    }
    if (!any)
        return;
    give_back_empty(kind);
    co_queue_wake_all(&kind->room);
}

static void clean(struct cache *cache, bool recent_too)
{
    pthread_mutex_lock(cache->monitor);
    for (unsigned i = 0; i < cache->kind_count; i++)
        clean_kind(&cache->kinds[i], recent_too);
    pthread_mutex_unlock(cache->monitor);
}

void cache_clean(struct cache *cache)
{
    clean(cache, false);
}

void cache_invalidate(struct cache *cache)
{
    clean(cache, true);
}

/* --- now and then -------------------------------------------------------------------------------
 */

static void set_timer(struct cache_cleaner *cleaner)
{
    home_timer_set(&cleaner->timer, loop_now_ns(loop_current()) + cleaner->interval_ns);
}

static void co_interval_over(struct home_timer *timer)
{
    struct cache *cache = container_of(timer, struct cache, cleaner.timer);
    cache_clean(cache);
    set_timer(&cache->cleaner);
}

void cache_start_cleaning(struct cache *cache, uint64_t interval_s)
{
    struct cache_cleaner *cleaner = &cache->cleaner;
    assert(cleaner->interval_ns == 0 && interval_s <= UINT32_MAX);
    if (interval_s == 0)
        return;
    cleaner->interval_ns = interval_s * NS_PER_S;
    home_timer_init(&cleaner->timer, cache->env, co_interval_over);
    set_timer(cleaner);
}

void cache_co_stop_cleaning(struct cache *cache)
{
    struct cache_cleaner *cleaner = &cache->cleaner;
    if (cleaner->interval_ns == 0)
        return;
    home_timer_co_fini(&cleaner->timer);
    cleaner->interval_ns = 0;
}
