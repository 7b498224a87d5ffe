/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A redo log and a kill at every moment: a small format over a cache, changed at random while
 * rounds run beside it, some of which fail in the middle. After every change the log's memory and
 * the disk are copied, as a kill would leave them, and the copy is replayed:
 *
 * It shows exactly what the cache showed, of every table that was not forgotten, and data that was
 * written to the place of a former table is still there. Cut at any of its writes, with any of the
 * sectors that were written since the last flush, what points somewhere points to what is there
 * (toy_format.h). Begun once more after a part of it, it ends the same.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <inttypes.h>

#include "tests/unit/cache/cache_fixture.h"
#include "tests/unit/cache/redo_fixture.h"
#include "tests/unit/cache/toy_format.h"

#define LIVES 12
#define STEPS 120 /* of a life */
#define BURST_MAX 100

enum slot_state { IS_FREE, IS_USED, IS_DATA };

/* What a kill leaves. */
struct moment {
    uint8_t disk[DISK_BYTES];
    uint8_t log[LOG_BYTES];
    uint8_t shown[DISK_BYTES];
    bool is_unknown[MAPS];
};

static struct test {
    struct cache_fixture *fixture;
    struct random random;
    void *memory;
    struct redo *redo;

    uint8_t shown[DISK_BYTES]; /* what the cache shows */
    bool is_unknown[MAPS];     /* forgotten, and nothing else yet */
    enum slot_state slots[SLOTS];
    uint64_t generations;

    struct memory_disk copy_disk;
    struct block_node *copy_node;
    struct cache *copy_cache;
    void *copy_memory;
    struct moment moment;
    uint64_t replays, empties, broken, cuts, failed_rounds, breaks, records;
} test;

/* --- what must be so ----------------------------------------------------------------------------
 */

static void check_shown(const uint8_t *disk, const struct moment *moment)
{
    for (uint64_t place = 0; place < DISK_BYTES; place += TABLE_BYTES) {
        unsigned map = (unsigned)((place - place_of(MIDDLE, 0)) / TABLE_BYTES);
        if (place >= place_of(MIDDLE, 0) && map < MAPS && moment->is_unknown[map])
            continue;
        assert_memory_equal(disk + place, moment->shown + place, TABLE_BYTES);
    }
}

/* --- a kill, and a replay that is cut -----------------------------------------------------------
 */

static void take_moment(struct moment *moment)
{
    memcpy(moment->disk, test.fixture->block.disk.data, DISK_BYTES);
    memcpy(moment->log, test.memory, LOG_BYTES);
    memcpy(moment->shown, test.shown, DISK_BYTES);
    memcpy(moment->is_unknown, test.is_unknown, sizeof(test.is_unknown));
}

/* The disk as it may be when the power goes before call `end` of the replay is done: of what was
 * written since the last flush, some sectors. */
static void cut(const uint8_t *final, uint8_t *disk, unsigned end, bool has_all)
{
    const struct memory_disk *copy = &test.copy_disk;
    unsigned flushed = 0;
    for (unsigned i = 0; i < end; i++) {
        if (copy->log[i].op == MEMORY_FLUSH)
            flushed = i;
    }
    for (unsigned i = 0; i < end; i++) {
        const struct memory_call *call = &copy->log[i];
        for (uint64_t at = 0; call->op == MEMORY_WRITE && at < call->length; at += 512) {
            if (i < flushed || has_all || random_once_in(&test.random, 2))
                memcpy(disk + call->offset + at, final + call->offset + at, 512);
        }
    }
}

/* Each sector is written once, so what the disk has in the end is what was written. */
static void check_calls(void)
{
    const struct memory_disk *copy = &test.copy_disk;
    bool is_written[DISK_BYTES / 512] = {false}, is_flushed = false;
    assert_true(copy->log_count < MEMORY_LOG_MAX);
    for (unsigned i = 0; i < copy->log_count; i++) {
        const struct memory_call *call = &copy->log[i];
        is_flushed |= call->op == MEMORY_FLUSH;
        if (call->op != MEMORY_WRITE)
            continue;
        assert_true(is_flushed && call->offset % 512 == 0 && call->length % 512 == 0);
        for (uint64_t at = call->offset; at < call->offset + call->length; at += 512) {
            assert_false(is_written[at / 512]);
            is_written[at / 512] = true;
        }
    }
    assert_int_equal(copy->log[copy->log_count - 1].op, MEMORY_FLUSH);
}

