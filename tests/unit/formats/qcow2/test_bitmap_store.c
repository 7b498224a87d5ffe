/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bitmap_store.c: marked before the first change, stored at the close, and a failure at each call
 * of the file below in turn.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "formats/qcow2/bitmaps.h"
#include "tests/unit/formats/qcow2/bitmap_scene.h"

/* --- marked, kept, stored -----------------------------------------------------------------------
 */

static void co_leave_alone(struct fixture *fixture, void *arg)
{
    (void)arg;
    scene_co_open(fixture);
    fixture_co_close(fixture);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
    assert_int_equal(fixture->disk.counts[MEMORY_ZERO], 0);
    scene_check_sound(fixture, false);
}

static void an_image_that_is_not_written_is_not_touched(void **state)
{
    (void)state;
    scene_for_each_shape(co_leave_alone);
}

static void co_mark(struct fixture *fixture, void *arg)
{
    const struct memory_disk *disk = &fixture->disk;
    uint8_t *directory = memory_image_bitmap_entry(disk, "off"); /* the first */
    uint64_t offset = (uint64_t)(directory - disk->data);
    (void)arg;
    scene_co_open(fixture);
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(scene_co_write(fixture, 5, 1), 0);
    unsigned writes = 0;
    for (unsigned i = 0; i < disk->log_count && writes == 0; i++) {
        const struct memory_call *call = &disk->log[i];
        if (call->op != MEMORY_WRITE && call->op != MEMORY_ZERO)
            continue;
        writes++;
        assert_in_range(call->offset, offset, offset + 512);
        assert_int_equal(disk->log[i + 1].op, MEMORY_FLUSH);
    }
    assert_int_equal(writes, 1);
    assert_true(scene_is_in_use(fixture, "fine") && scene_is_in_use(fixture, "coarse"));
    assert_false(scene_is_in_use(fixture, "off") || scene_is_in_use(fixture, "foreign"));
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(scene_co_write(fixture, 70000, 1), 0);
    for (unsigned i = 0; i < disk->log_count; i++)
        assert_false(disk->log[i].op == MEMORY_WRITE && disk->log[i].offset >= offset &&
                     disk->log[i].offset < offset + 512);
    fixture_co_close(fixture);
    assert_false(scene_is_in_use(fixture, "fine") || scene_is_in_use(fixture, "coarse"));
}

static void they_are_in_use_durably_before_the_first_change(void **state)
{
    (void)state;
    scene_for_each_shape(co_mark);
}

static void co_keep(struct fixture *fixture, void *arg)
{
    (void)arg;
    for (unsigned life = 0; life < 3; life++) {
        scene_co_open(fixture);
        if (life == 1)
            assert_int_equal(scene_co_write(fixture, 700000, 1800000), 0);
        else
            assert_int_equal(scene_co_work(fixture), 0);
        fixture_co_close(fixture);
        scene_check_sound(fixture, false);
        scene_check_stored(fixture, false);
        for (size_t i = 0; i < SCENE_BITMAPS; i++)
            assert_int_equal(memory_image_bitmap_flags(&fixture->disk, scene_bitmaps[i].name),
                             scene_bitmaps[i].flags);
        const uint8_t *extra = memory_image_bitmap_entry(&fixture->disk, "coarse") + 24;
        for (unsigned i = 0; i < 13; i++)
            assert_int_equal(extra[i], 0xee);
    }
}

static void what_is_stored_is_what_was_changed(void **state)
{
    (void)state;
    scene_for_each_shape(co_keep);
}

/* 512 bytes of bits are 2 MiB of disk: the first cluster of "fine" is all ones, the second is not
 * whole. What had a cluster, and needs none, gives it back. */
static void co_ones(struct fixture *fixture, void *arg)
{
    (void)arg;
    scene_co_open(fixture);
    assert_int_equal(scene_co_write(fixture, 5000, 1), 0);
    fixture_co_close(fixture);
    const uint8_t *entry = memory_image_bitmap_entry(&fixture->disk, "fine");
    uint64_t table = load_be64(entry);
    assert_int_equal(load_be32(entry + 8), 2);
    assert_true(load_be64(fixture->disk.data + table) > 1);
    assert_int_equal(load_be64(fixture->disk.data + table + 8), 0);
    scene_co_open(fixture);
    assert_int_equal(scene_co_zero(fixture, 0, DISK_BYTES), 0);
    fixture_co_close(fixture);
    assert_int_equal(load_be64(fixture->disk.data + table), 1);
    uint64_t last = load_be64(fixture->disk.data + table + 8);
    assert_true(last > 1);
    assert_int_equal(fixture->disk.data[last + 255], 0xff);
    assert_int_equal(fixture->disk.data[last + 256], 0); /* no such granule */
    scene_check_sound(fixture, false);
    scene_check_stored(fixture, false);
    scene_co_open(fixture);
    const struct dirty_bitmap *bits;
    assert_int_equal(qcow2_co_find_bitmap(fixture->node, "fine", &bits, NULL), 0);
    assert_int_equal(dirty_bitmap_count(bits), FINE_COUNT);
    fixture_co_close(fixture);
}

