/* SPDX-License-Identifier: BSD-3-Clause */
/* table.c: where tables are cut, and what a read without the monitor gives. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "cache/table.h"
#include "tests/unit/cache/cache_fixture.h"

static void co_check_range(struct cache_fixture *fixture, unsigned kind, uint64_t node_offset,
                           size_t length)
{
    uint8_t data[TABLE_BYTES];
    memset(data, 0, sizeof(data));
    assert_int_equal(cache_co_read(fixture->cache, kind, node_offset, data, length), 0);
    for (size_t i = 0; i < length; i++)
        assert_int_equal(data[i], pattern_at(node_offset + i));
    for (size_t i = length; i < sizeof(data); i++)
        assert_int_equal(data[i], 0);
}

static void co_any_range_of_a_table_reads_as_on_the_disk(struct cache_fixture *fixture)
{
    static const size_t froms[] = {0, 1, 7, 8, 9, 255, 504, 505, 511};
    static const size_t lengths[] = {1, 2, 4, 7, 8, 9, 16, 200, 512};
    for (unsigned kind = 0; kind <= ODD; kind++) {
        for (size_t f = 0; f < sizeof(froms) / sizeof(*froms); f++) {
            for (size_t l = 0; l < sizeof(lengths) / sizeof(*lengths); l++) {
                if (froms[f] + lengths[l] <= TABLE_BYTES)
                    co_check_range(fixture, kind, place_of(kind, f % 3) + froms[f], lengths[l]);
            }
        }
    }
}
CACHE_TEST(any_range_of_a_table_reads_as_on_the_disk)

static void co_only_what_is_in_memory_is_read_without_waiting(struct cache_fixture *fixture)
{
    uint64_t value = 77;
    assert_false(cache_try_read(fixture->cache, LOW, place_of(LOW, 2), &value, sizeof(value)));
    assert_int_equal(value, 77);
    uint64_t read = co_read_u64(fixture, LOW, 2);
    assert_true(cache_try_read(fixture->cache, LOW, place_of(LOW, 2), &value, sizeof(value)));
    assert_int_equal(value, read);
    assert_false(cache_try_read(fixture->cache, LOW, place_of(LOW, 3), &value, sizeof(value)));
    assert_false(cache_try_read(fixture->cache, MIDDLE, place_of(MIDDLE, 2), &value, 8));
}
CACHE_TEST(only_what_is_in_memory_is_read_without_waiting)

static void co_hits_and_misses_are_counted(struct cache_fixture *fixture)
{
    struct cache_table *table;
    uint64_t value;
    assert_false(cache_try_read(fixture->cache, LOW, place_of(LOW, 0), &value, 8));
    co_read_u64(fixture, LOW, 0);
    co_read_u64(fixture, LOW, 0);
    co_read_u64(fixture, LOW, 1);
    assert_int_equal(cache_co_get(fixture->cache, LOW, place_of(LOW, 1), &table), 0);
    assert_int_equal(cache_table_offset(table), place_of(LOW, 1));
    cache_put(fixture->cache, table);
    cache_put(fixture->cache, NULL);
    pthread_mutex_lock(&fixture->monitor);
    cache_put_locked(fixture->cache, NULL);
    pthread_mutex_unlock(&fixture->monitor);
    assert_int_equal(counters_of(fixture, LOW).hits, 2);
    assert_int_equal(counters_of(fixture, LOW).misses, 2);
    assert_int_equal(counters_of(fixture, LOW).tables, 2);
    assert_int_equal(counters_of(fixture, HIGH).misses, 0);
}
CACHE_TEST(hits_and_misses_are_counted)

static void co_past_the_nodes_end_there_are_zeroes(struct cache_fixture *fixture)
{
    uint8_t data[TABLE_BYTES];
    uint64_t last = ODD_BASE + (DISK_BYTES - ODD_BASE) / TABLE_BYTES * TABLE_BYTES;
    size_t inside = DISK_BYTES - last;
    assert_in_range(inside, 1, TABLE_BYTES - 1);
    assert_int_equal(cache_co_read(fixture->cache, ODD, last, data, sizeof(data)), 0);
    for (size_t i = 0; i < sizeof(data); i++)
        assert_int_equal(data[i], i < inside ? pattern_at(last + i) : 0);
}
CACHE_TEST(past_the_nodes_end_there_are_zeroes)

static bool has_memory(const struct cache_fixture *fixture, unsigned kind)
{
    return atomic_load(&fixture->cache->kinds[kind].buckets) != NULL;
}

static void co_a_kind_has_memory_when_its_first_table_is_wanted(struct cache_fixture *fixture)
{
    struct cache_table *table;
    uint64_t value;
    for (unsigned kind = 0; kind < KIND_COUNT; kind++)
        assert_false(has_memory(fixture, kind));
    assert_false(cache_try_read(fixture->cache, LOW, place_of(LOW, 0), &value, 8));
    cache_co_forget(fixture->cache, LOW, place_of(LOW, 0), QUARTER);
    cache_clean(fixture->cache);
    cache_invalidate(fixture->cache);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_equal(counters_of(fixture, LOW).tables, 0);
    assert_false(has_memory(fixture, LOW));
    co_read_u64(fixture, LOW, 0);
    assert_true(has_memory(fixture, LOW));
    assert_int_equal(cache_co_get_new(fixture->cache, HIGH, place_of(HIGH, 1), &table), 0);
    cache_put(fixture->cache, table);
    assert_true(has_memory(fixture, HIGH));
    assert_false(has_memory(fixture, MIDDLE));
}
CACHE_TEST(a_kind_has_memory_when_its_first_table_is_wanted)

static void co_a_budget_that_cannot_be_had_is_refused(struct cache_fixture *fixture)
{
    struct cache *cache;
    struct error err;
    struct cache_config config = {
        .env = &fixture->block.env,
        .monitor = &fixture->monitor,
        .nodes = {fixture->block.node},
        .node_count = 1,
        .kinds = {{.name = "huge", .table_bytes = 512, .budget_bytes = UINT64_MAX}},
        .kind_count = 1,
    };
    assert_int_equal(cache_new(&cache, &config, &err), -ENOMEM);
    assert_string_equal(err.message, "no memory for a cache of tables; give it a smaller budget");
}
CACHE_TEST(a_budget_that_cannot_be_had_is_refused)

/* --- a cache of one kind ------------------------------------------------------------------------
 */