static void co_put_copy(const uint8_t *disk, const uint8_t *log)
{
    uint8_t byte = 0;
    /* A node that nothing was written to is not flushed: see block/flush.c. */
    assert_int_equal(fixture_co_write(test.copy_node, 0, &byte, 1, 0), 0);
    memcpy(test.copy_disk.data, disk, DISK_BYTES);
    memcpy(test.copy_memory, log, LOG_BYTES);
    memory_disk_forget_calls(&test.copy_disk);
}

static void co_replay_copy(const struct moment *moment)
{
    uint64_t count;
    struct error err = {.message = ""};
    struct redo *redo = new_log(test.copy_memory);
    assert_int_equal(log_content(redo), REDO_CHANGES);
    int rc = redo_co_replay(redo, test.copy_cache, DISK_BYTES, &count, &err);
    if (rc < 0)
        fail_msg("%s", err.message);
    assert_int_equal(log_content(redo), REDO_EMPTY);
    redo_free(redo);
    check_shown(test.copy_disk.data, moment);
}

static void co_check_cuts(const struct moment *moment)
{
    static uint8_t final[DISK_BYTES], disk[DISK_BYTES];
    memcpy(final, test.copy_disk.data, DISK_BYTES);
    check_calls();
    for (unsigned end = 0; end <= test.copy_disk.log_count; end++) {
        memcpy(disk, moment->disk, DISK_BYTES);
        cut(final, disk, end, false);
        check_rules(disk);
        test.cuts++;
    }
    if (!random_once_in(&test.random, 4))
        return;
    memcpy(disk, moment->disk, DISK_BYTES); /* killed once more, in the middle */
    cut(final, disk, (unsigned)random_below(&test.random, test.copy_disk.log_count + 1), true);
    co_put_copy(disk, moment->log);
    co_replay_copy(moment);
}

/* All that is looked at is copied first: others run meanwhile. */
static void co_check_kill(void)
{
    struct moment *moment = &test.moment;
    take_moment(moment);
    check_rules(moment->shown);
    switch (log_content(test.redo)) {
    case REDO_CHANGES:
        test.replays++;
        co_put_copy(moment->disk, moment->log);
        co_replay_copy(moment);
        co_check_cuts(moment);
        break;
    case REDO_EMPTY:
        test.empties++;
        check_shown(moment->disk, moment);
        break;
    case REDO_BROKEN:
        test.broken++;
        break;
    default:
        fail_msg("the log is foreign");
    }
}

/* --- changes ------------------------------------------------------------------------------------
 */

/* Stores a word, and puts what waits for that to be durable (NULL: nothing does). */
static int co_store_word(unsigned kind, uint64_t place, uint64_t value, struct cache_after *after)
{
    struct cache_fixture *fixture = test.fixture;
    struct cache_table *table;
    int rc = cache_co_get(fixture->cache, kind, place, &table);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&fixture->monitor);
    cache_store(fixture->cache, table, place - cache_table_offset(table), &value, sizeof(value));
    memcpy(test.shown + place, &value, sizeof(value));
    if (after)
        cache_after_durable(fixture->cache, after);
    cache_put_locked(fixture->cache, table);
    pthread_mutex_unlock(&fixture->monitor);
    return 0;
}

/* As it is done by those who are tested: with a look at the state after it. */
static int co_change_word(unsigned kind, uint64_t place, uint64_t value, struct cache_after *after)
{
    int rc = co_store_word(kind, place, value, after);
    co_check_kill();
    return rc;
}

struct unlinked {
    struct cache_after after;
    unsigned slot;
};

/* A count that stays too large does no harm. */
static void co_free_unlinked(struct cache_after *after)
{
    struct unlinked *unlinked = container_of(after, struct unlinked, after);
    co_store_word(LOW, place_of_count(unlinked->slot), 0, NULL);
    test.slots[unlinked->slot] = IS_FREE;
    free(unlinked);
}