static void clusters_of_equal_bits_take_no_space(void **state)
{
    struct fixture fixture;
    (void)state;
    scene_set_up(&fixture, &scene_shapes[0], SCENE_BITMAPS);
    fixture_run(&fixture, co_ones, NULL);
    fixture_fini(&fixture);
}

/* --- failures -----------------------------------------------------------------------------------
 */

struct failing {
    uint64_t at; /* the number of the call that fails, counted from the opening */
    bool at_close;
    bool happened;
};

/* What was acknowledged is in the bitmaps, or they say that they are not to be relied on. */
static void co_fail(struct fixture *fixture, void *arg)
{
    struct failing *failing = arg;
    struct memory_disk *disk = &fixture->disk;
    scene_co_open(fixture);
    if (failing->at_close)
        assert_int_equal(scene_co_work(fixture), 0);
    memory_disk_forget_calls(disk);
    disk->fail_at_call = failing->at;
    disk->fail_code = -EIO;
    if (!failing->at_close)
        scene_co_work(fixture);
    failing->happened = disk->call_count > failing->at;
    disk->fail_code = failing->at_close ? -EIO : 0;
    fixture_co_close(fixture);
    failing->happened |= disk->call_count > failing->at;
    disk->fail_code = 0;
    scene_check_sound(fixture, failing->happened);
    assert_int_equal(scene_is_in_use(fixture, "fine"), scene_is_in_use(fixture, "coarse"));
    if (!scene_is_in_use(fixture, "fine"))
        scene_check_stored(fixture, true);
    else
        assert_true(failing->happened);
    /* The image goes on, and says what it lost. */
    scene_co_open(fixture);
    assert_int_equal(scene_co_write(fixture, 0, 100000), 0);
    fixture_co_close(fixture);
    scene_check_sound(fixture, failing->happened);
}

static void fail_everywhere(bool at_close, uint64_t calls_min)
{
    for (size_t i = 0; i < SCENE_SHAPES; i++) {
        struct failing failing = {.at_close = at_close, .happened = true};
        for (; failing.happened; failing.at++) {
            struct fixture fixture;
            scene_set_up(&fixture, &scene_shapes[i], SCENE_BITMAPS);
            fixture_run(&fixture, co_fail, &failing);
            fixture_fini(&fixture);
        }
        assert_true(failing.at > calls_min);
    }
}

static void a_failure_while_writing_leaves_no_bitmap_that_is_untrue(void **state)
{
    (void)state;
    fail_everywhere(false, 15);
}

/* Nothing that is in use is freed by a store that fails (QEMU b03dd9613b), and none that fails says
 * that it was stored (invariant 30, QEMU 1a0c2bfb03). */
static void a_failure_while_storing_leaves_no_bitmap_that_is_untrue(void **state)
{
    (void)state;
    fail_everywhere(true, 10);
}

/* A store that fails is not the end where the image goes on, as after a reopen that failed: what is
 * written then is marked again, or not written. */
static void co_go_on(struct fixture *fixture, void *arg)
{
    struct failing *failing = arg;
    struct memory_disk *disk = &fixture->disk;
    scene_co_open(fixture);
    assert_int_equal(scene_co_work(fixture), 0);
    memory_disk_forget_calls(disk);
    disk->fail_at_call = failing->at;
    disk->fail_code = -EIO;
    int rc = qcow2_bitmaps_co_store(qcow2_of(fixture->node));
    disk->fail_code = 0;
    failing->happened = disk->call_count > failing->at;
    assert_true(rc < 0 || !failing->happened);
    rc = scene_co_write(fixture, 1500000, 1);
    assert_true(rc < 0 || scene_is_in_use(fixture, "fine"));
    fixture_co_close(fixture);
    scene_check_sound(fixture, failing->happened);
    if (!scene_is_in_use(fixture, "fine"))
        scene_check_stored(fixture, true);
}

