/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Images that are opened again: read-only and back, with other caches; what is refused; and what a
 * change that fails leaves.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/reopen.h"
#include "common/endian.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/image.h"
#include "formats/raw.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CAPACITY_BYTES (4u << 20)
#define INCOMPATIBLE_LAST_BYTE 79
#define COMPATIBLE_LAST_BYTE 87
#define AUTOCLEAR_FIRST_BYTE 88

static const struct memory_image shape = {
    .cluster_bits = 12, .refcount_order = 4, .disk_bytes = 1 << 20};

/* The disk of memory_driver.h, which can be opened again. */
static struct block_driver disk_driver;
static bool disk_refuses;

static int disk_co_prepare(struct block_node *node, struct block_reopen *reopen, struct error *err)
{
    (void)reopen;
    return disk_refuses ? error_set(err, -EACCES, "'%s' stays as it is", node->name) : 0;
}

static const struct block_driver_admin disk_admin = {.co_reopen_prepare = disk_co_prepare};
static const struct block_driver *drivers[5];
static struct memory_disk backing;

static struct block_backend *co_open(struct fixture *fixture, const char *text)
{
    struct error err = {.message = ""};
    struct block_backend *backend;
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, text, NULL), 0);
    node_options_set(options, "driver", "qcow2", NULL);
    memory_disk_options(&fixture->disk, options, "file.", "disk");
    if (node_options_has_below(options, "backing"))
        memory_disk_options(&backing, options, "backing.file.", "disk");
    disk_refuses = false;
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(block_backend_new(&backend, fixture->node, fixture->node->read_only, NULL), 0);
    return backend;
}

static void co_close(struct fixture *fixture, struct block_backend *backend)
{
    assert_int_equal(block_co_backend_free(backend), 0);
    fixture_co_close(fixture);
}

static int co_reopen(struct block_backend *backend, const char *text, struct error *err)
{
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, text, NULL), 0);
    return block_co_reopen(backend, options, err);
}

static void co_expect_reopen(struct block_backend *backend, const char *text)
{
    struct error err = {.message = ""};
    if (co_reopen(backend, text, &err) < 0)
        fail_msg("%s: %s", text, err.message);
}

static void co_expect_refusal(struct block_backend *backend, const char *text, const char *why)
{
    struct error err = {.message = ""};
    assert_true(co_reopen(backend, text, &err) < 0);
    if (!strstr(err.message, why))
        fail_msg("%s: '%s' does not say '%s'", text, err.message, why);
}

static int co_write(struct block_backend *backend, uint64_t offset, size_t length, int byte)
{
    static uint8_t data[65536];
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    memset(data, byte, length);
    return block_co_write(backend, offset, &vec, 0);
}

static void co_expect(struct block_backend *backend, uint64_t offset, size_t length, int byte)
{
    static uint8_t data[65536];
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    assert_int_equal(block_co_read(backend, offset, &vec), 0);
    for (size_t i = 0; i < length; i++)
        assert_int_equal(data[i], byte);
}

static void expect_sound(const struct memory_disk *disk)
{
    struct memory_image_faults faults = memory_image_check(disk);
    assert_int_equal(faults.errors, 0);
    assert_int_equal(faults.leaks, 0);
}

/* --- rights -------------------------------------------------------------------------------------
 */

/* QEMU 4c2e5f8f46, dd577a26ff: read-only with metadata in memory, and what the next one then sees.
 */
static void co_read_only_with_metadata_unflushed(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    memory_image_make(disk, &shape);
    disk->data[COMPATIBLE_LAST_BYTE] = QCOW2_COMPATIBLE_LAZY_REFCOUNTS;
    struct block_backend *backend = co_open(fixture, "");
    assert_int_equal(co_write(backend, 0, 50000, 1), 0);
    assert_int_equal(co_write(backend, 100000, 30000, 2), 0);
    assert_int_equal(block_co_discard(backend, 20480, 8192, 0), 0);
    co_expect_reopen(backend, "read-only=on");
    expect_sound(disk);
    assert_int_equal(disk->data[INCOMPATIBLE_LAST_BYTE], 0); /* not dirty any more */
    memory_disk_forget_calls(disk);
    assert_int_equal(co_write(backend, 0, 512, 3), -EPERM);
    co_expect(backend, 100000, 30000, 2);
    co_expect(backend, 20480, 8192, 0);

    struct block_node *other; /* another server's */
    struct node_options *options = node_options_new();
    memory_disk_options(disk, options, "file.", "disk");
    node_options_set(options, "driver", "qcow2", NULL);
    node_options_set(options, "read-only", "on", NULL);
    assert_int_equal(block_co_open(&fixture->env, options, &other, NULL), 0);
    uint8_t data[30000];
    assert_int_equal(fixture_co_read(other, 100000, data, sizeof(data)), 0);
    assert_int_equal(data[0] | data[29999], 2);
    block_co_node_unref(other);
    assert_int_equal(disk->counts[MEMORY_WRITE] + disk->counts[MEMORY_ZERO], 0);

    co_expect_reopen(backend, "read-only=off");
    assert_int_equal(co_write(backend, 0, 512, 3), 0);
    assert_int_equal(co_write(backend, 500000, 30000, 4), 0);
    assert_int_equal(disk->data[INCOMPATIBLE_LAST_BYTE], QCOW2_INCOMPATIBLE_DIRTY);
    co_expect_reopen(backend, "read-only=on");
    expect_sound(disk);
    co_expect_reopen(backend, "read-only=off");
    co_expect(backend, 0, 512, 3);
    co_expect(backend, 512, 19968, 1);
    co_expect(backend, 500000, 30000, 4);
    co_close(fixture, backend);
    expect_sound(disk);
}

