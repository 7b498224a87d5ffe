/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Room for more refcounts, where something stands in the way: a header that may have been written,
 * others who want the same, metadata where nothing is counted, the largest table there may be.
 * writer->free_hint is moved, so that files stay small. Failures at each call are in
 * test_failures.c, plain growth in test_write.c.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "common/log.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/writer.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CLUSTER 512u
#define PER_BLOCK 64u    /* clusters that a refcount block counts */
#define TABLE_ENTRIES 64 /* of a refcount table of one cluster */
#define TABLE_AT CLUSTER
#define L1_AT (3 * CLUSTER)
#define TABLE_FIELD_AT 48
#define FEATURES_LAST_BYTE 79
#define CAPACITY_BYTES ((2u << 20) + (256u << 10))

static const struct memory_image shape = {
    .cluster_bits = 9, .refcount_order = 6, .disk_bytes = 1 << 20};
static const struct block_driver *drivers[3];
/* So many writes of the header's field about the refcount table are done, and said to have failed.
 */
static unsigned doubtful_writes;

static int doubtful_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                             unsigned flags)
{
    int ret = memory_drivers[1]->co_write(node, offset, vec, flags);
    if (offset != TABLE_FIELD_AT || doubtful_writes == 0)
        return ret;
    doubtful_writes--;
    return -EIO;
}

static void co_open(struct fixture *fixture)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    node_options_set(options, "driver", "qcow2", NULL);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
}

static struct qcow2_image *image_of(struct fixture *fixture)
{
    return qcow2_of(fixture->node);
}

/* The next cluster is looked for behind what so many refcount blocks count. */
static void skip_blocks(struct fixture *fixture, uint64_t blocks)
{
    image_of(fixture)->writer->free_hint = blocks * PER_BLOCK;
}

static int co_write(struct fixture *fixture, uint64_t offset)
{
    uint8_t data[CLUSTER];
    memset(data, 7, sizeof(data));
    return fixture_co_write(fixture->node, offset, data, sizeof(data), 0);
}

static void co_close_sound(struct fixture *fixture)
{
    fixture_co_close(fixture);
    assert_int_equal(memory_image_check(&fixture->disk).errors, 0);
}

static void co_expect_corrupt(struct fixture *fixture, uint64_t skipped_blocks)
{
    skip_blocks(fixture, skipped_blocks);
    assert_int_equal(co_write(fixture, 0), -EIO);
    assert_true(qcow2_is_corrupt(image_of(fixture)));
    fixture_co_close(fixture);
    assert_true(fixture->disk.data[FEATURES_LAST_BYTE] & QCOW2_INCOMPATIBLE_CORRUPT);
}

/* --- a header in doubt --------------------------------------------------------------------------
 */

