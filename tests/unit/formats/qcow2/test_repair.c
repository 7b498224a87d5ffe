/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A dirty image whose refcounts are all 0, made by hand in memory: it is repaired when it is opened
 * for writing, and a repair that fails at any call leaves an image that the next one repairs.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/repair.h"
#include "formats/raw.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CLUSTER 512u
#define USED_BYTES (8 * CLUSTER)
#define CAPACITY_BYTES (256 * CLUSTER)
#define FLAGS_LAST_BYTE 79

static const struct block_driver *drivers[5];
static struct memory_disk backing;

/* 0 header, 1 refcount table, 2 refcount block, 3 L1, 4 L2, 5 to 7 data; guest cluster 3 lies where
 * the file never came to. */
static void make_image(uint8_t *bytes)
{
    const struct qcow2_header header = {
        .version = 3,
        .cluster_bits = 9,
        .size = 64 * CLUSTER,
        .l1_size = 1,
        .l1_table_offset = 3 * CLUSTER,
        .refcount_table_offset = CLUSTER,
        .refcount_table_clusters = 1,
        .refcount_order = 4,
        .header_length = 112,
        .incompatible_features = QCOW2_INCOMPATIBLE_DIRTY,
        .compatible_features = QCOW2_COMPATIBLE_LAZY_REFCOUNTS,
    };
    memset(bytes, 0, CAPACITY_BYTES);
    qcow2_header_encode(&header, bytes);
    store_be64(bytes + CLUSTER, 2 * CLUSTER);
    store_be64(bytes + 3 * CLUSTER, QCOW2_ENTRY_COPIED | (4 * CLUSTER));
    for (unsigned i = 0; i < 3; i++) {
        store_be64(bytes + 4 * CLUSTER + i * 8, (5 + i) * CLUSTER | (i ? QCOW2_ENTRY_COPIED : 0));
        memset(bytes + (5 + i) * CLUSTER, (int)(5 + i), CLUSTER);
    }
    store_be64(bytes + 4 * CLUSTER + 3 * 8, 20 * CLUSTER | QCOW2_ENTRY_COPIED);
}

