/* SPDX-License-Identifier: BSD-3-Clause */
#include "cache/table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "block/env.h"
#include "block/loop.h"
#include "common/align.h"
#include "common/checked.h"

/*
 * Where a table is in memory, and how it is read without the monitor.
 *
 * A kind has a fixed array of tables, their content in one mapping, and a hash of chains by index,
 * from when the first of its tables is wanted: who opens an image does not need all kinds. Nothing
 * of it is freed before the cache is, so a reader may follow a chain while it is changed:
 * it may be led into another chain and miss, but never out of the array; and what it copies counts
 * only when the table's sequence number says so (table.h, invariant 1). Rejected: a lock a bucket,
 * since a hit would write a line that all loops read.
 */

#define CHAIN_STEPS_MAX 64 /* a reader that was led about gives up; the monitor's way finds it */
#define READ_TRIES 4
#define WORD 8
/* A kind with more has its room from the begin, so that a budget that cannot be is refused when the
 * cache is made. */
#define LAZY_BYTES_MAX (UINT64_C(64) << 20)

/* --- life ---------------------------------------------------------------------------------------
 */

static void check_kind(const struct cache_config *config, const struct cache_kind_config *kind)
{
    assert(is_power_of_two(kind->table_bytes));
    assert(kind->table_bytes >= CACHE_TABLE_BYTES_MIN);
    assert(kind->table_bytes <= CACHE_TABLE_BYTES_MAX);
    assert(kind->node_index < config->node_count);
    assert(kind->class_index < CACHE_CLASSES_MAX);
    (void)config;
    (void)kind;
}

static int kind_init(struct cache_kind *kind, struct cache *cache, unsigned index,
                     const struct cache_kind_config *config)
{
    uint64_t capacity = config->budget_bytes / config->table_bytes;
    if (capacity < CACHE_TABLES_MIN)
        capacity = CACHE_TABLES_MIN;
    if (capacity > UINT32_MAX / 2)
        return -ENOMEM;
    *kind = (struct cache_kind){
        .config = *config, .cache = cache, .index = index, .capacity = (uint32_t)capacity};
    list_init(&kind->free);
    co_queue_init(&kind->room);
    unsigned bits = 1;
    while ((UINT64_C(1) << bits) < capacity)
        bits++;
    kind->bucket_shift = 64 - bits;
    return capacity * config->table_bytes > LAZY_BYTES_MAX ? table_make_room(kind) : 0;
}

static _Atomic uint32_t *buckets_of(const struct cache_kind *kind)
{
    return atomic_load_explicit(&kind->buckets, memory_order_acquire);
}

int table_make_room(struct cache_kind *kind)
{
    if (buckets_of(kind))
        return 0;
    size_t bucket_count = (size_t)1 << (64 - kind->bucket_shift);
    size_t data_bytes = (size_t)kind->capacity * kind->config.table_bytes;
    _Atomic uint32_t *buckets = calloc(bucket_count, sizeof(*buckets));
    struct cache_table *tables = calloc(kind->capacity, sizeof(*tables));
    void *data = mmap(NULL, data_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!buckets || !tables || data == MAP_FAILED) {
        free(buckets);
        free(tables);
        if (data != MAP_FAILED)
            munmap(data, data_bytes);
        return -ENOMEM;
    }
    kind->tables = tables;
    kind->data = data;
    atomic_store_explicit(&kind->buckets, buckets, memory_order_release);
    return 0;
}

static void kind_fini(struct cache_kind *kind)
{
    for (uint32_t i = 0; i < kind->touched; i++)
        assert(kind->tables[i].pins == 0 && kind->tables[i].state != TABLE_LOADING);
    if (kind->data)
        munmap(kind->data, (size_t)kind->capacity * kind->config.table_bytes);
    free(kind->tables);
    free(buckets_of(kind));
}

