/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes, zeroes and discards of an image in memory: against an array; what allocates and what does
 * not; many at once; a failure at each call of the file below in turn; and in which order the file
 * is written.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/coroutine.h"
#include "tests/unit/formats/gow1/gow1_fixture.h"

#define BLOCKS 40
#define DISK_BYTES (BLOCKS * GOW_BLOCK)
#define CAPACITY                                                                    \
    200 /* blocks: more than an image needs, so that the file may be extended ahead \
         */
#define SECTOR 512

/* What the disk must show; sectors of a request that failed may show anything of its own. */
struct model {
    uint8_t bytes[DISK_BYTES];
    bool is_open[DISK_BYTES / SECTOR];
    unsigned failed;
};
static struct model model;

static bool note(int rc, uint64_t offset, uint64_t length)
{
    if (rc == 0)
        return true;
    assert_true(rc == -EIO || rc == -ENOSPC);
    model.failed++;
    for (uint64_t i = offset / SECTOR; i <= (offset + length - 1) / SECTOR; i++)
        model.is_open[i] = true;
    return false;
}

static void co_write(struct fixture *fixture, uint64_t offset, uint64_t length, int byte)
{
    uint8_t *data = malloc(length);
    assert_non_null(data);
    memset(data, byte, length);
    if (note(fixture_co_write(fixture->node, offset, data, length, 0), offset, length))
        memset(model.bytes + offset, byte, length);
    free(data);
}

static void co_zero(struct fixture *fixture, uint64_t offset, uint64_t length, unsigned flags)
{
    if (note(node_co_zero(fixture->node, offset, length, flags), offset, length))
        memset(model.bytes + offset, 0, length);
}

static void co_discard(struct fixture *fixture, uint64_t offset, uint64_t length)
{
    static uint8_t data[DISK_BYTES];
    note(node_co_discard(fixture->node, offset, length, 0), offset, length);
    if (fixture_co_read(fixture->node, offset, data, length) < 0) {
        note(-EIO, offset, length);
        return;
    }
    for (uint64_t i = 0; i < length; i++) {
        bool is_open = model.is_open[(offset + i) / SECTOR];
        assert_true(is_open || data[i] == 0 || data[i] == model.bytes[offset + i]);
        model.bytes[offset + i] = data[i];
    }
}

static void check_bytes(const uint8_t *data)
{
    for (uint64_t i = 0; i < DISK_BYTES; i++) {
        if (!model.is_open[i / SECTOR] && data[i] != model.bytes[i])
            fail_msg("byte %llu reads as %u, not %u", (unsigned long long)i, data[i],
                     model.bytes[i]);
    }
}

static uint8_t seen[DISK_BYTES];

static void co_check(struct fixture *fixture)
{
    assert_int_equal(fixture_co_read(fixture->node, 0, seen, DISK_BYTES), 0);
    check_bytes(seen);
}

/* The file alone, as the description of the format has it. */
static void check_file(const struct memory_disk *disk, unsigned leaks_max)
{
    struct gow_faults faults = gow_check(disk);
    assert_int_equal(faults.errors, 0);
    assert_in_range(faults.leaks, 0, leaks_max);
    gow_read(disk, 0, seen, DISK_BYTES);
    check_bytes(seen);
}

/* Some of everything: parts of blocks, whole ones, runs, rewrites, zeroes. */
static int co_work(struct fixture *fixture)
{
    int rc = 0;
    co_write(fixture, 1000, 100, 1);
    co_write(fixture, 3 * GOW_BLOCK + 100, 200000, 2);
    co_write(fixture, 4 * GOW_BLOCK + 5, 5000, 3);
    rc |= node_co_flush(fixture->node);
    co_zero(fixture, 3 * GOW_BLOCK, 2 * GOW_BLOCK + 77, 0);
    co_zero(fixture, 500, 700, BLOCK_NO_UNMAP);
    co_write(fixture, 20 * GOW_BLOCK, 4 * GOW_BLOCK, 4);
    co_discard(fixture, 21 * GOW_BLOCK - 10, GOW_BLOCK);
    rc |= node_co_flush(fixture->node);
    co_write(fixture, DISK_BYTES - 100, 100, 5);
    co_write(fixture, 10 * GOW_BLOCK - 1, 2, 6);
    co_zero(fixture, 0, DISK_BYTES / 8, 0);
    co_write(fixture, 2 * GOW_BLOCK, 3 * GOW_BLOCK, 7);
    rc |= node_co_flush(fixture->node);
    return rc;
}