static int co_open(struct fixture *fixture, struct error *err)
{
    struct node_options *options = node_options_new();
    node_options_set(options, "driver", "qcow2", NULL);
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

static void co_expect_sound(struct fixture *fixture)
{
    struct qcow2_check check;
    uint8_t data[4 * CLUSTER];
    assert_int_equal(fixture->disk.data[FLAGS_LAST_BYTE] & 1, 0);
    assert_int_equal(qcow2_co_check(fixture->node, NULL, NULL, &check, NULL), 0);
    assert_int_equal(check.errors, 0);
    assert_int_equal(check.leaks, 0);
    assert_int_equal(fixture_co_read(fixture->node, 0, data, sizeof(data)), 0);
    for (unsigned i = 0; i < sizeof(data); i++)
        assert_int_equal(data[i], i < 3 * CLUSTER ? 5 + i / CLUSTER : 0);
    /* What is written now does not land in what is in use. */
    memset(data, 0xcc, CLUSTER);
    for (unsigned i = 10; i < 20; i++)
        assert_int_equal(fixture_co_write(fixture->node, i * CLUSTER, data, CLUSTER, 0), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_int_equal(fixture_co_read(fixture->node, 0, data, sizeof(data)), 0);
    for (unsigned i = 0; i < sizeof(data); i++)
        assert_int_equal(data[i], i < 3 * CLUSTER ? 5 + i / CLUSTER : 0);
    assert_int_equal(qcow2_co_check(fixture->node, NULL, NULL, &check, NULL), 0);
    assert_int_equal(check.errors + check.leaks, 0);
}

static void co_repair(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    (void)arg;
    make_image(fixture->disk.data);
    if (co_open(fixture, &err) < 0)
        fail_msg("%s", err.message);
    co_expect_sound(fixture);
}

static void a_dirty_image_is_repaired_before_it_is_written(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_init(&fixture, drivers, USED_BYTES, CAPACITY_BYTES, 1);
    fixture_run(&fixture, co_repair, NULL);
    fixture_fini(&fixture);
}

/* The entry that points past the end of the file is zero on the disk, and durable, before anything
 * is written there: else a cut could show a table as the disk's bytes (found by tests/crash). */
static void co_order(struct fixture *fixture, void *arg)
{
    const struct memory_disk *disk = &fixture->disk;
    bool is_pending = false, has_fixed = false;
    unsigned i = 0;
    (void)arg;
    make_image(fixture->disk.data);
    assert_int_equal(co_open(fixture, NULL), 0);
    for (; i < disk->log_count; i++) {
        const struct memory_call *call = &disk->log[i];
        if (call->op == MEMORY_WRITE && call->offset >= USED_BYTES)
            break;
        if (call->op == MEMORY_WRITE)
            is_pending = has_fixed = true;
        else if (call->op == MEMORY_FLUSH)
            is_pending = false;
    }
    assert_true(i < disk->log_count && has_fixed);
    assert_false(is_pending);
}

static void what_points_past_the_end_is_gone_before_something_is_written_there(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_init(&fixture, drivers, USED_BYTES, CAPACITY_BYTES, 1);
    fixture_run(&fixture, co_order, NULL);
    fixture_fini(&fixture);
}

struct failing {
    unsigned at;
    bool happened;
};

static void co_fail(struct fixture *fixture, void *arg)
{
    struct failing *failing = arg;
    struct error err = {.message = ""};
    make_image(fixture->disk.data);
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_at_call = failing->at;
    int ret = co_open(fixture, &err);
    failing->happened = fixture->disk.call_count > failing->at;
    fixture->disk.fail_code = 0;
    if (ret < 0) {
        assert_true(err.message[0] != '\0');
        if (co_open(fixture, &err) < 0)
            fail_msg("after a failure at %u: %s", failing->at, err.message);
    }
    co_expect_sound(fixture);
}

static void a_repair_that_fails_at_any_call_can_be_made_again(void **state)
{
    struct failing failing = {.happened = true};
    (void)state;
    for (; failing.happened; failing.at++) {
        struct fixture fixture;
        fixture_init(&fixture, drivers, USED_BYTES, CAPACITY_BYTES, 1);
        fixture_run(&fixture, co_fail, &failing);
        fixture_fini(&fixture);
    }
    assert_true(failing.at > 10);
}

/* --- of every shape -----------------------------------------------------------------------------
 *
 * An image whose first guest clusters have data, and one is compressed; then something of it is
 * broken.
 */

#define LARGE 16384u
#define PAST_THE_END (UINT64_C(1) << 40)

struct broken {
    struct memory_image image;
    bool is_version_2;
    const char *repair;
    void (*break_it)(uint8_t *file, uint8_t *l1, uint8_t *l2);
    int code; /* of the opening */
    const char *why;
};

static int co_open_repairing(struct fixture *fixture, const char *what, struct error *err)
{
    struct node_options *options = node_options_new();
    node_options_set(options, "driver", "qcow2", NULL);
    node_options_set(options, "repair", what, NULL);
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

static void co_write_some(struct fixture *fixture, const struct broken *broken)
{
    static uint8_t data[4 * LARGE];
    memory_image_make(&fixture->disk, &broken->image);
    if (broken->is_version_2)
        fixture->disk.data[7] = 2;
    assert_int_equal(co_open(fixture, NULL), 0);
    memset(data, 0x5a, sizeof(data));
    assert_int_equal(fixture_co_write(fixture->node, 0, data, sizeof(data), 0), 0);
    assert_int_equal(fixture_co_write(fixture->node, 2 * LARGE, data, LARGE, BLOCK_COMPRESS), 0);
    fixture_co_close(fixture);
}

static void co_mend(struct fixture *fixture, void *arg)
{
    const struct broken *broken = arg;
    struct error err = {.message = ""};
    struct qcow2_check check;
    co_write_some(fixture, broken);
    uint8_t *file = fixture->disk.data;
    uint8_t *l1 = file + load_be64(file + 40);
    broken->break_it(file, l1, file + (load_be64(l1) & QCOW2_ENTRY_OFFSET));
    int rc = co_open_repairing(fixture, broken->repair, &err);
    if (rc != broken->code || (broken->why && !strstr(err.message, broken->why)))
        fail_msg("%d, '%s'; wanted %d, '%s'", rc, err.message, broken->code, broken->why);
    if (rc < 0)
        return;
    assert_int_equal(qcow2_co_check(fixture->node, NULL, NULL, &check, &err), 0);
    assert_int_equal(check.errors + check.leaks + check.unreadable, 0);
    uint8_t byte = 0; /* the fourth cluster is never broken */
    assert_int_equal(fixture_co_read(fixture->node, 3 * LARGE, &byte, 1), 0);
    assert_int_equal(byte, 0x5a);
    byte = 1; /* what the file never had is zeroes, where something was lost */
    assert_int_equal(fixture_co_read(fixture->node, 0, &byte, 1), 0);
    assert_true(byte == 0 || byte == 0x5a);
}

static void lose_the_first_cluster(uint8_t *file, uint8_t *l1, uint8_t *l2)
{
    (void)file;
    (void)l1;
    store_be64(l2, PAST_THE_END | QCOW2_ENTRY_COPIED);
}

/* The compressed one: as qemu says places, one sector of 512 bytes. */
static void lose_the_compressed_cluster(uint8_t *file, uint8_t *l1, uint8_t *l2)
{
    unsigned per_entry = load_be64(file + 72) & QCOW2_INCOMPATIBLE_EXTENDED_L2 ? 16 : 8;
    unsigned cluster = 2 * LARGE >> load_be32(file + 20);
    (void)l1;
    assert_true(load_be64(l2 + cluster * per_entry) & QCOW2_ENTRY_COMPRESSED);
    store_be64(l2 + cluster * per_entry, QCOW2_ENTRY_COMPRESSED | PAST_THE_END);
}

static void give_the_first_cluster_twice(uint8_t *file, uint8_t *l1, uint8_t *l2)
{
    (void)file;
    (void)l1;
    memcpy(l2, l2 + 8, 8);
}

static void point_l1_nowhere(uint8_t *file, uint8_t *l1, uint8_t *l2)
{
    (void)l2;
    (void)file;
    store_be64(l1 + 8, 512 | QCOW2_ENTRY_COPIED);
}

static void point_l1_past_the_end(uint8_t *file, uint8_t *l1, uint8_t *l2)
{
    (void)l2;
    (void)file;
    store_be64(l1 + 8, PAST_THE_END);
}

/* A second refcount block, which counts nothing, where the compressed cluster was before; and what
 * is compressed is counted twice. */
static void leak_and_more_blocks(uint8_t *file, uint8_t *l1, uint8_t *l2)
{
    uint8_t *table = file + load_be64(file + 48);
    uint8_t *block = file + load_be64(table);
    (void)l1;
    (void)l2;
    assert_int_equal(load_be16(block + 2 * 7), 0);
    store_be16(block + 2 * 7, 1);
    memset(file + 7 * LARGE, 0, LARGE);
    store_be64(table + 8, 7 * LARGE);
    assert_int_equal(load_be16(block + 2 * 9), 1);
    store_be16(block + 2 * 9, 2);
}

static void break_a_table_entry(uint8_t *file, uint8_t *l1, uint8_t *l2)
{
    leak_and_more_blocks(file, l1, l2);
    store_be64(file + load_be64(file + 48) + 16, 512);
}

/* Two entries of the refcount table have the same block. */
static void share_a_block(uint8_t *file, uint8_t *l1, uint8_t *l2)
{
    uint8_t *table = file + load_be64(file + 48);
    leak_and_more_blocks(file, l1, l2);
    memcpy(table + 8, table, 8);
}

#define SHAPE(order, clusters, extended)                                      \
    {                                                                         \
        .cluster_bits = 14, .refcount_order = order, .is_extended = extended, \
        .disk_bytes = UINT64_C(clusters) * LARGE                              \
    }
#define FEW 32
#define MANY 3000 /* two L1 entries */

static const struct broken broken_ones[] = {
    {SHAPE(4, FEW, false), false, "all", lose_the_first_cluster, 0, NULL},
    {SHAPE(4, FEW, true), false, "all", lose_the_first_cluster, 0, NULL},
    {SHAPE(4, FEW, true), false, "all", lose_the_compressed_cluster, 0, NULL},
    {SHAPE(4, FEW, false), false, "all", lose_the_compressed_cluster, 0, NULL},
    {SHAPE(4, FEW, false), true, "all", lose_the_first_cluster, 0, NULL},
    {SHAPE(4, FEW, false), false, "all", give_the_first_cluster_twice, 0, NULL},
    {SHAPE(0, FEW, false), false, "all", give_the_first_cluster_twice, -ERANGE,
     "a cluster has more references than its refcount can say"},
    {SHAPE(4, MANY, false), false, "all", point_l1_nowhere, -EIO, "1 errors are left"},
    {SHAPE(4, MANY, false), false, "all", point_l1_past_the_end, -EIO, "errors are left"},
    {SHAPE(4, MANY, false), false, "leaks", point_l1_nowhere, -EINVAL, "repair it with"},
    {SHAPE(4, FEW, false), false, "leaks", leak_and_more_blocks, 0, NULL},
    {SHAPE(4, FEW, false), false, "leaks", break_a_table_entry, -EINVAL, "refcount table"},
    {SHAPE(4, FEW, false), false, "all", break_a_table_entry, 0, NULL},
    {SHAPE(4, FEW, false), false, "leaks", share_a_block, -EINVAL, "a refcount block both have"},
};

static void what_is_broken_is_mended_or_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(broken_ones) / sizeof(*broken_ones); i++) {
        struct fixture fixture;
        fixture_init(&fixture, drivers, 0, 64 * LARGE, 1);
        print_message("broken %zu\n", i);
        fixture_run(&fixture, co_mend, (void *)(uintptr_t)&broken_ones[i]);
        fixture_fini(&fixture);
    }
}

/* --- what cannot be repaired --------------------------------------------------------------------
 */

static void co_too_long(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    (void)arg;
    make_image(fixture->disk.data);
    fixture->disk.size_bytes = UINT64_C(1) << 40; /* new tables would have to lie behind that */
    assert_int_equal(co_open(fixture, &err), -EFBIG);
    assert_non_null(strstr(err.message, "cannot repair"));
}

/* What the file never had would show the backing file, and version 2 has no zeroes to hide it. */
static void co_nothing_to_hide_with(struct fixture *fixture, void *arg)
{
    static const struct broken broken = {.image = SHAPE(4, FEW, false), .is_version_2 = true};
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    uint8_t *file = fixture->disk.data;
    (void)arg;
    co_write_some(fixture, &broken);
    uint8_t *l1 = file + load_be64(file + 40);
    lose_the_first_cluster(file, l1, file + (load_be64(l1) & QCOW2_ENTRY_OFFSET));
    store_be64(file + 8, 400);
    store_be32(file + 16, 4);
    memcpy(file + 400, "base", 4);
    node_options_set(options, "driver", "qcow2", NULL);
    node_options_set(options, "repair", "all", NULL);
    node_options_set(options, "backing.driver", "raw", NULL);
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    memory_disk_options(&backing, options, "backing.file.", "file");
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, &err), -EIO);
    assert_non_null(strstr(err.message, "cannot repair"));
}

