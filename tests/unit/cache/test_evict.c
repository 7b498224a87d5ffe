/* SPDX-License-Identifier: BSD-3-Clause */
/* evict.c: what goes when room is wanted, what may not, and what idle memory is given back. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/coroutine.h"
#include "tests/unit/cache/cache_fixture.h"

#define MANY (3 * CACHE_TABLES_MIN)

static void co_more_than_the_budget_holds_is_read_again(struct cache_fixture *fixture)
{
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < MANY; i++)
            assert_int_equal(co_read_u64(fixture, LOW, i), disk_u64(fixture, LOW, i));
    }
    assert_int_equal(counters_of(fixture, LOW).tables, CACHE_TABLES_MIN);
    assert_int_equal(counters_of(fixture, LOW).evictions, 2 * MANY - CACHE_TABLES_MIN);
}
CACHE_TEST(more_than_the_budget_holds_is_read_again)

static void co_what_is_asked_for_again_and_again_stays(struct cache_fixture *fixture)
{
    co_read_u64(fixture, LOW, 0);
    for (unsigned i = 1; i < MANY; i++) {
        co_read_u64(fixture, LOW, 0);
        co_read_u64(fixture, LOW, i);
    }
    assert_int_equal(counters_of(fixture, LOW).misses, MANY);
}
CACHE_TEST(what_is_asked_for_again_and_again_stays)

static void co_changes_are_written_before_their_table_goes(struct cache_fixture *fixture)
{
    for (unsigned i = 0; i < MANY; i++)
        co_change_u64(fixture, HIGH, i, 1000 + i);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(co_read_u64(fixture, HIGH, i), 1000 + i);
    assert_in_range(counters_of(fixture, HIGH).writes, MANY - CACHE_TABLES_MIN, MANY);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(disk_u64(fixture, HIGH, i), 1000 + i);
}
CACHE_TEST(changes_are_written_before_their_table_goes)

static void co_what_cannot_be_written_is_not_lost(struct cache_fixture *fixture)
{
    uint64_t value;
    unsigned changed = 0;
    fixture->block.disk.fail_ops = 1u << MEMORY_WRITE;
    fixture->block.disk.fail_code = -ENOSPC;
    for (int rc = 0; rc == 0; changed++) {
        struct cache_table *table;
        value = 1000 + changed;
        rc = cache_co_get(fixture->cache, HIGH, place_of(HIGH, changed), &table);
        if (rc < 0) {
            assert_int_equal(rc, -ENOSPC);
            break;
        }
        pthread_mutex_lock(&fixture->monitor);
        cache_store(fixture->cache, table, 0, &value, 8);
        pthread_mutex_unlock(&fixture->monitor);
        cache_put(fixture->cache, table);
        assert_true(changed < CACHE_TABLES_MIN); /* no more than fit */
    }
    assert_true(changed > 1);
    /* Reading goes on, of what is in memory and of what finds no room there. */
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(co_read_u64(fixture, HIGH, i),
                         i < changed ? 1000 + i : disk_u64(fixture, HIGH, i));
    fixture->block.disk.fail_code = 0;
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    for (unsigned i = 0; i < changed; i++)
        assert_int_equal(disk_u64(fixture, HIGH, i), 1000 + i);
}
CACHE_TEST(what_cannot_be_written_is_not_lost)

struct wanter {
    struct cache_fixture *fixture;
    unsigned index;
    bool ended;
};

static void want_main(void *arg)
{
    struct wanter *wanter = arg;
    co_read_u64(wanter->fixture, LOW, wanter->index);
    wanter->ended = true;
}

static void co_pinned_tables_stay_and_others_wait(struct cache_fixture *fixture)
{
    struct cache_table *tables[CACHE_TABLES_MIN];
    struct group group;
    struct wanter wanters[2] = {{fixture, MANY, false}, {fixture, MANY + 1, false}};
    for (unsigned i = 0; i < CACHE_TABLES_MIN; i++)
        assert_int_equal(cache_co_get(fixture->cache, LOW, place_of(LOW, i), &tables[i]), 0);
    group_init(&group, fixture->block.loop);
    group_start(&group, want_main, &wanters[0]);
    group_start(&group, want_main, &wanters[1]);
    for (unsigned i = 0; i < 20; i++)
        coroutine_co_pause();
    assert_false(wanters[0].ended || wanters[1].ended);
    for (unsigned i = 0; i < CACHE_TABLES_MIN; i++) {
        uint64_t value;
        pthread_mutex_lock(&fixture->monitor);
        cache_load(tables[i], 0, &value, 8);
        pthread_mutex_unlock(&fixture->monitor);
        assert_int_equal(value, disk_u64(fixture, LOW, i));
    }
    cache_put(fixture->cache, tables[0]);
    group_co_wait(&group); /* one room is enough for both, one after the other */
    for (unsigned i = 1; i < CACHE_TABLES_MIN; i++)
        cache_put(fixture->cache, tables[i]);
}
CACHE_TEST(pinned_tables_stay_and_others_wait)

