/* SPDX-License-Identifier: BSD-3-Clause */
/* chain.c: who of a chain of images has what, and whose bitmap a name means. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/block.h"
#include "block/chain.h"
#include "block/dirty_bitmap.h"
#include "block/filters.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/block/layered_driver.h"

#define CLUSTER LAYERED_CLUSTER_BYTES
#define SIZE (8 * CLUSTER)

/* The layered driver, with bitmaps of these names. */
static struct dirty_bitmap *top_bitmap, *middle_bitmap;

static int find(const struct block_node *node, const char *name,
                const struct dirty_bitmap **ret_bitmap, struct error *err)
{
    bool is_middle = !chain_behind(node)->backing;
    if (strcmp(name, "broken") == 0 && is_middle)
        return error_set(err, -EIO, "broken indeed");
    if (strcmp(name, "both") != 0 && strcmp(name, is_middle ? "middle" : "top") != 0)
        return -ENOENT;
    *ret_bitmap = is_middle ? middle_bitmap : top_bitmap;
    return 0;
}

static int co_find_bitmap(struct block_node *node, const char *name,
                          const struct dirty_bitmap **ret_bitmap, struct error *err)
{
    return find(node, name, ret_bitmap, err);
}

/* Of the base, the first two clusters were ever written. */
static int co_base_is_own(struct block_node *node, uint64_t offset, uint64_t length,
                          bool *ret_is_own, uint64_t *ret_length)
{
    uint64_t left = offset < 2 * CLUSTER ? 2 * CLUSTER - offset : length;
    (void)node;
    *ret_is_own = offset < 2 * CLUSTER;
    *ret_length = left < length ? left : length;
    return 0;
}

static const struct block_driver_admin with_bitmaps = {.co_find_bitmap = co_find_bitmap};
static struct block_driver driver_with_bitmaps, driver_base;
static const struct block_driver *drivers[] = {&driver_with_bitmaps, &block_filter_delay,
                                               &driver_base, NULL};

struct scene {
    struct memory_disk middle, base;
};

/* A filter, an image, a filter, an image behind it, and a file behind that, half as large. */
static void scene_co_init(struct scene *scene, struct fixture *fixture)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    assert_non_null(options);
    memory_disk_init(&scene->middle, SIZE, SIZE, 2);
    memory_disk_init(&scene->base, SIZE / 2, SIZE / 2, 3);
    assert_int_equal(node_options_set(options, "driver", "delay", NULL), 0);
    assert_int_equal(node_options_set(options, "file.driver", "layered", NULL), 0);
    memory_disk_options(&fixture->disk, options, "file.file.", "file");
    assert_int_equal(node_options_set(options, "file.backing.driver", "delay", NULL), 0);
    assert_int_equal(node_options_set(options, "file.backing.file.driver", "layered", NULL), 0);
    memory_disk_options(&scene->middle, options, "file.backing.file.file.", "file");
    memory_disk_options(&scene->base, options, "file.backing.file.backing.", "file");
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(dirty_bitmap_new(&top_bitmap, SIZE, 9), 0);
    assert_int_equal(dirty_bitmap_new(&middle_bitmap, SIZE, 9), 0);
}

static void scene_co_fini(struct scene *scene, struct fixture *fixture)
{
    fixture_co_close(fixture);
    dirty_bitmap_free(top_bitmap);
    dirty_bitmap_free(middle_bitmap);
    memory_disk_fini(&scene->middle);
    memory_disk_fini(&scene->base);
}

static void expect_depth(struct block_node *node, unsigned cluster, uint32_t depth)
{
    uint32_t found = 99;
    uint64_t length = 0;
    assert_int_equal(
        chain_co_depth(node, cluster * CLUSTER + 1, SIZE - cluster * CLUSTER - 1, &found, &length),
        0);
    assert_int_equal(found, depth);
    assert_in_range(length, CLUSTER - 1, SIZE);
}

