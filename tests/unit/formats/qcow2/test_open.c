/* SPDX-License-Identifier: BSD-3-Clause */
/* Images whose header says what cannot be, and what an image that is only read refuses. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/reopen.h"
#include "common/endian.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/resize.h"
#include "formats/raw.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CAPACITY_BYTES (1u << 20)
#define DISK_BYTES (256u << 10)

static const struct block_driver *drivers[4];
static struct memory_disk data_disk;

static int co_open(struct fixture *fixture, const char *text, bool has_data_file, struct error *err)
{
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, text, NULL), 0);
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    if (has_data_file)
        memory_disk_options(&data_disk, options, "data-file.", "growing");
    node_options_set(options, "driver", "qcow2", NULL);
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

static void co_refused(struct fixture *fixture, const char *text, const char *why)
{
    struct error err = {.message = ""};
    assert_true(co_open(fixture, text, false, &err) < 0);
    if (!strstr(err.message, why))
        fail_msg("'%s' does not say '%s'", err.message, why);
}

static void make(struct memory_disk *disk, uint32_t cluster_bits, bool has_data_file)
{
    const struct memory_image image = {.cluster_bits = cluster_bits,
                                       .refcount_order = 4,
                                       .has_data_file = has_data_file,
                                       .disk_bytes = DISK_BYTES};
    memory_image_make(disk, &image);
}

static void co_a_name_lies_in_the_file(struct fixture *fixture, void *arg)
{
    (void)arg;
    make(&fixture->disk, 16, false);
    fixture->disk.size_bytes = 8192; /* the rest is lost */
    store_be64(fixture->disk.data + 8, 8190);
    store_be32(fixture->disk.data + 16, 4);
    co_refused(fixture, "read-only=on", "its refcount_table_offset is 0x10000: ");
    make(&fixture->disk, 12, false);
    store_be64(fixture->disk.data + 8, 1000);
    store_be32(fixture->disk.data + 16, 4);
    memcpy(fixture->disk.data + 1000, "b\0se", 4);
    co_refused(fixture, "read-only=on", "has a 0 in it");
}

static void co_a_snapshot_is_only_read(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    struct block_backend *backend;
    struct qcow2_resize resize = {.size_bytes = 2 * DISK_BYTES};
    (void)arg;
    make(&fixture->disk, 12, false);
    memory_image_add_snapshot(&fixture->disk);
    co_refused(fixture, "load-snapshot=1", "can only be read");
    co_refused(fixture, "read-only=on,load-snapshot=other", "it has no snapshot 'other'");
    assert_int_equal(co_open(fixture, "read-only=on,load-snapshot=then", false, &err), 0);
    assert_int_equal(qcow2_co_resize_as(fixture->node, &resize, &err), -EPERM);
    assert_non_null(strstr(err.message, "open read-only"));
    assert_int_equal(block_backend_new(&backend, fixture->node, true, NULL), 0);
    struct node_options *options = node_options_new();
    node_options_parse(options, "read-only=off", NULL);
    assert_true(block_co_reopen(backend, options, &err) < 0);
    assert_true(fixture->node->read_only);
    assert_int_equal(block_co_backend_free(backend), 0);
}

/* An old one, which the format allows up to version 2. */
static void co_a_snapshot_without_a_size_keeps_the_disks(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    struct qcow2_resize resize = {.size_bytes = 2 * DISK_BYTES};
    (void)arg;
    make(&fixture->disk, 12, false);
    memory_image_add_snapshot(&fixture->disk);
    uint8_t *entry = fixture->disk.data + load_be64(fixture->disk.data + 64);
    memmove(entry + 48, entry + 64, 5); /* id and name behind 8 bytes of extra data, not 24 */
    store_be32(entry + 36, 8);
    assert_int_equal(co_open(fixture, "", false, &err), 0);
    assert_int_equal(qcow2_co_resize_as(fixture->node, &resize, &err), -ENOTSUP);
    assert_non_null(strstr(err.message, "has no size of its own"));
}

/* There is no end to what remembering all such places would cost. */
static void co_a_table_far_past_the_end(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    (void)arg;
    make(&fixture->disk, 12, false);
    memory_image_add_snapshot(&fixture->disk);
    store_be64(fixture->disk.data + load_be64(fixture->disk.data + 64), UINT64_C(1) << 50);
    co_refused(fixture, "", "it has tables far past the end of the file");
    assert_int_equal(co_open(fixture, "read-only=on", false, &err), 0);
}

