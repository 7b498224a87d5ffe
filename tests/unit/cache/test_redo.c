/* SPDX-License-Identifier: BSD-3-Clause */
/* redo.c: what the memory holds after each step, as who maps it after a kill would find it; and
 * what a cache puts there, when it starts rounds for it, and when these trim, break and heal it. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/coroutine.h"
#include "tests/unit/cache/cache_fixture.h"
#include "tests/unit/cache/redo_fixture.h"

#define STORE_BYTES 32 /* of a record of 8 bytes */

static const struct redo_identity other = {.bytes = "other"};

static struct redo *make_log(void **ret_memory)
{
    *ret_memory = new_log_memory();
    struct redo *redo = new_log(*ret_memory);
    assert_int_equal(log_content(redo), REDO_FOREIGN);
    redo_format(redo, &log_identity);
    return redo;
}

static void drop_log(struct redo *redo, void *memory)
{
    redo_free(redo);
    free(memory);
}

static void store_u64(struct redo *redo, uint64_t node_offset, uint64_t value)
{
    redo_store(redo, LOW, node_offset, &value, sizeof(value));
}

#define LOG_TEST(name)                         \
    static void name(void **state)             \
    {                                          \
        void *memory;                          \
        struct redo *redo = make_log(&memory); \
        (void)state;                           \
        check_##name(redo, memory);            \
        drop_log(redo, memory);                \
    }

static void check_a_look_tells_whose_it_is_and_what_it_holds(struct redo *redo, void *memory)
{
    struct redo_header *header = memory;
    assert_int_equal(log_content(redo), REDO_EMPTY);
    assert_int_equal(redo_look(redo, &other), REDO_FOREIGN);
    store_u64(redo, 0, 1);
    assert_int_equal(log_content(redo), REDO_CHANGES);
    assert_int_equal(redo_look(redo, &other), REDO_FOREIGN);
    header->magic++;
    assert_int_equal(log_content(redo), REDO_FOREIGN);
    header->magic--;
    header->memory_bytes++;
    assert_int_equal(log_content(redo), REDO_FOREIGN);
    header->memory_bytes--;
    header->is_broken = 1;
    assert_int_equal(log_content(redo), REDO_BROKEN);
    redo_format(redo, &other);
    assert_int_equal(log_content(redo), REDO_FOREIGN);
    assert_int_equal(redo_look(redo, &other), REDO_EMPTY);
}
LOG_TEST(a_look_tells_whose_it_is_and_what_it_holds)

static void check_a_heartbeat_is_kept_until_it_is_formatted(struct redo *redo, void *memory)
{
    struct redo *next;
    assert_int_equal(redo_heartbeat_ns(redo), 0);
    redo_beat(redo, UINT64_C(0x123456789abcdef0));
    assert_int_equal(redo_new(&next, memory, LOG_BYTES), 0);
    assert_int_equal(redo_heartbeat_ns(next), UINT64_C(0x123456789abcdef0));
    redo_format(next, &log_identity);
    assert_int_equal(redo_heartbeat_ns(redo), 0);
    redo_free(next);
}
LOG_TEST(a_heartbeat_is_kept_until_it_is_formatted)

static void check_records_say_what_was_changed(struct redo *redo, void *memory)
{
    static const uint8_t text[17] = "sixteen and one.";
    redo_store(redo, HIGH, 1000, text, sizeof(text));
    redo_zero(redo, LOW, 512, 512);
    redo_forget(redo, 1, 4096, UINT64_C(1) << 33);
    assert_int_equal(((struct redo_header *)memory)->tail, 48 + 16 + 32);
    const struct redo_record *record = record_at(memory, 0);
    assert_int_equal(record->type, REDO_STORE);
    assert_int_equal(record->index, HIGH);
    assert_int_equal(record->length, sizeof(text));
    assert_int_equal(record->node_offset, 1000);
    assert_memory_equal(record + 1, text, sizeof(text));
    record = record_at(memory, 48);
    assert_int_equal(record->type, REDO_ZERO);
    assert_int_equal(record->index, LOW);
    assert_int_equal(record->length, 512);
    assert_int_equal(record->node_offset, 512);
    record = record_at(memory, 64);
    assert_int_equal(record->type, REDO_FORGET);
    assert_int_equal(record->index, 1);
    assert_int_equal(record->length, 8);
    assert_int_equal(record->node_offset, 4096);
    assert_int_equal(*(const uint64_t *)(const void *)(record + 1), UINT64_C(1) << 33);
    assert_int_equal(log_counters(redo).records, 3);
}
LOG_TEST(records_say_what_was_changed)

