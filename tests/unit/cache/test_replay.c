/* SPDX-License-Identifier: BSD-3-Clause */
/* replay.c: what of a log reaches the disk, in which order, what a failure leaves, and which logs
 * are refused. test_redo_kill.c kills and cuts at random. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "tests/unit/cache/cache_fixture.h"
#include "tests/unit/cache/redo_fixture.h"

static void *memory;
static struct redo *redo;

/* The cache has a log from here on. */
static void begin_log(struct cache_fixture *fixture)
{
    memory = new_log_memory();
    redo = new_log(memory);
    redo_format(redo, &log_identity);
    pthread_mutex_lock(&fixture->monitor);
    cache_attach_redo(fixture->cache, redo);
    pthread_mutex_unlock(&fixture->monitor);
}

/* What is dirty is lost, and the log is read by one who knows nothing of it. */
static void kill_server(struct cache_fixture *fixture)
{
    cache_free(fixture->cache);
    fixture->cache = cache_fixture_new_cache(fixture);
    redo_free(redo);
    redo = new_log(memory);
    memory_disk_forget_calls(&fixture->block.disk);
}

static void end_log(void)
{
    redo_free(redo);
    free(memory);
}

static int co_replay(struct cache_fixture *fixture, uint64_t *ret_count, struct error *err)
{
    assert_int_equal(log_content(redo), REDO_CHANGES);
    return redo_co_replay(redo, fixture->cache, DISK_BYTES, ret_count, err);
}

static void co_new_table(struct cache_fixture *fixture, unsigned kind, unsigned index)
{
    struct cache_table *table;
    assert_int_equal(cache_co_get_new(fixture->cache, kind, place_of(kind, index), &table), 0);
    cache_put(fixture->cache, table);
}

static void assert_calls(const struct memory_disk *disk, const char *expected)
{
    char calls[64] = "";
    for (unsigned i = 0; i < disk->log_count; i++) {
        const struct memory_call *call = &disk->log[i];
        size_t length = strlen(calls);
        if (call->op == MEMORY_FLUSH)
            calls[length] = 'F';
        else if (call->op == MEMORY_WRITE)
            calls[length] = (char)('0' + call->offset / QUARTER);
        assert_true(length + 2 < sizeof(calls));
    }
    assert_string_equal(calls, expected);
}

static void co_classes_are_written_in_order_between_flushes(struct cache_fixture *fixture)
{
    uint64_t count;
    begin_log(fixture);
    co_change_u64(fixture, HIGH, 0, 1);
    co_change_u64(fixture, LOW, 0, 2);
    co_change_u64(fixture, MIDDLE, 0, 3);
    co_change_u64(fixture, HIGH, 0, 4);
    co_change_u64(fixture, HIGH, 1, 5);
    co_change_u64(fixture, HIGH, 3, 6);
    kill_server(fixture);
    assert_int_not_equal(disk_u64(fixture, HIGH, 0), 4);
    assert_int_equal(co_replay(fixture, &count, NULL), 0);
    assert_int_equal(count, 6);
    /* Tables beside each other in one write; each place once. */
    assert_calls(&fixture->block.disk, "F0F1F22F");
    assert_int_equal(disk_u64(fixture, LOW, 0), 2);
    assert_int_equal(disk_u64(fixture, MIDDLE, 0), 3);
    assert_int_equal(disk_u64(fixture, HIGH, 0), 4);
    assert_int_equal(disk_u64(fixture, HIGH, 1), 5);
    assert_int_equal(disk_u64(fixture, HIGH, 3), 6);
    assert_int_equal(fixture->block.disk.data[place_of(HIGH, 0) + 8],
                     pattern_at(place_of(HIGH, 0) + 8));
    assert_int_equal(log_content(redo), REDO_EMPTY);
    end_log();
}
CACHE_TEST(classes_are_written_in_order_between_flushes)

static void co_what_the_cache_had_in_memory_is_read_anew(struct cache_fixture *fixture)
{
    uint64_t count;
    begin_log(fixture);
    co_change_u64(fixture, LOW, 0, 1);
    kill_server(fixture);
    assert_int_not_equal(co_read_u64(fixture, LOW, 0), 1);
    assert_int_equal(co_replay(fixture, &count, NULL), 0);
    assert_int_equal(co_read_u64(fixture, LOW, 0), 1);
    end_log();
}
CACHE_TEST(what_the_cache_had_in_memory_is_read_anew)

