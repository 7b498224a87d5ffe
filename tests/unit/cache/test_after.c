/* SPDX-License-Identifier: BSD-3-Clause */
/* after.c and uses.c: what waits for a removal to be durable, and for those who may have seen what
 * was removed. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/coroutine.h"
#include "tests/unit/cache/cache_fixture.h"

struct waiting {
    struct cache_after after;
    struct cache_fixture *fixture;
    unsigned runs;
    uint64_t seen; /* on the disk, when it ran */
    bool changes;  /* a table, when it runs */
};

static void co_note(struct cache_after *after)
{
    struct waiting *waiting = container_of(after, struct waiting, after);
    waiting->runs++;
    waiting->seen = disk_u64(waiting->fixture, HIGH, 0);
    if (waiting->changes)
        co_change_u64(waiting->fixture, LOW, 0, 11);
}

/* Changes a table, and puts what waits for that. */
static void co_remove(struct cache_fixture *fixture, struct waiting *waiting, uint64_t value)
{
    struct cache_table *table;
    *waiting = (struct waiting){.after = {.co_run = co_note}, .fixture = fixture};
    assert_int_equal(cache_co_get(fixture->cache, HIGH, place_of(HIGH, 0), &table), 0);
    pthread_mutex_lock(&fixture->monitor);
    cache_store(fixture->cache, table, 0, &value, sizeof(value));
    cache_after_durable(fixture->cache, &waiting->after);
    pthread_mutex_unlock(&fixture->monitor);
    cache_put(fixture->cache, table);
}

static unsigned waiting_count(struct cache_fixture *fixture)
{
    pthread_mutex_lock(&fixture->monitor);
    unsigned count = cache_after_count(fixture->cache);
    pthread_mutex_unlock(&fixture->monitor);
    return count;
}

static void pause_some(void)
{
    for (unsigned i = 0; i < 50; i++)
        coroutine_co_pause();
}

/* Is held up until the test says so. */
struct slow {
    struct cache_after after;
    bool has_begun, may_end;
};

static void co_be_slow(struct cache_after *after)
{
    struct slow *slow = container_of(after, struct slow, after);
    slow->has_begun = true;
    while (!slow->may_end)
        coroutine_co_pause();
}

static void settle_main(void *arg)
{
    assert_int_equal(cache_co_settle(arg), 0);
}

static void flush_main(void *arg)
{
    cache_co_flush(arg);
}

/* Nothing is dirty and nothing waits, but the copies are still on their way. */
static void co_settling_waits_for_a_round(struct cache_fixture *fixture)
{
    struct group group;
    struct waiting waiting;
    co_remove(fixture, &waiting, 42);
    group_init(&group, fixture->block.loop);
    memory_disk_hold(&fixture->block.disk, 1u << MEMORY_WRITE);
    group_start(&group, flush_main, fixture->cache);
    memory_disk_co_wait_held(&fixture->block.disk, 1);
    group_start(&group, settle_main, fixture->cache);
    pause_some();
    assert_int_equal(group.running, 2);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    assert_int_equal(waiting.runs, 1);
    assert_int_equal(waiting_count(fixture), 0);
}
CACHE_TEST(settling_waits_for_a_round)

/* While it waits for the reaper, a round takes the next removal along. */
static void co_settling_waits_for_what_a_round_has_taken(struct cache_fixture *fixture)
{
    struct group group;
    struct waiting waiting;
    struct slow slow = {.after = {.co_run = co_be_slow}};
    pthread_mutex_lock(&fixture->monitor);
    cache_after_durable(fixture->cache, &slow.after);
    pthread_mutex_unlock(&fixture->monitor);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    while (!slow.has_begun)
        coroutine_co_pause();
    group_init(&group, fixture->block.loop);
    group_start(&group, settle_main, fixture->cache);
    co_remove(fixture, &waiting, 42);
    memory_disk_hold(&fixture->block.disk, 1u << MEMORY_WRITE);
    group_start(&group, flush_main, fixture->cache);
    memory_disk_co_wait_held(&fixture->block.disk, 1);
    slow.may_end = true;
    pause_some();
    assert_int_equal(group.running, 2);
    assert_int_equal(waiting.runs, 0);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    assert_int_equal(waiting.runs, 1);
    assert_int_equal(waiting.seen, 42);
    assert_int_equal(waiting_count(fixture), 0);
}
CACHE_TEST(settling_waits_for_what_a_round_has_taken)

static void co_it_runs_once_the_removal_is_durable(struct cache_fixture *fixture)
{
    struct waiting waiting;
    co_remove(fixture, &waiting, 42);
    pause_some();
    assert_int_equal(waiting.runs, 0);
    assert_int_equal(waiting_count(fixture), 1);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    pause_some();
    assert_int_equal(waiting.runs, 1);
    assert_int_equal(waiting.seen, 42);
    assert_int_equal(waiting_count(fixture), 0);
}
CACHE_TEST(it_runs_once_the_removal_is_durable)