static void after_a_store_that_failed_they_are_marked_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < SCENE_SHAPES; i++) {
        struct failing failing = {.happened = true};
        for (; failing.happened; failing.at++) {
            struct fixture fixture;
            scene_set_up(&fixture, &scene_shapes[i], SCENE_BITMAPS);
            fixture_run(&fixture, co_go_on, &failing);
            fixture_fini(&fixture);
        }
        assert_true(failing.at > 5);
    }
}

static void co_not_marked(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    scene_co_open(fixture);
    disk->fail_ops = 1u << MEMORY_WRITE;
    disk->fail_code = -ENOSPC;
    assert_int_equal(scene_co_write(fixture, 5, 1), -ENOSPC);
    disk->fail_ops = 0;
    disk->fail_code = 0;
    assert_int_equal(scene_co_write(fixture, 5, 1), 0); /* and tried again */
    assert_true(scene_is_in_use(fixture, "fine"));
    fixture_co_close(fixture);
    assert_false(scene_is_in_use(fixture, "fine"));
    scene_check_stored(fixture, true);
}

static void what_cannot_be_marked_is_not_written(void **state)
{
    (void)state;
    scene_for_each_shape(co_not_marked);
}

/* --- a table in several pieces ------------------------------------------------------------------
 */

#define HUGE_BYTES (UINT64_C(12) << 30)

struct storing {
    unsigned at; /* the number of the call that fails */
    int ret;
};

static void co_store_huge(struct fixture *fixture, void *arg)
{
    struct storing *storing = arg;
    const struct dirty_bitmap *bits;
    struct memory_disk *disk = &fixture->disk;
    struct error err = {.message = ""};
    uint8_t byte = 1;
    scene_co_open(fixture);
    assert_int_equal(fixture_co_write(fixture->node, HUGE_BYTES - 5000, &byte, 1, 0), 0);
    memory_disk_forget_calls(disk);
    disk->fail_at_call = storing->at;
    disk->fail_code = -EIO;
    storing->ret = qcow2_bitmaps_co_store(qcow2_of(fixture->node));
    disk->fail_code = 0;
    assert_true(storing->ret == 0 || storing->ret == -EIO);
    fixture_co_close(fixture);
    scene_check_sound(fixture, true);
    if (storing->ret < 0)
        return;
    scene_co_open(fixture);
    assert_int_equal(qcow2_co_find_bitmap(fixture->node, "huge", &bits, NULL), 0);
    assert_int_equal(dirty_bitmap_count(bits), 1);
    fixture_co_close(fixture);
    uint64_t table = load_be64(memory_image_bitmap_entry(disk, "huge"));
    store_be64(disk->data + table, 2); /* before the end of its first piece */
    assert_true(scene_co_open_as(fixture, false, &err) < 0);
    assert_non_null(strstr(err.message, "entry 0 of its table is 0x2: "));
}

/* With each call of the file failing in turn, and at last none. */
static void a_table_in_several_pieces_is_stored_and_read(void **state)
{
    static const struct memory_image image = {
        .cluster_bits = 12, .refcount_order = 4, .disk_bytes = HUGE_BYTES};
    static const struct memory_bitmap bitmap = {
        .name = "huge", .flags = QCOW2_BITMAP_AUTO, .granularity_bits = 9};
    struct storing storing = {.ret = -EIO};
    (void)state;
    for (; storing.ret < 0; storing.at++) {
        struct fixture fixture;
        scene_set_up(&fixture, &image, 0);
        memory_image_make(&fixture.disk, &image);
        memory_image_add_bitmaps(&fixture.disk, &bitmap, 1);
        fixture_run(&fixture, co_store_huge, &storing);
        fixture_fini(&fixture);
    }
    assert_true(storing.at > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_in_several_pieces_is_stored_and_read),
        cmocka_unit_test(an_image_that_is_not_written_is_not_touched),
        cmocka_unit_test(they_are_in_use_durably_before_the_first_change),
        cmocka_unit_test(what_is_stored_is_what_was_changed),
        cmocka_unit_test(clusters_of_equal_bits_take_no_space),
        cmocka_unit_test(a_failure_while_writing_leaves_no_bitmap_that_is_untrue),
        cmocka_unit_test(a_failure_while_storing_leaves_no_bitmap_that_is_untrue),
        cmocka_unit_test(after_a_store_that_failed_they_are_marked_again),
        cmocka_unit_test(what_cannot_be_marked_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