static struct cache *new_cache(struct cache_fixture *fixture, uint64_t end, uint64_t budget_bytes)
{
    struct cache *cache;
    struct cache_config config = {
        .env = &fixture->block.env,
        .monitor = &fixture->monitor,
        .nodes = {fixture->block.node},
        .node_count = 1,
        .kinds =
            {{.name = "one", .table_bytes = TABLE_BYTES, .end = end, .budget_bytes = budget_bytes}},
        .kind_count = 1,
    };
    assert_int_equal(cache_new(&cache, &config, NULL), 0);
    return cache;
}

static void co_store_new(struct cache_fixture *fixture, struct cache *cache, uint64_t node_offset,
                         uint64_t value)
{
    struct cache_table *table;
    assert_int_equal(cache_co_get_new(cache, 0, node_offset, &table), 0);
    pthread_mutex_lock(&fixture->monitor);
    cache_store(cache, table, 0, &value, sizeof(value));
    cache_put_locked(cache, table);
    pthread_mutex_unlock(&fixture->monitor);
}

static void co_what_lies_behind_a_kinds_end_is_left_alone(struct cache_fixture *fixture)
{
    const uint64_t end = TABLE_BYTES + 100; /* in its second table */
    const uint8_t *disk = fixture->block.disk.data;
    struct cache *cache = new_cache(fixture, end, 0);
    co_store_new(fixture, cache, 0, 1);
    co_store_new(fixture, cache, TABLE_BYTES, 2);
    assert_int_equal(cache_co_flush(cache), 0);
    for (uint64_t i = 0; i < end; i++) /* 64-bit words of the processor's order */
        assert_int_equal(disk[i] != 0, i == 0 || i == TABLE_BYTES);
    for (uint64_t i = end; i < end + TABLE_BYTES; i++)
        assert_int_equal(disk[i], pattern_at(i));
    cache_free(cache);
}
CACHE_TEST(what_lies_behind_a_kinds_end_is_left_alone)

/* Table numbers that the hash puts into one chain, more of them than a reader follows that has not
 * the monitor. */
static void co_the_end_of_a_long_chain_is_found_with_the_monitor(struct cache_fixture *fixture)
{
    enum { CAPACITY = 128, CHAIN = 70 };
    struct cache *cache = new_cache(fixture, 0, CAPACITY * TABLE_BYTES);
    uint64_t offsets[CHAIN], value = 0;
    unsigned count = 0;
    for (uint64_t number = 1; count < CHAIN; number++) {
        if (number * UINT64_C(0x9e3779b97f4a7c15) >> 57 == 5)
            offsets[count++] = (number - 1) * TABLE_BYTES;
    }
    for (unsigned i = 0; i < CHAIN; i++)
        co_store_new(fixture, cache, offsets[i], 1000 + i);
    assert_true(cache_try_read(cache, 0, offsets[CHAIN - 1], &value, sizeof(value)));
    assert_int_equal(value, 1000 + CHAIN - 1);
    assert_false(cache_try_read(cache, 0, offsets[0], &value, sizeof(value)));
    for (unsigned i = 0; i < CHAIN; i++) {
        assert_int_equal(cache_co_read(cache, 0, offsets[i], &value, sizeof(value)), 0);
        assert_int_equal(value, 1000 + i);
    }
    cache_free(cache);
}
CACHE_TEST(the_end_of_a_long_chain_is_found_with_the_monitor)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_range_of_a_table_reads_as_on_the_disk),
        cmocka_unit_test(only_what_is_in_memory_is_read_without_waiting),
        cmocka_unit_test(hits_and_misses_are_counted),
        cmocka_unit_test(past_the_nodes_end_there_are_zeroes),
        cmocka_unit_test(a_kind_has_memory_when_its_first_table_is_wanted),
        cmocka_unit_test(a_budget_that_cannot_be_had_is_refused),
        cmocka_unit_test(what_lies_behind_a_kinds_end_is_left_alone),
        cmocka_unit_test(the_end_of_a_long_chain_is_found_with_the_monitor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
