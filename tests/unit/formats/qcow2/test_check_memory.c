/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A check without memory for what it counts: whatever it is walking when there is none, it says so,
 * and nothing of the image. Counts come in pieces of 2 MiB of the file, so each image here has one
 * thing behind that, and more of its kind after it. And a check of a file that was cut.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/image.h"
#include "tests/crash/no_memory.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CLUSTER 512u
#define FAR (2u << 20)
#define CAPACITY_BYTES (FAR + 8 * CLUSTER)
#define TABLE_AT CLUSTER
#define L1_AT (3 * CLUSTER)
#define SNAPSHOT_COUNT_AT 60
#define SNAPSHOTS_AT 64
#define SNAPSHOT_BYTES 72 /* of the one that memory_image.c makes */

/* Two L2 tables, and two clusters of bits. */
static const struct memory_image shape = {
    .cluster_bits = 9, .refcount_order = 4, .disk_bytes = 3 << 20};
static const struct block_driver *drivers[3];

static uint64_t entry_at(const uint8_t *entry)
{
    return load_be64(entry) & QCOW2_ENTRY_OFFSET;
}

static void nothing_far(uint8_t *data)
{
    (void)data;
}

static void l2_table_far(uint8_t *data)
{
    store_be64(data + L1_AT, FAR);
}

static void cluster_far(uint8_t *data)
{
    store_be64(data + entry_at(data + L1_AT), FAR);
}

static void refcount_block_far(uint8_t *data)
{
    memcpy(data + FAR, data + entry_at(data + TABLE_AT), CLUSTER);
    store_be64(data + TABLE_AT, FAR);
}

static void snapshot_far(uint8_t *data)
{
    uint8_t *first = data + load_be64(data + SNAPSHOTS_AT);
    memcpy(first + SNAPSHOT_BYTES, first, SNAPSHOT_BYTES);
    store_be32(data + SNAPSHOT_COUNT_AT, 2);
    store_be64(first, FAR);
}

static void bitmap_table_far(uint8_t *data)
{
    uint8_t *entry = data + load_be64(data + QCOW2_HEADER_OURS_BYTES + 24);
    store_be64(entry, FAR);
}

static void bits_far(uint8_t *data)
{
    uint8_t *entry = data + load_be64(data + QCOW2_HEADER_OURS_BYTES + 24);
    store_be64(data + load_be64(entry), FAR);
}

static int co_open(struct fixture *fixture, bool read_only, struct error *err)
{
    struct node_options *options = node_options_new();
    node_options_set(options, "driver", "qcow2", NULL);
    node_options_set(options, "read-only", read_only ? "on" : "off", NULL);
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

static void co_make(struct fixture *fixture, void (*move)(uint8_t *data))
{
    static const struct memory_bitmap bitmaps[] = {
        {.name = "one", .flags = QCOW2_BITMAP_AUTO, .granularity_bits = 9},
        {.name = "two", .flags = QCOW2_BITMAP_AUTO, .granularity_bits = 9},
    };
    uint8_t byte = 1;
    struct memory_disk *disk = &fixture->disk;
    memory_image_make(disk, &shape);
    memory_image_add_bitmaps(disk, bitmaps, 2);
    assert_int_equal(co_open(fixture, false, NULL), 0);
    assert_int_equal(fixture_co_write(fixture->node, 0, &byte, 1, 0), 0);
    fixture_co_close(fixture);
    memory_image_add_snapshot(disk);
    disk->size_bytes = CAPACITY_BYTES;
    move(disk->data);
}

/* Returns how many allocations a check needs. */
static unsigned co_check_without_memory(struct fixture *fixture)
{
    unsigned fail_at = 0;
    int ret = -ENOMEM;
    while (ret < 0) {
        struct error err = {.message = ""};
        struct qcow2_check check = {.errors = 77};
        crash_no_memory_arm(++fail_at, false);
        ret = qcow2_co_check(fixture->node, NULL, NULL, &check, &err);
        crash_no_memory_disarm();
        if (ret == 0)
            break;
        assert_int_equal(ret, -ENOMEM);
        assert_int_equal(check.errors, 77);
        assert_non_null(strstr(err.message, "cannot check"));
    }
    return fail_at - 1;
}

static void co_a_check_needs_memory_for_all_that_it_walks(struct fixture *fixture, void *arg)
{
    static void (*const moves[])(uint8_t * data) = {
        l2_table_far, cluster_far, refcount_block_far, snapshot_far, bitmap_table_far, bits_far,
    };
    struct error err = {.message = ""};
    (void)arg;
    co_make(fixture, nothing_far);
    assert_int_equal(co_open(fixture, true, &err), 0);
    unsigned without = co_check_without_memory(fixture);
    fixture_co_close(fixture);
    for (size_t i = 0; i < sizeof(moves) / sizeof(*moves); i++) {
        co_make(fixture, moves[i]);
        if (co_open(fixture, true, &err) < 0)
            fail_msg("%zu: %s", i, err.message);
        assert_int_equal(co_check_without_memory(fixture), without + 1);
        fixture_co_close(fixture);
    }
}

FIXTURE_TEST_WITH(a_check_needs_memory_for_all_that_it_walks, drivers, 0, CAPACITY_BYTES)

/* By another program, before its refcount table. */
static void co_a_file_that_was_cut_has_errors(struct fixture *fixture, void *arg)
{
    struct qcow2_check check;
    (void)arg;
    co_make(fixture, nothing_far);
    assert_int_equal(co_open(fixture, true, NULL), 0);
    atomic_store(&fixture->node->file->size_bytes, TABLE_AT);
    assert_int_equal(qcow2_co_check(fixture->node, NULL, NULL, &check, NULL), 0);
    assert_true(check.errors > 0);
}

FIXTURE_TEST_WITH(a_file_that_was_cut_has_errors, drivers, 0, CAPACITY_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_check_needs_memory_for_all_that_it_walks),
        cmocka_unit_test(a_file_that_was_cut_has_errors),
    };
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &format_qcow2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