/* A word that named a slot is `value` from now on; what it named is free when that is durable. */
static int co_unlink(unsigned kind, uint64_t place, uint64_t value, unsigned slot)
{
    struct unlinked *unlinked = malloc(sizeof(*unlinked));
    assert_non_null(unlinked);
    *unlinked = (struct unlinked){.after = {.co_run = co_free_unlinked}, .slot = slot};
    int rc = co_change_word(kind, place, value, &unlinked->after);
    if (rc < 0)
        free(unlinked);
    return rc;
}

/* A free one of [first, end), counted; -ENOSPC. */
static int co_alloc(unsigned first, unsigned end)
{
    unsigned count = end - first, begin = (unsigned)random_below(&test.random, count);
    for (unsigned i = 0; i < count; i++) {
        unsigned slot = first + (begin + i) % count;
        if (test.slots[slot] != IS_FREE)
            continue;
        test.slots[slot] = IS_USED;
        if (co_change_word(LOW, place_of_count(slot), 1, NULL) == 0)
            return (int)slot;
        test.slots[slot] = IS_FREE;
        return -EIO;
    }
    return -ENOSPC;
}

static void co_forget_map(unsigned map)
{
    uint64_t place = place_of(MIDDLE, map);
    cache_co_forget(test.fixture->cache, MIDDLE, place, TABLE_BYTES);
    test.is_unknown[map] = true;
}

/* Nobody has ever named it, so it is free at once. */
static void co_give_up_map(unsigned map)
{
    co_forget_map(map);
    co_check_kill();
    co_change_word(LOW, place_of_count(map), 0, NULL);
    test.slots[map] = IS_FREE;
}

/* A new map, with the slots of an old one (0: none); what its root becomes. */
static uint64_t co_make_map(uint64_t old_root)
{
    struct cache_table *table;
    int map = co_alloc(0, MAPS);
    if (map < 0)
        return 0;
    uint64_t place = place_of(MIDDLE, (unsigned)map);
    if (cache_co_get_new(test.fixture->cache, MIDDLE, place, &table) < 0) {
        test.slots[map] = IS_FREE;
        return 0;
    }
    memset(test.shown + place, 0, TABLE_BYTES);
    test.is_unknown[map] = false;
    cache_put(test.fixture->cache, table);
    co_check_kill();
    uint64_t generation = ++test.generations;
    int rc = co_change_word(MIDDLE, place, generation, NULL);
    for (unsigned i = 1; i < MAP_WORDS && old_root != 0 && rc == 0; i++) {
        uint64_t from = place_of(MIDDLE, (unsigned)(old_root & 0xffff) - 1) + i * 8;
        rc = co_change_word(MIDDLE, place + i * 8, word_at(test.shown, from), NULL);
    }
    if (rc == 0 && !random_once_in(&test.random, 4))
        return (generation << GENERATION_SHIFT) + (unsigned)map + 1;
    co_give_up_map((unsigned)map);
    return 0;
}

/* --- what is done at random ---------------------------------------------------------------------
 */

static void co_add_map(unsigned root)
{
    uint64_t value = co_make_map(0);
    if (value != 0 && co_change_word(HIGH, place_of_root(root), value, NULL) < 0)
        co_give_up_map((unsigned)(value & 0xffff) - 1);
}

static void co_move_map(unsigned root, uint64_t old)
{
    unsigned old_map = (unsigned)(old & 0xffff) - 1;
    uint64_t value = co_make_map(old);
    if (value == 0)
        return;
    if (co_unlink(HIGH, place_of_root(root), value, old_map) == 0)
        co_forget_map(old_map);
    else
        co_give_up_map((unsigned)(value & 0xffff) - 1);
}

static void co_drop_map(unsigned root, uint64_t old)
{
    unsigned map = (unsigned)(old & 0xffff) - 1;
    int rc = 0;
    for (unsigned i = 1; i < MAP_WORDS && rc == 0; i++) {
        uint64_t place = place_of(MIDDLE, map) + i * 8, value = word_at(test.shown, place);
        if (value > 0)
            rc = co_unlink(MIDDLE, place, 0, (unsigned)value - 1);
    }
    if (rc == 0 && co_unlink(HIGH, place_of_root(root), 0, map) == 0)
        co_forget_map(map);
}