static void co_find_depths(struct fixture *fixture)
{
    uint8_t data[CLUSTER] = {1};
    struct block_node *image = chain_image(fixture->node);
    struct block_node *behind = chain_behind(image);
    assert_ptr_equal(image, fixture->node->file);
    assert_ptr_equal(behind, image->backing->file);
    assert_int_equal(fixture_co_write(image, CLUSTER, data, CLUSTER, 0), 0);
    assert_int_equal(fixture_co_write(behind, 2 * CLUSTER, data, CLUSTER, 0), 0);
    expect_depth(fixture->node, 0, 3);
    expect_depth(fixture->node, 1, 1);
    expect_depth(image, 1, 1);
    expect_depth(behind, 1, 2);
    expect_depth(fixture->node, 2, 2);
    expect_depth(behind, 2, 1);
    expect_depth(fixture->node, 3, 0);
    /* Past the end of the base it counts as the base's. */
    expect_depth(fixture->node, 5, 3);
}

static void co_the_first_who_has_it_counts(struct fixture *fixture, void *arg)
{
    static struct scene scene; /* too large for a stack */
    (void)arg;
    scene_co_init(&scene, fixture);
    co_find_depths(fixture);
    scene_co_fini(&scene, fixture);
}

static void co_a_failure_of_any_of_them_is_told(struct fixture *fixture, void *arg)
{
    static struct scene scene;
    struct block_backend *backend;
    uint32_t depth = 99;
    uint64_t length = 99;
    (void)arg;
    scene_co_init(&scene, fixture);
    assert_int_equal(block_backend_new(&backend, fixture->node, true, NULL), 0);
    assert_int_equal(block_co_depth(backend, SIZE, 1, &depth, &length), -EINVAL);
    assert_int_equal(block_co_depth(backend, 0, 0, &depth, &length), -EINVAL);
    assert_int_equal(depth, 99);
    assert_int_equal(block_co_depth(backend, 0, SIZE, &depth, &length), 0);
    assert_int_equal(depth, 3);
    assert_int_equal(block_co_backend_free(backend), 0);
    scene_co_fini(&scene, fixture);
}

static void expect_bitmap(struct block_node *node, const char *name, int code,
                          const struct dirty_bitmap *bitmap, const char *part)
{
    const struct dirty_bitmap *found = NULL;
    struct error err = {.message = ""};
    assert_int_equal(chain_co_find_bitmap(node, name, &found, &err), code);
    assert_ptr_equal(found, bitmap);
    if (!strstr(err.message, part))
        fail_msg("'%s' does not say '%s'", err.message, part);
}

static void co_a_bitmap_is_looked_for_down_the_chain(struct fixture *fixture, void *arg)
{
    static struct scene scene;
    (void)arg;
    scene_co_init(&scene, fixture);
    expect_bitmap(fixture->node, "top", 0, top_bitmap, "");
    expect_bitmap(fixture->node, "both", 0, top_bitmap, "");
    expect_bitmap(fixture->node, "middle", 0, middle_bitmap, "");
    expect_bitmap(fixture->node, "broken", -EIO, NULL, "broken indeed");
    expect_bitmap(fixture->node, "none", -ENOENT, NULL,
                  "bitmap 'none' is not found in 'file' or the images behind it");
    scene_co_fini(&scene, fixture);
}

#define CHAIN_TEST(name) FIXTURE_TEST_WITH(name, drivers, SIZE, SIZE)
CHAIN_TEST(the_first_who_has_it_counts)
CHAIN_TEST(a_failure_of_any_of_them_is_told)
CHAIN_TEST(a_bitmap_is_looked_for_down_the_chain)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_who_has_it_counts),
        cmocka_unit_test(a_failure_of_any_of_them_is_told),
        cmocka_unit_test(a_bitmap_is_looked_for_down_the_chain),
    };
    driver_with_bitmaps = layered_driver;
    driver_with_bitmaps.admin = &with_bitmaps;
    driver_base = *memory_drivers[0];
    driver_base.co_is_own = co_base_is_own;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
