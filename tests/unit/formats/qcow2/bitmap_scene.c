/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "formats/qcow2/driver.h"
#include "tests/unit/formats/qcow2/bitmap_scene.h"

static const struct block_driver *drivers[3];

const struct memory_image scene_shapes[SCENE_SHAPES] = {
    {.cluster_bits = 9, .refcount_order = 4, .disk_bytes = DISK_BYTES},
    {.cluster_bits = 12, .refcount_order = 4, .disk_bytes = DISK_BYTES - 100},
    {.cluster_bits = 16, .refcount_order = 4, .disk_bytes = DISK_BYTES},
};

const struct memory_bitmap scene_bitmaps[SCENE_BITMAPS] = {
    {.name = "off", .granularity_bits = COARSE_BITS},
    {.name = "fine", .flags = QCOW2_BITMAP_AUTO, .granularity_bits = FINE_BITS},
    {.name = "lost",
     .flags = QCOW2_BITMAP_AUTO | QCOW2_BITMAP_IN_USE,
     .granularity_bits = COARSE_BITS},
    {.name = "coarse",
     .flags = QCOW2_BITMAP_AUTO | QCOW2_BITMAP_EXTRA_DATA_COMPATIBLE,
     .granularity_bits = COARSE_BITS,
     .extra_bytes = 13},
    {.name = "foreign", .granularity_bits = COARSE_BITS, .extra_bytes = 3},
};

bool scene_changed[GROWN_BYTES / FINE];

void scene_set_up(struct fixture *fixture, const struct memory_image *image, uint32_t bitmap_count)
{
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &format_qcow2;
    fixture_init(fixture, drivers, 0, CAPACITY_BYTES, 1);
    memory_image_make(&fixture->disk, image);
    memory_image_add_bitmaps(&fixture->disk, scene_bitmaps, bitmap_count);
    memset(scene_changed, 0, sizeof(scene_changed));
}

int scene_co_open_as(struct fixture *fixture, bool read_only, struct error *err)
{
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    node_options_set(options, "driver", "qcow2", NULL);
    node_options_set(options, "read-only", read_only ? "on" : "off", NULL);
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

void scene_co_open(struct fixture *fixture)
{
    struct error err;
    if (scene_co_open_as(fixture, false, &err) < 0)
        fail_msg("%s", err.message);
}

/* What failed may be in a bitmap or not. */
static int note(int rc, uint64_t offset, uint64_t length)
{
    for (uint64_t i = offset / FINE; rc == 0 && i <= (offset + length - 1) / FINE; i++)
        scene_changed[i] = true;
    return rc;
}

int scene_co_write(struct fixture *fixture, uint64_t offset, uint64_t length)
{
    static uint8_t data[DISK_BYTES];
    memset(data, 0xab, length);
    return note(fixture_co_write(fixture->node, offset, data, length, 0), offset, length);
}

int scene_co_zero(struct fixture *fixture, uint64_t offset, uint64_t length)
{
    return note(node_co_zero(fixture->node, offset, length, 0), offset, length);
}

int scene_co_discard(struct fixture *fixture, uint64_t offset, uint64_t length)
{
    return note(node_co_discard(fixture->node, offset, length, 0), offset, length);
}

/* The first error of some changes of all kinds. */
int scene_co_work(struct fixture *fixture)
{
    int codes[] = {
        scene_co_write(fixture, 100000, 5000), scene_co_zero(fixture, 200000, 66000),
        scene_co_zero(fixture, 300000, 10),    scene_co_discard(fixture, 524288, 131073),
        scene_co_write(fixture, 0, 1),         scene_co_write(fixture, DISK_BYTES - 200, 100),
        node_co_flush(fixture->node),          scene_co_write(fixture, 1 << 20, 1 << 18),
    };
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
        if (codes[i] < 0)
            return codes[i];
    }
    return 0;
}

bool scene_is_in_use(const struct fixture *fixture, const char *name)
{
    return memory_image_bitmap_flags(&fixture->disk, name) & QCOW2_BITMAP_IN_USE;
}

void scene_check_stored(const struct fixture *fixture, bool may_be_more)
{
    uint64_t per_coarse = UINT64_C(1) << (COARSE_BITS - FINE_BITS);
    for (uint64_t i = 0; i < FINE_COUNT; i += per_coarse) {
        bool is_any = false;
        for (uint64_t n = i; n < i + per_coarse; n++) {
            bool stored = memory_image_bitmap_get(&fixture->disk, "fine", n);
            is_any |= scene_changed[n];
            if (scene_changed[n] ? !stored : stored && !may_be_more)
                fail_msg("granule %llu is stored as %d", (unsigned long long)n, stored);
        }
        bool stored = memory_image_bitmap_get(&fixture->disk, "coarse", i / per_coarse);
        assert_true(is_any ? stored : !stored || may_be_more);
        assert_false(memory_image_bitmap_get(&fixture->disk, "off", i / per_coarse));
        assert_false(memory_image_bitmap_get(&fixture->disk, "lost", i / per_coarse));
    }
}

void scene_check_sound(const struct fixture *fixture, bool may_leak)
{
    struct memory_image_faults faults = memory_image_check(&fixture->disk);
    assert_int_equal(faults.errors, 0);
    if (!may_leak)
        assert_int_equal(faults.leaks, 0);
}

void scene_for_each_shape(void (*co_test)(struct fixture *fixture, void *arg))
{
    for (size_t i = 0; i < SCENE_SHAPES; i++) {
        struct fixture fixture;
        scene_set_up(&fixture, &scene_shapes[i], SCENE_BITMAPS);
        fixture_run(&fixture, co_test, NULL);
        fixture_fini(&fixture);
    }
}