static void co_the_log_is_used_on_after_a_replay(struct cache_fixture *fixture)
{
    uint64_t count;
    begin_log(fixture);
    for (unsigned life = 1; life < 200; life++) { /* several times round the ring */
        for (unsigned i = 0; i < 5; i++)
            co_change_u64(fixture, LOW, i, life * 10 + i);
        kill_server(fixture);
        assert_int_equal(co_replay(fixture, &count, NULL), 0);
        assert_int_equal(count, 5);
        for (unsigned i = 0; i < 5; i++)
            assert_int_equal(disk_u64(fixture, LOW, i), life * 10 + i);
        pthread_mutex_lock(&fixture->monitor);
        cache_attach_redo(fixture->cache, redo);
        pthread_mutex_unlock(&fixture->monitor);
    }
    end_log();
}
CACHE_TEST(the_log_is_used_on_after_a_replay)

static void co_a_new_table_is_zeroes_and_what_was_stored_later(struct cache_fixture *fixture)
{
    static const uint8_t zeroes[TABLE_BYTES];
    uint64_t count, value = 7;
    begin_log(fixture);
    co_change_u64(fixture, LOW, 1, 6);
    co_new_table(fixture, LOW, 1);
    co_change(fixture, LOW, 1, 100, &value, sizeof(value));
    kill_server(fixture);
    assert_int_equal(co_replay(fixture, &count, NULL), 0);
    assert_int_equal(count, 3);
    const uint8_t *data = fixture->block.disk.data + place_of(LOW, 1);
    assert_memory_equal(data, zeroes, 100);
    assert_memory_equal(data + 100, &value, 8);
    assert_memory_equal(data + 108, zeroes, TABLE_BYTES - 108);
    end_log();
}
CACHE_TEST(a_new_table_is_zeroes_and_what_was_stored_later)

static void co_what_was_forgotten_is_not_written(struct cache_fixture *fixture)
{
    uint64_t count;
    begin_log(fixture);
    for (unsigned i = 0; i < 4; i++)
        co_change_u64(fixture, MIDDLE, i, 7);
    cache_co_forget(fixture->cache, MIDDLE, place_of(MIDDLE, 1), 2 * TABLE_BYTES);
    co_new_table(fixture, MIDDLE, 2);
    kill_server(fixture);
    assert_int_equal(co_replay(fixture, &count, NULL), 0);
    assert_int_equal(count, 3);
    assert_int_equal(disk_u64(fixture, MIDDLE, 0), 7);
    assert_int_equal(fixture->block.disk.data[place_of(MIDDLE, 1)],
                     pattern_at(place_of(MIDDLE, 1)));
    assert_int_equal(disk_u64(fixture, MIDDLE, 2), 0);
    assert_int_equal(disk_u64(fixture, MIDDLE, 3), 7);
    end_log();
}
CACHE_TEST(what_was_forgotten_is_not_written)

/* A log of nothing else is good, and written by nobody. */
static void co_a_log_of_what_was_forgotten_writes_nothing(struct cache_fixture *fixture)
{
    uint64_t count;
    begin_log(fixture);
    co_change_u64(fixture, LOW, 0, 7);
    cache_co_forget(fixture->cache, LOW, place_of(LOW, 0), TABLE_BYTES);
    kill_server(fixture);
    assert_int_equal(co_replay(fixture, &count, NULL), 0);
    assert_int_equal(count, 0);
    assert_int_equal(fixture->block.disk.counts[MEMORY_WRITE], 0);
    assert_int_equal(log_content(redo), REDO_EMPTY);
    end_log();
}
CACHE_TEST(a_log_of_what_was_forgotten_writes_nothing)

