/* SPDX-License-Identifier: BSD-3-Clause */
/* Zeroes that must be fast or not be at all, and where no entry can say them. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "formats/qcow2/driver.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CLUSTER 4096u
#define CAPACITY_BYTES (1u << 20)

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
    static uint8_t data[64 * CLUSTER];
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

#define TESTS(X)                      \
    X(fast_zeroes_are_whole_clusters) \
    X(version_2_writes_zeroes_that_stay)

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
