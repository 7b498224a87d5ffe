/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "block/buffer.h"
#include "block/driver.h"
#include "block/env.h"
#include "cache/table.h"

/*
 * Getting a table: a hit pins it, the first who misses loads it, the others wait for him.
 *
 * Bytes come into a buffer of the loop first, so a load that fails has touched no table, and
 * readers without the monitor never look at memory that the host is filling.
 */

/* Monitor. The table is pinned by the caller. */
static int co_await_load(struct cache *cache, struct cache_table *table)
{
    while (table->state == TABLE_LOADING)
        co_queue_wait(&table->waiters, cache->monitor);
    if (table->state != TABLE_FAILED)
        return 0;
    int rc = table->load_rc;
    cache_put_locked(cache, table);
    return rc;
}

static int co_read_node(const struct cache_kind *kind, uint64_t node_offset, void *to,
                        size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, to, length);
    struct block_node *node = kind->cache->nodes[kind->config.node_index].node;
    if (kind->config.load_event)
        node_co_event(node, kind->config.load_event);
    return node_co_read(node, node_offset, &vec);
}

/* The kind may end within the table. */
static int co_read_table(const struct cache_table *table, uint8_t *buffer)
{
    uint32_t length = table_length(table);
    memset(buffer + length, 0, table->kind->config.table_bytes - length);
    return co_read_node(table->kind, cache_table_offset(table), buffer, length);
}

/* Monitor. A load has failed: nothing of it is found any more. The loader's pin goes. */
static void fail_load(struct cache *cache, struct cache_table *table, int rc)
{
    table->kind->loads_failed++;
    table_unhash(table);
    table->state = TABLE_FAILED;
    table->load_rc = rc;
    co_queue_wake_all(&table->waiters);
    cache_put_locked(cache, table);
}

/* Monitor; given up meanwhile. table is empty and becomes the one with this number. */
static int co_load(struct cache *cache, struct cache_table *table, uint64_t number)
{
    struct cache_kind *kind = table->kind;
    size_t length = kind->config.table_bytes;
    table->state = TABLE_LOADING;
    table->pins = 1;
    table_hash(table, number);
    pthread_mutex_unlock(cache->monitor);

    struct buffer_pool *pool = &block_env_local(cache->env)->buffers;
    uint8_t *buffer = buffer_get(pool, length);
    int rc = buffer ? co_read_table(table, buffer) : -ENOMEM;

    pthread_mutex_lock(cache->monitor);
    if (rc == 0) {
        table_fill(table, 0, buffer, length);
        table_end_change(table);
        table->state = TABLE_CLEAN;
        co_queue_wake_all(&table->waiters);
    } else {
        fail_load(cache, table, rc);
    }
    buffer_put(pool, buffer, length);
    return rc;
}

/* Monitor. Content that was never on the disk. */
static void make_new(struct cache *cache, struct cache_table *table)
{
    table_fill(table, 0, NULL, table->kind->config.table_bytes);
    table_end_change(table);
    dirty_mark(cache, table, 0, table_length(table));
    struct redo *redo = dirty_redo(table->kind);
    if (redo)
        redo_zero(redo, table->kind->index, cache_table_offset(table), table_length(table));
}

static void pin(struct cache_table *table)
{
    table->pins++;
    atomic_store_explicit(&table->referenced, 1, memory_order_relaxed);
}

/* Monitor; given up meanwhile. An empty table that nobody else has filled in the meantime;
 * -EAGAIN: others have run, look again; -ENOMEM, or why what is dirty cannot be written. */
static int co_take(struct cache_kind *kind, struct cache_table **ret_table)
{
    int rc = table_make_room(kind);
    if (rc < 0)
        return rc;
    struct cache_table *table = evict_take(kind);
    if (table) {
        *ret_table = table;
        return 0;
    }
    rc = evict_co_make_room(kind);
    return rc < 0 ? rc : -EAGAIN;
}

/* Monitor; given up meanwhile. *ret_is_full: it failed because what is dirty cannot be written. */
static int co_get_locked(struct cache_kind *kind, uint64_t number, struct cache_table **ret_table,
                         bool *ret_is_full)
{
    struct cache *cache = kind->cache;
    struct cache_lane *lane = cache_lane(cache);
    bool has_missed = false;
    for (;;) {
        struct cache_table *table = table_find(kind, number);
        if (table) {
            lane_count(has_missed ? &lane->misses[kind->index] : &lane->hits[kind->index]);
            pin(table);
            *ret_table = table;
            return co_await_load(cache, table);
        }
        if (!has_missed && evict_is_dirty_enough(kind)) {
            has_missed = true;
            order_co_round_of_all(cache); /* if it fails, there may be room all the same */
            continue;
        }
        has_missed = true;
        int rc = co_take(kind, &table);
        if (rc == -EAGAIN)
            continue;
        if (rc < 0) {
            *ret_is_full = true;
            return rc;
        }
        lane_count(&lane->misses[kind->index]);
        *ret_table = table;
        return co_load(cache, table, number);
    }
}

int cache_co_get(struct cache *cache, unsigned kind_index, uint64_t node_offset,
                 struct cache_table **ret_table)
{
    assert(kind_index < cache->kind_count);
    struct cache_kind *kind = &cache->kinds[kind_index];
    struct cache_table *table;
    size_t from;
    bool is_full;
    uint64_t number = table_number(kind, node_offset, 1, &from);
    pthread_mutex_lock(cache->monitor);
    int rc = co_get_locked(kind, number, &table, &is_full);
    order_start_trimmer(cache);
    pthread_mutex_unlock(cache->monitor);
    if (rc == 0)
        *ret_table = table;
    return rc;
}