/* Stored before the image is read-only, kept again when it is not. */
static void co_bitmaps_are_kept_over_it(struct fixture *fixture, void *arg)
{
    static const struct memory_bitmap bitmap = {
        .name = "b", .flags = QCOW2_BITMAP_AUTO, .granularity_bits = 12};
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    memory_image_make(disk, &shape);
    memory_image_add_bitmaps(disk, &bitmap, 1);
    struct block_backend *backend = co_open(fixture, "read-only=on");
    for (unsigned round = 0; round < 3; round++) {
        co_expect_reopen(backend, "read-only=off");
        assert_int_equal(memory_image_bitmap_flags(disk, "b"), QCOW2_BITMAP_AUTO);
        assert_int_equal(co_write(backend, round * 8192, 4096, 1), 0);
        assert_true(memory_image_bitmap_flags(disk, "b") & QCOW2_BITMAP_IN_USE);
        co_expect_reopen(backend, "l2-cache-size=16k,lazy-refcounts=on");
        co_expect_reopen(backend, "read-only=on");
        assert_int_equal(memory_image_bitmap_flags(disk, "b"), QCOW2_BITMAP_AUTO);
        for (unsigned i = 0; i < 8; i++)
            assert_int_equal(memory_image_bitmap_get(disk, "b", i), i % 2 == 0 && i <= 2 * round);
        expect_sound(disk);
    }
    disk->fail_ops = 1u << MEMORY_WRITE;
    disk->fail_code = -EIO;
    co_expect_reopen(backend, "read-only=off");
    assert_int_equal(co_write(backend, 0, 4096, 1), -EIO);
    disk->fail_code = 0;
    assert_int_equal(co_write(backend, 7 * 4096, 4096, 1), 0);
    co_close(fixture, backend);
    assert_int_equal(memory_image_bitmap_flags(disk, "b"), QCOW2_BITMAP_AUTO);
    assert_true(memory_image_bitmap_get(disk, "b", 7));
    expect_sound(disk);
}

/* What an open for writing does is done then. */
static void co_unknown_autoclear_bits_are_cleared(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    memory_image_make(disk, &shape);
    disk->data[AUTOCLEAR_FIRST_BYTE] = 0x40;
    struct block_backend *backend = co_open(fixture, "read-only=on");
    assert_int_equal(disk->data[AUTOCLEAR_FIRST_BYTE], 0x40);
    co_expect_reopen(backend, "read-only=off");
    assert_int_equal(disk->data[AUTOCLEAR_FIRST_BYTE], 0);
    assert_int_equal(co_write(backend, 0, 512, 1), 0);
    co_close(fixture, backend);

    disk->data[AUTOCLEAR_FIRST_BYTE] = 0x40;
    backend = co_open(fixture, "read-only=on");
    disk->fail_ops = 1u << MEMORY_WRITE;
    disk->fail_code = -EIO;
    co_expect_reopen(backend, "read-only=off");
    disk->fail_code = 0;
    assert_int_equal(co_write(backend, 0, 512, 2), -EIO); /* a bit that is not true any more */
    co_expect(backend, 0, 512, 1);
    assert_int_equal(block_co_backend_free(backend), 0);
    fixture_co_close(fixture);
}

