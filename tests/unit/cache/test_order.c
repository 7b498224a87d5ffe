/* SPDX-License-Identifier: BSD-3-Clause */
/* order.c and writeback.c: in which order tables and syncs reach the disk, what a failure at each
 * of them leaves, and what changes while it is written. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/coroutine.h"
#include "tests/unit/cache/cache_fixture.h"

static unsigned class_of_write(const struct memory_call *call)
{
    return (unsigned)(call->offset / QUARTER);
}

/* Every class in its turn, a sync between each two and one at the end. */
static void check_log(const struct memory_disk *disk, unsigned writes, unsigned flushes)
{
    unsigned class_index = 0, seen_writes = 0, seen_flushes = 0;
    bool is_synced = true;
    for (unsigned i = 0; i < disk->log_count; i++) {
        const struct memory_call *call = &disk->log[i];
        if (call->op == MEMORY_FLUSH) {
            seen_flushes++;
            is_synced = true;
        } else if (call->op == MEMORY_WRITE) {
            seen_writes++;
            assert_true(class_of_write(call) >= class_index);
            if (class_of_write(call) > class_index)
                assert_true(is_synced);
            class_index = class_of_write(call);
            is_synced = false;
        }
    }
    assert_true(is_synced);
    assert_int_equal(seen_writes, writes);
    assert_int_equal(seen_flushes, flushes);
}

static void co_flush_once_before(struct cache_fixture *fixture)
{
    /* A node's first flush is never for free: see block/flush.c. */
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    memory_disk_forget_calls(&fixture->block.disk);
}

static void co_classes_are_written_in_order_with_one_sync_each(struct cache_fixture *fixture)
{
    co_flush_once_before(fixture);
    for (unsigned i = 0; i < 5; i++) {
        co_change_u64(fixture, HIGH, i, 3);
        co_change_u64(fixture, LOW, i, 1);
        co_change_u64(fixture, MIDDLE, i, 2);
    }
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    check_log(&fixture->block.disk, 15, 3);
    memory_disk_forget_calls(&fixture->block.disk);
    co_change_u64(fixture, HIGH, 0, 30);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    check_log(&fixture->block.disk, 1, 1);
}
CACHE_TEST(classes_are_written_in_order_with_one_sync_each)

/* Of a node whose memory must lie at larger blocks than its requests. */
static void copies_in_aligned_memory_are_written_in_order(void **state)
{
    (void)state;
    cache_fixture_run_over(512, 4096, co_classes_are_written_in_order_with_one_sync_each);
}

static void co_write_data(struct cache_fixture *fixture)
{
    uint64_t value = 5;
    assert_int_equal(fixture_co_write(fixture->data_node, 0, &value, sizeof(value), 0), 0);
}

static void flush_main(void *arg)
{
    assert_int_equal(cache_co_flush(arg), 0);
}

/* What a table points to in another node is synced there before the table is written. */
static void co_needed_data_is_durable_first(struct cache_fixture *fixture)
{
    struct cache_table *table;
    struct group group;
    uint64_t value = 9;
    co_flush_once_before(fixture);
    memory_disk_forget_calls(&fixture->data_disk);
    co_write_data(fixture);
    assert_int_equal(cache_co_get(fixture->cache, HIGH, place_of(HIGH, 0), &table), 0);
    pthread_mutex_lock(&fixture->monitor);
    cache_store(fixture->cache, table, 0, &value, sizeof(value));
    cache_needs(fixture->cache, table, 1);
    pthread_mutex_unlock(&fixture->monitor);
    cache_put(fixture->cache, table);
    memory_disk_hold(&fixture->data_disk, 1u << MEMORY_FLUSH);
    group_init(&group, fixture->block.loop);
    group_start(&group, flush_main, fixture->cache);
    memory_disk_co_wait_held(&fixture->data_disk, 1);
    for (unsigned i = 0; i < 20; i++)
        coroutine_co_pause();
    assert_int_equal(fixture->block.disk.counts[MEMORY_WRITE], 0);
    memory_disk_release(&fixture->data_disk);
    group_co_wait(&group);
    assert_int_equal(disk_u64(fixture, HIGH, 0), 9);
    assert_int_equal(fixture->data_disk.counts[MEMORY_FLUSH], 1);
}
CACHE_TEST(needed_data_is_durable_first)

static void co_a_sync_of_somebody_else_counts_for_what_is_needed(struct cache_fixture *fixture)
{
    struct cache_table *table;
    uint64_t value = 9;
    co_flush_once_before(fixture);
    co_write_data(fixture);
    assert_int_equal(cache_co_get(fixture->cache, HIGH, place_of(HIGH, 0), &table), 0);
    pthread_mutex_lock(&fixture->monitor);
    cache_store(fixture->cache, table, 0, &value, sizeof(value));
    cache_needs(fixture->cache, table, 0);
    pthread_mutex_unlock(&fixture->monitor);
    cache_put(fixture->cache, table);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    struct cache_round_counters counters;
    cache_round_counters(fixture->cache, &counters);
    assert_int_equal(counters.rounds, 1);
    assert_int_equal(counters.rounds_failed, 0);
    check_log(&fixture->block.disk, 1, 1); /* nothing was written to it before: no sync before */
}
CACHE_TEST(a_sync_of_somebody_else_counts_for_what_is_needed)