/* One that comes while a round runs has its change in the next one. */
static void co_one_that_comes_during_a_round_waits_for_the_next(struct cache_fixture *fixture)
{
    struct waiting first, second;
    struct group group;
    co_remove(fixture, &first, 1);
    group_init(&group, fixture->block.loop);
    memory_disk_hold(&fixture->block.disk, 1u << MEMORY_FLUSH);
    group_start(&group, flush_main, fixture->cache);
    memory_disk_co_wait_held(&fixture->block.disk, 1);
    co_remove(fixture, &second, 2);
    assert_int_equal(first.runs, 0);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    pause_some();
    assert_int_equal(first.runs, 1);
    assert_int_equal(second.runs, 0);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    pause_some();
    assert_int_equal(second.runs, 1);
    assert_int_equal(second.seen, 2);
}
CACHE_TEST(one_that_comes_during_a_round_waits_for_the_next)

static void co_after_a_failed_round_it_still_waits(struct cache_fixture *fixture)
{
    struct waiting waiting;
    co_remove(fixture, &waiting, 42);
    fixture->block.disk.fail_ops = 1u << MEMORY_WRITE;
    fixture->block.disk.fail_code = -EIO;
    assert_int_equal(cache_co_flush(fixture->cache), -EIO);
    pause_some();
    assert_int_equal(waiting.runs, 0);
    fixture->block.disk.fail_code = 0;
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    pause_some();
    assert_int_equal(waiting.runs, 1);
}
CACHE_TEST(after_a_failed_round_it_still_waits)

static void co_it_waits_for_uses_that_were_open(struct cache_fixture *fixture)
{
    struct waiting waiting;
    struct cache_use old, young;
    cache_use_begin(fixture->cache, &old);
    co_remove(fixture, &waiting, 42);
    assert_int_equal(cache_co_flush(fixture->cache), 0); /* does not wait for the use */
    cache_use_begin(fixture->cache, &young);
    pause_some();
    assert_int_equal(waiting.runs, 0);
    cache_use_end(fixture->cache, &old);
    pause_some();
    /* Both halves of the wait: the second takes the young one for an old one. */
    cache_use_end(fixture->cache, &young);
    pause_some();
    assert_int_equal(waiting.runs, 1);
}
CACHE_TEST(it_waits_for_uses_that_were_open)

/* A use that is open for ever on one side of the epoch, and then on the other. */
static void co_uses_that_come_and_go_hold_up_nobody(struct cache_fixture *fixture)
{
    struct waiting waiting;
    struct cache_use uses[2];
    cache_use_begin(fixture->cache, &uses[0]);
    co_remove(fixture, &waiting, 42);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    for (unsigned i = 0; waiting.runs == 0; i++) {
        assert_true(i < 10);
        cache_use_begin(fixture->cache, &uses[(i + 1) % 2]);
        cache_use_end(fixture->cache, &uses[i % 2]);
        pause_some();
        if (waiting.runs > 0)
            cache_use_end(fixture->cache, &uses[(i + 1) % 2]);
    }
}
CACHE_TEST(uses_that_come_and_go_hold_up_nobody)

static void co_settling_runs_what_waits_and_writes_what_that_changes(struct cache_fixture *fixture)
{
    struct waiting waiting;
    co_remove(fixture, &waiting, 42);
    waiting.changes = true;
    assert_int_equal(cache_co_settle(fixture->cache), 0);
    assert_int_equal(waiting.runs, 1);
    assert_int_equal(disk_u64(fixture, LOW, 0), 11);
    assert_false(is_dirty(fixture));
}
CACHE_TEST(settling_runs_what_waits_and_writes_what_that_changes)

static void co_what_can_never_run_is_given_back(struct cache_fixture *fixture)
{
    struct waiting waiting;
    co_remove(fixture, &waiting, 42);
    fixture->block.disk.fail_ops = 1u << MEMORY_FLUSH;
    fixture->block.disk.fail_code = -EIO;
    assert_int_equal(cache_co_settle(fixture->cache), -EIO);
    pthread_mutex_lock(&fixture->monitor);
    assert_ptr_equal(cache_abandon_after(fixture->cache), &waiting.after);
    assert_null(cache_abandon_after(fixture->cache));
    pthread_mutex_unlock(&fixture->monitor);
    assert_int_equal(waiting.runs, 0);
}
CACHE_TEST(what_can_never_run_is_given_back)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settling_waits_for_a_round),
        cmocka_unit_test(settling_waits_for_what_a_round_has_taken),
        cmocka_unit_test(it_runs_once_the_removal_is_durable),
        cmocka_unit_test(one_that_comes_during_a_round_waits_for_the_next),
        cmocka_unit_test(after_a_failed_round_it_still_waits),
        cmocka_unit_test(it_waits_for_uses_that_were_open),
        cmocka_unit_test(uses_that_come_and_go_hold_up_nobody),
        cmocka_unit_test(settling_runs_what_waits_and_writes_what_that_changes),
        cmocka_unit_test(what_can_never_run_is_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
