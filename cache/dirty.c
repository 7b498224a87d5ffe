/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>
#include <string.h>

#include "cache/table.h"

/* Changing tables, and what of them differs from the disk: one range a table, since entries that
 * change together lie together; what lies between two of them is written as it is. */

static bool is_listed(const struct cache_table *table)
{
    return table->dirty_to > 0;
}

void dirty_mark(struct cache *cache, struct cache_table *table, uint32_t from, uint32_t to)
{
    struct cache_kind *kind = table->kind;
    assert(from < to && to <= table_length(table));
    assert(table->state >= TABLE_CLEAN);
    if (table->state == TABLE_CLEAN)
        table->state = TABLE_DIRTY;
    if (is_listed(table)) {
        table->dirty_from = from < table->dirty_from ? from : table->dirty_from;
        table->dirty_to = to > table->dirty_to ? to : table->dirty_to;
        return;
    }
    table->dirty_from = from;
    table->dirty_to = to;
    list_append(&cache->dirty[kind->config.class_index], &table->link);
    kind->dirty_count++;
}

void dirty_unmark(struct cache_table *table)
{
    if (!is_listed(table))
        return;
    table->dirty_from = table->dirty_to = 0;
    memset(table->needs, 0, sizeof(table->needs));
    list_remove(&table->link);
    table->kind->dirty_count--;
}

struct redo *dirty_redo(const struct cache_kind *kind)
{
    const struct cache *cache = kind->cache;
    return cache->postponed & (1u << kind->config.class_index) ? NULL : cache->redo;
}

void cache_load(const struct cache_table *table, size_t from, void *to, size_t length)
{
    assert(table->pins > 0 && table->state >= TABLE_CLEAN);
    assert(from <= table->kind->config.table_bytes);
    assert(length <= table->kind->config.table_bytes - from);
    memcpy(to, table_data(table) + from, length);
}

void cache_store(struct cache *cache, struct cache_table *table, size_t from, const void *bytes,
                 size_t length)
{
    assert(table->pins > 0 && length > 0);
    assert(from <= table_length(table));
    assert(length <= table_length(table) - from);
    table_begin_change(table);
    table_fill(table, from, bytes, length);
    table_end_change(table);
    dirty_mark(cache, table, (uint32_t)from, (uint32_t)(from + length));
    struct redo *redo = dirty_redo(table->kind);
    if (redo)
        redo_store(redo, table->kind->index, cache_table_offset(table) + from, bytes, length);
}

/* The next sync to start covers what has ended by now. */
void cache_needs(struct cache *cache, struct cache_table *table, unsigned node_index)
{
    assert(table->pins > 0 && is_listed(table));
    assert(node_index < cache->node_count);
    table->needs[node_index] = cache->nodes[node_index].syncs_started + 1;
}

bool cache_is_dirty(const struct cache *cache)
{
    for (unsigned i = 0; i < CACHE_CLASSES_MAX; i++) {
        if (!list_is_empty(&cache->dirty[i]))
            return true;
    }
    return cache->round_running;
}

void cache_attach_redo(struct cache *cache, struct redo *redo)
{
    cache->redo = redo;
    if (redo)
        redo_attached(redo, cache_is_dirty(cache));
}
