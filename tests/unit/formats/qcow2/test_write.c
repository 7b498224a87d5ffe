/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes, zeroes and discards of an image in memory: right against an array, without a leak after
 * the close, and with a failure at each call of the file below in turn. The shapes that qemu-img
 * makes are in tests/integration/qcow2_writes.py.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "formats/qcow2/driver.h"
#include "formats/qcow2/writer.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define DISK_BYTES (3u << 20)
#define CAPACITY_BYTES (8u << 20)
#define SECTOR 512

static const struct block_driver *drivers[3];

static const struct memory_image shapes[] = {
    {.cluster_bits = 9, .refcount_order = 6, .disk_bytes = DISK_BYTES}, /* its table grows */
    {.cluster_bits = 12, .refcount_order = 0, .disk_bytes = DISK_BYTES},
    {.cluster_bits = 16, .refcount_order = 4, .disk_bytes = DISK_BYTES - SECTOR},
    {.cluster_bits = 14, .refcount_order = 4, .is_extended = true, .disk_bytes = DISK_BYTES},
};

/* What the disk must show; sectors of a request that failed may show anything of its own. */
struct model {
    uint8_t bytes[DISK_BYTES];
    bool is_open[DISK_BYTES / SECTOR];
    unsigned failed;
};
static struct model model;

static void set_up(struct fixture *fixture, const struct memory_image *image)
{
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &format_qcow2;
    fixture_init(fixture, drivers, 0, CAPACITY_BYTES, 1);
    memory_image_make(&fixture->disk, image);
    memset(&model, 0, sizeof(model));
}

static void co_open(struct fixture *fixture)
{
    struct error err;
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    node_options_set(options, "driver", "qcow2", NULL);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
}

static bool note(int rc, uint64_t offset, uint64_t length)
{
    if (rc == 0)
        return true;
    assert_true(rc == -EIO || rc == -ENOSPC);
    model.failed++;
    for (uint64_t i = offset / SECTOR; i <= (offset + length - 1) / SECTOR; i++)
        model.is_open[i] = true;
    return false;
}

static void co_write(struct fixture *fixture, uint64_t offset, uint64_t length, int byte)
{
    uint8_t *data = malloc(length);
    assert_non_null(data);
    memset(data, byte, length);
    if (note(fixture_co_write(fixture->node, offset, data, length, 0), offset, length))
        memset(model.bytes + offset, byte, length);
    free(data);
}

static void co_zero(struct fixture *fixture, uint64_t offset, uint64_t length, unsigned flags)
{
    if (note(node_co_zero(fixture->node, offset, length, flags), offset, length))
        memset(model.bytes + offset, 0, length);
}

static void co_discard(struct fixture *fixture, uint64_t offset, uint64_t length)
{
    static uint8_t data[DISK_BYTES];
    note(node_co_discard(fixture->node, offset, length, 0), offset, length);
    if (fixture_co_read(fixture->node, offset, data, length) < 0) {
        note(-EIO, offset, length);
        return;
    }
    for (uint64_t i = 0; i < length; i++) {
        bool is_open = model.is_open[(offset + i) / SECTOR];
        assert_true(is_open || data[i] == 0 || data[i] == model.bytes[offset + i]);
        model.bytes[offset + i] = data[i];
    }
}

static void co_check(struct fixture *fixture)
{
    static uint8_t data[DISK_BYTES];
    uint64_t size = atomic_load(&fixture->node->size_bytes);
    assert_int_equal(fixture_co_read(fixture->node, 0, data, size), 0);
    for (uint64_t i = 0; i < size; i++) {
        if (!model.is_open[i / SECTOR] && data[i] != model.bytes[i])
            fail_msg("byte %llu reads as %u, not %u", (unsigned long long)i, data[i],
                     model.bytes[i]);
    }
}

