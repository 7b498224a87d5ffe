/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Refcounts, asked for and changed directly: where there is no refcount block, where somebody else
 * was faster, where the file does not grow, and runs of clusters in a file full of gaps.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "common/log.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/writer.h"
#include "tests/crash/no_memory.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CLUSTER 512u
#define PER_BLOCK 64u /* clusters that a refcount block counts */
#define FAR (40 * PER_BLOCK * CLUSTER)
#define BLOCK_AT (2 * CLUSTER)
#define L1_AT (3 * CLUSTER)
#define CAPACITY_BYTES (2u << 20)

static const struct memory_image shape = {
    .cluster_bits = 9, .refcount_order = 6, .disk_bytes = 1 << 20};
static const struct block_driver *drivers[4];

static void co_open_by(struct fixture *fixture, const char *driver)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", driver);
    node_options_set(options, "driver", "qcow2", NULL);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
}

static struct qcow2_image *co_open_new(struct fixture *fixture)
{
    memory_image_make(&fixture->disk, &shape);
    co_open_by(fixture, "growing");
    return qcow2_of(fixture->node);
}

static void set_count(struct fixture *fixture, uint64_t cluster, uint64_t count)
{
    assert_true(cluster < PER_BLOCK);
    store_be64(fixture->disk.data + BLOCK_AT + cluster * 8, count);
}

static uint64_t co_count(struct qcow2_image *image, uint64_t host_offset)
{
    uint64_t count;
    assert_int_equal(qcow2_co_refcount(image, host_offset, &count), 0);
    return count;
}

static void co_close_sound(struct fixture *fixture)
{
    fixture_co_close(fixture);
    struct memory_image_faults faults = memory_image_check(&fixture->disk);
    assert_int_equal(faults.errors + faults.leaks, 0);
}

static void co_where_no_block_is_nothing_is_counted(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct qcow2_image *image = co_open_new(fixture);
    assert_int_equal(co_count(image, FAR), 0);
    assert_int_equal(qcow2_co_share_packed(image, FAR + 10, 10), 0);
    assert_false(qcow2_is_corrupt(image));
    assert_int_equal(qcow2_co_refcount_decrement(image, FAR), -EIO);
    assert_true(qcow2_is_corrupt(image));
    fixture_co_close(fixture);
}

FIXTURE_TEST_WITH(where_no_block_is_nothing_is_counted, drivers, 0, CAPACITY_BYTES)

static void co_a_place_that_has_moved_is_not_shared(struct fixture *fixture, void *arg)
{
    (void)arg;
    uint64_t host_offset, count;
    struct qcow2_image *image = co_open_new(fixture);
    assert_int_equal(qcow2_co_alloc(image, 1, &host_offset, &count), 0);
    image->writer->packed_end = host_offset + 100;
    assert_int_equal(qcow2_co_share_packed(image, host_offset + 50, 10), 0);
    assert_int_equal(co_count(image, host_offset), 1);
    assert_int_equal(qcow2_co_share_packed(image, host_offset + 100, 10), 1);
    assert_int_equal(co_count(image, host_offset), 2);
    assert_int_equal(image->writer->packed_end, host_offset + 110);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(qcow2_co_refcount_decrement(image, host_offset), 0);
    assert_int_equal(image->writer->packed_end, 0);
    co_close_sound(fixture);
}

FIXTURE_TEST_WITH(a_place_that_has_moved_is_not_shared, drivers, 0, CAPACITY_BYTES)

/* --- somebody else was faster -------------------------------------------------------------------
 */

struct taker {
    struct qcow2_image *image;
    uint64_t host_offset, count;
    int ret;
};

static void co_take(void *arg)
{
    struct taker *taker = arg;
    taker->ret = qcow2_co_alloc(taker->image, 2, &taker->host_offset, &taker->count);
}

/* While the block is loaded that the hint is in, a cluster before it is given back, or all of it is
 * taken. */
static void co_a_hint_may_move_meanwhile(struct fixture *fixture, void *arg)
{
    (void)arg;
    for (int is_given_back = 0; is_given_back <= 1; is_given_back++) {
        struct group group;
        struct qcow2_image *image = co_open_new(fixture);
        struct taker taker = {.image = image};
        const uint64_t place = 2 * PER_BLOCK;
        assert_int_equal(qcow2_co_make_refcount_block(image, 2), 0);
        assert_int_equal(cache_co_flush_all(image->cache), 0);
        cache_invalidate(image->cache);
        image->writer->free_hint = place;
        group_init(&group, fixture->loop);
        memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
        group_start(&group, co_take, &taker);
        memory_disk_co_wait_held(&fixture->disk, 1);
        image->writer->free_hint = is_given_back ? 10 : place + PER_BLOCK;
        memory_disk_release(&fixture->disk);
        group_co_wait(&group);
        assert_int_equal(taker.ret, 0);
        assert_int_equal(taker.count, 2);
        uint64_t wanted = is_given_back ? place + 1 : place + PER_BLOCK + 1;
        assert_int_equal(taker.host_offset, wanted * CLUSTER);
        if (is_given_back) /* what was given back is the next one's */
            assert_int_equal(image->writer->free_hint, 10);
        qcow2_co_unalloc(image, taker.host_offset, taker.count);
        co_close_sound(fixture);
    }
}

FIXTURE_TEST_WITH(a_hint_may_move_meanwhile, drivers, 0, CAPACITY_BYTES)

