/* SPDX-License-Identifier: BSD-3-Clause */
/* load.c: who loads, who waits, what a failure leaves, new tables, forgotten ones. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/coroutine.h"
#include "tests/unit/cache/cache_fixture.h"

struct reader {
    struct cache_fixture *fixture;
    unsigned index;
    int rc;
    uint64_t value;
    bool ended;
};

static void reader_main(void *arg)
{
    struct reader *reader = arg;
    reader->rc = cache_co_read(reader->fixture->cache, LOW, place_of(LOW, reader->index),
                               &reader->value, sizeof(reader->value));
    reader->ended = true;
}

/* Three who want tables indices[0..2], while reads of the disk are held. */
static void co_start_three(struct cache_fixture *fixture, struct group *group,
                           struct reader *readers, const unsigned *indices)
{
    memory_disk_hold(&fixture->block.disk, 1u << MEMORY_READ);
    group_init(group, fixture->block.loop);
    for (unsigned i = 0; i < 3; i++) {
        readers[i] = (struct reader){.fixture = fixture, .index = indices[i]};
        group_start(group, reader_main, &readers[i]);
    }
}

static void co_those_who_want_one_table_share_a_load(struct cache_fixture *fixture)
{
    struct group group;
    struct reader readers[3];
    co_start_three(fixture, &group, readers, (const unsigned[]){1, 1, 1});
    memory_disk_co_wait_held(&fixture->block.disk, 1);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(readers[i].rc, 0);
        assert_int_equal(readers[i].value, disk_u64(fixture, LOW, 1));
    }
    assert_int_equal(fixture->block.disk.counts[MEMORY_READ], 1);
}
CACHE_TEST(those_who_want_one_table_share_a_load)

static void co_misses_of_different_tables_run_in_parallel(struct cache_fixture *fixture)
{
    struct group group;
    struct reader readers[3];
    co_start_three(fixture, &group, readers, (const unsigned[]){1, 2, 3});
    memory_disk_co_wait_held(&fixture->block.disk, 3);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(readers[i].value, disk_u64(fixture, LOW, i + 1));
}
CACHE_TEST(misses_of_different_tables_run_in_parallel)

static void co_a_hit_does_not_wait_for_others_misses(struct cache_fixture *fixture)
{
    struct group group;
    struct reader readers[3];
    struct reader hit = {.fixture = fixture, .index = 5};
    co_read_u64(fixture, LOW, 5);
    co_start_three(fixture, &group, readers, (const unsigned[]){1, 2, 3});
    memory_disk_co_wait_held(&fixture->block.disk, 3);
    group_start(&group, reader_main, &hit);
    assert_true(hit.ended);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
}
CACHE_TEST(a_hit_does_not_wait_for_others_misses)

static void co_a_failed_load_fails_all_who_wait_and_leaves_nothing(struct cache_fixture *fixture)
{
    struct group group;
    struct reader readers[3];
    fixture->block.disk.fail_ops = 1u << MEMORY_READ;
    fixture->block.disk.fail_code = -EIO;
    co_start_three(fixture, &group, readers, (const unsigned[]){1, 1, 1});
    memory_disk_co_wait_held(&fixture->block.disk, 1);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(readers[i].rc, -EIO);
    assert_int_equal(counters_of(fixture, LOW).tables, 0);
    assert_int_equal(counters_of(fixture, LOW).loads_failed, 1);
    fixture->block.disk.fail_code = 0;
    assert_int_equal(co_read_u64(fixture, LOW, 1), disk_u64(fixture, LOW, 1));
    assert_int_equal(counters_of(fixture, LOW).tables, 1);
}
CACHE_TEST(a_failed_load_fails_all_who_wait_and_leaves_nothing)