/* Some of everything: first writes, parts, rewrites, neighbours, zeroes, discards, reuse. */
static int co_work(struct fixture *fixture)
{
    uint64_t size = atomic_load(&fixture->node->size_bytes);
    int rc = 0;
    co_write(fixture, 1000, 100, 1);
    co_write(fixture, 70000, 200000, 2);
    co_write(fixture, 100000, 5000, 3);
    rc |= node_co_flush(fixture->node);
    co_zero(fixture, 80000, 66000, 0);
    co_zero(fixture, 160000, 33000, BLOCK_NO_UNMAP);
    co_write(fixture, 161000, 10, 4);
    co_discard(fixture, 65536, 40000);
    rc |= node_co_flush(fixture->node);
    co_write(fixture, 1 << 20, 70000, 5);
    co_write(fixture, size - 100, 100, 6);
    co_zero(fixture, size - 5000, 5000, 0);
    rc |= node_co_flush(fixture->node);
    return rc;
}

static void co_check_shape(struct fixture *fixture, void *arg)
{
    (void)arg;
    for (unsigned life = 0; life < 2; life++) {
        co_open(fixture);
        co_check(fixture);
        assert_int_equal(co_work(fixture), 0);
        co_check(fixture);
        fixture_co_close(fixture);
        struct memory_image_faults faults = memory_image_check(&fixture->disk);
        assert_int_equal(faults.errors, 0);
        assert_int_equal(faults.leaks, 0);
    }
    assert_int_equal(model.failed, 0);
}

static void every_shape_is_written_without_a_leak(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct fixture fixture;
        set_up(&fixture, &shapes[i]);
        fixture_run(&fixture, co_check_shape, NULL);
        fixture_fini(&fixture);
    }
}

static void co_fill_and_empty(struct fixture *fixture, void *arg)
{
    uint64_t grown = 0;
    (void)arg;
    co_open(fixture);
    for (unsigned round = 0; round < 4; round++) {
        uint64_t size = atomic_load(&fixture->node->size_bytes);
        co_write(fixture, 0, size, (int)round + 1);
        co_check(fixture);
        assert_int_equal(node_co_flush(fixture->node), 0);
        uint64_t bytes = fixture->disk.size_bytes;
        if (round == 1)
            grown = bytes;
        else if (round > 1) /* what was given back is used again */
            assert_true(bytes <= grown + grown / 4);
        co_discard(fixture, 0, size);
        assert_int_equal(node_co_flush(fixture->node), 0);
    }
    fixture_co_close(fixture);
    struct memory_image_faults faults = memory_image_check(&fixture->disk);
    assert_int_equal(faults.errors, 0);
    assert_int_equal(faults.leaks, 0);
}

static void what_is_discarded_is_used_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct fixture fixture;
        set_up(&fixture, &shapes[i]);
        fixture_run(&fixture, co_fill_and_empty, NULL);
        fixture_fini(&fixture);
    }
}

/* --- failures -----------------------------------------------------------------------------------
 */

struct failing {
    uint64_t at; /* the number of the call that fails, counted from the opening */
    int code;
    bool happened;
};

static void co_fail(struct fixture *fixture, void *arg)
{
    struct failing *failing = arg;
    struct memory_disk *disk = &fixture->disk;
    co_open(fixture);
    memory_disk_forget_calls(disk);
    disk->fail_at_call = failing->at;
    disk->fail_code = failing->code;
    int rc = co_work(fixture);
    failing->happened = disk->call_count > failing->at;
    bool was_flush = failing->at < MEMORY_LOG_MAX && disk->log[failing->at].op == MEMORY_FLUSH;
    disk->fail_code = 0;
    co_check(fixture);
    /* Nothing is swallowed; a table's write is tried again, and then nobody needs to know. */
    if (failing->happened && was_flush)
        assert_true(rc < 0 || model.failed > 0);
    /* A node whose flush has failed says so until it is closed; the close tries again. */
    assert_int_equal(node_co_flush(fixture->node) < 0, rc < 0);
    fixture_co_close(fixture);
    struct memory_image_faults faults = memory_image_check(disk);
    assert_int_equal(faults.errors, 0);
    if (was_flush || !failing->happened)
        return; /* the file does not flush any more, so some things must leak */
    assert_int_equal(faults.leaks, 0);
    co_open(fixture);
    co_check(fixture);
    fixture_co_close(fixture);
}

