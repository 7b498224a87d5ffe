/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bitmaps.c: a reader of a bitmap, bitmaps that are out of date, another size of the disk. Images
 * that qemu-img makes are in tests/integration/qcow2-bitmaps.sh.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "formats/qcow2/bitmaps.h"
#include "tests/unit/formats/qcow2/bitmap_scene.h"

/* --- readers ------------------------------------------------------------------------------------
 */

static void expect_not_found(struct fixture *fixture, const char *name, int code, const char *part)
{
    const struct dirty_bitmap *bits = NULL;
    struct error err = {.message = ""};
    assert_int_equal(qcow2_co_find_bitmap(fixture->node, name, &bits, &err), code);
    if (!strstr(err.message, part))
        fail_msg("'%s' does not say '%s'", err.message, part);
    assert_null(bits);
}

static void co_read_bitmaps(struct fixture *fixture, void *arg)
{
    const struct dirty_bitmap *fine, *off, *again;
    (void)arg;
    for (unsigned life = 0; life < 2; life++) {
        bool read_only = life == 1;
        assert_int_equal(scene_co_open_as(fixture, read_only, NULL), 0);
        assert_int_equal(qcow2_co_find_bitmap(fixture->node, "fine", &fine, NULL), 0);
        assert_int_equal(qcow2_co_find_bitmap(fixture->node, "off", &off, NULL), 0);
        assert_int_equal(qcow2_co_find_bitmap(fixture->node, "off", &again, NULL), 0);
        assert_ptr_equal(off, again);
        assert_int_equal(dirty_bitmap_count(fine), read_only ? 2 : 0);
        if (!read_only)
            assert_int_equal(scene_co_write(fixture, 3 * FINE - 1, 2), 0);
        assert_int_equal(dirty_bitmap_count(fine), 2);
        assert_int_equal(dirty_bitmap_count(off), 0);
        expect_not_found(fixture, "lost", -EINVAL, "'lost' is inconsistent and cannot be used");
        expect_not_found(fixture, "foreign", -ENOTSUP, "'foreign' has 3 bytes of extra data");
        expect_not_found(fixture, "nobody", -ENOENT, "");
        expect_not_found(fixture, "fin", -ENOENT, "");
        fixture_co_close(fixture);
    }
}

static void a_reader_sees_what_is_kept_true_at_once(void **state)
{
    (void)state;
    scene_for_each_shape(co_read_bitmaps);
}

static void co_out_of_date(struct fixture *fixture, void *arg)
{
    uint8_t before[4096];
    (void)arg;
    fixture->disk.data[95] &= (uint8_t)~QCOW2_AUTOCLEAR_BITMAPS;
    memcpy(before, fixture->disk.data, sizeof(before));
    scene_co_open(fixture);
    expect_not_found(fixture, "fine", -ENOENT, "");
    assert_int_equal(scene_co_work(fixture), 0);
    fixture_co_close(fixture);
    assert_memory_equal(before, fixture->disk.data, sizeof(before));
    fixture->disk.data[95] |= QCOW2_AUTOCLEAR_BITMAPS;
    memset(scene_changed, 0, sizeof(scene_changed));
    scene_check_stored(fixture, false);
}

static void bitmaps_that_are_out_of_date_are_left_alone(void **state)
{
    struct fixture fixture;
    (void)state;
    scene_set_up(&fixture, &scene_shapes[1], SCENE_BITMAPS);
    fixture_run(&fixture, co_out_of_date, NULL);
    fixture_fini(&fixture);
}

static void co_bit_without_extension(struct fixture *fixture, void *arg)
{
    (void)arg;
    memset(fixture->disk.data + 112, 0, 8);
    scene_co_open(fixture);
    assert_int_equal(fixture->disk.data[95], 0);
    assert_int_equal(scene_co_work(fixture), 0);
    fixture_co_close(fixture);
}

