/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bitmap_load.c and the open: what keeps an image with bitmaps from being written.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "formats/qcow2/bitmaps.h"
#include "tests/unit/formats/qcow2/bitmap_scene.h"

/* --- images that break a rule -------------------------------------------------------------------
 */

static void co_refuse(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    assert_true(scene_co_open_as(fixture, false, &err) < 0);
    if (!strstr(err.message, arg))
        fail_msg("'%s' does not say '%s'", err.message, (const char *)arg);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
    /* Its data can be read all the same. */
    assert_int_equal(scene_co_open_as(fixture, true, NULL), 0);
    fixture_co_close(fixture);
}

/* `value` of so many bytes, so many bytes behind the beginning of what is named. */
enum place {
    HEADER,
    FINE_ENTRY,
    FINE_TABLE,
    FOREIGN_ENTRY,
};
static void refused(enum place place, unsigned at, unsigned bytes, uint64_t value, const char *why)
{
    struct fixture fixture;
    scene_set_up(&fixture, &scene_shapes[1], SCENE_BITMAPS);
    uint8_t *data = fixture.disk.data, *to = data + at, number[8];
    if (place == FINE_ENTRY || place == FOREIGN_ENTRY)
        to =
            memory_image_bitmap_entry(&fixture.disk, place == FINE_ENTRY ? "fine" : "foreign") + at;
    if (place == FINE_TABLE)
        to = data + load_be64(memory_image_bitmap_entry(&fixture.disk, "fine")) + at;
    store_be64(number, value);
    memcpy(to, number + 8 - bytes, bytes);
    fixture_run(&fixture, co_refuse, (void *)(uintptr_t)why);
    fixture_fini(&fixture);
}

static void bitmaps_that_would_become_untrue_keep_an_image_from_being_written(void **state)
{
    (void)state;
    refused(HEADER, 112 + 8, 4, 4, "its bitmap_directory_size is");
    refused(HEADER, 112 + 8, 4, 60000, "too little for its 60000 bitmaps");
    refused(HEADER, 112 + 24, 8, 0x7000000, "that is past the end of the file");
    refused(FINE_ENTRY, 0, 8, 0x7000000, "its table at 0x7000000 lies past the end");
    refused(FINE_ENTRY, 0, 8, 0x3000, "a bitmap's table at 0x3000 is in a cluster that other");
    refused(FINE_ENTRY, 12, 4, 8, "a bitmap's flags are 0x8");
    refused(FINE_ENTRY, 16, 1, 2, "a bitmap's type is 2");
    refused(FINE_ENTRY, 17, 1, 8, "the granularity_bits 8; 9 to 31 are supported");
    refused(FINE_ENTRY, 24, 4, 0x6c6f7374, "two of its bitmaps are called 'lost'");
    refused(FINE_TABLE, 0, 8, 2, "entry 0 of its table is 0x2: ");
    refused(FINE_TABLE, 0, 8, 0x7000000, "entry 0 of its table is 0x7000000: it lies past");
    refused(FINE_TABLE, 0, 8, 0x3000, "a cluster of a bitmap at 0x3000 is in a cluster that other");
    refused(FOREIGN_ENTRY, 12, 4, QCOW2_BITMAP_AUTO, "'foreign' has 3 bytes of extra data");
}

static void co_check_refcount(struct fixture *fixture, void *arg)
{
    uint64_t table = load_be64(memory_image_bitmap_entry(&fixture->disk, "fine"));
    (void)arg;
    qcow2_refcount_set(fixture->disk.data + 2 * 4096, 4, (uint32_t)(table / 4096), 2);
    co_refuse(fixture, (void *)(uintptr_t) "has the refcount 2, and must have 1");
}

static void a_table_that_is_shared_is_not_written(void **state)
{
    struct fixture fixture;
    (void)state;
    scene_set_up(&fixture, &scene_shapes[1], SCENE_BITMAPS);
    fixture_run(&fixture, co_check_refcount, NULL);
    fixture_fini(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bitmaps_that_would_become_untrue_keep_an_image_from_being_written),
        cmocka_unit_test(a_table_that_is_shared_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