static void co_lives(struct fixture *fixture)
{
    memset(&model, 0, sizeof(model));
    for (unsigned life = 0; life < 2; life++) {
        gow_co_open(fixture, GOW_PLAIN);
        co_check(fixture);
        assert_int_equal(co_work(fixture), 0);
        co_check(fixture);
        fixture_co_close(fixture);
        check_file(&fixture->disk, 0);
    }
    assert_int_equal(model.failed, 0);
    assert_int_equal(gow_field(&fixture->disk, 2), 13); /* 0, 2-6, 9, 10, 20-23, 39 */
}

static void co_an_image_shows_what_was_written(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_lives(fixture);
}
GOW_TEST(an_image_shows_what_was_written, BLOCKS, CAPACITY)

/* O_DIRECT, as far as the file below knows: nothing in the image is aligned. */
static void co_a_file_of_large_blocks_will_do(struct fixture *fixture, void *arg)
{
    (void)arg;
    fixture->disk.limits.request_alignment = 4096;
    fixture->disk.limits.memory_alignment = 512;
    fixture->disk.limits.transfer_bytes_max = 32768;
    co_lives(fixture);
}
GOW_TEST(a_file_of_large_blocks_will_do, BLOCKS, CAPACITY)

static void co_a_cache_of_a_few_slices_will_do(struct fixture *fixture, void *arg)
{
    uint8_t byte;
    (void)arg;
    gow_set_field(&fixture->disk, 1, 40000);
    gow_co_open(fixture, GOW_EXTRA("cache-size", "4096", "cache-clean-interval", "0"));
    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 30; i++) {
            byte = (uint8_t)(i + 1);
            uint64_t at = i * 1025 * GOW_BLOCK + i;
            if (round == 0)
                assert_int_equal(fixture_co_write(fixture->node, at, &byte, 1, 0), 0);
            assert_int_equal(fixture_co_read(fixture->node, at, &byte, 1), 0);
            assert_int_equal(byte, i + 1);
        }
    }
    fixture_co_close(fixture);
    assert_int_equal(gow_check(&fixture->disk).errors, 0);
    assert_int_equal(gow_field(&fixture->disk, 2), 30);
}
GOW_TEST(a_cache_of_a_few_slices_will_do, BLOCKS, CAPACITY)

/* --- what allocates -----------------------------------------------------------------------------
 */

static void co_zeroes_allocate_nothing(struct fixture *fixture, void *arg)
{
    (void)arg;
    memset(&model, 0, sizeof(model));
    gow_co_open(fixture, GOW_PLAIN);
    unsigned writes = fixture->disk.counts[MEMORY_WRITE];
    co_write(fixture, 100, 3 * GOW_BLOCK, 0);
    co_zero(fixture, 0, DISK_BYTES, 0);
    co_zero(fixture, 5, DISK_BYTES - 5, BLOCK_NO_UNMAP);
    assert_int_equal(node_co_zero(fixture->node, 0, DISK_BYTES, BLOCK_FAST), 0);
    co_discard(fixture, 0, DISK_BYTES);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], writes);
    /* Of a longer write, the blocks that would have zeroes alone. */
    uint8_t *data = calloc(1, 8 * GOW_BLOCK);
    data[2 * GOW_BLOCK] = data[3 * GOW_BLOCK + 9] = data[7 * GOW_BLOCK - 1] = 1;
    assert_int_equal(fixture_co_write(fixture->node, 0, data, 8 * GOW_BLOCK, 0), 0);
    memcpy(model.bytes, data, 8 * GOW_BLOCK);
    free(data);
    co_check(fixture);
    fixture_co_close(fixture);
    check_file(&fixture->disk, 0);
    assert_int_equal(gow_field(&fixture->disk, 2), 3);
    assert_int_equal(gow_entry(&fixture->disk, 6), 2);
}
GOW_TEST(zeroes_allocate_nothing, BLOCKS, CAPACITY)