static void co_what_changes_while_it_is_written_is_written_again(struct cache_fixture *fixture)
{
    struct group group;
    co_change_u64(fixture, LOW, 0, 1);
    memory_disk_hold(&fixture->block.disk, 1u << MEMORY_WRITE);
    group_init(&group, fixture->block.loop);
    group_start(&group, flush_main, fixture->cache);
    memory_disk_co_wait_held(&fixture->block.disk, 1);
    co_change_u64(fixture, LOW, 0, 2);
    assert_int_equal(co_read_u64(fixture, LOW, 0), 2);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    assert_int_equal(disk_u64(fixture, LOW, 0), 1); /* the private copy */
    assert_true(is_dirty(fixture));
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_equal(disk_u64(fixture, LOW, 0), 2);
}
CACHE_TEST(what_changes_while_it_is_written_is_written_again)

static void co_those_who_come_during_a_round_share_the_next(struct cache_fixture *fixture)
{
    struct group group;
    struct cache_round_counters counters;
    co_change_u64(fixture, LOW, 0, 1);
    memory_disk_hold(&fixture->block.disk, 1u << MEMORY_WRITE);
    group_init(&group, fixture->block.loop);
    group_start(&group, flush_main, fixture->cache);
    memory_disk_co_wait_held(&fixture->block.disk, 1);
    group_start(&group, flush_main, fixture->cache); /* has nothing new: waits for this one */
    co_change_u64(fixture, LOW, 1, 1);
    for (unsigned i = 0; i < 5; i++)
        group_start(&group, flush_main, fixture->cache);
    assert_int_equal(group.running, 7);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    cache_round_counters(fixture->cache, &counters);
    assert_int_equal(counters.rounds, 2);
    assert_int_equal(disk_u64(fixture, LOW, 1), 1);
}
CACHE_TEST(those_who_come_during_a_round_share_the_next)

/* --- failures ----------------------------------------------------------------------------------
 */

static void change_all(struct cache_fixture *fixture, uint64_t value)
{
    for (unsigned i = 0; i < 3; i++) {
        co_change_u64(fixture, LOW, i, value);
        co_change_u64(fixture, MIDDLE, i, value);
        co_change_u64(fixture, HIGH, i, value);
    }
}

static bool is_class_written(struct cache_fixture *fixture, unsigned kind, uint64_t value)
{
    for (unsigned i = 0; i < 3; i++) {
        if (disk_u64(fixture, kind, i) != value)
            return false;
    }
    return true;
}

static bool is_class_untouched(struct cache_fixture *fixture, unsigned kind, uint64_t value)
{
    for (unsigned i = 0; i < 3; i++) {
        if (disk_u64(fixture, kind, i) == value)
            return false;
    }
    return true;
}

static uint64_t fail_at; /* the number of the call that fails */
static bool has_failed;

static void co_fail_at_call(struct cache_fixture *fixture)
{
    struct memory_disk *disk = &fixture->block.disk;
    change_all(fixture, 1);
    co_flush_once_before(fixture);
    change_all(fixture, 2);
    memory_disk_forget_calls(disk);
    disk->fail_at_call = fail_at;
    disk->fail_code = -EIO;
    int rc = cache_co_flush(fixture->cache);
    has_failed = rc < 0;
    disk->fail_code = 0;
    if (!has_failed)
        return;
    assert_int_equal(rc, -EIO);
    assert_true(is_class_untouched(fixture, MIDDLE, 2) || is_class_written(fixture, LOW, 2));
    assert_true(is_class_untouched(fixture, HIGH, 2) || is_class_written(fixture, MIDDLE, 2));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(co_read_u64(fixture, LOW, i), 2);
        assert_int_equal(co_read_u64(fixture, HIGH, i), 2);
    }
    assert_true(is_dirty(fixture));
    bool was_flush = disk->log[fail_at].op == MEMORY_FLUSH;
    /* A node whose flush has failed fails for good; a write is tried again. */
    assert_int_equal(cache_co_flush(fixture->cache), was_flush ? -EIO : 0);
    if (was_flush)
        return;
    assert_true(is_class_written(fixture, LOW, 2) && is_class_written(fixture, MIDDLE, 2) &&
                is_class_written(fixture, HIGH, 2));
    assert_false(is_dirty(fixture));
}

static void a_failure_at_each_call_leaves_the_order_and_the_changes(void **state)
{
    (void)state;
    has_failed = true;
    for (fail_at = 0; has_failed; fail_at++)
        cache_fixture_run(1, co_fail_at_call);
    assert_int_equal(fail_at, 9 + 3 + 1);
}