static void a_failure_at_each_call_loses_and_leaks_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct failing failing = {.happened = true};
        for (; failing.happened; failing.at += shapes[i].cluster_bits == 9 ? 7 : 1) {
            struct fixture fixture;
            failing.code = failing.at % 2 ? -EIO : -ENOSPC;
            set_up(&fixture, &shapes[i]);
            fixture_run(&fixture, co_fail, &failing);
            fixture_fini(&fixture);
        }
        assert_true(failing.at > 20);
    }
}

/* --- the end of what an entry can say -----------------------------------------------------------
 */

static void co_reach_the_end(struct fixture *fixture, void *arg)
{
    uint64_t end = QCOW2_HOST_OFFSET_MAX >> 16;
    uint8_t byte = 1;
    (void)arg;
    co_open(fixture);
    struct qcow2_image *image = qcow2_of(fixture->node);
    image->writer->free_hint = end;
    assert_int_equal(fixture_co_write(fixture->node, 0, &byte, 1, 0), -ENOSPC);
    assert_int_equal(fixture_co_write(fixture->node, 0, &byte, 1, BLOCK_COMPRESS), -ENOSPC);
    image->writer->free_hint = 0;
    assert_int_equal(fixture_co_write(fixture->node, 0, &byte, 1, 0), 0);
    fixture_co_close(fixture);
    assert_int_equal(memory_image_check(&fixture->disk).errors, 0);
}

static void no_cluster_is_taken_past_64_pib(void **state)
{
    (void)state;
    struct fixture fixture;
    set_up(&fixture, &shapes[2]);
    fixture_run(&fixture, co_reach_the_end, NULL);
    fixture_fini(&fixture);
}

/* --- what a write that failed leaves behind -----------------------------------------------------
 */

/* A file whose writes behind its end fail, and leave all of their bytes there, uncounted. */
static bool spills;

static int spill_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                          unsigned flags)
{
    struct memory_disk *disk = node->state;
    if (!spills || offset < atomic_load(&node->size_bytes))
        return memory_drivers[1]->co_write(node, offset, vec, flags);
    vec_copy_to(vec, disk->data + offset);
    return -EIO;
}

static void co_write_after_a_spill(struct fixture *fixture, void *arg)
{
    enum { CLUSTER = 4096 };
    uint8_t data[CLUSTER];
    (void)arg;
    co_open(fixture);
    memset(data, 7, CLUSTER);
    assert_int_equal(fixture_co_write(fixture->node, 0, data, CLUSTER, 0), 0);
    assert_int_equal(node_co_flush(fixture->node), 0); /* the tables are there now */
    spills = true;
    assert_int_equal(fixture_co_write(fixture->node, CLUSTER, data, CLUSTER, 0), -EIO);
    spills = false;
    memset(data, 1, 10);
    assert_int_equal(fixture_co_write(fixture->node, 2 * CLUSTER, data, 10, 0), 0);
    assert_int_equal(fixture_co_read(fixture->node, 2 * CLUSTER, data, CLUSTER), 0);
    for (unsigned i = 0; i < CLUSTER; i++)
        assert_int_equal(data[i], i < 10 ? 1 : 0);
    fixture_co_close(fixture);
    assert_int_equal(memory_image_check(&fixture->disk).errors, 0);
}

static void what_a_failed_write_left_is_never_shown(void **state)
{
    struct block_driver spilling = *memory_drivers[1];
    struct fixture fixture;
    (void)state;
    spilling.co_write = spill_co_write;
    set_up(&fixture, &shapes[1]);
    drivers[0] = &spilling;
    fixture_run(&fixture, co_write_after_a_spill, NULL);
    fixture_fini(&fixture);
}