/* It may show the larger table, which nobody keeps true after that. */
static void co_a_table_that_may_be_shown_is_taken_back(struct fixture *fixture, void *arg)
{
    (void)arg;
    memory_image_make(&fixture->disk, &shape);
    co_open(fixture);
    skip_blocks(fixture, TABLE_ENTRIES);
    doubtful_writes = 1;
    assert_int_equal(co_write(fixture, 0), -EIO);
    assert_int_equal(load_be64(fixture->disk.data + TABLE_FIELD_AT), TABLE_AT);
    assert_false(qcow2_is_corrupt(image_of(fixture)));
    skip_blocks(fixture, 3); /* a block that the table lacks which was not to be */
    assert_int_equal(co_write(fixture, 0), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_int_equal(memory_image_check(&fixture->disk).errors, 0); /* the power goes now */
    skip_blocks(fixture, TABLE_ENTRIES);
    assert_int_equal(co_write(fixture, CLUSTER), 0);
    co_close_sound(fixture);
    assert_int_not_equal(load_be64(fixture->disk.data + TABLE_FIELD_AT), TABLE_AT);
}

FIXTURE_TEST_WITH(a_table_that_may_be_shown_is_taken_back, drivers, 0, CAPACITY_BYTES)

static void co_a_header_that_stays_in_doubt_is_the_end_of_writing(struct fixture *fixture,
                                                                  void *arg)
{
    (void)arg;
    memory_image_make(&fixture->disk, &shape);
    co_open(fixture);
    doubtful_writes = 2;
    co_expect_corrupt(fixture, TABLE_ENTRIES);
    assert_int_equal(memory_image_check(&fixture->disk).errors, 0);
}

FIXTURE_TEST_WITH(a_header_that_stays_in_doubt_is_the_end_of_writing, drivers, 0, CAPACITY_BYTES)

/* --- several at once ----------------------------------------------------------------------------
 */

struct request {
    struct fixture *fixture;
    uint64_t guest_offset;
    int ret;
};

static void co_request(void *arg)
{
    struct request *request = arg;
    request->ret = co_write(request->fixture, request->guest_offset);
}

/* More clusters than a block counts. */
static void co_take_many(void *arg)
{
    struct request *request = arg;
    uint64_t host_offset;
    struct qcow2_image *image = image_of(request->fixture);
    request->ret = qcow2_co_alloc_run(image, 2 * PER_BLOCK, &host_offset);
    if (request->ret == 0)
        qcow2_co_unalloc(image, host_offset, 2 * PER_BLOCK);
}

/* All want more refcounts while the first is held up on its way. */
static void co_who_comes_meanwhile_waits(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct request requests[] = {{fixture, 0, -1}, {fixture, CLUSTER, -1}, {fixture, 0, -1}};
    for (unsigned blocks = 3; blocks <= TABLE_ENTRIES; blocks += TABLE_ENTRIES - 3) {
        struct group group;
        memory_image_make(&fixture->disk, &shape);
        co_open(fixture);
        assert_int_equal(co_write(fixture, 2 * CLUSTER), 0); /* the L2 table is there */
        skip_blocks(fixture, blocks);
        memory_disk_hold(&fixture->disk, (1u << MEMORY_READ) | (1u << MEMORY_FLUSH));
        cache_invalidate(image_of(fixture)->cache);
        group_init(&group, fixture->loop);
        for (unsigned i = 0; i < 3; i++)
            group_start(&group, i < 2 ? co_request : co_take_many, &requests[i]);
        memory_disk_co_wait_held(&fixture->disk, 1);
        memory_disk_release(&fixture->disk);
        group_co_wait(&group);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(requests[i].ret, 0);
        co_close_sound(fixture);
    }
}

FIXTURE_TEST_WITH(who_comes_meanwhile_waits, drivers, 0, CAPACITY_BYTES)

static void co_a_block_that_is_there_stays(struct fixture *fixture, void *arg)
{
    (void)arg;
    memory_image_make(&fixture->disk, &shape);
    co_open(fixture);
    assert_int_equal(qcow2_co_make_refcount_block(image_of(fixture), 0), 0);
    co_close_sound(fixture);
    assert_int_equal(load_be64(fixture->disk.data + TABLE_AT), 2 * CLUSTER);
}

FIXTURE_TEST_WITH(a_block_that_is_there_stays, drivers, 0, CAPACITY_BYTES)

/* --- how large ----------------------------------------------------------------------------------
 */

/* A table that has more clusters than one new block counts. */
static void co_a_table_may_need_several_new_blocks(struct fixture *fixture, void *arg)
{
    const uint64_t blocks = 2700;
    (void)arg;
    memory_image_make(&fixture->disk, &shape);
    co_open(fixture);
    skip_blocks(fixture, blocks);
    assert_int_equal(co_write(fixture, 0), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    const struct qcow2_header *header = &image_of(fixture)->header;
    assert_int_equal(header->refcount_table_offset, (blocks * PER_BLOCK + 2) * CLUSTER);
    assert_true(header->refcount_table_clusters >= PER_BLOCK);
    co_close_sound(fixture);
}

FIXTURE_TEST_WITH(a_table_may_need_several_new_blocks, drivers, 0, 96u << 20)

/* A run of clusters with blocks of its own, for the last of which the table has no entry. */
static void co_a_run_at_the_end_of_the_table(struct fixture *fixture, void *arg)
{
    (void)arg;
    uint64_t host_offset = 0;
    memory_image_make(&fixture->disk, &shape);
    co_open(fixture);
    struct qcow2_image *image = image_of(fixture);
    assert_int_equal(qcow2_co_make_refcount_block(image, TABLE_ENTRIES - 2), 0);
    assert_int_equal(qcow2_co_alloc_run(image, 2 * PER_BLOCK, &host_offset), 0);
    assert_true(image->header.refcount_table_clusters > 1);
    assert_int_equal(host_offset, ((TABLE_ENTRIES - 1) * PER_BLOCK + 3) * CLUSTER);
    qcow2_co_unalloc(image, host_offset, 2 * PER_BLOCK);
    assert_int_equal(co_write(fixture, 0), 0);
    co_close_sound(fixture);
}

FIXTURE_TEST_WITH(a_run_at_the_end_of_the_table, drivers, 0, CAPACITY_BYTES)

static void co_a_table_has_at_most_8_mib(struct fixture *fixture, void *arg)
{
    (void)arg;
    memory_image_make(&fixture->disk, &shape);
    co_open(fixture);
    skip_blocks(fixture, QCOW2_REFCOUNT_TABLE_BYTES_MAX / 8);
    assert_int_equal(co_write(fixture, 0), -ENOSPC);
    skip_blocks(fixture, 0);
    assert_int_equal(co_write(fixture, 0), 0);
    co_close_sound(fixture);
}

FIXTURE_TEST_WITH(a_table_has_at_most_8_mib, drivers, 0, CAPACITY_BYTES)

/* --- images that lie ----------------------------------------------------------------------------
 */

static void co_the_first_block_must_be_there(struct fixture *fixture, void *arg)
{
    (void)arg;
    uint64_t host_offset;
    memory_image_make(&fixture->disk, &shape);
    store_be64(fixture->disk.data + TABLE_AT, 0);
    co_open(fixture);
    co_expect_corrupt(fixture, 0);

    memory_image_make(&fixture->disk, &shape);
    store_be64(fixture->disk.data + TABLE_AT, 0);
    co_open(fixture);
    assert_int_equal(qcow2_co_alloc_run(image_of(fixture), 2 * PER_BLOCK, &host_offset), -EIO);
    assert_true(qcow2_is_corrupt(image_of(fixture)));
    fixture_co_close(fixture);
}

FIXTURE_TEST_WITH(the_first_block_must_be_there, drivers, 0, CAPACITY_BYTES)

/* By another program, after the image was opened. */
static void co_an_entry_that_is_damaged_meanwhile(struct fixture *fixture, void *arg)
{
    (void)arg;
    memory_image_make(&fixture->disk, &shape);
    co_open(fixture);
    fixture->disk.data[TABLE_AT + 3 * 8] = 0x80; /* past all that a file can have */
    co_expect_corrupt(fixture, 3);
}

FIXTURE_TEST_WITH(an_entry_that_is_damaged_meanwhile, drivers, 0, CAPACITY_BYTES)

/* An image whose second L2 table lies behind so many blocks, where nothing is counted. */
static void co_open_with_table_behind(struct fixture *fixture, uint64_t blocks)
{
    struct memory_disk *disk = &fixture->disk;
    uint64_t l2_offset = blocks * PER_BLOCK * CLUSTER;
    memory_image_make(disk, &shape);
    store_be64(disk->data + L1_AT + 8, l2_offset | QCOW2_ENTRY_COPIED);
    disk->size_bytes = l2_offset + CLUSTER;
    co_open(fixture);
}

static void co_metadata_is_not_overwritten_by_what_counts(struct fixture *fixture, void *arg)
{
    (void)arg;
    uint64_t host_offset;
    co_open_with_table_behind(fixture, 3); /* a new block would lie there */
    co_expect_corrupt(fixture, 3);
    co_open_with_table_behind(fixture, TABLE_ENTRIES); /* or a new table */
    co_expect_corrupt(fixture, TABLE_ENTRIES);
    co_open_with_table_behind(fixture, 1); /* or blocks for a run of clusters */
    assert_int_equal(qcow2_co_alloc_run(image_of(fixture), 2 * PER_BLOCK, &host_offset), -EIO);
    assert_true(qcow2_is_corrupt(image_of(fixture)));
    fixture_co_close(fixture);
}

FIXTURE_TEST_WITH(metadata_is_not_overwritten_by_what_counts, drivers, 0, CAPACITY_BYTES)

static void log_nothing(enum log_kind kind, const char *line)
{
    (void)kind;
    (void)line;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_that_may_be_shown_is_taken_back),
        cmocka_unit_test(a_header_that_stays_in_doubt_is_the_end_of_writing),
        cmocka_unit_test(who_comes_meanwhile_waits),
        cmocka_unit_test(a_block_that_is_there_stays),
        cmocka_unit_test(a_table_may_need_several_new_blocks),
        cmocka_unit_test(a_run_at_the_end_of_the_table),
        cmocka_unit_test(a_table_has_at_most_8_mib),
        cmocka_unit_test(the_first_block_must_be_there),
        cmocka_unit_test(an_entry_that_is_damaged_meanwhile),
        cmocka_unit_test(metadata_is_not_overwritten_by_what_counts),
    };
    static struct block_driver doubtful;
    doubtful = *memory_drivers[1]; /* growing */
    doubtful.co_write = doubtful_co_write;
    drivers[0] = &doubtful;
    drivers[1] = &format_qcow2;
    log_set_sink(log_nothing);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