/* Two kinds in one block of the disk, one of them at an odd place and over two blocks. */
static void co_tables_that_share_a_block_are_written_beside_each_other(
    struct cache_fixture *fixture)
{
    uint64_t count;
    uint8_t bytes[TABLE_BYTES];
    memset(bytes, 9, sizeof(bytes));
    begin_log(fixture);
    co_change(fixture, SHORT, 0, 4, bytes, 8);
    co_change(fixture, ODD, 0, 0, bytes, TABLE_BYTES);
    kill_server(fixture);
    assert_int_equal(co_replay(fixture, &count, NULL), 0);
    const uint8_t *data = fixture->block.disk.data + SHORT_BASE;
    assert_int_equal(data[3], pattern_at(SHORT_BASE + 3));
    assert_memory_equal(data + 4, bytes, 8);
    assert_memory_equal(data + SHORT_BYTES, bytes, TABLE_BYTES);
    assert_int_equal(data[SHORT_BYTES + TABLE_BYTES], pattern_at(ODD_BASE + TABLE_BYTES));
    end_log();
}
CACHE_TEST(tables_that_share_a_block_are_written_beside_each_other)

/* --- failures -----------------------------------------------------------------------------------
 */

static void co_a_failure_leaves_the_log_for_the_next_try(struct cache_fixture *fixture)
{
    static const unsigned ops[] = {MEMORY_READ, MEMORY_WRITE};
    uint64_t count = 77;
    begin_log(fixture);
    co_change_u64(fixture, LOW, 0, 1);
    co_change_u64(fixture, HIGH, 0, 2);
    kill_server(fixture);
    for (unsigned i = 0; i < 2; i++) {
        struct error err = {.message = ""};
        fixture->block.disk.fail_ops = 1u << ops[i];
        fixture->block.disk.fail_code = -EIO;
        assert_int_equal(co_replay(fixture, &count, &err), -EIO);
        assert_non_null(strstr(err.message, "cannot be written"));
        assert_int_equal(count, 77);
    }
    fixture->block.disk.fail_ops = 0;
    fixture->block.disk.fail_code = 0;
    assert_int_equal(co_replay(fixture, &count, NULL), 0);
    assert_int_equal(disk_u64(fixture, LOW, 0), 1);
    assert_int_equal(disk_u64(fixture, HIGH, 0), 2);
    end_log();
}
CACHE_TEST(a_failure_leaves_the_log_for_the_next_try)

static void co_what_cannot_be_flushed_is_not_pointed_to(struct cache_fixture *fixture)
{
    uint64_t count;
    begin_log(fixture);
    co_change_u64(fixture, LOW, 0, 1);
    kill_server(fixture);
    fixture->block.disk.fail_ops = 1u << MEMORY_FLUSH;
    fixture->block.disk.fail_code = -EIO;
    assert_int_equal(co_replay(fixture, &count, NULL), -EIO);
    assert_int_equal(fixture->block.disk.counts[MEMORY_WRITE], 0);
    assert_int_equal(log_content(redo), REDO_BROKEN); /* the next flush would succeed */
    fixture->block.disk.fail_code = 0;
    end_log();
}
CACHE_TEST(what_cannot_be_flushed_is_not_pointed_to)

/* --- bad logs -----------------------------------------------------------------------------------
 */

static void co_check_refused(struct cache_fixture *fixture, const char *why)
{
    struct error err = {.message = ""};
    uint64_t count = 77;
    memory_disk_forget_calls(&fixture->block.disk);
    assert_int_equal(co_replay(fixture, &count, &err), -EBADMSG);
    if (!strstr(err.message, why))
        fail_msg("'%s' does not say '%s'", err.message, why);
    assert_int_equal(count, 77);
    assert_int_equal(fixture->block.disk.counts[MEMORY_WRITE], 0);
    assert_int_equal(fixture->block.disk.counts[MEMORY_FLUSH], 0);
    assert_int_equal(log_content(redo), REDO_CHANGES);
}

/* A good record, and then this one. */
static void put_bad(const struct redo_record *bad, uint64_t payload)
{
    uint64_t value = 1;
    redo_format(redo, &log_identity);
    redo_store(redo, LOW, 0, &value, sizeof(value));
    redo_store(redo, LOW, 0, &value, sizeof(value));
    struct redo_record *record = record_at(memory, 32);
    *record = *bad;
    memcpy(record + 1, &payload, sizeof(payload));
}