static void co_failed_writes_are_counted(struct cache_fixture *fixture)
{
    struct cache_round_counters counters;
    co_change_u64(fixture, LOW, 0, 1);
    fixture->block.disk.fail_ops = 1u << MEMORY_WRITE;
    fixture->block.disk.fail_code = -ENOSPC;
    assert_int_equal(cache_co_flush(fixture->cache), -ENOSPC);
    assert_int_equal(cache_co_settle(fixture->cache), -ENOSPC);
    fixture->block.disk.fail_code = 0;
    assert_int_equal(cache_co_settle(fixture->cache), 0);
    cache_round_counters(fixture->cache, &counters);
    assert_int_equal(counters.rounds_failed, 2);
    assert_int_equal(counters_of(fixture, LOW).writes_failed, 2);
    assert_int_equal(counters_of(fixture, LOW).writes, 3);
}
CACHE_TEST(failed_writes_are_counted)

static void failing_flush_main(void *arg)
{
    assert_int_equal(cache_co_flush(arg), -EIO);
}

/* A change made while a round that will fail has a copy of its table: both are kept. */
static void co_a_failed_copy_is_joined_with_what_changed_since(struct cache_fixture *fixture)
{
    uint8_t first = 1, last = 2;
    struct group group;
    co_change(fixture, LOW, 0, 0, &first, 1);
    memory_disk_hold(&fixture->block.disk, 1u << MEMORY_WRITE);
    fixture->block.disk.fail_ops = 1u << MEMORY_WRITE;
    fixture->block.disk.fail_code = -EIO;
    group_init(&group, fixture->block.loop);
    group_start(&group, failing_flush_main, fixture->cache);
    memory_disk_co_wait_held(&fixture->block.disk, 1);
    co_change(fixture, LOW, 0, TABLE_BYTES - 1, &last, 1);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    fixture->block.disk.fail_code = 0;
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_equal(fixture->block.disk.data[place_of(LOW, 0)], 1);
    assert_int_equal(fixture->block.disk.data[place_of(LOW, 0) + TABLE_BYTES - 1], 2);
}
CACHE_TEST(a_failed_copy_is_joined_with_what_changed_since)

/* --- classes that are postponed ----------------------------------------------------------------
 */

static void postpone(struct cache_fixture *fixture, unsigned classes)
{
    pthread_mutex_lock(&fixture->monitor);
    cache_postpone(fixture->cache, classes);
    pthread_mutex_unlock(&fixture->monitor);
}

static void co_a_postponed_class_is_written_at_the_end(struct cache_fixture *fixture)
{
    postpone(fixture, 1u << 0);
    co_change_u64(fixture, LOW, 0, 1);
    co_change_u64(fixture, HIGH, 0, 3);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_equal(disk_u64(fixture, HIGH, 0), 3);
    assert_int_not_equal(disk_u64(fixture, LOW, 0), 1);
    assert_true(is_dirty(fixture));
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_not_equal(disk_u64(fixture, LOW, 0), 1);
    assert_int_equal(cache_co_settle(fixture->cache), 0);
    assert_int_equal(disk_u64(fixture, LOW, 0), 1);
    assert_false(is_dirty(fixture));
}
CACHE_TEST(a_postponed_class_is_written_at_the_end)

static void co_a_postponed_class_is_written_where_room_is_wanted(struct cache_fixture *fixture)
{
    postpone(fixture, 1u << 0);
    for (unsigned i = 0; i < 3 * CACHE_TABLES_MIN; i++)
        co_change_u64(fixture, LOW, i, 100 + i);
    for (unsigned i = 0; i < 3 * CACHE_TABLES_MIN; i++)
        assert_int_equal(co_read_u64(fixture, LOW, i), 100 + i);
    assert_int_equal(cache_co_settle(fixture->cache), 0);
    for (unsigned i = 0; i < 3 * CACHE_TABLES_MIN; i++)
        assert_int_equal(disk_u64(fixture, LOW, i), 100 + i);
}
CACHE_TEST(a_postponed_class_is_written_where_room_is_wanted)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_are_written_in_order_with_one_sync_each),
        cmocka_unit_test(copies_in_aligned_memory_are_written_in_order),
        cmocka_unit_test(needed_data_is_durable_first),
        cmocka_unit_test(a_sync_of_somebody_else_counts_for_what_is_needed),
        cmocka_unit_test(what_changes_while_it_is_written_is_written_again),
        cmocka_unit_test(those_who_come_during_a_round_share_the_next),
        cmocka_unit_test(a_failure_at_each_call_leaves_the_order_and_the_changes),
        cmocka_unit_test(failed_writes_are_counted),
        cmocka_unit_test(a_failed_copy_is_joined_with_what_changed_since),
        cmocka_unit_test(a_postponed_class_is_written_at_the_end),
        cmocka_unit_test(a_postponed_class_is_written_where_room_is_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
