/* SPDX-License-Identifier: BSD-3-Clause */
/* dirty.c: changes are seen at once, and just what was changed is written. */
#include "tests/unit/unit.h"

#include "tests/unit/cache/cache_fixture.h"

static void co_check_table(struct cache_fixture *fixture, unsigned kind, const uint8_t *model)
{
    uint8_t data[TABLE_BYTES];
    assert_int_equal(cache_co_read(fixture->cache, kind, place_of(kind, 1), data, TABLE_BYTES), 0);
    assert_memory_equal(data, model, TABLE_BYTES);
}

/* Ranges of any length and place, in a table that begins at an odd place of the disk too. */
static void co_any_range_can_be_changed(struct cache_fixture *fixture)
{
    uint64_t seed = fixture_seed("dirty");
    struct random random;
    random_seed(&random, seed);
    for (unsigned kind = LOW; kind <= ODD; kind += ODD) {
        uint8_t model[TABLE_BYTES], bytes[TABLE_BYTES];
        uint64_t place = place_of(kind, 1);
        memcpy(model, fixture->block.disk.data + place, TABLE_BYTES);
        for (unsigned round = 0; round < 300; round++) {
            size_t from = random_below(&random, TABLE_BYTES);
            size_t length = 1 + random_below(&random, TABLE_BYTES - from);
            for (size_t i = 0; i < length; i++)
                bytes[i] = model[from + i] = (uint8_t)random_u64(&random);
            co_change(fixture, kind, 1, from, bytes, length);
            co_check_table(fixture, kind, model);
            if (!random_once_in(&random, 4))
                continue;
            assert_int_equal(cache_co_flush(fixture->cache), 0);
            assert_memory_equal(fixture->block.disk.data + place, model, TABLE_BYTES);
            assert_int_equal(fixture->block.disk.data[place - 1], pattern_at(place - 1));
            assert_int_equal(fixture->block.disk.data[place + TABLE_BYTES],
                             pattern_at(place + TABLE_BYTES));
        }
        assert_int_equal(cache_co_flush(fixture->cache), 0);
    }
}
CACHE_TEST(any_range_can_be_changed)

static void co_nothing_changed_is_nothing_written(struct cache_fixture *fixture)
{
    co_read_u64(fixture, LOW, 0);
    assert_false(is_dirty(fixture));
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_equal(fixture->block.disk.counts[MEMORY_WRITE], 0);
    co_change_u64(fixture, LOW, 0, 1);
    assert_true(is_dirty(fixture));
    assert_int_equal(counters_of(fixture, LOW).dirty_tables, 1);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_false(is_dirty(fixture));
    assert_int_equal(counters_of(fixture, LOW).dirty_tables, 0);
    assert_int_equal(fixture->block.disk.counts[MEMORY_WRITE], 1);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_equal(fixture->block.disk.counts[MEMORY_WRITE], 1);
}
CACHE_TEST(nothing_changed_is_nothing_written)

static void co_a_load_under_a_pin_shows_the_change(struct cache_fixture *fixture)
{
    struct cache_table *table;
    uint16_t value = 0xbeef, read = 0;
    assert_int_equal(cache_co_get(fixture->cache, LOW, place_of(LOW, 0), &table), 0);
    pthread_mutex_lock(&fixture->monitor);
    cache_store(fixture->cache, table, 13, &value, sizeof(value));
    cache_load(table, 13, &read, sizeof(read));
    pthread_mutex_unlock(&fixture->monitor);
    assert_int_equal(read, value);
    cache_put(fixture->cache, table);
}
CACHE_TEST(a_load_under_a_pin_shows_the_change)

/* Though blocks of the disk hold bytes of both. */
static void co_a_kind_that_ends_inside_a_table_leaves_its_neighbour_alone(
    struct cache_fixture *fixture)
{
    const uint8_t *disk = fixture->block.disk.data;
    uint8_t model[2 * TABLE_BYTES];
    memcpy(model, disk + SHORT_BASE, sizeof(model));
    for (unsigned round = 1; round < 20; round++) {
        co_change(fixture, SHORT, 0, round % 8, &(uint32_t){round}, 4);
        memcpy(model + round % 8, &(uint32_t){round}, 4);
        if (round % 3 == 0)
            assert_int_equal(cache_co_flush(fixture->cache), 0);
        co_change(fixture, ODD, 0, round, &(uint16_t){(uint16_t)round}, 2);
        memcpy(model + SHORT_BYTES + round, &(uint16_t){(uint16_t)round}, 2);
        if (round % 4 == 0)
            assert_int_equal(cache_co_flush(fixture->cache), 0);
    }
    assert_int_equal(cache_co_settle(fixture->cache), 0);
    assert_memory_equal(disk + SHORT_BASE, model, sizeof(model));
    struct cache_table *table;
    uint8_t bytes[SHORT_BYTES];
    assert_int_equal(cache_co_get_new(fixture->cache, SHORT, SHORT_BASE, &table), 0);
    cache_put(fixture->cache, table);
    assert_int_equal(cache_co_settle(fixture->cache), 0);
    assert_int_equal(cache_co_read(fixture->cache, SHORT, SHORT_BASE, bytes, sizeof(bytes)), 0);
    memset(model, 0, SHORT_BYTES);
    assert_memory_equal(bytes, model, SHORT_BYTES);
    assert_memory_equal(disk + SHORT_BASE, model, sizeof(model));
}
CACHE_TEST(a_kind_that_ends_inside_a_table_leaves_its_neighbour_alone)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_range_can_be_changed),
        cmocka_unit_test(nothing_changed_is_nothing_written),
        cmocka_unit_test(a_load_under_a_pin_shows_the_change),
        cmocka_unit_test(a_kind_that_ends_inside_a_table_leaves_its_neighbour_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