static void co_a_log_with_a_bad_record_is_refused_whole(struct cache_fixture *fixture)
{
    static const struct {
        struct redo_record record;
        uint64_t payload;
        const char *why;
    } bad[] = {
        {{8, REDO_TYPE_COUNT, LOW, 0, 0}, 0, "no record"},
        {{8, REDO_STORE, LOW, 1, 0}, 0, "no record"},
        {{8, REDO_STORE, KIND_COUNT, 0, 0}, 0, "a kind of tables that there is not"},
        {{0, REDO_STORE, LOW, 0, 0}, 0, "in no table"},
        {{8, REDO_STORE, HIGH, 0, 2 * QUARTER - 8}, 0, "in no table"},
        {{8, REDO_STORE, LOW, 0, TABLE_BYTES - 7}, 0, "in two tables"},
        {{TABLE_BYTES + 1, REDO_ZERO, LOW, 0, 0}, 0, "in two tables"},
        {{8, REDO_STORE, HIGH, 0, DISK_BYTES - 7}, 0, "beyond the end"},
        {{8, REDO_STORE, HIGH, 0, UINT64_MAX - 3}, 0, "beyond the end"},
        {{UINT32_MAX, REDO_ZERO, HIGH, 0, UINT64_MAX - 3}, 0, "beyond the end"},
        {{8, REDO_STORE, SHORT, 0, SHORT_BASE + SHORT_BYTES - 7}, 0, "beyond the end"},
        {{17, REDO_STORE, LOW, 0, 0}, 0, "does not end"},
        {{UINT32_MAX, REDO_STORE, LOW, 0, 0}, 0, "does not end"},
        {{0, REDO_PAD, 0, 0, 0}, 0, "does not end the ring"},
        {{16, REDO_FORGET, 0, 0, 0}, 1, "of another length"},
        {{8, REDO_FORGET, 2, 0, 0}, 1, "a node that there is not"},
        {{8, REDO_FORGET, 0, 0, 8}, UINT64_MAX - 7, "beyond all numbers"},
        {{8, REDO_FORGET, 0, 0, 1}, TABLE_BYTES, "forgotten in part"},
        {{8, REDO_FORGET, 0, 0, 0}, 7, "forgotten in part"},
    };
    begin_log(fixture);
    kill_server(fixture);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        put_bad(&bad[i].record, bad[i].payload);
        co_check_refused(fixture, bad[i].why);
    }
    end_log();
}
CACHE_TEST(a_log_with_a_bad_record_is_refused_whole)

/* Nor does a good record behind it, or a window behind its own, make it good again. */
static void co_a_bad_record_stays_bad(struct cache_fixture *fixture)
{
    uint64_t value = 1;
    begin_log(fixture);
    kill_server(fixture);
    redo_format(redo, &log_identity);
    redo_store(redo, LOW, 0, &value, sizeof(value));
    redo_store(redo, HIGH, place_of(HIGH, 0), &value, sizeof(value));
    redo_forget(redo, 0, 4, TABLE_BYTES - 4); /* half of the first one */
    redo_forget(redo, 0, place_of(HIGH, 0), TABLE_BYTES);
    co_check_refused(fixture, "forgotten in part");
    end_log();
}
CACHE_TEST(a_bad_record_stays_bad)

static void co_what_is_forgotten_may_be_again_in_part(struct cache_fixture *fixture)
{
    begin_log(fixture);
    kill_server(fixture);
    redo_zero(redo, LOW, 0, 8);
    redo_forget(redo, 0, 0, TABLE_BYTES);
    redo_forget(redo, 0, 4, TABLE_BYTES - 4);
    assert_int_equal(co_replay(fixture, &(uint64_t){0}, NULL), 0);
    assert_int_equal(fixture->block.disk.data[1], pattern_at(1));
    end_log();
}
CACHE_TEST(what_is_forgotten_may_be_again_in_part)

static void co_a_log_with_bad_ends_is_refused(struct cache_fixture *fixture)
{
    static const uint64_t ends[][2] = {{32, 16}, {0, RING_BYTES + 16}, {1, 17}, {8, 32},
                                       {0, 40},  {0, UINT64_MAX - 15}};
    begin_log(fixture);
    struct redo_header *header = memory;
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        header->head = ends[i][0];
        header->tail = ends[i][1];
        co_check_refused(fixture, "ends that cannot be");
    }
    end_log();
}
CACHE_TEST(a_log_with_bad_ends_is_refused)