static void check_what_is_forgotten_of_an_empty_log_is_no_record(struct redo *redo, void *memory)
{
    redo_forget(redo, 0, 0, 512);
    assert_int_equal(((struct redo_header *)memory)->tail, 0);
}
LOG_TEST(what_is_forgotten_of_an_empty_log_is_no_record)

/* The ring goes round: a record that would end behind it begins at its begin, behind a pad. */
static void check_a_record_lies_in_one_piece_behind_a_pad(struct redo *redo, void *memory)
{
    static const uint8_t bytes[RING_BYTES / 2] = {7};
    struct redo_header *header = memory;
    redo_store(redo, LOW, 0, bytes, RING_BYTES / 2);
    redo_round_begins(redo);
    redo_round_ended(redo, 0);
    uint64_t at = header->tail;
    assert_int_equal(header->head, at);
    redo_store(redo, LOW, 0, bytes, RING_BYTES / 2);
    const struct redo_record *record = record_at(memory, at);
    assert_int_equal(record->type, REDO_PAD);
    assert_int_equal(at + sizeof(*record) + record->length, RING_BYTES);
    assert_int_equal(record_at(memory, 0)->type, REDO_STORE);
    assert_int_equal(header->tail, RING_BYTES + sizeof(*record) + RING_BYTES / 2);
    assert_int_equal(log_content(redo), REDO_CHANGES);
}
LOG_TEST(a_record_lies_in_one_piece_behind_a_pad)

static void fill(struct redo *redo, unsigned left)
{
    for (unsigned i = 0; i < RING_BYTES / STORE_BYTES - left; i++)
        store_u64(redo, 0, i);
}

static void check_a_ring_holds_as_much_as_it_is_long(struct redo *redo, void *memory)
{
    fill(redo, 0);
    assert_int_equal(log_content(redo), REDO_CHANGES);
    assert_int_equal(log_counters(redo).live_bytes, RING_BYTES);
    assert_int_equal(log_counters(redo).breaks, 0);
    store_u64(redo, 0, 1);
    assert_int_equal(log_content(redo), REDO_BROKEN);
    assert_int_equal(log_counters(redo).breaks, 1);
    assert_int_equal(((struct redo_header *)memory)->tail, RING_BYTES);
}
LOG_TEST(a_ring_holds_as_much_as_it_is_long)

static void check_a_change_larger_than_the_ring_breaks_it(struct redo *redo, void *memory)
{
    static const uint8_t bytes[RING_BYTES];
    (void)memory;
    redo_store(redo, LOW, 0, bytes, sizeof(bytes));
    assert_int_equal(log_content(redo), REDO_BROKEN);
}
LOG_TEST(a_change_larger_than_the_ring_breaks_it)

static void check_a_round_trims_what_it_copied_and_no_more(struct redo *redo, void *memory)
{
    struct redo_header *header = memory;
    store_u64(redo, 0, 1);
    redo_round_begins(redo);
    assert_int_equal(header->head, 0);
    store_u64(redo, 0, 2);
    redo_round_ended(redo, 0);
    assert_int_equal(header->head, STORE_BYTES);
    assert_int_equal(header->tail, 2 * STORE_BYTES);
    redo_round_begins(redo);
    redo_round_ended(redo, -EIO);
    assert_int_equal(header->head, STORE_BYTES);
    assert_int_equal(log_content(redo), REDO_CHANGES);
}
LOG_TEST(a_round_trims_what_it_copied_and_no_more)