/* The part of the block behind the hint is full, or begins behind a hint that has gone down. */
static void co_a_full_block_says_nothing_of_a_hint_below_it(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct group group;
    struct qcow2_image *image = co_open_new(fixture);
    struct taker taker = {.image = image};
    assert_int_equal(qcow2_co_make_refcount_block(image, 2), 0);
    assert_int_equal(cache_co_flush_all(image->cache), 0);
    uint64_t block_at = load_be64(fixture->disk.data + CLUSTER + 2 * 8);
    for (unsigned i = 0; i < PER_BLOCK; i++)
        store_be64(fixture->disk.data + block_at + (size_t)i * 8, 1);
    cache_invalidate(image->cache);
    image->writer->free_hint = 2 * PER_BLOCK;
    group_init(&group, fixture->loop);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    group_start(&group, co_take, &taker);
    memory_disk_co_wait_held(&fixture->disk, 1);
    image->writer->free_hint = 10;
    memory_disk_release(&fixture->disk);
    group_co_wait(&group);
    assert_int_equal(taker.ret, 0);
    assert_int_equal(taker.host_offset, 10 * CLUSTER);
    qcow2_co_unalloc(image, taker.host_offset, taker.count);
    fixture_co_close(fixture);
    assert_int_equal(memory_image_check(&fixture->disk).errors, 0);
}

FIXTURE_TEST_WITH(a_full_block_says_nothing_of_a_hint_below_it, drivers, 0, CAPACITY_BYTES)

/* --- files --------------------------------------------------------------------------------------
 */

static void co_only_a_file_that_grows_has_fresh_places(struct fixture *fixture, void *arg)
{
    (void)arg;
    uint64_t end = CAPACITY_BYTES;
    struct qcow2_image *image = co_open_new(fixture);
    assert_true(qcow2_is_fresh(image, end));
    assert_false(qcow2_is_fresh(image, 0));
    fixture_co_close(fixture);
    co_open_by(fixture, "file");
    assert_false(qcow2_is_fresh(qcow2_of(fixture->node), end));
    fixture_co_close(fixture);
}

FIXTURE_TEST_WITH(only_a_file_that_grows_has_fresh_places, drivers, 0, CAPACITY_BYTES)

static void co_a_file_that_counts_nothing_may_be_cut_to_nothing(struct fixture *fixture, void *arg)
{
    (void)arg;
    uint64_t end = 1;
    struct qcow2_image *image = co_open_new(fixture);
    memset(fixture->disk.data + BLOCK_AT, 0, CLUSTER);
    assert_int_equal(qcow2_co_used_end(image, &end), 0);
    assert_int_equal(end, 0);
    fixture_co_close(fixture);
}

FIXTURE_TEST_WITH(a_file_that_counts_nothing_may_be_cut_to_nothing, drivers, 0, CAPACITY_BYTES)

static void co_a_table_that_is_not_there_needs_no_dropping(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct qcow2_image *image = co_open_new(fixture);
    assert_int_equal(qcow2_co_drop_l2(image, 0), 0);
    assert_int_equal(cache_after_count(image->cache), 0);
    co_close_sound(fixture);
}

FIXTURE_TEST_WITH(a_table_that_is_not_there_needs_no_dropping, drivers, 0, CAPACITY_BYTES)

/* --- runs ---------------------------------------------------------------------------------------
 */

/* Every other cluster from 4 on is in use, so what is long enough lies behind many that are not. */
static void make_gaps(struct fixture *fixture)
{
    memory_image_make(&fixture->disk, &shape);
    for (uint64_t i = 5; i < PER_BLOCK; i += 2)
        set_count(fixture, i, 1);
}

/* With each allocation failing in turn. */
static void co_a_run_is_found_behind_many_gaps(struct fixture *fixture, void *arg)
{
    (void)arg;
    unsigned fail_at = 0, refusals = 0;
    bool any_failed = true;
    while (any_failed) {
        uint64_t host_offset = 0;
        make_gaps(fixture);
        co_open_by(fixture, "growing");
        struct qcow2_image *image = qcow2_of(fixture->node);
        crash_no_memory_arm(++fail_at, false);
        int ret = qcow2_co_alloc_run(image, 3, &host_offset);
        any_failed = crash_no_memory_failed() > 0;
        crash_no_memory_disarm();
        assert_true(ret == 0 || (ret == -ENOMEM && any_failed));
        refusals += ret < 0;
        for (uint64_t i = 4; i < PER_BLOCK; i += 2) /* the gaps are gaps again */
            assert_int_equal(co_count(image, i * CLUSTER), 0);
        if (ret == 0) {
            assert_int_equal(host_offset, (PER_BLOCK + 1) * CLUSTER);
            qcow2_co_unalloc(image, host_offset, 3);
        }
        fixture_co_close(fixture);
        assert_int_equal(memory_image_check(&fixture->disk).errors, 0);
    }
    assert_true(refusals >= 2); /* who can read past the cache needs no memory for it */
}

FIXTURE_TEST_WITH(a_run_is_found_behind_many_gaps, drivers, 0, CAPACITY_BYTES)

static void log_nothing(enum log_kind kind, const char *line)
{
    (void)kind;
    (void)line;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_no_block_is_nothing_is_counted),
        cmocka_unit_test(a_place_that_has_moved_is_not_shared),
        cmocka_unit_test(a_hint_may_move_meanwhile),
        cmocka_unit_test(a_full_block_says_nothing_of_a_hint_below_it),
        cmocka_unit_test(only_a_file_that_grows_has_fresh_places),
        cmocka_unit_test(a_file_that_counts_nothing_may_be_cut_to_nothing),
        cmocka_unit_test(a_table_that_is_not_there_needs_no_dropping),
        cmocka_unit_test(a_run_is_found_behind_many_gaps),
    };
    drivers[0] = memory_drivers[0]; /* file */
    drivers[1] = memory_drivers[1]; /* growing */
    drivers[2] = &format_qcow2;
    log_set_sink(log_nothing);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