/* More failures than there are tables: none may get lost. */
static void co_tables_of_failed_loads_are_used_again(struct cache_fixture *fixture)
{
    uint64_t value = 0;
    fixture->block.disk.fail_ops = 1u << MEMORY_READ;
    fixture->block.disk.fail_code = -EIO;
    for (unsigned i = 0; i < 3 * CACHE_TABLES_MIN; i++)
        assert_int_equal(cache_co_read(fixture->cache, LOW, place_of(LOW, i), &value, 8), -EIO);
    fixture->block.disk.fail_code = 0;
    for (unsigned i = 0; i < 3 * CACHE_TABLES_MIN; i++)
        assert_int_equal(co_read_u64(fixture, LOW, i), disk_u64(fixture, LOW, i));
}
CACHE_TEST(tables_of_failed_loads_are_used_again)

static void co_a_new_table_is_zeroes_and_read_from_nowhere(struct cache_fixture *fixture)
{
    struct cache_table *table;
    static const uint8_t zeroes[TABLE_BYTES];
    uint8_t data[TABLE_BYTES];
    assert_int_equal(cache_co_get_new(fixture->cache, LOW, place_of(LOW, 4), &table), 0);
    cache_put(fixture->cache, table);
    assert_int_equal(cache_co_read(fixture->cache, LOW, place_of(LOW, 4), data, TABLE_BYTES), 0);
    assert_memory_equal(data, zeroes, TABLE_BYTES);
    assert_int_equal(fixture->block.disk.counts[MEMORY_READ], 0);
    assert_true(is_dirty(fixture));
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_memory_equal(fixture->block.disk.data + place_of(LOW, 4), zeroes, TABLE_BYTES);
    assert_int_equal(fixture->block.disk.data[place_of(LOW, 5)], pattern_at(place_of(LOW, 5)));
}
CACHE_TEST(a_new_table_is_zeroes_and_read_from_nowhere)

static void co_a_new_table_takes_the_place_of_what_was_there(struct cache_fixture *fixture)
{
    struct cache_table *table;
    assert_int_not_equal(co_read_u64(fixture, LOW, 4), 0);
    assert_int_equal(cache_co_get_new(fixture->cache, LOW, place_of(LOW, 4), &table), 0);
    cache_put(fixture->cache, table);
    assert_int_equal(co_read_u64(fixture, LOW, 4), 0);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_equal(disk_u64(fixture, LOW, 4), 0);
}
CACHE_TEST(a_new_table_takes_the_place_of_what_was_there)

static void co_what_is_forgotten_is_not_written(struct cache_fixture *fixture)
{
    co_change_u64(fixture, HIGH, 1, 42);
    co_change_u64(fixture, HIGH, 2, 42);
    co_change_u64(fixture, HIGH, 3, 42);
    cache_co_forget(fixture->cache, HIGH, place_of(HIGH, 1), 2 * TABLE_BYTES);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_not_equal(disk_u64(fixture, HIGH, 1), 42);
    assert_int_not_equal(disk_u64(fixture, HIGH, 2), 42);
    assert_int_equal(disk_u64(fixture, HIGH, 3), 42);
    assert_int_equal(co_read_u64(fixture, HIGH, 1), disk_u64(fixture, HIGH, 1));
    assert_false(is_dirty(fixture));
}
CACHE_TEST(what_is_forgotten_is_not_written)

struct forgetter {
    struct cache_fixture *fixture;
    bool ended;
};

static void forget_main(void *arg)
{
    struct forgetter *forgetter = arg;
    cache_co_forget(forgetter->fixture->cache, LOW, place_of(LOW, 0), TABLE_BYTES);
    forgetter->ended = true;
}

static void flush_main(void *arg)
{
    assert_int_equal(cache_co_flush(arg), 0);
}

/* While the disk is held at an operation of table 0, which `worker` has begun, the other waits. */
static void co_both(struct cache_fixture *fixture, unsigned op, coroutine_entry *worker,
                    void *worker_arg, coroutine_entry *waiter, struct forgetter *waiter_arg)
{
    struct group group;
    waiter_arg->ended = false;
    group_init(&group, fixture->block.loop);
    memory_disk_hold(&fixture->block.disk, 1u << op);
    group_start(&group, worker, worker_arg);
    memory_disk_co_wait_held(&fixture->block.disk, 1);
    group_start(&group, waiter, waiter_arg);
    assert_false(waiter_arg->ended);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    assert_true(waiter_arg->ended);
}