static void check_only_a_whole_round_with_an_empty_log_heals(struct redo *redo, void *memory)
{
    (void)memory;
    fill(redo, 0);
    redo_round_begins(redo);
    store_u64(redo, 0, 1); /* breaks it in the middle of a round */
    assert_true(redo_has_work(redo));
    redo_round_ended(redo, 0);
    assert_int_equal(log_content(redo), REDO_BROKEN);
    redo_round_begins(redo);
    assert_false(redo_has_work(redo));
    redo_round_ended(redo, -EIO); /* what it copied is in no log */
    assert_int_equal(log_content(redo), REDO_BROKEN);
    store_u64(redo, 0, 2);
    assert_int_equal(log_counters(redo).live_bytes, 0);
    redo_round_begins(redo);
    fill(redo, 0);
    store_u64(redo, 0, 3); /* full again before it is healed */
    redo_round_ended(redo, 0);
    assert_int_equal(log_content(redo), REDO_BROKEN);
    assert_int_equal(log_counters(redo).breaks, 2);
    redo_round_begins(redo);
    store_u64(redo, 0, 4);
    assert_int_equal(log_content(redo), REDO_BROKEN);
    redo_round_ended(redo, 0);
    assert_int_equal(log_content(redo), REDO_CHANGES);
    assert_int_equal(log_counters(redo).live_bytes, STORE_BYTES);
}
LOG_TEST(only_a_whole_round_with_an_empty_log_heals)

static void check_what_is_broken_for_good_is_healed_by_no_round(struct redo *redo, void *memory)
{
    (void)memory;
    store_u64(redo, 0, 1);
    redo_round_begins(redo);
    redo_break_for_good(redo);
    redo_round_ended(redo, 0);
    redo_round_begins(redo);
    redo_round_ended(redo, 0);
    assert_int_equal(log_content(redo), REDO_BROKEN);
    assert_false(redo_take_wanted(redo));
    assert_false(redo_has_work(redo));
    redo_format(redo, &log_identity);
    store_u64(redo, 0, 1);
    assert_int_equal(log_content(redo), REDO_CHANGES);
}
LOG_TEST(what_is_broken_for_good_is_healed_by_no_round)

static void check_a_round_is_wanted_at_half_full_once(struct redo *redo, void *memory)
{
    (void)memory;
    fill(redo, RING_BYTES / STORE_BYTES / 2 + 1);
    assert_false(redo_take_wanted(redo));
    store_u64(redo, 0, 1);
    assert_true(redo_take_wanted(redo));
    store_u64(redo, 0, 1);
    assert_false(redo_take_wanted(redo));
    redo_round_begins(redo);
    redo_round_ended(redo,
                     -EIO); /* another one would fail too; when it is full one more is tried */
    store_u64(redo, 0, 1);
    assert_false(redo_take_wanted(redo));
    fill(redo, 0);
    assert_int_equal(log_content(redo), REDO_BROKEN);
    assert_true(redo_take_wanted(redo));
    assert_false(redo_take_wanted(redo));
    redo_round_begins(redo);
    fill(redo, RING_BYTES / STORE_BYTES / 2);
    assert_true(redo_take_wanted(redo));
    redo_round_ended(redo, 0); /* half full still, of what came meanwhile */
    assert_true(redo_take_wanted(redo));
}
LOG_TEST(a_round_is_wanted_at_half_full_once)

/* --- under a cache ------------------------------------------------------------------------------
 */

static struct redo *cache_redo;

