/* SPDX-License-Identifier: BSD-3-Clause */
/* How much memory the tables have: the options with qemu's names, and what they say together. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "formats/qcow2/driver.h"
#include "formats/qcow2/image.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CAPACITY_BYTES (1u << 20)
#define M (UINT64_C(1) << 20)

static const struct memory_image shape = {
    .cluster_bits = 16, .refcount_order = 4, .disk_bytes = UINT64_C(1) << 40};
static const struct block_driver *drivers[3];

static int co_open(struct fixture *fixture, const char *text, struct error *err)
{
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, text, NULL), 0);
    node_options_set(options, "driver", "qcow2", NULL);
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

static void co_expect(struct fixture *fixture, const char *text, uint64_t l2_bytes,
                      uint64_t refcount_bytes)
{
    struct error err = {.message = ""};
    if (co_open(fixture, text, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    const struct qcow2_cache_sizes *sizes = &qcow2_of(fixture->node)->cache_sizes;
    assert_int_equal(sizes->l2_bytes, l2_bytes);
    assert_int_equal(sizes->refcount_bytes, refcount_bytes);
    uint8_t byte = 1;
    assert_int_equal(fixture_co_read(fixture->node, 12345, &byte, 1), 0);
    assert_int_equal(byte, 0);
    fixture_co_close(fixture);
}

static void co_refused(struct fixture *fixture, const char *text, const char *why)
{
    struct error err = {.message = ""};
    assert_int_equal(co_open(fixture, text, &err), -EINVAL);
    if (!strstr(err.message, why))
        fail_msg("%s: '%s' does not say '%s'", text, err.message, why);
}

/* One that is given decides the other. */
static void co_two_sizes_say_the_third(struct fixture *fixture, void *arg)
{
    (void)arg;
    memory_image_make(&fixture->disk, &shape);
    co_expect(fixture, "", 32 * M, M);
    co_expect(fixture, "l2-cache-size=2M", 2 * M, M);
    co_expect(fixture, "refcount-cache-size=2M", 32 * M, 2 * M);
    co_expect(fixture, "cache-size=8M", 7 * M, M);
    co_expect(fixture, "cache-size=2M", 2 * M - M / 2, M / 2);
    co_expect(fixture, "cache-size=8M,l2-cache-size=6M", 6 * M, 2 * M);
    co_expect(fixture, "cache-size=8M,refcount-cache-size=6M", 2 * M, 6 * M);
    co_expect(fixture, "cache-size=0", 0, 0); /* as little as can be */
    co_expect(fixture, "cache-clean-interval=0,l2-cache-entry-size=512", 32 * M, M);
}

static void co_sizes_that_make_no_sense_are_refused(struct fixture *fixture, void *arg)
{
    (void)arg;
    memory_image_make(&fixture->disk, &shape);
    co_refused(fixture, "cache-size=8M,l2-cache-size=1M,refcount-cache-size=1M",
               "two of them say the third");
    co_refused(fixture, "cache-size=8M,l2-cache-size=9M",
               "cache-size is 8388608, less than the l2-cache-size of 9437184");
    co_refused(fixture, "cache-size=8M,refcount-cache-size=9M",
               "cache-size is 8388608, less than the refcount-cache-size of 9437184");
    co_refused(fixture, "l2-cache-entry-size=256", "l2-cache-entry-size is 256;");
    co_refused(fixture, "l2-cache-entry-size=128K", "l2-cache-entry-size is 131072;");
    co_refused(fixture, "l2-cache-entry-size=1000", "l2-cache-entry-size is 1000;");
    co_refused(fixture, "cache-size=x", "cache-size");
    co_refused(fixture, "l2-cache-size=x", "l2-cache-size");
    co_refused(fixture, "refcount-cache-size=x", "refcount-cache-size");
    co_refused(fixture, "l2-cache-entry-size=x", "l2-cache-entry-size");
    co_refused(fixture, "cache-clean-interval=x", "cache-clean-interval");
}

#define TESTS(X)               \
    X(two_sizes_say_the_third) \
    X(sizes_that_make_no_sense_are_refused)

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