/* --- many pieces --------------------------------------------------------------------------------
 */

/* More than one call to the host takes, in the middle of a cluster: what is copied around them goes
 * apart. */
static int co_write_pieces(struct fixture *fixture, uint64_t offset, int byte)
{
    static uint8_t data[100];
    struct iovec iov[100];
    memset(data, byte, sizeof(data));
    for (unsigned i = 0; i < 100; i++)
        iov[i] = (struct iovec){.iov_base = data + i, .iov_len = 1};
    struct block_vec vec = {.iov = iov, .length = 100};
    return node_co_write(fixture->node, offset, &vec, 0);
}

static void co_many_pieces(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    co_open(fixture);
    const uint64_t cluster = 65536;
    /* In the middle, at the front, and at the end of one; all that is around them reads as 0. */
    const uint64_t places[] = {cluster + 5000, 3 * cluster, 6 * cluster - 100};
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        unsigned at = 0;
        co_discard(fixture, places[i] & ~(cluster - 1), cluster);
        co_write(fixture, places[i] & ~(cluster - 1), cluster, 9); /* the place is not fresh */
        co_discard(fixture, places[i] & ~(cluster - 1), cluster);
        assert_int_equal(node_co_flush(fixture->node), 0);
        for (int rc = -EIO; rc < 0; at++) {
            memory_disk_forget_calls(disk);
            disk->fail_at_call = at;
            disk->fail_code = -EIO;
            rc = co_write_pieces(fixture, places[i], 40 + (int)i);
            disk->fail_code = 0;
            assert_true(rc == 0 || rc == -EIO);
        }
        memset(model.bytes + places[i], 40 + (int)i, 100);
        assert_true(at > 1);
    }
    co_check(fixture);
    fixture_co_close(fixture);
    struct memory_image_faults faults = memory_image_check(disk);
    assert_int_equal(faults.errors + faults.leaks, 0);
}

static void more_pieces_than_the_host_takes_are_written_apart(void **state)
{
    (void)state;
    struct fixture fixture;
    set_up(&fixture, &shapes[2]);
    fixture_run(&fixture, co_many_pieces, NULL);
    fixture_fini(&fixture);
}

/* --- what is refused ----------------------------------------------------------------------------
 */

static void co_refuse(struct fixture *fixture, void *arg)
{
    struct error err;
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    node_options_set(options, "driver", "qcow2", NULL);
    assert_true(block_co_open(&fixture->env, options, &fixture->node, &err) < 0);
    if (!strstr(err.message, arg))
        fail_msg("'%s' does not say '%s'", err.message, (const char *)arg);
}

static void refuse(size_t at, uint8_t byte, const char *why)
{
    struct fixture fixture;
    set_up(&fixture, &shapes[1]);
    fixture.disk.data[at] = byte;
    fixture_run(&fixture, co_refuse, (void *)(uintptr_t)why);
    fixture_fini(&fixture);
}

static void what_cannot_be_kept_true_is_refused(void **state)
{
    (void)state;
    refuse(4096 + 6, 0x10, "the refcount table both have");   /* a refcount block */
    refuse(4096 + 15 - 1, 0x30, "an L1 table both have");     /* a second one */
    refuse(3 * 4096 + 6, 0x20, "a refcount block both have"); /* an L2 table */
    refuse(3 * 4096 + 3, 0x01, "past the end");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_is_written_without_a_leak),
        cmocka_unit_test(what_is_discarded_is_used_again),
        cmocka_unit_test(a_failure_at_each_call_loses_and_leaks_nothing),
        cmocka_unit_test(what_a_failed_write_left_is_never_shown),
        cmocka_unit_test(no_cluster_is_taken_past_64_pib),
        cmocka_unit_test(more_pieces_than_the_host_takes_are_written_apart),
        cmocka_unit_test(what_cannot_be_kept_true_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
