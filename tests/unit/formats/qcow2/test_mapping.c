/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Images made by hand in memory: what lies at a guest offset, and what is read there, over entries
 * that break a rule as well. Clusters of 512 bytes: 0 header, 1 refcount table, 2 refcount block, 3
 * L1, 4 L2, from 5 on data.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/image.h"
#include "tests/unit/block/block_fixture.h"

#define CLUSTER 512u
#define L1 (3 * CLUSTER)
#define L2 (4 * CLUSTER)
#define DISK_BYTES (16 * CLUSTER)
#define GUEST_CLUSTERS 64u

static const struct block_driver *drivers[3];

static void make_image(uint8_t *bytes, const uint64_t *entries, size_t count)
{
    const struct qcow2_header header = {
        .version = 3,
        .cluster_bits = 9,
        .size = GUEST_CLUSTERS * CLUSTER,
        .l1_size = 1,
        .l1_table_offset = L1,
        .refcount_table_offset = CLUSTER,
        .refcount_table_clusters = 1,
        .refcount_order = 4,
        .header_length = 112,
    };
    memset(bytes, 0, DISK_BYTES);
    qcow2_header_encode(&header, bytes);
    store_be64(bytes + L1, QCOW2_ENTRY_COPIED | L2);
    for (size_t i = 0; i < count; i++)
        store_be64(bytes + L2 + i * 8, entries[i]);
    for (unsigned i = 5; i < 16; i++)
        memset(bytes + i * CLUSTER, (int)i, CLUSTER);
}

static void co_open(struct fixture *fixture)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    node_options_set(options, "driver", "qcow2", NULL);
    node_options_set(options, "read-only", "on", NULL);
    memory_disk_options(&fixture->disk, options, "file.", "file");
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
}

/* Opens an image with these L2 entries. */
static void co_open_with(struct fixture *fixture, const uint64_t *entries, size_t count)
{
    make_image(fixture->disk.data, entries, count);
    co_open(fixture);
}

static struct qcow2_extent co_map(struct fixture *fixture, uint64_t guest_offset, uint64_t length)
{
    struct qcow2_image *image = qcow2_of(fixture->node);
    struct qcow2_extent extent = {.length = 0};
    struct cache_use use;
    cache_use_begin(image->cache, &use);
    assert_int_equal(qcow2_co_map(image, guest_offset, length, &extent), 0);
    cache_use_end(image->cache, &use);
    return extent;
}

static void co_neighbours_are_put_together(struct fixture *fixture, void *arg)
{
    /* Three in a row, one that lies elsewhere, a hole of two, zeroes of two kinds. */
    static const uint64_t entries[] = {5 * CLUSTER, 6 * CLUSTER, 7 * CLUSTER | QCOW2_ENTRY_COPIED,
                                       9 * CLUSTER, 0,           0,
                                       1,           1,           10 * CLUSTER | 1};
    (void)arg;
    co_open_with(fixture, entries, 9);
    struct qcow2_extent extent = co_map(fixture, 100, 10000);
    assert_int_equal(extent.kind, QCOW2_DATA);
    assert_int_equal(extent.host_offset, 5 * CLUSTER + 100);
    assert_int_equal(extent.length, 3 * CLUSTER - 100);
    assert_int_equal(co_map(fixture, 100, 7).length, 7);
    extent = co_map(fixture, 3 * CLUSTER, 10000);
    assert_int_equal(extent.host_offset, 9 * CLUSTER);
    assert_int_equal(extent.length, CLUSTER);
    extent = co_map(fixture, 4 * CLUSTER, 10000);
    assert_int_equal(extent.kind, QCOW2_UNALLOCATED);
    assert_int_equal(extent.length, 2 * CLUSTER);
    extent = co_map(fixture, 6 * CLUSTER, 10000);
    assert_int_equal(extent.kind, QCOW2_ZERO);
    assert_int_equal(extent.length, 2 * CLUSTER);
    extent = co_map(fixture, 8 * CLUSTER + 1, 10000);
    assert_int_equal(extent.kind, QCOW2_ZERO_ALLOCATED);
    assert_int_equal(extent.host_offset, 10 * CLUSTER + 1);
    assert_int_equal(extent.length, CLUSTER - 1);
    extent = co_map(fixture, 9 * CLUSTER, GUEST_CLUSTERS * CLUSTER - 9 * CLUSTER);
    assert_int_equal(extent.length, (GUEST_CLUSTERS - 9) * CLUSTER);
}

static void co_pieces_are_read_to_their_places(struct fixture *fixture, void *arg)
{
    uint64_t entries[GUEST_CLUSTERS];
    static uint8_t data[GUEST_CLUSTERS * CLUSTER];
    (void)arg;
    for (unsigned i = 0; i < GUEST_CLUSTERS; i++) /* no two neighbours lie together */
        entries[i] = i % 7 == 3 ? 1 : i % 7 == 5 ? 0 : (15 - i % 11) * CLUSTER;
    fixture->disk.pauses_max = 5; /* the pieces end in any order */
    co_open_with(fixture, entries, GUEST_CLUSTERS);
    for (unsigned from = 0; from < 3000; from += 617) {
        memset(data, 0xee, sizeof(data));
        assert_int_equal(fixture_co_read(fixture->node, from, data, sizeof(data) - from), 0);
        for (size_t i = 0; i < sizeof(data) - from; i++) {
            unsigned cluster = (unsigned)(from + i) / CLUSTER;
            unsigned wanted = cluster % 7 == 3 || cluster % 7 == 5 ? 0 : 15 - cluster % 11;
            if (data[i] != wanted)
                fail_msg("byte %zu is %u, not %u", from + i, data[i], wanted);
        }
    }
}