static void the_bit_goes_where_there_are_no_bitmaps(void **state)
{
    struct fixture fixture;
    (void)state;
    scene_set_up(&fixture, &scene_shapes[1], SCENE_BITMAPS);
    fixture_run(&fixture, co_bit_without_extension, NULL);
    fixture_fini(&fixture);
}

/* --- another size -------------------------------------------------------------------------------
 */

static void co_resize(struct fixture *fixture, uint64_t size_bytes)
{
    struct error err;
    if (node_co_resize(fixture->node, size_bytes, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(scene_is_in_use(fixture, "fine") && scene_is_in_use(fixture, "off"));
}

static void set_up_shape(struct fixture *fixture, uint32_t cluster_bits, uint32_t bitmap_count)
{
    struct memory_image image = {
        .cluster_bits = cluster_bits, .refcount_order = 4, .disk_bytes = DISK_BYTES};
    scene_set_up(fixture, &image, bitmap_count);
}

static void co_grow_and_shrink(struct fixture *fixture, void *arg)
{
    (void)arg;
    scene_co_open(fixture);
    assert_int_equal(scene_co_work(fixture), 0);
    co_resize(fixture, GROWN_BYTES);
    assert_int_equal(scene_co_write(fixture, GROWN_BYTES - 70000, 70000), 0);
    fixture_co_close(fixture);
    scene_check_sound(fixture, false);
    for (uint64_t i = 0; i < GROWN_BYTES / FINE; i++)
        assert_int_equal(memory_image_bitmap_get(&fixture->disk, "fine", i), scene_changed[i]);
    assert_true(memory_image_bitmap_get(&fixture->disk, "coarse", GROWN_BYTES / 65536 - 1));
    assert_false(memory_image_bitmap_get(&fixture->disk, "off", GROWN_BYTES / 65536 - 1));
    assert_int_equal(memory_image_bitmap_flags(&fixture->disk, "off"), 0);

    scene_co_open(fixture);
    const struct dirty_bitmap *fine;
    assert_int_equal(qcow2_co_find_bitmap(fixture->node, "fine", &fine, NULL), 0);
    co_resize(fixture, DISK_BYTES);
    assert_int_equal(dirty_bitmap_size_bytes(fine), DISK_BYTES); /* who reads it goes on */
    fixture_co_close(fixture);
    scene_check_sound(fixture, false);
    scene_check_stored(fixture, false);
}

static void a_new_size_is_that_of_the_bitmaps_too(void **state)
{
    (void)state;
    for (uint32_t cluster_bits = 9; cluster_bits <= 16; cluster_bits += 7) {
        struct fixture fixture;
        set_up_shape(&fixture, cluster_bits, SCENE_BITMAPS - 1);
        fixture_run(&fixture, co_grow_and_shrink, NULL);
        fixture_fini(&fixture);
    }
}

static void co_do_not_resize(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    scene_co_open(fixture);
    assert_int_equal(node_co_resize(fixture->node, GROWN_BYTES, &err), -ENOTSUP);
    assert_non_null(strstr(err.message, "with its bitmaps: the bitmap 'foreign' has 3 bytes"));
    assert_int_equal(scene_co_work(fixture), 0);
    fixture_co_close(fixture);
    scene_check_sound(fixture, false);
    scene_check_stored(fixture, false);
}

static void a_bitmap_that_cannot_have_the_new_size_forbids_it(void **state)
{
    struct fixture fixture;
    (void)state;
    set_up_shape(&fixture, 12, SCENE_BITMAPS);
    fixture_run(&fixture, co_do_not_resize, NULL);
    fixture_fini(&fixture);
}

static void co_abort_resize(struct fixture *fixture, void *arg)
{
    (void)arg;
    scene_co_open(fixture);
    struct qcow2_image *image = qcow2_of(fixture->node);
    assert_int_equal(qcow2_bitmaps_co_prepare_resize(image, GROWN_BYTES, NULL), 0);
    qcow2_bitmaps_abort_resize(image);
    assert_int_equal(scene_co_work(fixture), 0);
    fixture_co_close(fixture);
    scene_check_sound(fixture, false);
    scene_check_stored(fixture, false);
}

static void a_resize_that_is_given_up_leaves_them_as_they_were(void **state)
{
    struct fixture fixture;
    (void)state;
    set_up_shape(&fixture, 12, SCENE_BITMAPS - 1);
    fixture_run(&fixture, co_abort_resize, NULL);
    fixture_fini(&fixture);
}

static void co_resize_without_memory(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    (void)arg;
    scene_co_open(fixture);
    assert_int_equal(node_co_resize(fixture->node, UINT64_C(3) << 40, &err), -EFBIG);
    assert_non_null(strstr(err.message, "'fine' with granularity_bits 9 takes"));
    assert_int_equal(scene_co_work(fixture), 0);
    fixture_co_close(fixture);
    scene_check_sound(fixture, false);
}

static void a_bitmap_that_would_be_too_large_forbids_a_size(void **state)
{
    struct fixture fixture;
    (void)state;
    set_up_shape(&fixture, 16, SCENE_BITMAPS - 1);
    fixture_run(&fixture, co_resize_without_memory, NULL);
    fixture_fini(&fixture);
}

/* Its bits are in memory, and its table is not. */
static void co_resize_what_is_shown(struct fixture *fixture, void *arg)
{
    const struct dirty_bitmap *off;
    (void)arg;
    scene_co_open(fixture);
    assert_int_equal(qcow2_co_find_bitmap(fixture->node, "off", &off, NULL), 0);
    co_resize(fixture, GROWN_BYTES);
    assert_int_equal(dirty_bitmap_size_bytes(off), GROWN_BYTES);
    fixture_co_close(fixture);
    scene_check_sound(fixture, false);
}

static void one_that_is_shown_has_the_new_size(void **state)
{
    struct fixture fixture;
    (void)state;
    set_up_shape(&fixture, 12, SCENE_BITMAPS - 1);
    fixture_run(&fixture, co_resize_what_is_shown, NULL);
    fixture_fini(&fixture);
}

static void co_do_not_read(struct fixture *fixture, void *arg)
{
    (void)arg;
    assert_int_equal(scene_co_open_as(fixture, true, NULL), 0);
    fixture->disk.fail_ops = 1u << MEMORY_READ;
    fixture->disk.fail_code = -EIO;
    expect_not_found(fixture, "fine", -EIO, "");
    fixture->disk.fail_code = 0;
    const struct dirty_bitmap *bits;
    assert_int_equal(qcow2_co_find_bitmap(fixture->node, "fine", &bits, NULL), 0);
    qcow2_of(fixture->node)->bitmaps->memory_bytes = QCOW2_BITMAP_MEMORY_MAX; /* of others */
    expect_not_found(fixture, "off", -EFBIG, "together at most 536870912 are supported");
    fixture_co_close(fixture);
}

static void a_bitmap_that_cannot_be_had_is_said(void **state)
{
    struct fixture fixture;
    (void)state;
    set_up_shape(&fixture, 12, SCENE_BITMAPS);
    fixture_run(&fixture, co_do_not_read, NULL);
    fixture_fini(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_sees_what_is_kept_true_at_once),
        cmocka_unit_test(bitmaps_that_are_out_of_date_are_left_alone),
        cmocka_unit_test(the_bit_goes_where_there_are_no_bitmaps),
        cmocka_unit_test(a_new_size_is_that_of_the_bitmaps_too),
        cmocka_unit_test(a_bitmap_that_cannot_have_the_new_size_forbids_it),
        cmocka_unit_test(a_resize_that_is_given_up_leaves_them_as_they_were),
        cmocka_unit_test(a_bitmap_that_would_be_too_large_forbids_a_size),
        cmocka_unit_test(one_that_is_shown_has_the_new_size),
        cmocka_unit_test(a_bitmap_that_cannot_be_had_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