static void co_blocks_come_in_the_order_of_their_first_writes(struct fixture *fixture, void *arg)
{
    static const uint32_t order[] = {7, 0, 39, 3, 1};
    (void)arg;
    memset(&model, 0, sizeof(model));
    gow_co_open(fixture, GOW_PLAIN);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 5; i++)
            co_write(fixture, (uint64_t)order[i] * GOW_BLOCK + 11, 22, (int)(round * 5 + i + 1));
    }
    co_zero(fixture, 0, DISK_BYTES, 0); /* what has become zero is not moved */
    fixture_co_close(fixture);
    check_file(&fixture->disk, 0);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(gow_entry(&fixture->disk, order[i]), i);
}
GOW_TEST(blocks_come_in_the_order_of_their_first_writes, BLOCKS, CAPACITY)

static void co_fast_zeroes_are_fast_or_nothing(struct fixture *fixture, void *arg)
{
    (void)arg;
    memset(&model, 0, sizeof(model));
    gow_co_open(fixture, GOW_PLAIN);
    co_write(fixture, GOW_BLOCK, 2 * GOW_BLOCK, 9);
    co_zero(fixture, 0, 2 * GOW_BLOCK, BLOCK_FAST);
    assert_int_equal(model.failed, 0);
    fixture->disk.refuses_zero = true;
    assert_int_equal(node_co_zero(fixture->node, 0, DISK_BYTES, BLOCK_FAST), -ENOTSUP);
    co_check(fixture);
    co_zero(fixture, 0, DISK_BYTES, 0);
    co_check(fixture);
}
GOW_TEST(fast_zeroes_are_fast_or_nothing, BLOCKS, CAPACITY)

/* --- files that are not as they should be -------------------------------------------------------
 */

/* What a crash left behind the last block, and blocks that nobody has, are used again, and their
 * old bytes are not seen. */
static void co_what_nobody_has_is_used_first(struct fixture *fixture, void *arg)
{
    (void)arg;
    memset(&model, 0, sizeof(model));
    gow_set_blocks(&fixture->disk, 6, 0xdd);
    gow_set_field(&fixture->disk, 2, 4);
    gow_set_entry(&fixture->disk, 8, 1);
    memset(model.bytes + 8 * GOW_BLOCK, 0xdd, GOW_BLOCK);
    gow_co_open(fixture, GOW_PLAIN);
    co_check(fixture);
    co_write(fixture, 20, 30, 1);                 /* block 0 */
    co_write(fixture, 10 * GOW_BLOCK - 5, 10, 2); /* two, of which one at a time */
    co_write(fixture, 12 * GOW_BLOCK, 100000, 3); /* behind the end: 4 and 5 */
    co_write(fixture, 20 * GOW_BLOCK + 9, 9, 4);  /* new */
    co_check(fixture);
    fixture_co_close(fixture);
    check_file(&fixture->disk, 0);
    static const uint32_t places[][2] = {{0, 0}, {9, 2}, {10, 3}, {12, 4}, {13, 5}, {20, 6}};
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++)
        assert_int_equal(gow_entry(&fixture->disk, places[i][0]), places[i][1]);
}
GOW_TEST(what_nobody_has_is_used_first, BLOCKS, CAPACITY)

/* As after a cut that lost the file's length. */
static void co_a_file_shorter_than_allocated_grows(struct fixture *fixture, void *arg)
{
    (void)arg;
    memset(&model, 0, sizeof(model));
    gow_set_blocks(&fixture->disk, 2, 0);
    gow_set_field(&fixture->disk, 2, 7);
    gow_co_open(fixture, GOW_PLAIN);
    for (unsigned i = 0; i < 9; i++)
        co_write(fixture, (uint64_t)i * GOW_BLOCK + 100, 100, (int)i + 1);
    fixture_co_close(fixture);
    check_file(&fixture->disk, 0);
    assert_int_equal(gow_field(&fixture->disk, 2), 9);
}
GOW_TEST(a_file_shorter_than_allocated_grows, BLOCKS, CAPACITY)

/* The file's end is the capacity's: 3 blocks. */
static void co_a_full_file_system_is_enospc_and_no_damage(struct fixture *fixture, void *arg)
{
    (void)arg;
    memset(&model, 0, sizeof(model));
    gow_co_open(fixture, GOW_PLAIN);
    for (unsigned i = 0; i < 4; i++)
        co_write(fixture, (uint64_t)i * 2 * GOW_BLOCK + 100, 100, (int)i + 1);
    assert_true(model.failed > 0);
    co_check(fixture);
    assert_int_equal(node_co_flush(fixture->node), 0);
    fixture_co_close(fixture);
    check_file(&fixture->disk, 0);
}
GOW_TEST(a_full_file_system_is_enospc_and_no_damage, BLOCKS, 3)

