/* SPDX-License-Identifier: BSD-3-Clause */
/* Zeroes that must be fast or not be at all, and where no entry can say them. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "formats/qcow2/driver.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CLUSTER 4096u
#define CAPACITY_BYTES (4u << 20)

static const struct memory_image shape = {
    .cluster_bits = 12, .refcount_order = 4, .disk_bytes = 64 * CLUSTER};
static const struct block_driver *drivers[3];

static void co_open(struct fixture *fixture, uint8_t version)
{
    static uint8_t data[32 * CLUSTER];
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    memory_image_make(&fixture->disk, &shape);
    fixture->disk.data[7] = version;
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    node_options_set(options, "driver", "qcow2", NULL);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
    memset(data, 7, sizeof(data));
    assert_int_equal(fixture_co_write(fixture->node, 0, data, sizeof(data), 0), 0);
}

static void co_expect(struct fixture *fixture, uint64_t offset, uint64_t length, uint8_t byte)
{
    static uint8_t data[CAPACITY_BYTES];
    assert_int_equal(fixture_co_read(fixture->node, offset, data, length), 0);
    for (uint64_t i = 0; i < length; i++)
        assert_int_equal(data[i], byte);
}

static void co_fast_zeroes_are_whole_clusters(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_open(fixture, 3);
    assert_int_equal(node_co_zero(fixture->node, 100, 2 * CLUSTER, BLOCK_FAST), -ENOTSUP);
    assert_int_equal(node_co_zero(fixture->node, CLUSTER, CLUSTER + 100, BLOCK_FAST), -ENOTSUP);
    assert_int_equal(node_co_zero(fixture->node, CLUSTER + 1, 100, BLOCK_FAST), -ENOTSUP);
    co_expect(fixture, 0, 4 * CLUSTER, 7); /* nothing was done of them */
    assert_int_equal(node_co_zero(fixture->node, CLUSTER, 2 * CLUSTER, BLOCK_FAST), 0);
    co_expect(fixture, CLUSTER, 2 * CLUSTER, 0);
    co_expect(fixture, 3 * CLUSTER, CLUSTER, 7);
}

/* Version 2 has no entry for zeroes that keep their place. */
static void co_version_2_writes_zeroes_that_stay(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_open(fixture, 2);
    assert_int_equal(node_co_zero(fixture->node, CLUSTER, CLUSTER, BLOCK_FAST | BLOCK_NO_UNMAP),
                     -ENOTSUP);
    co_expect(fixture, CLUSTER, CLUSTER, 7);
    uint64_t bytes = fixture->disk.size_bytes;
    assert_int_equal(node_co_zero(fixture->node, CLUSTER, CLUSTER, BLOCK_NO_UNMAP), 0);
    co_expect(fixture, CLUSTER, CLUSTER, 0);
    assert_int_equal(fixture->disk.size_bytes, bytes); /* where the bytes were */
    assert_int_equal(node_co_discard(fixture->node, 2 * CLUSTER, CLUSTER, 0), 0);
    fixture_co_close(fixture);
    struct memory_image_faults faults = memory_image_check(&fixture->disk);
    assert_int_equal(faults.errors + faults.leaks, 0);
}

/* --- subclusters -------------------------------------------------------------------------------
 */

#define LARGE 16384u
#define SUBCLUSTER 512u
#define LOOKED_AT 32 /* clusters at a time */

static const struct memory_image extended = {.cluster_bits = 14,
                                             .refcount_order = 4,
                                             .is_extended = true,
                                             .disk_bytes = (LOOKED_AT + 1) * LARGE - SUBCLUSTER};