static void co_forgetting_waits_for_a_write_and_a_load(struct cache_fixture *fixture)
{
    struct forgetter forgetter = {fixture, false};
    struct reader reader = {.fixture = fixture, .index = 0};
    co_change_u64(fixture, LOW, 0, 42);
    co_both(fixture, MEMORY_WRITE, flush_main, fixture->cache, forget_main, &forgetter);
    assert_int_equal(counters_of(fixture, LOW).tables, 0);

    co_both(fixture, MEMORY_READ, reader_main, &reader, forget_main, &forgetter);
    assert_int_equal(reader.value, 42);
    assert_int_equal(counters_of(fixture, LOW).tables, 0);
}
CACHE_TEST(forgetting_waits_for_a_write_and_a_load)

static void co_forgetting_waits_for_a_pin(struct cache_fixture *fixture)
{
    struct group group;
    struct forgetter forgetter = {fixture, false};
    struct cache_table *table;
    assert_int_equal(cache_co_get(fixture->cache, LOW, place_of(LOW, 0), &table), 0);
    group_init(&group, fixture->block.loop);
    group_start(&group, forget_main, &forgetter);
    coroutine_co_pause();
    assert_false(forgetter.ended);
    cache_put(fixture->cache, table);
    group_co_wait(&group);
    assert_int_equal(counters_of(fixture, LOW).tables, 0);
}
CACHE_TEST(forgetting_waits_for_a_pin)

/* --- new tables --------------------------------------------------------------------------------
 */

static void new_main(void *arg)
{
    struct forgetter *maker = arg;
    struct cache_table *table;
    assert_int_equal(cache_co_get_new(maker->fixture->cache, LOW, place_of(LOW, 0), &table), 0);
    cache_put(maker->fixture->cache, table);
    maker->ended = true;
}

static void co_a_new_table_waits_for_a_load_and_a_write(struct cache_fixture *fixture)
{
    struct reader reader = {.fixture = fixture, .index = 0};
    struct forgetter maker = {fixture, false};
    uint64_t old = disk_u64(fixture, LOW, 0);
    co_both(fixture, MEMORY_READ, reader_main, &reader, new_main, &maker);
    assert_int_equal(reader.value, old);
    assert_int_equal(co_read_u64(fixture, LOW, 0), 0);

    co_change_u64(fixture, LOW, 0, 42);
    co_both(fixture, MEMORY_WRITE, flush_main, fixture->cache, new_main, &maker);
    assert_int_equal(disk_u64(fixture, LOW, 0), 42);
    assert_int_equal(co_read_u64(fixture, LOW, 0), 0);
}
CACHE_TEST(a_new_table_waits_for_a_load_and_a_write)

/* --- no room for a table ------------------------------------------------------------------------
 */

#define WANTED (CACHE_TABLES_MIN + 12)

/* All tables but the last `spared` are dirty, and cannot be written. */
static void co_fill_with_dirty(struct cache_fixture *fixture, unsigned spared)
{
    fixture->block.disk.fail_ops = 1u << MEMORY_WRITE;
    fixture->block.disk.fail_code = -EIO;
    for (unsigned i = 0; i < CACHE_TABLES_MIN - spared; i++)
        co_change_u64(fixture, LOW, i, i + 1);
}

static void co_a_read_without_room_fails_as_the_disk_does(struct cache_fixture *fixture)
{
    uint64_t value = 0;
    co_fill_with_dirty(fixture, 0);
    assert_int_equal(co_read_u64(fixture, LOW, WANTED), disk_u64(fixture, LOW, WANTED));
    fixture->block.disk.fail_ops |= 1u << MEMORY_READ;
    assert_int_equal(cache_co_read(fixture->cache, LOW, place_of(LOW, WANTED), &value, 8), -EIO);
    assert_int_equal(co_read_u64(fixture, LOW, 1), 2);
    fixture->block.disk.fail_code = 0;
    assert_int_equal(cache_co_flush(fixture->cache), 0);
}
CACHE_TEST(a_read_without_room_fails_as_the_disk_does)

