/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "tests/unit/cache/cache_fixture.h"

static struct block_node *co_open_disk(struct cache_fixture *fixture, struct memory_disk *disk)
{
    struct block_node *node;
    struct node_options *options = node_options_new();
    memory_disk_options(disk, options, "", "growing");
    assert_int_equal(block_co_open(&fixture->block.env, options, &node, NULL), 0);
    return node;
}

struct cache *cache_fixture_new_cache(struct cache_fixture *fixture)
{
    struct cache *cache;
    struct cache_config config = {
        .env = &fixture->block.env,
        .monitor = &fixture->monitor,
        .nodes = {fixture->block.node, fixture->data_node},
        .node_count = 2,
        .kind_count = KIND_COUNT,
    };
    for (unsigned i = 0; i < KIND_COUNT; i++)
        config.kinds[i] = (struct cache_kind_config){
            .name = "test",
            .class_index = i < ODD ? i : HIGH,
            .table_bytes = TABLE_BYTES,
            .base = place_of(i, 0),
            .end = i == SHORT ? SHORT_BASE + SHORT_BYTES : 0,
            .budget_bytes = 1,
        };
    assert_int_equal(cache_new(&cache, &config, NULL), 0);
    return cache;
}

struct run_arg {
    struct cache_fixture *fixture;
    void (*test)(struct cache_fixture *fixture);
};

static void co_run(struct fixture *block, void *arg)
{
    struct run_arg *run = arg;
    struct cache_fixture *fixture = run->fixture;
    block->node = co_open_disk(fixture, &block->disk);
    fixture->data_node = co_open_disk(fixture, &fixture->data_disk);
    fixture->cache = cache_fixture_new_cache(fixture);
    run->test(fixture);
    cache_free(fixture->cache);
    block_co_node_unref(fixture->data_node);
}

void cache_fixture_run(uint32_t alignment, void (*test)(struct cache_fixture *fixture))
{
    cache_fixture_run_over(alignment, alignment, test);
}

void cache_fixture_run_over(uint32_t request_alignment, uint32_t memory_alignment,
                            void (*test)(struct cache_fixture *fixture))
{
    static struct cache_fixture fixture;
    struct run_arg run = {&fixture, test};
    fixture_init(&fixture.block, memory_drivers, DISK_BYTES, DISK_BYTES, 1);
    memory_disk_init(&fixture.data_disk, 0, DISK_BYTES, 1);
    pthread_mutex_init(&fixture.monitor, NULL);
    fixture.block.disk.limits.request_alignment = request_alignment;
    fixture.block.disk.limits.memory_alignment = memory_alignment;
    for (size_t i = 0; i < DISK_BYTES; i++)
        fixture.block.disk.data[i] = pattern_at(i);
    fixture_run(&fixture.block, co_run, &run);
    pthread_mutex_destroy(&fixture.monitor);
    memory_disk_fini(&fixture.data_disk);
    fixture_fini(&fixture.block);
}

uint64_t place_of(unsigned kind, unsigned index)
{
    static const uint64_t bases[] = {[LOW] = 0,
                                     [MIDDLE] = QUARTER,
                                     [HIGH] = 2 * QUARTER,
                                     [ODD] = ODD_BASE,
                                     [SHORT] = SHORT_BASE};
    return bases[kind] + (uint64_t)index * TABLE_BYTES;
}

uint8_t pattern_at(uint64_t node_offset)
{
    return (uint8_t)(node_offset % 251 + 1);
}

void co_change(struct cache_fixture *fixture, unsigned kind, unsigned index, size_t from,
               const void *bytes, size_t length)
{
    struct cache_table *table;
    assert_int_equal(cache_co_get(fixture->cache, kind, place_of(kind, index), &table), 0);
    pthread_mutex_lock(&fixture->monitor);
    cache_store(fixture->cache, table, from, bytes, length);
    pthread_mutex_unlock(&fixture->monitor);
    cache_put(fixture->cache, table);
}

void co_change_u64(struct cache_fixture *fixture, unsigned kind, unsigned index, uint64_t value)
{
    co_change(fixture, kind, index, 0, &value, sizeof(value));
}

uint64_t co_read_u64(struct cache_fixture *fixture, unsigned kind, unsigned index)
{
    uint64_t value;
    assert_int_equal(
        cache_co_read(fixture->cache, kind, place_of(kind, index), &value, sizeof(value)), 0);
    return value;
}

uint64_t disk_u64(const struct cache_fixture *fixture, unsigned kind, unsigned index)
{
    uint64_t value;
    memcpy(&value, fixture->block.disk.data + place_of(kind, index), sizeof(value));
    return value;
}

bool is_dirty(struct cache_fixture *fixture)
{
    pthread_mutex_lock(&fixture->monitor);
    bool is = cache_is_dirty(fixture->cache);
    pthread_mutex_unlock(&fixture->monitor);
    return is;
}

struct cache_counters counters_of(struct cache_fixture *fixture, unsigned kind)
{
    struct cache_counters counters;
    cache_kind_counters(fixture->cache, kind, &counters);
    return counters;
}