static void co_an_entry_that_points_nowhere_stops_writes(struct fixture *fixture, void *arg)
{
    uint8_t byte = 1;
    (void)arg;
    gow_set_blocks(&fixture->disk, 2, 0xcc);
    gow_set_entry(&fixture->disk, 0, 1);
    gow_co_open(fixture, GOW_PLAIN);
    gow_set_entry(&fixture->disk, 2000, 2); /* by another program; of a slice not loaded yet */
    gow_set_field(&fixture->disk, 1, 3000);
    assert_int_equal(fixture_co_read(fixture->node, 5, &byte, 1), 0);
    assert_int_equal(byte, 0xcc);
    assert_int_equal(fixture_co_write(fixture->node, (uint64_t)2000 * GOW_BLOCK, &byte, 1, 0),
                     -EIO);
    assert_int_equal(fixture_co_write(fixture->node, 5, &byte, 1, 0), -EIO);
    assert_int_equal(node_co_zero(fixture->node, 5, 1, 0), -EIO);
    assert_int_equal(node_co_discard(fixture->node, 0, GOW_BLOCK, 0), -EIO);
    assert_int_equal(fixture_co_read(fixture->node, 5, &byte, 1), 0);
    assert_int_equal(byte, 0xcc);
}
GOW_TEST(an_entry_that_points_nowhere_stops_writes, 3000, CAPACITY)

/* --- many at once -------------------------------------------------------------------------------
 */

#define WRITERS 32

struct together {
    struct fixture *fixture;
    struct group group;
    unsigned number;
};

/* Each its own bytes of the same few blocks. */
static void writer_entry(void *arg)
{
    struct together *together = arg;
    struct fixture *fixture = together->fixture;
    unsigned number = together->number++;
    for (unsigned block = 0; block < 3; block++) {
        uint64_t offset = (uint64_t)block * GOW_BLOCK + number * 2000;
        uint8_t data[1000];
        memset(data, (int)number + 1, sizeof(data));
        assert_int_equal(fixture_co_write(fixture->node, offset, data, sizeof(data), 0), 0);
        memcpy(model.bytes + offset, data, sizeof(data));
    }
}

static void co_first_writes_of_one_block_allocate_once(struct fixture *fixture, void *arg)
{
    struct together together = {.fixture = fixture};
    (void)arg;
    memset(&model, 0, sizeof(model));
    fixture->disk.pauses_max = 3;
    gow_co_open(fixture, GOW_PLAIN);
    group_init(&together.group, fixture->loop);
    for (unsigned i = 0; i < WRITERS; i++)
        group_start(&together.group, writer_entry, &together);
    group_co_wait(&together.group);
    co_check(fixture);
    fixture_co_close(fixture);
    check_file(&fixture->disk, 0);
    assert_int_equal(gow_field(&fixture->disk, 2), 3);
}
GOW_TEST(first_writes_of_one_block_allocate_once, BLOCKS, CAPACITY)

/* --- failures -----------------------------------------------------------------------------------
 */

struct failing {
    uint64_t at; /* the number of the call that fails, counted from the opening */
    int code;
    bool happened;
};

static void co_fail(struct fixture *fixture, void *arg)
{
    struct failing *failing = arg;
    struct memory_disk *disk = &fixture->disk;
    memset(&model, 0, sizeof(model));
    gow_co_open(fixture, GOW_PLAIN);
    memory_disk_forget_calls(disk);
    disk->fail_at_call = failing->at;
    disk->fail_code = failing->code;
    int rc = co_work(fixture);
    failing->happened = disk->call_count > failing->at;
    bool was_flush = failing->at < MEMORY_LOG_MAX && disk->log[failing->at].op == MEMORY_FLUSH;
    disk->fail_code = 0;
    co_check(fixture);
    /* Nothing is swallowed; a table's write is tried again, and then nobody needs to know. */
    if (failing->happened && was_flush)
        assert_true(rc < 0 || model.failed > 0);
    /* A node whose flush has failed says so until it is closed. */
    assert_int_equal(node_co_flush(fixture->node) < 0, rc < 0);
    fixture_co_close(fixture);
    assert_int_equal(gow_check(disk).errors, 0);
    if (was_flush)
        return; /* the file does not flush any more */
    check_file(disk, 1);
    gow_co_open(fixture, GOW_PLAIN);
    co_check(fixture);
    fixture_co_close(fixture);
}