/* All of it is 7, and its last cluster, of which a part is behind the end, compressed. */
static void co_open_extended(struct fixture *fixture)
{
    static uint8_t data[(LOOKED_AT + 1) * LARGE];
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    memory_image_make(&fixture->disk, &extended);
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    node_options_set(options, "driver", "qcow2", NULL);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
    memset(data, 7, sizeof(data));
    const uint64_t last = LOOKED_AT * LARGE;
    assert_int_equal(fixture_co_write(fixture->node, 0, data, last, 0), 0);
    assert_int_equal(
        fixture_co_write(fixture->node, last, data, LARGE - SUBCLUSTER, BLOCK_COMPRESS), 0);
}

/* What can be said of the first clusters cannot be of a part of a compressed one: that is written.
 */
static void co_zeroes_that_began_fast_are_ended(struct fixture *fixture, void *arg)
{
    const uint64_t length = LOOKED_AT * LARGE + 2 * SUBCLUSTER;
    (void)arg;
    co_open_extended(fixture);
    assert_int_equal(node_co_zero(fixture->node, 0, length, BLOCK_FAST), 0);
    co_expect(fixture, 0, length, 0);
    co_expect(fixture, length, extended.disk_bytes - length, 7);
}

/* The part of it that the disk has is all of it (qcow2_differential.py, SEED=788516494, case 353).
 */
static void co_the_last_cluster_is_discarded_as_a_whole(struct fixture *fixture, void *arg)
{
    const uint64_t last = LOOKED_AT * LARGE;
    (void)arg;
    co_open_extended(fixture);
    assert_int_equal(node_co_discard(fixture->node, last - LARGE, 2 * LARGE - SUBCLUSTER, 0), 0);
    co_expect(fixture, last - LARGE, 2 * LARGE - SUBCLUSTER, 0);
    fixture_co_close(fixture);
    struct memory_image_faults faults = memory_image_check(&fixture->disk);
    assert_int_equal(faults.errors + faults.leaks + faults.compressed, 0);
}

/* A hint: what is not a whole cluster is left. */
static void co_a_part_of_a_cluster_is_not_discarded(struct fixture *fixture, void *arg)
{
    const uint64_t last = LOOKED_AT * LARGE;
    (void)arg;
    co_open_extended(fixture);
    assert_int_equal(node_co_discard(fixture->node, last, LARGE - 2 * SUBCLUSTER, 0), 0);
    co_expect(fixture, last, LARGE - SUBCLUSTER, 7);
}

/* --- many at once -------------------------------------------------------------------------------
 */

/* So many that those which wait for a flush are written back on the way; but that fails. */
static void co_a_discard_of_very_much_needs_flushes(struct fixture *fixture, void *arg)
{
    static const struct memory_image tiny = {
        .cluster_bits = 9, .refcount_order = 4, .disk_bytes = 4600 * 512};
    static uint8_t data[4600 * 512];
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    (void)arg;
    memory_image_make(&fixture->disk, &tiny);
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    node_options_set(options, "driver", "qcow2", NULL);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(fixture_co_write(fixture->node, 0, data, sizeof(data), 0), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    fixture->disk.fail_ops = 1u << MEMORY_WRITE;
    fixture->disk.fail_code = -EIO;
    assert_int_equal(node_co_discard(fixture->node, 0, sizeof(data), 0), -EIO);
    fixture->disk.fail_code = 0;
    assert_int_equal(node_co_discard(fixture->node, 0, sizeof(data), 0), 0);
    fixture_co_close(fixture);
    struct memory_image_faults faults = memory_image_check(&fixture->disk);
    assert_int_equal(faults.errors + faults.leaks, 0);
}

#define TESTS(X)                                \
    X(fast_zeroes_are_whole_clusters)           \
    X(version_2_writes_zeroes_that_stay)        \
    X(zeroes_that_began_fast_are_ended)         \
    X(the_last_cluster_is_discarded_as_a_whole) \
    X(a_part_of_a_cluster_is_not_discarded)     \
    X(a_discard_of_very_much_needs_flushes)

#define DEFINE(name) FIXTURE_TEST_WITH(name, drivers, 0, CAPACITY_BYTES)
TESTS(DEFINE)

int main(void)
{
#define LIST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST)};
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &format_qcow2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