static void co_change_slot(uint64_t root_value)
{
    unsigned map = (unsigned)(root_value & 0xffff) - 1;
    uint64_t place = place_of(MIDDLE, map) + (1 + random_below(&test.random, MAP_WORDS - 1)) * 8;
    uint64_t value = word_at(test.shown, place);
    if (value > 0) {
        co_unlink(MIDDLE, place, 0, (unsigned)value - 1);
        return;
    }
    int slot = co_alloc(MAPS, SLOTS);
    if (slot >= 0 && co_change_word(MIDDLE, place, (unsigned)slot + 1, NULL) < 0)
        test.slots[slot] = IS_FREE;
}

/* A free map's place is data's for a while, which no table has anything to do with. */
static void co_write_data(void)
{
    uint8_t bytes[TABLE_BYTES];
    int map = co_alloc(0, MAPS);
    if (map < 0)
        return;
    memset(bytes, (int)random_below(&test.random, 256), sizeof(bytes));
    uint64_t place = place_of(MIDDLE, (unsigned)map);
    if (fixture_co_write(test.fixture->block.node, place, bytes, sizeof(bytes), 0) == 0) {
        memcpy(test.shown + place, bytes, sizeof(bytes));
        test.is_unknown[map] = false;
        test.slots[map] = IS_DATA;
        co_check_kill();
        return;
    }
    test.slots[map] = IS_FREE;
}

static void co_free_data(void)
{
    for (unsigned map = 0; map < MAPS; map++) {
        if (test.slots[map] != IS_DATA)
            continue;
        co_change_word(LOW, place_of_count(map), 0, NULL);
        test.slots[map] = IS_FREE;
        return;
    }
}

/* So much in one moment that the ring may have no room for it, whatever rounds there are. */
static void co_burst(void)
{
    struct cache_fixture *fixture = test.fixture;
    struct cache_table *table;
    uint64_t place = place_of_count((unsigned)random_below(&test.random, SLOTS));
    if (cache_co_get(fixture->cache, LOW, place, &table) < 0)
        return;
    pthread_mutex_lock(&fixture->monitor);
    uint64_t value = word_at(test.shown, place);
    for (uint64_t left = random_below(&test.random, BURST_MAX); left > 0; left--)
        cache_store(fixture->cache, table, place - cache_table_offset(table), &value,
                    sizeof(value));
    cache_put_locked(fixture->cache, table);
    pthread_mutex_unlock(&fixture->monitor);
    co_check_kill();
}

static void co_change_something(void)
{
    unsigned root = (unsigned)random_below(&test.random, ROOTS);
    uint64_t value = word_at(test.shown, place_of_root(root));
    uint64_t dice = random_below(&test.random, 16);
    if (dice == 0)
        co_write_data();
    else if (dice == 1)
        co_free_data();
    else if (dice == 15)
        co_burst();
    else if (value == 0)
        co_add_map(root);
    else if (dice == 2)
        co_drop_map(root, value);
    else if (dice < 5)
        co_move_map(root, value);
    else
        co_change_slot(value);
}

/* What it unlinks is free when it has ended at the earliest. */
static void co_step(void)
{
    struct cache_use use;
    cache_use_begin(test.fixture->cache, &use);
    co_change_something();
    cache_use_end(test.fixture->cache, &use);
}

/* --- lives --------------------------------------------------------------------------------------
 */

static void set_failing(bool is_failing)
{
    test.fixture->block.disk.fail_ops = is_failing ? 1u << MEMORY_WRITE : 0;
    test.fixture->block.disk.fail_code = is_failing ? -EIO : 0;
}

static void flush_main(void *arg)
{
    test.failed_rounds += cache_co_flush(arg) < 0;
}

/* Rounds begin and fail beside the steps. */
static void co_live(void)
{
    struct group group;
    group_init(&group, test.fixture->block.loop);
    bool flushes = random_once_in(&test.random, 2);
    for (unsigned i = 0; i < STEPS; i++) {
        if (random_once_in(&test.random, 12))
            set_failing(random_once_in(&test.random, 2));
        if (flushes && group.running < 2 && random_once_in(&test.random, 6))
            group_start(&group, flush_main, test.fixture->cache);
        co_step();
    }
    set_failing(false);
    group_co_wait(&group);
}