static void a_failure_at_each_call_loses_nothing(void **state)
{
    struct failing failing = {.happened = true};
    (void)state;
    for (; failing.happened; failing.at++) {
        struct fixture fixture;
        failing.code = failing.at % 2 ? -EIO : -ENOSPC;
        fixture_init(&fixture, gow_drivers(), 0, GOW_DATA + (uint64_t)CAPACITY * GOW_BLOCK, 1);
        gow_make(&fixture.disk, BLOCKS);
        fixture_run(&fixture, co_fail, &failing);
        fixture_fini(&fixture);
    }
    assert_true(failing.at > 20);
}

/* --- the order ----------------------------------------------------------------------------------
 */

/* The kinds of calls in a flush: H header, M map, F flush. */
static void co_allocated_is_durable_before_the_map(struct fixture *fixture, void *arg)
{
    char order[20] = "";
    (void)arg;
    memset(&model, 0, sizeof(model));
    gow_co_open(fixture, GOW_PLAIN);
    co_write(fixture, 3 * GOW_BLOCK, 100, 1);
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(node_co_flush(fixture->node), 0);
    for (unsigned i = 0; i < fixture->disk.log_count; i++) {
        const struct memory_call *call = &fixture->disk.log[i];
        if (call->op == MEMORY_FLUSH)
            strcat(order, "F");
        else if (call->op == MEMORY_WRITE)
            strcat(order, call->offset < 12 ? "H" : call->offset < GOW_DATA ? "M" : "D");
    }
    assert_string_equal(order, "HFMF");
    assert_int_equal(fixture->disk.log[0].length, 12);
}
GOW_TEST(allocated_is_durable_before_the_map, BLOCKS, CAPACITY)

/* With the file longer than the block, before anything points there. */
static void co_the_file_reaches_behind_a_block_before_it_is_written(struct fixture *fixture,
                                                                    void *arg)
{
    (void)arg;
    memset(&model, 0, sizeof(model));
    gow_co_open(fixture, GOW_PLAIN);
    assert_int_equal(fixture_co_read(fixture->node, 3 * GOW_BLOCK, seen, 1), 0); /* the map */
    memory_disk_forget_calls(&fixture->disk);
    co_write(fixture, 3 * GOW_BLOCK + 50, 100, 1);
    assert_int_equal(fixture->disk.log[0].op, MEMORY_WRITE);
    assert_int_equal(fixture->disk.log[0].length, 1);
    assert_true(fixture->disk.log[0].offset >= GOW_DATA + GOW_BLOCK - 1);
    assert_int_equal(fixture->disk.log[1].offset, GOW_DATA + 50);
    assert_int_equal(fixture->disk.log[1].length, 100);
    co_write(fixture, 7 * GOW_BLOCK, 100, 1); /* it was extended ahead: one write alone */
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 3);
}
GOW_TEST(the_file_reaches_behind_a_block_before_it_is_written, BLOCKS, CAPACITY)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_shows_what_was_written),
        cmocka_unit_test(a_file_of_large_blocks_will_do),
        cmocka_unit_test(a_cache_of_a_few_slices_will_do),
        cmocka_unit_test(zeroes_allocate_nothing),
        cmocka_unit_test(blocks_come_in_the_order_of_their_first_writes),
        cmocka_unit_test(fast_zeroes_are_fast_or_nothing),
        cmocka_unit_test(what_nobody_has_is_used_first),
        cmocka_unit_test(a_file_shorter_than_allocated_grows),
        cmocka_unit_test(a_full_file_system_is_enospc_and_no_damage),
        cmocka_unit_test(an_entry_that_points_nowhere_stops_writes),
        cmocka_unit_test(first_writes_of_one_block_allocate_once),
        cmocka_unit_test(a_failure_at_each_call_loses_nothing),
        cmocka_unit_test(allocated_is_durable_before_the_map),
        cmocka_unit_test(the_file_reaches_behind_a_block_before_it_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