/* Of a cache that has a log from its begin on. */
static void co_with_log(struct cache_fixture *fixture, void (*test)(struct cache_fixture *fixture))
{
    void *memory = new_log_memory();
    cache_redo = new_log(memory);
    redo_format(cache_redo, &log_identity);
    pthread_mutex_lock(&fixture->monitor);
    cache_attach_redo(fixture->cache, cache_redo);
    pthread_mutex_unlock(&fixture->monitor);
    test(fixture);
    cache_co_settle(fixture->cache);
    pthread_mutex_lock(&fixture->monitor);
    cache_attach_redo(fixture->cache, NULL);
    pthread_mutex_unlock(&fixture->monitor);
    drop_log(cache_redo, memory);
}

#define CACHE_LOG_TEST(name)                                      \
    static void co_with_log_##name(struct cache_fixture *fixture) \
    {                                                             \
        co_with_log(fixture, co_##name);                          \
    }                                                             \
    static void name(void **state)                                \
    {                                                             \
        (void)state;                                              \
        cache_fixture_run(1, co_with_log_##name);                 \
    }

static void set_write_error(struct cache_fixture *fixture, int code)
{
    fixture->block.disk.fail_ops = 1u << MEMORY_WRITE;
    fixture->block.disk.fail_code = code;
}

static void co_a_flush_trims_and_a_failed_one_does_not(struct cache_fixture *fixture)
{
    co_change_u64(fixture, LOW, 0, 1);
    assert_int_equal(log_content(cache_redo), REDO_CHANGES);
    set_write_error(fixture, -EIO);
    assert_int_equal(cache_co_flush(fixture->cache), -EIO);
    assert_int_equal(log_content(cache_redo), REDO_CHANGES);
    assert_int_equal(log_counters(cache_redo).live_bytes, STORE_BYTES);
    set_write_error(fixture, 0);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_equal(log_content(cache_redo), REDO_EMPTY);
}
CACHE_LOG_TEST(a_flush_trims_and_a_failed_one_does_not)

/* What was forgotten is in the log, and nowhere else. */
static void co_a_flush_trims_when_nothing_is_dirty(struct cache_fixture *fixture)
{
    for (unsigned i = 0; i < 2; i++) {
        co_change_u64(fixture, LOW, 0, 1);
        cache_co_forget(fixture->cache, LOW, place_of(LOW, 0), TABLE_BYTES);
        assert_false(is_dirty(fixture));
        assert_int_equal(log_content(cache_redo), REDO_CHANGES);
        assert_int_equal(i ? cache_co_settle(fixture->cache) : cache_co_flush(fixture->cache), 0);
        assert_int_equal(log_content(cache_redo), REDO_EMPTY);
    }
    assert_int_equal(counters_of(fixture, LOW).writes, 0);
}
CACHE_LOG_TEST(a_flush_trims_when_nothing_is_dirty)

/* In one hold of the monitor. */
static void store_often(struct cache_fixture *fixture, struct cache_table *table, unsigned count)
{
    pthread_mutex_lock(&fixture->monitor);
    for (uint64_t i = 1; i <= count; i++)
        cache_store(fixture->cache, table, 0, &i, sizeof(i));
    pthread_mutex_unlock(&fixture->monitor);
}

static void co_store_often(struct cache_fixture *fixture, unsigned count)
{
    struct cache_table *table;
    assert_int_equal(cache_co_get(fixture->cache, LOW, place_of(LOW, 0), &table), 0);
    store_often(fixture, table, count);
    cache_put(fixture->cache, table);
}

static uint64_t rounds_of(struct cache_fixture *fixture)
{
    struct cache_round_counters counters;
    cache_round_counters(fixture->cache, &counters);
    return counters.rounds;
}

static void co_await_rounds(struct cache_fixture *fixture, uint64_t count)
{
    for (unsigned turns = 0; rounds_of(fixture) < count; turns++) {
        assert_true(turns < 100000);
        coroutine_co_pause();
    }
}

static void co_a_round_is_started_at_half_full(struct cache_fixture *fixture)
{
    for (unsigned i = 0; i < 40; i++) {
        co_store_often(fixture, RING_BYTES / STORE_BYTES / 4);
        for (unsigned turns = 0; turns < 30; turns++)
            coroutine_co_pause();
    }
    assert_int_equal(log_counters(cache_redo).breaks, 0);
    assert_true(rounds_of(fixture) >= 10 && rounds_of(fixture) <= 25);
    assert_int_equal(disk_u64(fixture, LOW, 0), RING_BYTES / STORE_BYTES / 4);
}
CACHE_LOG_TEST(a_round_is_started_at_half_full)

static void settle_main(void *arg)
{
    assert_int_equal(cache_co_settle(arg), 0);
}

/* Who asks for a table is not held up by the round that begins there, and who closes is. */
static void co_settling_waits_for_a_round_in_the_background(struct cache_fixture *fixture)
{
    struct group group;
    memory_disk_hold(&fixture->block.disk, 1u << MEMORY_WRITE);
    co_store_often(fixture, RING_BYTES / STORE_BYTES / 2);
    assert_int_equal(fixture->block.disk.held_count, 0);
    co_store_often(fixture, 1); /* its round begins before the change */
    memory_disk_co_wait_held(&fixture->block.disk, 1);
    group_init(&group, fixture->block.loop);
    group_start(&group, settle_main, fixture->cache);
    for (unsigned turns = 0; turns < 50; turns++)
        coroutine_co_pause();
    assert_int_equal(group.running, 1);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    assert_int_equal(log_content(cache_redo), REDO_EMPTY);
    assert_int_equal(log_counters(cache_redo).breaks, 0);
    assert_int_equal(disk_u64(fixture, LOW, 0), 1);
}
CACHE_LOG_TEST(settling_waits_for_a_round_in_the_background)

/* Full by half, and somebody asks for a table: a round in the background that waits to write. */
static void co_hold_a_round_of_the_log(struct cache_fixture *fixture)
{
    memory_disk_hold(&fixture->block.disk, 1u << MEMORY_WRITE);
    co_store_often(fixture, RING_BYTES / STORE_BYTES / 2);
    co_store_often(fixture, 0);
    memory_disk_co_wait_held(&fixture->block.disk, 1);
}

struct filling {
    struct cache_after after;
    struct cache_fixture *fixture;
};

static void co_fill_after(struct cache_after *after)
{
    co_hold_a_round_of_the_log(container_of(after, struct filling, after)->fixture);
}

/* The settler's own round is done, and what waited for it made the log want one more. */
static void co_settling_waits_for_what_its_round_began(struct cache_fixture *fixture)
{
    struct group group;
    struct filling filling = {.after = {.co_run = co_fill_after}, .fixture = fixture};
    co_change_u64(fixture, LOW, 1, 5);
    pthread_mutex_lock(&fixture->monitor);
    cache_after_durable(fixture->cache, &filling.after);
    pthread_mutex_unlock(&fixture->monitor);
    group_init(&group, fixture->block.loop);
    group_start(&group, settle_main, fixture->cache);
    memory_disk_co_wait_held(&fixture->block.disk, 1);
    for (unsigned turns = 0; turns < 50; turns++)
        coroutine_co_pause();
    assert_int_equal(disk_u64(fixture, LOW, 1), 5);
    assert_int_equal(rounds_of(fixture), 1);
    assert_int_equal(group.running, 1);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    assert_int_equal(rounds_of(fixture), 2);
    assert_int_equal(log_content(cache_redo), REDO_EMPTY);
    assert_int_equal(disk_u64(fixture, LOW, 0), RING_BYTES / STORE_BYTES / 2);
}
CACHE_LOG_TEST(settling_waits_for_what_its_round_began)

/* The round in the background ends as others do; nobody looks at the log again. */
static void co_a_log_may_be_taken_away_in_its_round(struct cache_fixture *fixture)
{
    co_hold_a_round_of_the_log(fixture);
    pthread_mutex_lock(&fixture->monitor);
    cache_attach_redo(fixture->cache, NULL);
    pthread_mutex_unlock(&fixture->monitor);
    memory_disk_release(&fixture->block.disk);
    assert_int_equal(cache_co_settle(fixture->cache), 0);
    assert_int_equal(rounds_of(fixture), 2); /* of which the second found nothing to do */
    assert_int_equal(disk_u64(fixture, LOW, 0), RING_BYTES / STORE_BYTES / 2);
    assert_int_equal(log_content(cache_redo), REDO_CHANGES);
    assert_int_equal(log_counters(cache_redo).live_bytes, RING_BYTES / 2);
}
CACHE_LOG_TEST(a_log_may_be_taken_away_in_its_round)

static void co_a_broken_log_is_healed_without_a_flush(struct cache_fixture *fixture)
{
    co_store_often(fixture, RING_BYTES / STORE_BYTES + 1);
    assert_int_equal(log_content(cache_redo), REDO_BROKEN);
    co_store_often(fixture, 2);
    co_await_rounds(fixture, 1);
    assert_int_equal(log_counters(cache_redo).breaks, 1);
    assert_int_equal(log_content(cache_redo), REDO_CHANGES);
    assert_int_equal(log_counters(cache_redo).live_bytes, 2 * STORE_BYTES);
}
CACHE_LOG_TEST(a_broken_log_is_healed_without_a_flush)

static void flush_main(void *arg)
{
    assert_int_equal(cache_co_flush(arg), 0);
}

/* The round took its copies before; who leads it begins the next one. */
static void co_a_log_that_breaks_in_a_round_is_healed_by_the_next(struct cache_fixture *fixture)
{
    struct group group;
    struct cache_table *table;
    assert_int_equal(cache_co_get(fixture->cache, LOW, place_of(LOW, 0), &table), 0);
    store_often(fixture, table, 1);
    memory_disk_hold(&fixture->block.disk, 1u << MEMORY_WRITE);
    group_init(&group, fixture->block.loop);
    group_start(&group, flush_main, fixture->cache);
    memory_disk_co_wait_held(&fixture->block.disk, 1);
    store_often(fixture, table, RING_BYTES / STORE_BYTES);
    assert_int_equal(log_content(cache_redo), REDO_BROKEN);
    memory_disk_release(&fixture->block.disk);
    group_co_wait(&group);
    co_await_rounds(fixture, 2);
    assert_int_equal(log_content(cache_redo), REDO_EMPTY);
    assert_int_equal(disk_u64(fixture, LOW, 0), RING_BYTES / STORE_BYTES);
    cache_put(fixture->cache, table);
}
CACHE_LOG_TEST(a_log_that_breaks_in_a_round_is_healed_by_the_next)

static void co_a_log_is_not_filled_with_rounds_that_fail(struct cache_fixture *fixture)
{
    set_write_error(fixture, -ENOSPC);
    for (unsigned i = 0; i < 20; i++) {
        co_store_often(fixture, RING_BYTES / STORE_BYTES / 4);
        for (unsigned turns = 0; turns < 30; turns++)
            coroutine_co_pause();
    }
    assert_int_equal(log_content(cache_redo), REDO_BROKEN);
    assert_int_equal(rounds_of(fixture), 2); /* at half full, and when it broke */
    set_write_error(fixture, 0);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_equal(log_content(cache_redo), REDO_EMPTY);
}
CACHE_LOG_TEST(a_log_is_not_filled_with_rounds_that_fail)

static void co_refused_writes_break_it_for_good(struct cache_fixture *fixture)
{
    co_change_u64(fixture, LOW, 0, 1);
    pthread_mutex_lock(&fixture->monitor);
    cache_refuse_writes(fixture->cache, -EIO);
    pthread_mutex_unlock(&fixture->monitor);
    assert_int_equal(log_content(cache_redo), REDO_BROKEN);
    assert_int_equal(cache_co_flush(fixture->cache), -EIO);
    assert_int_equal(log_content(cache_redo), REDO_BROKEN);
    co_change_u64(fixture, LOW, 0, 2);
    assert_int_equal(cache_co_settle(fixture->cache), -EIO);
    assert_int_equal(log_content(cache_redo), REDO_BROKEN);
}
CACHE_LOG_TEST(refused_writes_break_it_for_good)

static void co_postponed_classes_are_not_in_it(struct cache_fixture *fixture)
{
    struct cache_table *table;
    pthread_mutex_lock(&fixture->monitor);
    cache_postpone(fixture->cache, 1u << LOW);
    pthread_mutex_unlock(&fixture->monitor);
    co_change_u64(fixture, LOW, 0, 1);
    assert_int_equal(cache_co_get_new(fixture->cache, LOW, place_of(LOW, 1), &table), 0);
    cache_put(fixture->cache, table);
    assert_int_equal(log_content(cache_redo), REDO_EMPTY);
    co_change_u64(fixture, HIGH, 0, 1);
    assert_int_equal(log_counters(cache_redo).records, 1);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_true(is_dirty(fixture));
    assert_int_equal(log_content(cache_redo), REDO_EMPTY);
}
CACHE_LOG_TEST(postponed_classes_are_not_in_it)

static void co_what_was_dirty_before_is_missing_until_a_round(struct cache_fixture *fixture)
{
    pthread_mutex_lock(&fixture->monitor);
    cache_attach_redo(fixture->cache, NULL);
    pthread_mutex_unlock(&fixture->monitor);
    co_change_u64(fixture, LOW, 0, 1);
    pthread_mutex_lock(&fixture->monitor);
    cache_attach_redo(fixture->cache, cache_redo);
    pthread_mutex_unlock(&fixture->monitor);
    assert_int_equal(log_content(cache_redo), REDO_BROKEN);
    assert_int_equal(cache_co_flush(fixture->cache), 0);
    assert_int_equal(log_content(cache_redo), REDO_EMPTY);
    co_change_u64(fixture, LOW, 0, 2);
    assert_int_equal(log_content(cache_redo), REDO_CHANGES);
}
CACHE_LOG_TEST(what_was_dirty_before_is_missing_until_a_round)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_look_tells_whose_it_is_and_what_it_holds),
        cmocka_unit_test(a_heartbeat_is_kept_until_it_is_formatted),
        cmocka_unit_test(records_say_what_was_changed),
        cmocka_unit_test(what_is_forgotten_of_an_empty_log_is_no_record),
        cmocka_unit_test(a_record_lies_in_one_piece_behind_a_pad),
        cmocka_unit_test(a_ring_holds_as_much_as_it_is_long),
        cmocka_unit_test(a_change_larger_than_the_ring_breaks_it),
        cmocka_unit_test(a_round_trims_what_it_copied_and_no_more),
        cmocka_unit_test(only_a_whole_round_with_an_empty_log_heals),
        cmocka_unit_test(what_is_broken_for_good_is_healed_by_no_round),
        cmocka_unit_test(a_round_is_wanted_at_half_full_once),
        cmocka_unit_test(a_flush_trims_and_a_failed_one_does_not),
        cmocka_unit_test(a_flush_trims_when_nothing_is_dirty),
        cmocka_unit_test(a_round_is_started_at_half_full),
        cmocka_unit_test(settling_waits_for_a_round_in_the_background),
        cmocka_unit_test(settling_waits_for_what_its_round_began),
        cmocka_unit_test(a_log_may_be_taken_away_in_its_round),
        cmocka_unit_test(a_broken_log_is_healed_without_a_flush),
        cmocka_unit_test(a_log_that_breaks_in_a_round_is_healed_by_the_next),
        cmocka_unit_test(a_log_is_not_filled_with_rounds_that_fail),
        cmocka_unit_test(refused_writes_break_it_for_good),
        cmocka_unit_test(postponed_classes_are_not_in_it),
        cmocka_unit_test(what_was_dirty_before_is_missing_until_a_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