/* Behind 2^61 bytes it is as good as at its begin. */
static void co_ends_may_be_large(struct cache_fixture *fixture)
{
    uint64_t count;
    begin_log(fixture);
    co_change_u64(fixture, LOW, 0, 5);
    kill_server(fixture);
    struct redo_header *header = memory;
    header->head += (UINT64_C(1) << 49) * RING_BYTES;
    header->tail += (UINT64_C(1) << 49) * RING_BYTES;
    assert_int_equal(co_replay(fixture, &count, NULL), 0);
    assert_int_equal(count, 1);
    assert_int_equal(disk_u64(fixture, LOW, 0), 5);
    end_log();
}
CACHE_TEST(ends_may_be_large)

/* --- windows ------------------------------------------------------------------------------------
 */

#define LARGE_TABLE_BYTES (1u << 20)
#define LARGE_BASE (LARGE_TABLE_BYTES + LARGE_TABLE_BYTES / 2)
#define LARGE_DISK_BYTES (LARGE_BASE + LARGE_TABLE_BYTES + 100)

static pthread_mutex_t large_monitor = PTHREAD_MUTEX_INITIALIZER;

/* A table over the border of two windows and small ones behind it, on a disk that ends inside a
 * block, and an empty log. */
static struct cache *co_open_large(struct fixture *block)
{
    struct cache *cache;
    fixture_co_open(block, "growing", false);
    struct cache_config config = {
        .env = &block->env,
        .monitor = &large_monitor,
        .nodes = {block->node},
        .node_count = 1,
        .kinds = {{.table_bytes = LARGE_TABLE_BYTES, .base = LARGE_BASE},
                  {.table_bytes = 512, .base = LARGE_BASE + LARGE_TABLE_BYTES}},
        .kind_count = 2,
    };
    assert_int_equal(cache_new(&cache, &config, NULL), 0);
    memory = new_log_memory();
    redo = new_log(memory);
    redo_format(redo, &log_identity);
    memset(block->disk.data, 1, LARGE_DISK_BYTES);
    return cache;
}

static void co_a_table_over_two_windows_is_written_whole(struct fixture *block, void *arg)
{
    uint64_t count;
    struct cache *cache = co_open_large(block);
    (void)arg;
    redo_zero(redo, 0, LARGE_BASE, LARGE_TABLE_BYTES);
    redo_store(redo, 0, LARGE_BASE + LARGE_TABLE_BYTES / 2 - 2, "over", 4);
    redo_store(redo, 1, LARGE_BASE + LARGE_TABLE_BYTES, "end", 3);
    assert_int_equal(redo_co_replay(redo, cache, UINT64_MAX, &count, NULL), 0);
    const uint8_t *data = block->disk.data;
    for (size_t i = 0; i < LARGE_DISK_BYTES; i++) {
        bool is_zero = i >= LARGE_BASE && i < LARGE_BASE + LARGE_TABLE_BYTES;
        if (i >= LARGE_BASE + LARGE_TABLE_BYTES / 2 - 2 &&
            i < LARGE_BASE + LARGE_TABLE_BYTES / 2 + 2)
            continue;
        if (i >= LARGE_BASE + LARGE_TABLE_BYTES && i < LARGE_BASE + LARGE_TABLE_BYTES + 3)
            continue;
        assert_int_equal(data[i], is_zero ? 0 : 1);
    }
    assert_memory_equal(data + LARGE_BASE + LARGE_TABLE_BYTES / 2 - 2, "over", 4);
    assert_memory_equal(data + LARGE_BASE + LARGE_TABLE_BYTES, "end", 3);
    assert_int_equal(atomic_load(&block->node->size_bytes), LARGE_DISK_BYTES);
    cache_free(cache);
    end_log();
}
FIXTURE_TEST(a_table_over_two_windows_is_written_whole, LARGE_DISK_BYTES, 2 * LARGE_DISK_BYTES)