static int cache_init(struct cache *cache, const struct cache_config *config)
{
    cache->env = config->env;
    cache->monitor = config->monitor;
    cache->node_count = config->node_count;
    for (unsigned i = 0; i < config->node_count; i++)
        cache->nodes[i].node = config->nodes[i];
    for (unsigned i = 0; i < CACHE_CLASSES_MAX; i++)
        list_init(&cache->dirty[i]);
    co_queue_init(&cache->round_waiters);
    co_queue_init(&cache->reaper_waiters);
    co_queue_init(&cache->trimmer_waiters);
    list_init(&cache->after_new);
    list_init(&cache->after_ready);
    uses_init(&cache->uses);
    size_t lanes_bytes = config->env->loop_count * sizeof(*cache->lanes);
    cache->lanes = aligned_alloc(_Alignof(struct cache_lane), lanes_bytes);
    if (!cache->lanes)
        return -ENOMEM;
    memset(cache->lanes, 0, lanes_bytes);
    for (unsigned i = 0; i < config->kind_count; i++) {
        check_kind(config, &config->kinds[i]);
        cache->kind_count = i + 1;
        int rc = kind_init(&cache->kinds[i], cache, i, &config->kinds[i]);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int cache_new(struct cache **ret_cache, const struct cache_config *config, struct error *err)
{
    assert(config->node_count >= 1 && config->node_count <= CACHE_NODES_MAX);
    assert(config->kind_count >= 1 && config->kind_count <= CACHE_KINDS_MAX);
    struct cache *cache = calloc(1, sizeof(*cache));
    if (!cache)
        return error_set(err, -ENOMEM, "no memory for a cache of tables");
    int rc = cache_init(cache, config);
    if (rc < 0) {
        cache_free(cache);
        return error_set(err, rc, "no memory for a cache of tables; give it a smaller budget");
    }
    *ret_cache = cache;
    return 0;
}

void cache_free(struct cache *cache)
{
    if (!cache)
        return;
    assert(!cache->round_running && !cache->reaper_running && cache->cleaner.interval_ns == 0);
    assert(cache->after_count == 0 && !cache->trimmer_running);
    for (unsigned i = 0; i < cache->kind_count; i++)
        kind_fini(&cache->kinds[i]);
    uses_fini(cache);
    free(cache->lanes);
    free(cache);
}

struct cache_lane *cache_lane(struct cache *cache)
{
    unsigned index = loop_index(loop_current());
    assert(index < cache->env->loop_count);
    return &cache->lanes[index];
}

/* --- places -------------------------------------------------------------------------------------
 */

uint64_t table_number(const struct cache_kind *kind, uint64_t node_offset, size_t length,
                      size_t *ret_from)
{
    assert(node_offset >= kind->config.base);
    assert(kind->config.end == 0 || range_is_inside(node_offset, length, kind->config.end));
    uint64_t relative = node_offset - kind->config.base;
    size_t from = relative & (kind->config.table_bytes - 1);
    assert(length <= kind->config.table_bytes - from);
    (void)length;
    *ret_from = from;
    return relative / kind->config.table_bytes + 1;
}

uint8_t *table_data(const struct cache_table *table)
{
    const struct cache_kind *kind = table->kind;
    return kind->data + (size_t)(table - kind->tables) * kind->config.table_bytes;
}

uint64_t cache_table_offset(const struct cache_table *table)
{
    const struct cache_kind_config *config = &table->kind->config;
    uint64_t number = atomic_load_explicit(&table->number, memory_order_relaxed);
    return config->base + (number - 1) * config->table_bytes;
}

uint32_t table_length(const struct cache_table *table)
{
    const struct cache_kind_config *config = &table->kind->config;
    uint64_t start = cache_table_offset(table);
    bool is_whole = config->end == 0 || config->end - start >= config->table_bytes;
    return is_whole ? config->table_bytes : (uint32_t)(config->end - start);
}

/* NULL: nothing was ever wanted of this kind. */
static _Atomic uint32_t *bucket_of(const struct cache_kind *kind, uint64_t number)
{
    _Atomic uint32_t *buckets = buckets_of(kind);
    uint64_t at = (number * UINT64_C(0x9e3779b97f4a7c15)) >> kind->bucket_shift;
    return buckets ? &buckets[at] : NULL;
}

/* The first table in the chain that has this number, or had it a moment ago. */
static struct cache_table *chain_find(const struct cache_kind *kind, uint64_t number,
                                      unsigned steps_max)
{
    _Atomic uint32_t *bucket = bucket_of(kind, number);
    uint32_t at = bucket ? atomic_load_explicit(bucket, memory_order_acquire) : NO_TABLE;
    for (unsigned steps = 0; at != NO_TABLE && steps < steps_max; steps++) {
        struct cache_table *table = &kind->tables[at - 1];
        if (atomic_load_explicit(&table->number, memory_order_relaxed) == number)
            return table;
        at = atomic_load_explicit(&table->next, memory_order_acquire);
    }
    return NULL;
}

struct cache_table *table_find(const struct cache_kind *kind, uint64_t number)
{
    return chain_find(kind, number, kind->capacity);
}

void table_hash(struct cache_table *table, uint64_t number)
{
    struct cache_kind *kind = table->kind;
    _Atomic uint32_t *bucket = bucket_of(kind, number);
    uint32_t first = atomic_load_explicit(bucket, memory_order_relaxed);
    atomic_store_explicit(&table->number, number, memory_order_relaxed);
    atomic_store_explicit(&table->next, first, memory_order_release);
    atomic_store_explicit(bucket, (uint32_t)(table - kind->tables) + 1, memory_order_release);
    kind->hashed_count++;
    kind->hashings++;
}

void table_unhash(struct cache_table *table)
{
    struct cache_kind *kind = table->kind;
    uint64_t number = atomic_load_explicit(&table->number, memory_order_relaxed);
    uint32_t self = (uint32_t)(table - kind->tables) + 1;
    _Atomic uint32_t *link = bucket_of(kind, number);
    while (atomic_load_explicit(link, memory_order_relaxed) != self) {
        uint32_t at = atomic_load_explicit(link, memory_order_relaxed);
        assert(at != NO_TABLE);
        link = &kind->tables[at - 1].next;
    }
    uint32_t next = atomic_load_explicit(&table->next, memory_order_relaxed);
    atomic_store_explicit(link, next, memory_order_release);
    atomic_store_explicit(&table->number, NO_NUMBER, memory_order_relaxed);
    kind->hashed_count--;
}

/* --- content ------------------------------------------------------------------------------------
 */

void table_begin_change(struct cache_table *table)
{
    uint32_t sequence = atomic_load_explicit(&table->sequence, memory_order_relaxed);
    assert(sequence % 2 == 0);
    atomic_store_explicit(&table->sequence, sequence + 1, memory_order_relaxed);
}

void table_end_change(struct cache_table *table)
{
    uint32_t sequence = atomic_load_explicit(&table->sequence, memory_order_relaxed);
    assert(sequence % 2 == 1);
    atomic_store_explicit(&table->sequence, sequence + 1, memory_order_release);
}

/* Each store releases, so that no word is seen before the odd number is. */
void table_fill(struct cache_table *table, size_t from, const void *bytes, size_t length)
{
    uint8_t *data = table_data(table);
    const uint8_t *source = bytes;
    for (size_t done = 0; done < length;) {
        size_t at = from + done;
        size_t skip = at % WORD;
        size_t piece = WORD - skip < length - done ? WORD - skip : length - done;
        _Atomic uint64_t *word = (_Atomic uint64_t *)(void *)(data + at - skip);
        uint64_t value = atomic_load_explicit(word, memory_order_relaxed);
        if (source)
            memcpy((uint8_t *)&value + skip, source + done, piece);
        else
            memset((uint8_t *)&value + skip, 0, piece);
        atomic_store_explicit(word, value, memory_order_release);
        done += piece;
    }
}

/* Each load acquires, so that the sequence number is looked at again after the last of them. */
static void copy_words(const struct cache_table *table, size_t from, void *to, size_t length)
{
    const uint8_t *data = table_data(table);
    for (size_t done = 0; done < length;) {
        size_t at = from + done;
        size_t skip = at % WORD;
        size_t piece = WORD - skip < length - done ? WORD - skip : length - done;
        const _Atomic uint64_t *word = (const _Atomic uint64_t *)(const void *)(data + at - skip);
        uint64_t value = atomic_load_explicit(word, memory_order_acquire);
        memcpy((uint8_t *)to + done, (const uint8_t *)&value + skip, piece);
        done += piece;
    }
}

/* Whether `to` now holds what the table with this number held at one moment. */
static bool try_copy(struct cache_table *table, uint64_t number, size_t from, void *to,
                     size_t length)
{
    uint32_t before = atomic_load_explicit(&table->sequence, memory_order_acquire);
    if (before % 2 == 1 || atomic_load_explicit(&table->number, memory_order_acquire) != number)
        return false;
    copy_words(table, from, to, length);
    return atomic_load_explicit(&table->sequence, memory_order_relaxed) == before;
}

bool cache_try_read(struct cache *cache, unsigned kind_index, uint64_t node_offset, void *to,
                    size_t length)
{
    assert(kind_index < cache->kind_count);
    struct cache_kind *kind = &cache->kinds[kind_index];
    size_t from;
    uint64_t number = table_number(kind, node_offset, length, &from);
    for (unsigned tries = 0; tries < READ_TRIES; tries++) {
        struct cache_table *table = chain_find(kind, number, CHAIN_STEPS_MAX);
        if (!table)
            return false;
        if (!try_copy(table, number, from, to, length))
            continue;
        if (!atomic_load_explicit(&table->referenced, memory_order_relaxed))
            atomic_store_explicit(&table->referenced, 1, memory_order_relaxed);
        lane_count(&cache_lane(cache)->hits[kind_index]);
        return true;
    }
    return false;
}

/* --- counters -----------------------------------------------------------------------------------
 */

void cache_kind_counters(struct cache *cache, unsigned kind_index,
                         struct cache_counters *ret_counters)
{
    assert(kind_index < cache->kind_count);
    struct cache_kind *kind = &cache->kinds[kind_index];
    struct cache_counters sum = {0};
    for (unsigned i = 0; i < cache->env->loop_count; i++) {
        sum.hits += atomic_load_explicit(&cache->lanes[i].hits[kind_index], memory_order_relaxed);
        sum.misses +=
            atomic_load_explicit(&cache->lanes[i].misses[kind_index], memory_order_relaxed);
    }
    pthread_mutex_lock(cache->monitor);
    sum.loads_failed = kind->loads_failed;
    sum.evictions = kind->evictions;
    sum.writes = kind->writes;
    sum.writes_failed = kind->writes_failed;
    sum.tables = kind->hashed_count;
    sum.dirty_tables = kind->dirty_count;
    pthread_mutex_unlock(cache->monitor);
    *ret_counters = sum;
}