static void co_who_may_not_be_written_stays_read_only(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    memory_image_make(disk, &shape);
    disk->data[INCOMPATIBLE_LAST_BYTE] = QCOW2_INCOMPATIBLE_DIRTY;
    struct block_backend *backend = co_open(fixture, "read-only=on");
    co_expect_refusal(backend, "read-only=off", "was not closed properly");
    assert_true(block_backend_is_read_only(backend));
    co_close(fixture, backend);
    disk->data[INCOMPATIBLE_LAST_BYTE] = QCOW2_INCOMPATIBLE_CORRUPT;
    backend = co_open(fixture, "read-only=on");
    co_expect_refusal(backend, "read-only=off", "it is corrupt");
    co_close(fixture, backend);
    disk->data[INCOMPATIBLE_LAST_BYTE] = 0;
    backend = co_open(fixture, "read-only=on");
    store_be64(disk->data + 4096, 4096); /* the refcount block is the table */
    co_expect_refusal(backend, "read-only=off", "both have the cluster");
    co_expect(backend, 0, 4096, 0);
    store_be64(disk->data + 4096, 2 * 4096);
    co_expect_reopen(backend, "read-only=off");
    co_close(fixture, backend);
    expect_sound(disk);
}

/* A backing file stays as it was opened. */
static void co_a_backing_file_stays_read_only(struct fixture *fixture, void *arg)
{
    (void)arg;
    memory_image_make(&fixture->disk, &shape);
    memset(backing.data, 9, backing.size_bytes);
    struct block_backend *backend = co_open(fixture, "read-only=on,backing.driver=raw");
    co_expect_reopen(backend, "read-only=off");
    assert_true(fixture->node->backing->read_only);
    assert_false(fixture->node->file->read_only);
    assert_int_equal(co_write(backend, 0, 512, 1), 0);
    co_expect(backend, 512, 4096, 9);
    co_expect_refusal(backend, "backing.file.disk=other", "backing.file.disk");
    co_expect_refusal(backend, "backing.driver=qcow2", "backing.driver");
    co_close(fixture, backend);
    expect_sound(&fixture->disk);
}

/* --- failures -----------------------------------------------------------------------------------
 */

