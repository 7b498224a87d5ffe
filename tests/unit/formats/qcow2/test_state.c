/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lazy refcounts: the dirty bit is durable before a refcount is late, flushes leave refcounts out,
 * a close makes all true again; and whatever part of a session reached the disk, the next open for
 * writing repairs it. What a checker of others says is in tests/integration/qcow2_lazy.py.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <limits.h>

#include "common/endian.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/layout.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CAPACITY_BYTES (4u << 20)
#define FLAGS_AT 72
#define FLAGS_LAST_BYTE 79
#define COMPATIBLE_LAST_BYTE 87
#define DIRTY 1

static const struct block_driver *drivers[3];

/* The second one's refcount table must grow. */
static const struct memory_image shapes[] = {
    {.cluster_bits = 12, .refcount_order = 4, .disk_bytes = 1 << 20},
    {.cluster_bits = 9, .refcount_order = 6, .disk_bytes = 5 << 19},
};

static void make(struct fixture *fixture, const struct memory_image *shape)
{
    memory_image_make(&fixture->disk, shape);
    fixture->disk.data[COMPATIBLE_LAST_BYTE] = QCOW2_COMPATIBLE_LAZY_REFCOUNTS;
}

static int co_open_as(struct fixture *fixture, const char *lazy, struct error *err)
{
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    node_options_set(options, "driver", "qcow2", NULL);
    if (lazy)
        node_options_set(options, "lazy-refcounts", lazy, NULL);
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

static void co_open(struct fixture *fixture, const char *lazy)
{
    struct error err = {.message = ""};
    if (co_open_as(fixture, lazy, &err) < 0)
        fail_msg("%s", err.message);
}

static int co_write(struct fixture *fixture, uint64_t offset, size_t length, int byte)
{
    uint8_t *data = malloc(length);
    assert_non_null(data);
    memset(data, byte, length);
    int ret = fixture_co_write(fixture->node, offset, data, length, 0);
    free(data);
    return ret;
}

static bool is_dirty(const struct fixture *fixture)
{
    return fixture->disk.data[FLAGS_LAST_BYTE] & DIRTY;
}

static void expect_sound(const struct fixture *fixture)
{
    struct memory_image_faults faults = memory_image_check(&fixture->disk);
    assert_int_equal(faults.errors, 0);
    assert_int_equal(faults.leaks, 0);
}

/* The number of the first call that is a write to [offset, offset + length); and of what follows.
 */
static unsigned first_write(const struct memory_disk *disk, uint64_t offset, uint64_t length)
{
    for (unsigned i = 0; i < disk->log_count; i++) {
        if (disk->log[i].op == MEMORY_WRITE && disk->log[i].offset >= offset &&
            disk->log[i].offset < offset + length)
            return i;
    }
    return UINT_MAX;
}

/* --- when the bit is there -------------------------------------------------------------------- */

static void co_the_dirty_bit_comes_first_and_goes_last(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    make(fixture, &shapes[0]);
    co_open(fixture, NULL);
    assert_false(is_dirty(fixture));
    memory_disk_forget_calls(disk);
    assert_int_equal(co_write(fixture, 0, 4096, 1), 0);
    assert_true(is_dirty(fixture));
    unsigned mark = first_write(disk, FLAGS_AT, 1);
    assert_int_equal(first_write(disk, 0, CAPACITY_BYTES), mark);
    assert_int_equal(disk->log[mark + 1].op, MEMORY_FLUSH);
    assert_int_equal(co_write(fixture, 8192, 4096, 1), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    /* The counts are late: no write went to their block. */
    assert_int_equal(first_write(disk, 2 * 4096, 4096), UINT_MAX);
    assert_int_equal(load_be16(disk->data + 2 * 4096 + 5 * 2), 0);
    assert_int_equal(disk->counts[MEMORY_WRITE], 1 + 2 + 2); /* the bit, data, L2, L1 */

    memory_disk_forget_calls(disk);
    fixture_co_close(fixture);
    assert_false(is_dirty(fixture));
    unsigned clearing = first_write(disk, FLAGS_AT, 1);
    assert_true(first_write(disk, 2 * 4096, 4096) < clearing);
    assert_int_equal(disk->log[clearing - 1].op, MEMORY_FLUSH);
    assert_int_equal(disk->log[clearing + 1].op, MEMORY_FLUSH);
    expect_sound(fixture);
}

FIXTURE_TEST_WITH(the_dirty_bit_comes_first_and_goes_last, drivers, 0, CAPACITY_BYTES)

static unsigned co_count_syncs(struct fixture *fixture, const char *lazy)
{
    make(fixture, &shapes[0]);
    co_open(fixture, lazy);
    assert_int_equal(co_write(fixture, 0, 4096, 1), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    memory_disk_forget_calls(&fixture->disk);
    for (unsigned i = 1; i < 20; i++) {
        assert_int_equal(co_write(fixture, i * 8192, 4096, 1), 0);
        assert_int_equal(node_co_flush(fixture->node), 0);
    }
    unsigned syncs = fixture->disk.counts[MEMORY_FLUSH];
    fixture_co_close(fixture);
    expect_sound(fixture);
    return syncs;
}

/* Without: refcounts, data | L2 |. With: data, L2 |. */
static void co_a_flush_of_new_clusters_costs_half(struct fixture *fixture, void *arg)
{
    (void)arg;
    unsigned in_order = co_count_syncs(fixture, "off");
    unsigned in_order_writes = fixture->disk.counts[MEMORY_WRITE];
    unsigned lazy = co_count_syncs(fixture, "on");
    unsigned lazy_writes = fixture->disk.counts[MEMORY_WRITE];
    print_message("syncs: %u in order, %u lazy; writes: %u, %u\n", in_order, lazy, in_order_writes,
                  lazy_writes);
    assert_true(lazy <= in_order / 2 + 1);
    assert_true(lazy_writes + 15 < in_order_writes);
}

FIXTURE_TEST_WITH(a_flush_of_new_clusters_costs_half, drivers, 0, CAPACITY_BYTES)

static void co_the_option_says_it_too(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    make(fixture, &shapes[0]);
    co_open(fixture, "off");
    assert_int_equal(co_write(fixture, 0, 4096, 1), 0);
    assert_false(is_dirty(fixture));
    fixture_co_close(fixture);
    fixture->disk.data[COMPATIBLE_LAST_BYTE] = 0;
    co_open(fixture, NULL);
    assert_int_equal(co_write(fixture, 8192, 4096, 1), 0);
    assert_false(is_dirty(fixture));
    fixture_co_close(fixture);
    co_open(fixture, "on");
    assert_int_equal(co_write(fixture, 0, 4096, 2), 0);
    assert_false(is_dirty(fixture)); /* nothing was taken */
    assert_int_equal(co_write(fixture, 16384, 4096, 1), 0);
    assert_true(is_dirty(fixture));
    fixture_co_close(fixture);
    expect_sound(fixture);
    fixture->disk.data[7] = 2; /* the version */
    assert_int_equal(co_open_as(fixture, "on", &err), -EINVAL);
    assert_non_null(strstr(err.message, "version 3 is needed"));
    assert_int_equal(co_open_as(fixture, "off", &err), 0);
}

FIXTURE_TEST_WITH(the_option_says_it_too, drivers, 0, CAPACITY_BYTES)

/* --- crashes ------------------------------------------------------------------------------------
 */

/* The bytes of each write, if it was flushed; the rest may have reached the disk or not. */
static int co_session(struct fixture *fixture, uint64_t size, unsigned *ret_flushed)
{
    int ret = 0;
    *ret_flushed = 0;
    for (unsigned round = 0; round < 4 && ret == 0; round++) {
        for (unsigned i = 0; i < 3 && ret == 0; i++)
            ret = co_write(fixture, round * 65536 + i * 20000, 5000, (int)(round * 3 + i + 1));
        if (ret == 0 && round == 2) /* the refcounts grow */
            ret = co_write(fixture, size / 2, size / 2, 0x77);
        if (ret == 0)
            ret = node_co_discard(fixture->node, size - 65536, 40000, 0);
        if (ret == 0)
            ret = node_co_flush(fixture->node);
        if (ret == 0)
            *ret_flushed = round + 1;
    }
    return ret;
}

static void co_expect_flushed(struct fixture *fixture, unsigned rounds)
{
    for (unsigned i = 0; i < rounds * 3; i++) {
        uint8_t data[5000];
        assert_int_equal(fixture_co_read(fixture->node, i / 3 * 65536 + i % 3 * 20000, data, 5000),
                         0);
        for (unsigned at = 0; at < sizeof(data); at++)
            assert_int_equal(data[at], i + 1);
    }
}

struct cut {
    const struct memory_image *shape;
    uint64_t at;
    bool happened;
    unsigned dirty_count;
};

/* All calls from one on fail: what is on the disk is what a crash there leaves. */
static void co_cut(struct fixture *fixture, void *arg)
{
    struct cut *cut = arg;
    struct memory_disk *disk = &fixture->disk;
    struct qcow2_check check;
    unsigned flushed;
    make(fixture, cut->shape);
    co_open(fixture, NULL);
    memory_disk_forget_calls(disk);
    disk->fail_from_call = cut->at;
    disk->fail_code = -EIO;
    co_session(fixture, cut->shape->disk_bytes, &flushed);
    fixture_co_close(fixture);
    cut->happened = disk->call_count > cut->at;
    disk->fail_code = 0;
    cut->dirty_count += is_dirty(fixture);
    assert_true(is_dirty(fixture) || memory_image_check(disk).errors == 0);
    co_open(fixture, NULL);
    assert_false(is_dirty(fixture));
    co_expect_flushed(fixture, flushed);
    assert_int_equal(qcow2_co_check(fixture->node, NULL, NULL, &check, NULL), 0);
    assert_int_equal(check.errors, 0);
    fixture_co_close(fixture);
    if (cut->dirty_count > 0 && cut->at > 4)
        assert_int_equal(memory_image_check(disk).errors, 0);
}

static void a_crash_at_any_call_is_repaired(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct cut cut = {.shape = &shapes[i], .happened = true};
        for (; cut.happened; cut.at += i == 0 ? 1 : 5) {
            struct fixture fixture;
            fixture_init(&fixture, drivers, 0, CAPACITY_BYTES, 1);
            fixture_run(&fixture, co_cut, &cut);
            fixture_fini(&fixture);
        }
        assert_true(cut.at > 20);
        assert_true(cut.dirty_count > 10);
    }
}

/* A close whose flush fails leaves the bit (invariant 30). */
static void co_a_close_that_fails_leaves_the_bit(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    make(fixture, &shapes[0]);
    co_open(fixture, NULL);
    assert_int_equal(co_write(fixture, 0, 4096, 1), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_int_equal(co_write(fixture, 65536, 4096, 1), 0);
    disk->fail_ops = 1u << MEMORY_FLUSH;
    disk->fail_code = -EIO;
    fixture_co_close(fixture);
    disk->fail_code = 0;
    assert_true(is_dirty(fixture));
    co_open(fixture, NULL);
    fixture_co_close(fixture);
    expect_sound(fixture);
}

FIXTURE_TEST_WITH(a_close_that_fails_leaves_the_bit, drivers, 0, CAPACITY_BYTES)

/* Without the bit nothing may be late, so nothing is taken. */
static void co_a_bit_that_cannot_be_set_fails_the_write(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    make(fixture, &shapes[0]);
    co_open(fixture, NULL);
    memory_disk_forget_calls(disk);
    disk->fail_ops = 1u << MEMORY_WRITE;
    disk->fail_code = -ENOSPC;
    assert_int_equal(co_write(fixture, 0, 4096, 1), -ENOSPC);
    assert_int_equal(disk->counts[MEMORY_WRITE], 1);
    disk->fail_code = 0;
    assert_int_equal(co_write(fixture, 0, 4096, 1), 0);
    assert_true(is_dirty(fixture));
    fixture_co_close(fixture);
    expect_sound(fixture);
}

FIXTURE_TEST_WITH(a_bit_that_cannot_be_set_fails_the_write, drivers, 0, CAPACITY_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_dirty_bit_comes_first_and_goes_last),
        cmocka_unit_test(a_flush_of_new_clusters_costs_half),
        cmocka_unit_test(the_option_says_it_too),
        cmocka_unit_test(a_crash_at_any_call_is_repaired),
        cmocka_unit_test(a_close_that_fails_leaves_the_bit),
        cmocka_unit_test(a_bit_that_cannot_be_set_fails_the_write),
    };
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &format_qcow2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