/* Its own bytes come from the disk, while another brings a newer state into memory. */
static void co_a_read_without_room_sees_what_came_meanwhile(struct cache_fixture *fixture)
{
    struct group group;
    struct reader reader = {.fixture = fixture, .index = WANTED};
    co_fill_with_dirty(fixture, 0);
    group_init(&group, fixture->block.loop);
    memory_disk_hold(&fixture->block.disk, 1u << MEMORY_READ);
    group_start(&group, reader_main, &reader);
    memory_disk_co_wait_held(&fixture->block.disk, 1);
    fixture->block.disk.fail_code = 0;
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    struct cache_table *table;
    uint64_t value = 99;
    assert_int_equal(cache_co_get_new(fixture->cache, LOW, place_of(LOW, WANTED), &table), 0);
    pthread_mutex_lock(&fixture->monitor);
    cache_store(fixture->cache, table, 0, &value, sizeof(value));
    cache_put_locked(fixture->cache, table);
    pthread_mutex_unlock(&fixture->monitor);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    assert_int_equal(reader.rc, 0);
    assert_int_equal(reader.value, 99);
}
CACHE_TEST(a_read_without_room_sees_what_came_meanwhile)

static void hold_writes(struct memory_disk *disk)
{
    memory_disk_hold(disk, 1u << MEMORY_WRITE);
}

/* It had to write first, and that fails; until then another one has found room for the same table.
 */
static void co_a_read_whose_table_came_meanwhile_does_not_fail(struct cache_fixture *fixture)
{
    struct group group;
    struct cache_table *pinned;
    struct reader readers[] = {{.fixture = fixture, .index = WANTED},
                               {.fixture = fixture, .index = WANTED}};
    unsigned last = CACHE_TABLES_MIN - 1;
    co_fill_with_dirty(fixture, 1);
    assert_int_equal(cache_co_get(fixture->cache, LOW, place_of(LOW, last), &pinned), 0);
    group_init(&group, fixture->block.loop);
    memory_disk_forget_calls(&fixture->block.disk);
    fixture->block.disk.fail_at_call = 0; /* the end of its first round, which it can do without */
    fixture->block.disk.at_call = hold_writes;
    group_start(&group, reader_main, &readers[0]);
    memory_disk_co_wait_held(&fixture->block.disk, last);
    cache_put(fixture->cache, pinned);
    group_start(&group, reader_main, &readers[1]);
    while (!readers[1].ended)
        coroutine_co_pause();
    assert_false(readers[0].ended);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(readers[i].rc, 0);
        assert_int_equal(readers[i].value, disk_u64(fixture, LOW, WANTED));
    }
    fixture->block.disk.fail_code = 0;
    assert_int_equal(cache_co_flush(fixture->cache), 0);
}
CACHE_TEST(a_read_whose_table_came_meanwhile_does_not_fail)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_who_want_one_table_share_a_load),
        cmocka_unit_test(misses_of_different_tables_run_in_parallel),
        cmocka_unit_test(a_hit_does_not_wait_for_others_misses),
        cmocka_unit_test(a_failed_load_fails_all_who_wait_and_leaves_nothing),
        cmocka_unit_test(tables_of_failed_loads_are_used_again),
        cmocka_unit_test(a_new_table_is_zeroes_and_read_from_nowhere),
        cmocka_unit_test(a_new_table_takes_the_place_of_what_was_there),
        cmocka_unit_test(what_is_forgotten_is_not_written),
        cmocka_unit_test(forgetting_waits_for_a_write_and_a_load),
        cmocka_unit_test(forgetting_waits_for_a_pin),
        cmocka_unit_test(a_new_table_waits_for_a_load_and_a_write),
        cmocka_unit_test(a_read_without_room_fails_as_the_disk_does),
        cmocka_unit_test(a_read_without_room_sees_what_came_meanwhile),
        cmocka_unit_test(a_read_whose_table_came_meanwhile_does_not_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