static void attach(void)
{
    pthread_mutex_lock(&test.fixture->monitor);
    cache_attach_redo(test.fixture->cache, test.redo);
    pthread_mutex_unlock(&test.fixture->monitor);
}

/* What is dirty and what waits dies with the cache; only then is the log read. */
static void co_die(void)
{
    struct cache_fixture *fixture = test.fixture;
    struct cache_after *after;
    uint64_t count;
    set_failing(log_content(test.redo) != REDO_BROKEN);
    cache_co_settle(fixture->cache); /* in vain, but nothing goes on behind it */
    co_check_kill();
    pthread_mutex_lock(&fixture->monitor);
    while ((after = cache_abandon_after(fixture->cache))) {
        struct unlinked *unlinked = container_of(after, struct unlinked, after);
        test.slots[unlinked->slot] = IS_FREE;
        free(unlinked);
    }
    struct redo_counters counters = log_counters(test.redo);
    test.breaks += counters.breaks;
    test.records += counters.records;
    pthread_mutex_unlock(&fixture->monitor);
    cache_free(fixture->cache);
    redo_free(test.redo);
    set_failing(false);
    take_moment(&test.moment);
    fixture->cache = cache_fixture_new_cache(fixture);
    test.redo = new_log(test.memory);
    assert_int_not_equal(log_content(test.redo), REDO_BROKEN);
    if (log_content(test.redo) == REDO_CHANGES)
        assert_int_equal(redo_co_replay(test.redo, fixture->cache, DISK_BYTES, &count, NULL), 0);
    else
        redo_format(test.redo, &log_identity);
    check_shown(fixture->block.disk.data, &test.moment);
    attach();
}

static void co_open_copy(struct cache_fixture *fixture)
{
    struct node_options *options = node_options_new();
    memory_disk_init(&test.copy_disk, DISK_BYTES, DISK_BYTES, 1);
    memory_disk_options(&test.copy_disk, options, "", "growing");
    assert_int_equal(block_co_open(&fixture->block.env, options, &test.copy_node, NULL), 0);
    struct block_node *node = fixture->block.node;
    fixture->block.node = test.copy_node;
    test.copy_cache = cache_fixture_new_cache(fixture);
    fixture->block.node = node;
    test.copy_memory = new_log_memory();
}

static void co_close_copy(void)
{
    cache_free(test.copy_cache);
    block_co_node_unref(test.copy_node);
    memory_disk_fini(&test.copy_disk);
    free(test.copy_memory);
}

static void co_lives(struct cache_fixture *fixture)
{
    test.fixture = fixture;
    memset(fixture->block.disk.data, 0, DISK_BYTES);
    fixture->block.disk.pauses_max = 4;
    co_open_copy(fixture);
    test.memory = new_log_memory();
    test.redo = new_log(test.memory);
    redo_format(test.redo, &log_identity);
    attach();
    for (unsigned i = 0; i < LIVES; i++) {
        co_live();
        co_die();
    }
    assert_int_equal(cache_co_settle(fixture->cache), 0);
    assert_int_equal(log_content(test.redo), REDO_EMPTY);
    co_check_kill();
    co_close_copy();
    redo_free(test.redo);
    free(test.memory);
}

static void a_kill_at_any_moment_loses_nothing(void **state)
{
    (void)state;
    random_seed(&test.random, fixture_seed("redo_kill"));
    cache_fixture_run(512, co_lives);
    print_message("%" PRIu64 " replays, %" PRIu64 " cuts, %" PRIu64 " empty, %" PRIu64
                  " broken (%" PRIu64 " breaks), %" PRIu64 " failed flushes, %" PRIu64 " records\n",
                  test.replays, test.cuts, test.empties, test.broken, test.breaks,
                  test.failed_rounds, test.records);
    assert_true(test.replays > 100 && test.cuts > test.replays);
    assert_true(test.breaks > 0 && test.failed_rounds > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kill_at_any_moment_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
