/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The check of an image with bitmaps and a snapshot, one thing of it broken at a time: what is
 * said, and what it counts as.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

#include "common/endian.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/layout.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CAPACITY_BYTES (1u << 20)
#define CLUSTER 512u
#define FAR_AWAY (UINT64_C(1) << 40)

/* The bitmap's table, and each L1 table, has more than one cluster. */
static const struct memory_image small_clusters = {
    .cluster_bits = 9, .refcount_order = 4, .disk_bytes = UINT64_C(140) << 20};
static const struct memory_image large_clusters = {
    .cluster_bits = 12, .refcount_order = 4, .disk_bytes = UINT64_C(1) << 20};
static const struct memory_image *shape;
static const struct memory_bitmap bitmap = {
    .name = "b", .flags = QCOW2_BITMAP_AUTO, .granularity_bits = 9};
static const struct block_driver *drivers[3];

static int co_open(struct fixture *fixture, bool read_only, struct error *err)
{
    struct node_options *options = node_options_new();
    node_options_set(options, "driver", "qcow2", NULL);
    node_options_set(options, "read-only", read_only ? "on" : "off", NULL);
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

/* Places in the file. */
static uint8_t *at(struct fixture *fixture, uint64_t offset)
{
    assert_true(offset < CAPACITY_BYTES);
    return fixture->disk.data + offset;
}

static uint8_t *pointed(struct fixture *fixture, uint64_t offset)
{
    return at(fixture, load_be64(at(fixture, offset)) & QCOW2_ENTRY_OFFSET);
}

struct places {
    uint8_t *l1, *l2, *refcount_table, *refcount_block, *snapshot, *directory, *bitmap_table;
    uint8_t *bitmaps; /* the extension's data */
};

static struct places find_places(struct fixture *fixture)
{
    struct places places = {
        .l1 = pointed(fixture, 40),
        .refcount_table = pointed(fixture, 48),
        .snapshot = pointed(fixture, 64),
        .bitmaps = at(fixture, QCOW2_HEADER_OURS_BYTES + 8),
        .directory = memory_image_bitmap_entry(&fixture->disk, "b"),
    };
    places.l2 = at(fixture, load_be64(places.l1) & QCOW2_ENTRY_OFFSET);
    places.refcount_block = at(fixture, load_be64(places.refcount_table));
    places.bitmap_table = at(fixture, load_be64(places.directory));
    return places;
}

static void co_make(struct fixture *fixture)
{
    static uint8_t data[8 * CLUSTER];
    memory_image_make(&fixture->disk, shape);
    memory_image_add_bitmaps(&fixture->disk, &bitmap, 1);
    memset(data, 3, sizeof(data));
    assert_int_equal(co_open(fixture, false, NULL), 0);
    assert_int_equal(fixture_co_write(fixture->node, 0, data, sizeof(data), 0), 0);
    fixture_co_close(fixture);
    memory_image_add_snapshot(&fixture->disk);
}

struct seen {
    const char *wanted;
    bool is_there;
    char all[4096];
};

static void see(void *arg, const char *sentence)
{
    struct seen *seen = arg;
    size_t used = strlen(seen->all);
    seen->is_there |= strstr(sentence, seen->wanted) != NULL;
    snprintf(seen->all + used, sizeof(seen->all) - used, "%s\n", sentence);
}

/* Checks it, and that this is said; then everything is as before. */
static struct qcow2_check co_expect(struct fixture *fixture, const char *sentence)
{
    struct qcow2_check check;
    struct seen seen = {.wanted = sentence};
    struct error err = {.message = ""};
    if (co_open(fixture, true, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(qcow2_co_check(fixture->node, see, &seen, &check, &err), 0);
    fixture_co_close(fixture);
    if (!seen.is_there && *sentence)
        fail_msg("nothing says '%s':\n%s", sentence, seen.all);
    co_make(fixture);
    return check;
}

static void co_a_sound_image_has_nothing(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_make(fixture);
    struct qcow2_check check = co_expect(fixture, "");
    assert_int_equal(check.errors + check.leaks + check.unreadable, 0);
    assert_int_equal(check.data_clusters, 8);
    assert_int_equal(check.end_offset, fixture->disk.size_bytes);
}

#define EXPECT_ERROR(sentence, ...)                           \
    do {                                                      \
        struct places to = find_places(fixture);              \
        __VA_ARGS__;                                          \
        assert_true(co_expect(fixture, sentence).errors > 0); \
        (void)to;                                             \
    } while (0)
#define EXPECT_UNREADABLE(sentence, ...)                          \
    do {                                                          \
        struct places to = find_places(fixture);                  \
        __VA_ARGS__;                                              \
        assert_true(co_expect(fixture, sentence).unreadable > 0); \
        (void)to;                                                 \
    } while (0)

static void co_tables_that_break_a_rule_are_errors(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_make(fixture);
    EXPECT_ERROR("the refcount table's entry 0 has reserved bits",
                 store_be64(to.refcount_table, load_be64(to.refcount_table) | 0x100));
    EXPECT_ERROR("a refcount block at 0x10000000000 lies past the end",
                 store_be64(to.refcount_table, FAR_AWAY));
    EXPECT_ERROR("a refcount block at 0x10000000000 lies past the end",
                 store_be64(to.refcount_table + 8, FAR_AWAY));
    EXPECT_ERROR("the L1 entry 0x8000000000000001 of 0x0 has reserved bits",
                 store_be64(to.l1, QCOW2_ENTRY_COPIED | 1));
    EXPECT_ERROR("an L2 table at 0x10000000000 lies past the end", store_be64(to.l1, FAR_AWAY));
    EXPECT_ERROR("is marked as copied, and its refcount is 2",
                 store_be64(to.l1, load_be64(to.l1) | QCOW2_ENTRY_COPIED));
    EXPECT_ERROR("a cluster at 0x10000000000 lies past the end", store_be64(to.l2, FAR_AWAY));
    EXPECT_ERROR("has reserved bits", store_be64(to.l2, load_be64(to.l2) | 2));
    EXPECT_ERROR("the bitmap 'b': ", store_be64(to.bitmap_table + 69 * 8, 2));
    EXPECT_ERROR("a bitmap's cluster at 0x10000000000 lies past the end",
                 store_be64(to.bitmap_table, FAR_AWAY));
    EXPECT_ERROR("a bitmap's table at 0x10000000000 lies past the end",
                 store_be64(to.directory, FAR_AWAY));
    EXPECT_ERROR("a snapshot's L1 table at 0x10000000000 lies past the end",
                 store_be64(to.snapshot, FAR_AWAY));
    /* It begins in the file's last cluster but one, and has 70. */
    EXPECT_ERROR("a snapshot's L1 table at ",
                 store_be64(to.snapshot, fixture->disk.size_bytes - 2 * CLUSTER));
    EXPECT_ERROR("is used 2 times, and its refcount is 0",
                 store_be16(to.refcount_block + load_be64(to.l2) / CLUSTER * 2, 0));
}

static void co_tables_lie_on_clusters(struct fixture *fixture, void *arg)
{
    (void)arg;
    shape = &large_clusters;
    co_make(fixture);
    EXPECT_ERROR("the refcount table's entry 0: ",
                 store_be64(to.refcount_table, load_be64(to.refcount_table) + CLUSTER));
    EXPECT_ERROR("the L1 entry 0x", store_be64(to.l1, load_be64(to.l1) + CLUSTER));
    EXPECT_ERROR("the L2 entry 0x", store_be64(to.l2, load_be64(to.l2) + CLUSTER));
    shape = &small_clusters;
}

static void co_what_cannot_be_followed_is_unreadable(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_make(fixture);
    EXPECT_UNREADABLE("a bitmap's type is 9;", to.directory[16] = 9);
    EXPECT_UNREADABLE("the bitmap directory lies past the end of the file",
                      store_be64(to.bitmaps + 16, FAR_AWAY));
}

static void co_what_nobody_has_is_leaked(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_make(fixture);
    fixture->disk.data[95] = 0; /* the autoclear bit of bitmaps: another program changed the disk */
    struct qcow2_check check = co_expect(fixture, "leaked: the cluster at");
    assert_int_equal(check.errors, 0);
    assert_int_equal(check.leaks, 4);                /* table, directory, one cluster of bits */
    store_be64(find_places(fixture).bitmaps + 8, 0); /* the directory's size: it has no entry */
    check = co_expect(fixture, "leaked: the cluster at");
    assert_int_equal(check.leaks, 4); /* table, directory, one cluster of bits */
    assert_int_equal(check.unreadable, 0);
    store_be64(find_places(fixture).l2, 0);
    check = co_expect(fixture, "leaked: the cluster at");
    assert_int_equal(check.leaks, 1);
}

/* A snapshot of a disk of no bytes has no table. */
static void co_a_snapshot_without_a_table_is_fine(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_make(fixture);
    struct places places = find_places(fixture);
    store_be64(places.snapshot, 0);
    store_be32(places.snapshot + 8, 0);
    store_be64(places.snapshot + 40 + 8, 0); /* its disk's size */
    struct qcow2_check check = co_expect(fixture, "leaked");
    assert_int_equal(check.unreadable, 0);
    assert_true(check.leaks > 0);
}

#define TESTS(X)                             \
    X(a_sound_image_has_nothing)             \
    X(tables_that_break_a_rule_are_errors)   \
    X(tables_lie_on_clusters)                \
    X(what_cannot_be_followed_is_unreadable) \
    X(what_nobody_has_is_leaked) X(a_snapshot_without_a_table_is_fine)

#define DEFINE(name) FIXTURE_TEST_WITH(name, drivers, 0, CAPACITY_BYTES)
TESTS(DEFINE)

int main(void)
{
#define LIST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST)};
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &format_qcow2;
    shape = &small_clusters;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