static void flush_main(void *arg)
{
    assert_int_equal(cache_co_flush(arg), 0);
}

static void co_tables_in_a_round_stay_and_others_wait(struct cache_fixture *fixture)
{
    struct group group;
    struct wanter wanter = {fixture, MANY, false};
    for (unsigned i = 0; i < CACHE_TABLES_MIN - 2; i++)
        co_change_u64(fixture, LOW, i, 7);
    group_init(&group, fixture->block.loop);
    memory_disk_hold(&fixture->block.disk, 1u << MEMORY_WRITE);
    group_start(&group, flush_main, fixture->cache);
    struct cache_table *tables[2];
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(cache_co_get(fixture->cache, LOW, place_of(LOW, 20 + i), &tables[i]), 0);
    group_start(&group, want_main, &wanter);
    for (unsigned i = 0; i < 20; i++)
        coroutine_co_pause();
    assert_false(wanter.ended);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    assert_true(wanter.ended);
    cache_put(fixture->cache, tables[0]);
    cache_put(fixture->cache, tables[1]);
}
CACHE_TEST(tables_in_a_round_stay_and_others_wait)

static void co_what_nobody_asked_for_is_cleaned(struct cache_fixture *fixture)
{
    struct cache_table *pinned;
    assert_int_equal(cache_co_get(fixture->cache, LOW, place_of(LOW, 5), &pinned), 0);
    for (unsigned i = 0; i < 4; i++)
        co_read_u64(fixture, LOW, i);
    co_change_u64(fixture, LOW, 4, 4);
    co_read_u64(fixture, LOW, 0); /* a second time: it is left once */
    cache_clean(fixture->cache);
    assert_int_equal(counters_of(fixture, LOW).tables, 3); /* 0, the pinned and the dirty one */
    cache_clean(fixture->cache);
    assert_int_equal(counters_of(fixture, LOW).tables, 2);
    cache_put(fixture->cache, pinned);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    cache_clean(fixture->cache);
    cache_clean(fixture->cache);
    assert_int_equal(counters_of(fixture, LOW).tables, 0);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(co_read_u64(fixture, LOW, i), disk_u64(fixture, LOW, i));
}
CACHE_TEST(what_nobody_asked_for_is_cleaned)

static void co_after_an_invalidation_all_is_read_anew(struct cache_fixture *fixture)
{
    co_read_u64(fixture, LOW, 0);
    co_read_u64(fixture, LOW, 0);
    fixture->block.disk.data[place_of(LOW, 0)] ^= 0xff;
    assert_int_not_equal(co_read_u64(fixture, LOW, 0), disk_u64(fixture, LOW, 0));
    cache_invalidate(fixture->cache);
    assert_int_equal(co_read_u64(fixture, LOW, 0), disk_u64(fixture, LOW, 0));
}
CACHE_TEST(after_an_invalidation_all_is_read_anew)

static void co_idle_tables_go_after_a_time(struct cache_fixture *fixture)
{
    uint64_t begin = clock_monotonic.now_ns(&clock_monotonic);
    co_read_u64(fixture, LOW, 0);
    co_read_u64(fixture, LOW, 0);
    cache_start_cleaning(fixture->cache, 1);
    while (counters_of(fixture, LOW).tables > 0) {
        assert_true(clock_monotonic.now_ns(&clock_monotonic) - begin < 60 * NS_PER_S);
        coroutine_co_pause();
    }
    cache_co_stop_cleaning(fixture->cache);
    cache_start_cleaning(fixture->cache, 0);
    cache_co_stop_cleaning(fixture->cache);
}
static void idle_tables_go_after_a_time(void **state)
{
    (void)state;
    cache_fixture_run(1, co_idle_tables_go_after_a_time);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_than_the_budget_holds_is_read_again),
        cmocka_unit_test(what_is_asked_for_again_and_again_stays),
        cmocka_unit_test(changes_are_written_before_their_table_goes),
        cmocka_unit_test(what_cannot_be_written_is_not_lost),
        cmocka_unit_test(pinned_tables_stay_and_others_wait),
        cmocka_unit_test(tables_in_a_round_stay_and_others_wait),
        cmocka_unit_test(what_nobody_asked_for_is_cleaned),
        cmocka_unit_test(after_an_invalidation_all_is_read_anew),
        cmocka_unit_test(idle_tables_go_after_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