/* What was forgotten in the second window alone has nothing to do with the first one; what lay over
 * both is forgotten in both. */
static void co_what_is_forgotten_may_be_in_one_window_or_in_two(struct fixture *block, void *arg)
{
    const uint64_t behind = LARGE_BASE + LARGE_TABLE_BYTES;
    struct cache *cache = co_open_large(block);
    (void)arg;
    for (unsigned is_large = 0; is_large < 2; is_large++) {
        uint64_t count, from = is_large ? LARGE_BASE : behind;
        redo_format(redo, &log_identity);
        redo_zero(redo, 0, LARGE_BASE, LARGE_TABLE_BYTES);
        redo_store(redo, 1, behind, "end", 3);
        redo_forget(redo, 0, from, is_large ? LARGE_TABLE_BYTES : 512);
        memset(block->disk.data, 1, LARGE_DISK_BYTES);
        assert_int_equal(redo_co_replay(redo, cache, UINT64_MAX, &count, NULL), 0);
        assert_int_equal(count, is_large ? 1 : 2); /* of the large one a change in each window */
        for (uint64_t i = LARGE_BASE; i < behind; i++)
            assert_int_equal(block->disk.data[i], is_large ? 1 : 0);
        assert_memory_equal(block->disk.data + behind, is_large ? "end" : "\1\1\1", 3);
    }
    cache_free(cache);
    end_log();
}
FIXTURE_TEST(what_is_forgotten_may_be_in_one_window_or_in_two, LARGE_DISK_BYTES,
             2 * LARGE_DISK_BYTES)

/* --- nodes --------------------------------------------------------------------------------------
 */

/* Two kinds of one class, each at the begin of a node of its own, as where an image has a data
 * file. */
static struct cache *new_cache_of_two_nodes(struct cache_fixture *fixture)
{
    struct cache *cache;
    struct cache_config config = {
        .env = &fixture->block.env,
        .monitor = &fixture->monitor,
        .nodes = {fixture->block.node, fixture->data_node},
        .node_count = 2,
        .kinds = {{.table_bytes = TABLE_BYTES}, {.table_bytes = TABLE_BYTES, .node_index = 1}},
        .kind_count = 2,
    };
    assert_int_equal(cache_new(&cache, &config, NULL), 0);
    return cache;
}

static void co_each_node_of_a_class_is_written_by_itself(struct cache_fixture *fixture)
{
    uint64_t count;
    uint8_t *const data[] = {fixture->block.disk.data, fixture->data_disk.data};
    struct cache *cache = new_cache_of_two_nodes(fixture);
    begin_log(fixture);
    kill_server(fixture);
    redo_format(redo, &log_identity);
    for (unsigned i = 0; i < 4; i++) { /* in turn */
        uint64_t value = 5 + i;
        redo_store(redo, i % 2, i / 2 * TABLE_BYTES, &value, sizeof(value));
    }
    memory_disk_forget_calls(&fixture->data_disk);
    assert_int_equal(redo_co_replay(redo, cache, DISK_BYTES, &count, NULL), 0);
    assert_int_equal(count, 4);
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *table = data[i % 2] + (size_t)(i / 2 * TABLE_BYTES);
        /* The second one was empty. */
        uint8_t beside = i % 2 ? 0 : pattern_at(i / 2 * TABLE_BYTES + 8);
        assert_int_equal(table[0], 5 + i);
        assert_int_equal(table[8], beside);
    }
    /* Tables beside each other in one write. */
    assert_int_equal(fixture->block.disk.counts[MEMORY_WRITE], 1);
    assert_int_equal(fixture->data_disk.counts[MEMORY_WRITE], 1);
    cache_free(cache);
    end_log();
}
CACHE_TEST(each_node_of_a_class_is_written_by_itself)