/* Who only reads may ask for a flush: of what others wrote, in both files. */
static void co_a_flush_of_what_is_only_read(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    (void)arg;
    for (unsigned has_data_file = 0; has_data_file < 2; has_data_file++) {
        make(&fixture->disk, 12, has_data_file);
        assert_int_equal(co_open(fixture, "read-only=on", has_data_file, &err), 0);
        assert_int_equal(format_qcow2.co_flush(fixture->node), 0);
        fixture->disk.fail_ops = 1u << MEMORY_FLUSH;
        fixture->disk.fail_code = -EIO;
        fixture_co_close(fixture);
        assert_int_equal(co_open(fixture, "read-only=on", has_data_file, &err), 0);
        assert_int_equal(format_qcow2.co_flush(fixture->node), -EIO);
        fixture->disk.fail_code = 0;
        fixture_co_close(fixture);
    }
}

static void co_other_files_are_described(struct fixture *fixture, void *arg)
{
    static const char backing[] =
        "backing.driver=raw,backing.read-only=on,backing.file.driver=growing";
    struct error err = {.message = ""};
    (void)arg;
    make(&fixture->disk, 12, true);
    co_refused(fixture, "", "does not say which");
    make(&fixture->disk, 12, false);
    store_be64(fixture->disk.data + 8, 1000);
    store_be32(fixture->disk.data + 16, 4);
    memcpy(fixture->disk.data + 1000, "base", 4);
    co_refused(fixture, backing, "it is the backing file of");
    assert_true(co_open(fixture, backing, false, NULL) < 0); /* who does not want to know why */
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, backing, NULL), 0);
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    memory_disk_options(&data_disk, options, "backing.file.", "growing");
    node_options_set(options, "driver", "qcow2", NULL);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(qcow2_of(fixture->node)->backing->read_only);
}

/* Another program damages it while it is open. */
static void co_what_only_memory_says_marks_nothing(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    struct block_extent extent;
    uint8_t byte = 1;
    (void)arg;
    make(&fixture->disk, 12, false);
    assert_int_equal(co_open(fixture, "", false, &err), 0);
    assert_int_equal(fixture_co_write(fixture->node, 0, &byte, 1, 0), 0);
    fixture_co_close(fixture);
    uint64_t l2 = load_be64(fixture->disk.data + 3 * 4096) & QCOW2_ENTRY_OFFSET;
    store_be64(fixture->disk.data + l2 + 8, QCOW2_ENTRY_COPIED | 512); /* in a cluster's middle */
    assert_int_equal(co_open(fixture, "", false, &err), 0);
    assert_int_equal(fixture_co_read(fixture->node, 0, &byte, 1), 0); /* the table is in memory */
    format_qcow2.status_remembered(fixture->node, 4096, 4096, &extent);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ALLOCATED);
    assert_false(qcow2_is_corrupt(qcow2_of(fixture->node)));
    assert_int_equal(fixture_co_read(fixture->node, 4096, &byte, 1), -EIO);
    assert_true(qcow2_is_corrupt(qcow2_of(fixture->node)));
}

/* The table that its only snapshot has is also the disk's. */
static void co_a_snapshot_with_a_table_of_the_disk(struct fixture *fixture, void *arg)
{
    (void)arg;
    make(&fixture->disk, 12, false);
    memory_image_add_snapshot(&fixture->disk);
    uint8_t *entry = fixture->disk.data + load_be64(fixture->disk.data + 64);
    store_be64(entry, 3 * 4096);
    co_refused(fixture, "", "an L1 table and an L1 table both have");
    store_be64(entry, 4096);
    co_refused(fixture, "", "both have");
}

static void co_probing_wants_a_version(struct fixture *fixture, void *arg)
{
    uint8_t head[8];
    (void)fixture;
    (void)arg;
    store_be32(head, QCOW2_MAGIC);
    store_be32(head + 4, 3);
    assert_int_equal(format_qcow2.probe(head, 8), 100);
    assert_int_equal(format_qcow2.probe(head, 7), 0);
    store_be32(head + 4, 1); /* qcow, the older format */
    assert_int_equal(format_qcow2.probe(head, 8), 0);
}

#define TESTS(X)                                 \
    X(a_name_lies_in_the_file)                   \
    X(a_snapshot_is_only_read)                   \
    X(a_snapshot_without_a_size_keeps_the_disks) \
    X(a_table_far_past_the_end)                  \
    X(a_flush_of_what_is_only_read)              \
    X(other_files_are_described)                 \
    X(what_only_memory_says_marks_nothing)       \
    X(a_snapshot_with_a_table_of_the_disk)       \
    X(probing_wants_a_version)

#define DEFINE(name) FIXTURE_TEST_WITH(name, drivers, 0, CAPACITY_BYTES)
TESTS(DEFINE)

int main(void)
{
#define LIST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST)};
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &format_qcow2;
    drivers[2] = &format_raw;
    memory_disk_init(&data_disk, DISK_BYTES, DISK_BYTES, 1);
    int ret = cmocka_run_group_tests(tests, NULL, NULL);
    memory_disk_fini(&data_disk);
    return ret;
}