/* Monitor; given up meanwhile. What is there under that number is of the place's former life: a
 * late reader may have loaded it. */
static int co_get_new_locked(struct cache_kind *kind, uint64_t number,
                             struct cache_table **ret_table)
{
    struct cache *cache = kind->cache;
    for (;;) {
        struct cache_table *table = table_find(kind, number);
        if (table && (table->state == TABLE_LOADING || table->state == TABLE_WRITING)) {
            co_queue_wait(&table->waiters, cache->monitor);
            continue;
        }
        if (table) {
            table_begin_change(table);
            pin(table);
        } else {
            int rc = co_take(kind, &table);
            if (rc == -EAGAIN)
                continue;
            if (rc < 0)
                return rc;
            table->state = TABLE_CLEAN;
            table->pins = 1;
            table_hash(table, number);
        }
        make_new(cache, table);
        *ret_table = table;
        return 0;
    }
}

int cache_co_get_new(struct cache *cache, unsigned kind_index, uint64_t node_offset,
                     struct cache_table **ret_table)
{
    assert(kind_index < cache->kind_count);
    struct cache_kind *kind = &cache->kinds[kind_index];
    struct cache_table *table;
    size_t from;
    uint64_t number = table_number(kind, node_offset, 1, &from);
    pthread_mutex_lock(cache->monitor);
    int rc = co_get_new_locked(kind, number, &table);
    order_start_trimmer(cache);
    pthread_mutex_unlock(cache->monitor);
    if (rc == 0)
        *ret_table = table;
    return rc;
}

/* Monitor; given up meanwhile. For a table that is not in memory and finds no room there: what is
 * dirty cannot be written, but who only reads need not fail for that. The disk has the last word on
 * such a table, as long as nobody brings one into memory. -EAGAIN: somebody did. */
static int co_read_past(struct cache_kind *kind, uint64_t node_offset, void *to, size_t length)
{
    struct cache *cache = kind->cache;
    uint64_t before = kind->hashings;
    pthread_mutex_unlock(cache->monitor);
    int rc = co_read_node(kind, node_offset, to, length);
    pthread_mutex_lock(cache->monitor);
    return rc == 0 && kind->hashings != before ? -EAGAIN : rc;
}

int cache_co_read(struct cache *cache, unsigned kind_index, uint64_t node_offset, void *to,
                  size_t length)
{
    if (cache_try_read(cache, kind_index, node_offset, to, length))
        return 0;
    struct cache_kind *kind = &cache->kinds[kind_index];
    struct cache_table *table;
    size_t from;
    int rc;
    uint64_t number = table_number(kind, node_offset, length, &from);
    pthread_mutex_lock(cache->monitor);
    do {
        bool is_full = false;
        rc = co_get_locked(kind, number, &table, &is_full);
        if (rc == 0) {
            cache_load(table, from, to, length);
            cache_put_locked(cache, table);
        } else if (is_full) { /* somebody may have found room for it meanwhile */
            rc = table_find(kind, number) ? -EAGAIN : co_read_past(kind, node_offset, to, length);
        }
    } while (rc == -EAGAIN);
    pthread_mutex_unlock(cache->monitor);
    return rc;
}

void cache_put_locked(struct cache *cache, struct cache_table *table)
{
    (void)cache;
    if (!table)
        return;
    assert(table->pins > 0);
    if (--table->pins > 0)
        return;
    if (table->state == TABLE_FAILED)
        evict_release(table);
    else
        co_queue_wake_all(&table->waiters);
    co_queue_wake_all(&table->kind->room);
}

void cache_put(struct cache *cache, struct cache_table *table)
{
    if (!table)
        return;
    pthread_mutex_lock(cache->monitor);
    cache_put_locked(cache, table);
    pthread_mutex_unlock(cache->monitor);
}

/* Monitor; given up meanwhile. */
static void co_forget_one(struct cache_kind *kind, uint64_t number)
{
    struct cache *cache = kind->cache;
    struct cache_table *table;
    while ((table = table_find(kind, number))) {
        if (table->pins > 0 || table->state == TABLE_WRITING) { /* who loads has a pin */
            co_queue_wait(&table->waiters, cache->monitor);
            continue;
        }
        dirty_unmark(table);
        table_begin_change(table);
        table_unhash(table);
        evict_release(table);
        co_queue_wake_all(&kind->room);
    }
}

void cache_co_forget(struct cache *cache, unsigned kind_index, uint64_t node_offset,
                     uint64_t length)
{
    assert(kind_index < cache->kind_count && length > 0);
    struct cache_kind *kind = &cache->kinds[kind_index];
    size_t from;
    uint64_t first = table_number(kind, node_offset, 1, &from);
    uint64_t last = table_number(kind, node_offset + length - 1, 1, &from);
    pthread_mutex_lock(cache->monitor);
    for (uint64_t number = first; number <= last; number++)
        co_forget_one(kind, number);
    if (cache->redo)
        redo_forget(cache->redo, kind->config.node_index,
                    kind->config.base + (first - 1) * kind->config.table_bytes,
                    (last - first + 1) * kind->config.table_bytes);
    pthread_mutex_unlock(cache->monitor);
}