static void co_read_only(struct fixture *fixture, void *arg)
{
    static const struct broken broken = {.image = SHAPE(4, FEW, false)};
    struct error err = {.message = ""};
    struct qcow2_check before, after;
    struct node_options *options = node_options_new();
    (void)arg;
    co_write_some(fixture, &broken);
    node_options_set(options, "driver", "qcow2", NULL);
    node_options_set(options, "read-only", "on", NULL);
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, &err), 0);
    assert_int_equal(qcow2_image_co_repair(qcow2_of(fixture->node), QCOW2_REPAIR_ALL, NULL, NULL,
                                           &before, &after, &err),
                     -EPERM);
}

static void what_cannot_be_repaired_is_said(void **state)
{
    static void (*const tests[])(struct fixture *, void *) = {co_too_long, co_nothing_to_hide_with,
                                                              co_read_only};
    (void)state;
    memory_disk_init(&backing, 64 * LARGE, 64 * LARGE, 1);
    for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
        struct fixture fixture;
        fixture_init(&fixture, drivers, 0, 64 * LARGE, 1);
        fixture_run(&fixture, tests[i], NULL);
        fixture_fini(&fixture);
    }
    memory_disk_fini(&backing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dirty_image_is_repaired_before_it_is_written),
        cmocka_unit_test(what_points_past_the_end_is_gone_before_something_is_written_there),
        cmocka_unit_test(a_repair_that_fails_at_any_call_can_be_made_again),
        cmocka_unit_test(what_is_broken_is_mended_or_refused),
        cmocka_unit_test(what_cannot_be_repaired_is_said),
    };
    drivers[0] = &format_qcow2;
    drivers[1] = memory_drivers[0];
    drivers[2] = memory_drivers[1];
    drivers[3] = &format_raw;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