static void co_what_one_node_forgets_the_other_has(struct cache_fixture *fixture)
{
    struct cache *cache = new_cache_of_two_nodes(fixture);
    begin_log(fixture);
    kill_server(fixture);
    for (unsigned node = 0; node < 2; node++) {
        uint64_t count;
        redo_format(redo, &log_identity);
        redo_store(redo, 0, 0, "new", 3);
        redo_store(redo, 1, 0, "new", 3);
        redo_forget(redo, node, 0, TABLE_BYTES);
        memcpy(fixture->block.disk.data, "old", 3);
        memcpy(fixture->data_disk.data, "old", 3);
        assert_int_equal(redo_co_replay(redo, cache, DISK_BYTES, &count, NULL), 0);
        assert_int_equal(count, 1);
        assert_memory_equal(fixture->block.disk.data, node == 0 ? "old" : "new", 3);
        assert_memory_equal(fixture->data_disk.data, node == 1 ? "old" : "new", 3);
    }
    cache_free(cache);
    end_log();
}
CACHE_TEST(what_one_node_forgets_the_other_has)

#define SHORT_DISK_BYTES (2 * TABLE_BYTES)

/* Where a device or a data file ends, there is no table; a file becomes longer. */
static void co_only_what_grows_is_written_behind_its_end(struct fixture *block, void *arg)
{
    static pthread_mutex_t monitor = PTHREAD_MUTEX_INITIALIZER;
    (void)arg;
    for (unsigned grows = 0; grows < 2; grows++) {
        struct error err = {.message = ""};
        struct cache *cache;
        uint64_t count = 77;
        fixture_co_open(block, grows ? "growing" : "file", false);
        struct cache_config config = {
            .env = &block->env,
            .monitor = &monitor,
            .nodes = {block->node},
            .node_count = 1,
            .kinds = {{.table_bytes = TABLE_BYTES}},
            .kind_count = 1,
        };
        assert_int_equal(cache_new(&cache, &config, NULL), 0);
        memory = new_log_memory();
        redo = new_log(memory);
        redo_format(redo, &log_identity);
        redo_store(redo, 0, SHORT_DISK_BYTES - 4, "last", 4);
        assert_int_equal(redo_co_replay(redo, cache, UINT64_MAX, &count, &err), 0);
        assert_memory_equal(block->disk.data + SHORT_DISK_BYTES - 4, "last", 4);
        redo_store(redo, 0, SHORT_DISK_BYTES, "behind", 6);
        assert_int_equal(redo_co_replay(redo, cache, UINT64_MAX, &count, &err),
                         grows ? 0 : -EBADMSG);
        assert_int_equal(strstr(err.message, "beyond the end") != NULL, !grows);
        assert_memory_equal(block->disk.data + SHORT_DISK_BYTES, grows ? "behind" : "\0\0\0\0\0\0",
                            6);
        assert_int_equal(block->disk.size_bytes, SHORT_DISK_BYTES + (grows ? 6 : 0));
        cache_free(cache);
        end_log();
        fixture_co_close(block);
    }
}
FIXTURE_TEST(only_what_grows_is_written_behind_its_end, SHORT_DISK_BYTES, 2 * SHORT_DISK_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_are_written_in_order_between_flushes),
        cmocka_unit_test(what_the_cache_had_in_memory_is_read_anew),
        cmocka_unit_test(the_log_is_used_on_after_a_replay),
        cmocka_unit_test(a_new_table_is_zeroes_and_what_was_stored_later),
        cmocka_unit_test(what_was_forgotten_is_not_written),
        cmocka_unit_test(a_log_of_what_was_forgotten_writes_nothing),
        cmocka_unit_test(tables_that_share_a_block_are_written_beside_each_other),
        cmocka_unit_test(a_failure_leaves_the_log_for_the_next_try),
        cmocka_unit_test(what_cannot_be_flushed_is_not_pointed_to),
        cmocka_unit_test(a_log_with_a_bad_record_is_refused_whole),
        cmocka_unit_test(a_bad_record_stays_bad),
        cmocka_unit_test(what_is_forgotten_may_be_again_in_part),
        cmocka_unit_test(a_log_with_bad_ends_is_refused),
        cmocka_unit_test(ends_may_be_large),
        cmocka_unit_test(a_table_over_two_windows_is_written_whole),
        cmocka_unit_test(what_is_forgotten_may_be_in_one_window_or_in_two),
        cmocka_unit_test(each_node_of_a_class_is_written_by_itself),
        cmocka_unit_test(what_one_node_forgets_the_other_has),
        cmocka_unit_test(only_what_grows_is_written_behind_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