static void co_a_change_that_fails_leaves_it_as_it_was(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    memory_image_make(disk, &shape);
    struct block_backend *backend = co_open(fixture, "");
    assert_int_equal(co_write(backend, 0, 50000, 1), 0);
    disk_refuses = true; /* after the image has prepared */
    co_expect_refusal(backend, "read-only=on,l2-cache-size=64k", "stays as it is");
    assert_false(fixture->node->read_only);
    assert_int_equal(co_write(backend, 60000, 50000, 2), 0);
    co_expect(backend, 0, 50000, 1);
    disk_refuses = false;
    co_expect_reopen(backend, "read-only=on");
    disk_refuses = true;
    co_expect_refusal(backend, "read-only=off", "stays as it is");
    assert_true(fixture->node->read_only);
    assert_int_equal(co_write(backend, 60000, 50000, 2), -EPERM);
    disk_refuses = false;
    co_expect_reopen(backend, "read-only=off");
    assert_int_equal(co_write(backend, 160000, 50000, 3), 0);
    co_close(fixture, backend);
    expect_sound(disk);

    /* What cannot be written cannot be left to others. */
    backend = co_open(fixture, "");
    assert_int_equal(co_write(backend, 400000, 50000, 1), 0);
    disk->fail_ops = 1u << MEMORY_WRITE;
    disk->fail_code = -ENOSPC;
    co_expect_refusal(backend, "read-only=on", "could not be made durable");
    disk->fail_code = 0;
    assert_false(fixture->node->read_only);
    co_expect(backend, 400000, 50000, 1);
    assert_true(block_co_backend_free(backend) < 0);
    fixture_co_close(fixture);
    expect_sound(disk);

    /* Refcounts that were late are left in memory by a flush. */
    backend = co_open(fixture, "lazy-refcounts=on");
    assert_int_equal(co_write(backend, 600000, 50000, 1), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    disk->fail_code = -ENOSPC;
    co_expect_refusal(backend, "read-only=on", "its tables could not be written");
    disk->fail_code = 0;
    assert_false(fixture->node->read_only);
    co_close(fixture, backend);
    expect_sound(disk);
}

/* --- options ------------------------------------------------------------------------------------
 */

static void co_caches_and_lazy_refcounts_are_changed(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    memory_image_make(disk, &shape);
    struct block_backend *backend = co_open(fixture, "l2-cache-size=128k");
    const struct qcow2_image *image = qcow2_of(fixture->node);
    const struct cache *before = image->cache;
    assert_int_equal(co_write(backend, 0, 50000, 1), 0);
    co_expect_reopen(backend, "cache-clean-interval=600,l2-cache-size=128k");
    assert_ptr_equal(image->cache, before); /* nothing is another one */
    co_expect_reopen(backend, "cache-clean-interval=7,l2-cache-entry-size=512");
    assert_ptr_not_equal(image->cache, before);
    assert_int_equal(image->cache_sizes.l2_bytes, 128 << 10); /* stays */
    assert_int_equal(image->cache_sizes.clean_interval_s, 7);
    assert_int_equal(image->l2_slice_bytes, 512);
    co_expect(backend, 0, 50000, 1);
    assert_int_equal(co_write(backend, 25000, 50000, 2), 0);
    co_expect_reopen(backend, "cache-size=1M");
    assert_int_equal(image->cache_sizes.l2_bytes + image->cache_sizes.refcount_bytes, 1 << 20);
    co_expect(backend, 25000, 50000, 2);
    assert_int_equal(disk->data[INCOMPATIBLE_LAST_BYTE], 0);
    co_expect_reopen(backend, "lazy-refcounts=on");
    assert_int_equal(co_write(backend, 200000, 5000, 2), 0);
    assert_int_equal(disk->data[INCOMPATIBLE_LAST_BYTE], QCOW2_INCOMPATIBLE_DIRTY);
    co_expect_reopen(backend, "lazy-refcounts=off");
    assert_int_equal(disk->data[INCOMPATIBLE_LAST_BYTE], 0);
    assert_int_equal(co_write(backend, 300000, 5000, 2), 0);
    assert_int_equal(disk->data[INCOMPATIBLE_LAST_BYTE], 0);

    co_expect_refusal(backend, "l2-cache-entry-size=3k", "l2-cache-entry-size is 3072");
    co_expect_refusal(backend, "lazy-refcounts=perhaps", "lazy-refcounts");
    co_expect_refusal(backend, "load-snapshot=1", "load-snapshot");
    co_expect_refusal(backend, "repair=all", "repair");
    co_expect(backend, 25000, 50000, 2);
    co_close(fixture, backend);
    expect_sound(disk);
    disk->data[7] = 2; /* the version */
    backend = co_open(fixture, "");
    co_expect_refusal(backend, "lazy-refcounts=on", "version 3 is needed");
    co_close(fixture, backend);
}

/* --- damage -------------------------------------------------------------------------------------
 */

/* By another program, while it is open: the first cluster is read, and lies nowhere. */
static void co_damage(struct fixture *fixture, struct block_backend *backend)
{
    struct iovec iov;
    uint8_t data[512];
    struct block_vec vec = vec_of_buffer(&iov, data, sizeof(data));
    uint8_t *file = fixture->disk.data;
    uint64_t l2 = load_be64(file + load_be64(file + 40)) & QCOW2_ENTRY_OFFSET;
    store_be64(file + l2, QCOW2_ENTRY_COPIED | 512);
    assert_int_equal(block_co_read(backend, 0, &vec), -EIO);
    assert_true(qcow2_is_corrupt(qcow2_of(fixture->node)));
}

static void co_what_is_corrupt_is_not_written_after_it(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    memory_image_make(disk, &shape);
    struct block_backend *backend = co_open(fixture, "");
    assert_int_equal(co_write(backend, 0, 50000, 1), 0);
    co_close(fixture, backend);
    backend = co_open(fixture, "read-only=on");
    co_damage(fixture, backend);
    co_expect_refusal(backend, "read-only=off", "it is corrupt");
    co_close(fixture, backend);

    backend = co_open(fixture, "");
    co_damage(fixture, backend);
    co_expect_reopen(backend, "cache-size=1M");
    assert_int_equal(co_write(backend, 4096, 512, 2), -EIO);
    co_close(fixture, backend);
}

#define TESTS(X)                               \
    X(read_only_with_metadata_unflushed)       \
    X(bitmaps_are_kept_over_it)                \
    X(unknown_autoclear_bits_are_cleared)      \
    X(who_may_not_be_written_stays_read_only)  \
    X(a_backing_file_stays_read_only)          \
    X(a_change_that_fails_leaves_it_as_it_was) \
    X(caches_and_lazy_refcounts_are_changed)   \
    X(what_is_corrupt_is_not_written_after_it)

#define DEFINE_TEST(name) FIXTURE_TEST_WITH(name, drivers, 0, CAPACITY_BYTES)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    disk_driver = *memory_drivers[1]; /* growing */
    disk_driver.name = "disk";
    disk_driver.admin = &disk_admin;
    drivers[0] = &disk_driver;
    drivers[1] = &format_raw;
    drivers[2] = &format_qcow2;
    memory_disk_init(&backing, shape.disk_bytes, shape.disk_bytes, 1);
    int ret = cmocka_run_group_tests(tests, NULL, NULL);
    memory_disk_fini(&backing);
    return ret;
}