static void co_an_error_of_one_piece_is_the_requests(struct fixture *fixture, void *arg)
{
    static const uint64_t entries[] = {5 * CLUSTER, 9 * CLUSTER, 7 * CLUSTER, 11 * CLUSTER};
    static uint8_t data[4 * CLUSTER];
    (void)arg;
    co_open_with(fixture, entries, 4);
    assert_int_equal(fixture_co_read(fixture->node, 0, data, sizeof(data)), 0);
    for (unsigned i = 0; i < 4; i++) {
        memory_disk_forget_calls(&fixture->disk);
        fixture->disk.fail_code = -EIO;
        fixture->disk.fail_at_call = i;
        assert_int_equal(fixture_co_read(fixture->node, 0, data, sizeof(data)), -EIO);
        fixture->disk.fail_code = 0;
        assert_int_equal(fixture_co_read(fixture->node, 0, data, sizeof(data)), 0);
    }
}

/* The entry is corrupt; what comes before it in the request is not asked for then. */
static void co_expect_corrupt(struct fixture *fixture, uint64_t entry)
{
    const uint64_t entries[] = {5 * CLUSTER, entry, 6 * CLUSTER};
    uint8_t data[CLUSTER];
    struct block_extent extent;
    co_open_with(fixture, entries, 3);
    assert_int_equal(fixture_co_read(fixture->node, CLUSTER, data, 1), -EIO);
    assert_int_equal(node_co_status(fixture->node, CLUSTER, 1, &extent), -EIO);
    assert_true(atomic_load(&qcow2_of(fixture->node)->is_corrupt));
    assert_int_equal(fixture_co_read(fixture->node, 0, data, CLUSTER), 0);
    assert_int_equal(fixture_co_read(fixture->node, 2 * CLUSTER, data, CLUSTER), 0);
    assert_int_equal(data[0], 6);
    fixture_co_close(fixture);
}

static void co_a_corrupt_entry_fails_alone(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_expect_corrupt(fixture, QCOW2_ENTRY_COMPRESSED | 40);                /* in the header */
    co_expect_corrupt(fixture, QCOW2_ENTRY_COMPRESSED | UINT64_C(1) << 57); /* past 64 PiB */
}

static void co_tables_past_the_end_are_corrupt(struct fixture *fixture, void *arg)
{
    uint8_t byte;
    (void)arg;
    make_image(fixture->disk.data, NULL, 0);
    store_be64(fixture->disk.data + L1, DISK_BYTES);
    co_open(fixture);
    assert_int_equal(fixture_co_read(fixture->node, 0, &byte, 1), -EIO);
    fixture_co_close(fixture);

    /* Data there is what QEMU reads: zeroes. */
    const uint64_t entries[] = {DISK_BYTES + CLUSTER};
    co_open_with(fixture, entries, 1);
    byte = 1;
    assert_int_equal(fixture_co_read(fixture->node, 0, &byte, 1), 0);
    assert_int_equal(byte, 0);
}

static void co_what_is_in_memory_is_told_without_a_wait(struct fixture *fixture, void *arg)
{
    static const uint64_t entries[] = {5 * CLUSTER, 0, 1};
    struct block_extent extent;
    (void)arg;
    co_open_with(fixture, entries, 3);
    node_status_remembered(fixture->node, CLUSTER, 100, &extent);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ALLOCATED); /* no table was loaded yet */
    assert_int_equal(node_co_status(fixture->node, CLUSTER, 100, &extent), 0);
    unsigned calls = fixture->disk.call_count;
    node_status_remembered(fixture->node, CLUSTER, 2 * CLUSTER, &extent);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ZERO);
    assert_int_equal(extent.length, CLUSTER);
    node_status_remembered(fixture->node, 0, CLUSTER, &extent);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ALLOCATED);
    assert_int_equal(fixture->disk.call_count, calls);
}

#define TESTS(X)                             \
    X(neighbours_are_put_together)           \
    X(pieces_are_read_to_their_places)       \
    X(an_error_of_one_piece_is_the_requests) \
    X(a_corrupt_entry_fails_alone)           \
    X(tables_past_the_end_are_corrupt)       \
    X(what_is_in_memory_is_told_without_a_wait)

#define DEFINE(name) FIXTURE_TEST_WITH(name, drivers, DISK_BYTES, DISK_BYTES)
TESTS(DEFINE)

int main(void)
{
#define LIST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST)};
    drivers[0] = &format_qcow2;
    drivers[1] = memory_drivers[0];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
