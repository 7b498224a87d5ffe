/* SPDX-License-Identifier: BSD-3-Clause */
/* filter_cor.c: what is copied, what is not, and that a copy never undoes a write. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/filters.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/block/layered_driver.h"

#define CLUSTER LAYERED_CLUSTER_BYTES
#define CLUSTERS 16
#define SIZE (CLUSTERS * CLUSTER)

static const struct block_driver *drivers[] = {&block_filter_copy_on_read, &layered_driver, NULL,
                                               NULL, NULL};

struct scene {
    struct fixture *fixture;
    struct memory_disk *backing; /* too large for a stack */
    struct block_node *image;    /* the layered one */
};

static int co_try_open(struct scene *scene, const char *key, const char *value, struct error *err)
{
    struct node_options *options = node_options_new();
    assert_non_null(options);
    assert_int_equal(node_options_set(options, "driver", "copy-on-read", NULL), 0);
    assert_int_equal(node_options_set(options, "file.driver", "layered", NULL), 0);
    memory_disk_options(&scene->fixture->disk, options, "file.file.", "file");
    memory_disk_options(scene->backing, options, "file.backing.", "file");
    if (key)
        assert_int_equal(node_options_set(options, key, value, NULL), 0);
    return block_co_open(&scene->fixture->env, options, &scene->fixture->node, err);
}

static void scene_co_init(struct scene *scene, struct fixture *fixture, const char *key,
                          const char *value)
{
    struct error err = {.message = ""};
    scene->fixture = fixture;
    scene->backing = calloc(1, sizeof(*scene->backing));
    assert_non_null(scene->backing);
    memory_disk_init(scene->backing, SIZE, SIZE, 2);
    for (unsigned i = 0; i < SIZE; i++)
        scene->backing->data[i] = (uint8_t)(i / 100 + 1);
    memset(fixture->disk.data, 0xee, SIZE);
    if (co_try_open(scene, key, value, &err) < 0)
        fail_msg("%s", err.message);
    scene->image = fixture->node->file;
}

static void scene_co_fini(struct scene *scene)
{
    fixture_co_close(scene->fixture);
    memory_disk_fini(scene->backing);
    free(scene->backing);
}

/* Exactly the clusters in [from, to) are the image's own. */
static void expect_own(const struct scene *scene, unsigned from, unsigned to)
{
    for (unsigned i = 0; i < CLUSTERS; i++)
        assert_int_equal(layered_has(scene->image, i), i >= from && i < to);
}

#define COR_TEST(name)                                  \
    static void name(void **state)                      \
    {                                                   \
        struct fixture fixture;                         \
        (void)state;                                    \
        drivers[2] = memory_drivers[0];                 \
        drivers[3] = memory_drivers[2];                 \
        fixture_init(&fixture, drivers, SIZE, SIZE, 1); \
        fixture_run(&fixture, co_##name, NULL);         \
        fixture_fini(&fixture);                         \
    }

static void co_what_is_read_is_copied_by_whole_clusters(struct fixture *fixture, void *arg)
{
    struct scene scene;
    uint8_t data[2 * CLUSTER];
    (void)arg;
    scene_co_init(&scene, fixture, NULL, NULL);
    assert_int_equal(fixture_co_read(fixture->node, 2 * CLUSTER + 7, data, CLUSTER), 0);
    assert_memory_equal(data, scene.backing->data + 2 * CLUSTER + 7, CLUSTER);
    expect_own(&scene, 2, 4);
    assert_memory_equal(fixture->disk.data + 2 * CLUSTER, scene.backing->data + 2 * CLUSTER,
                        2 * CLUSTER);
    unsigned reads = scene.backing->counts[MEMORY_READ],
             writes = fixture->disk.counts[MEMORY_WRITE];
    assert_int_equal(fixture_co_read(fixture->node, 2 * CLUSTER, data, 2 * CLUSTER), 0);
    assert_memory_equal(data, scene.backing->data + 2 * CLUSTER, 2 * CLUSTER);
    assert_int_equal(scene.backing->counts[MEMORY_READ], reads);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], writes);
    scene_co_fini(&scene);
}
COR_TEST(what_is_read_is_copied_by_whole_clusters)

static void co_what_the_image_has_is_not_copied_again(struct fixture *fixture, void *arg)
{
    struct scene scene;
    uint8_t data[3 * CLUSTER];
    (void)arg;
    scene_co_init(&scene, fixture, NULL, NULL);
    memset(data, 0x55, CLUSTER);
    assert_int_equal(fixture_co_write(fixture->node, 5 * CLUSTER, data, CLUSTER, 0), 0);
    assert_int_equal(fixture_co_read(fixture->node, 4 * CLUSTER, data, 3 * CLUSTER), 0);
    expect_own(&scene, 4, 7);
    for (unsigned i = 0; i < CLUSTER; i++)
        assert_int_equal(data[CLUSTER + i], 0x55);
    assert_memory_equal(data, scene.backing->data + 4 * CLUSTER, CLUSTER);
    assert_int_equal(fixture->disk.data[5 * CLUSTER], 0x55);
    scene_co_fini(&scene);
}
COR_TEST(what_the_image_has_is_not_copied_again)

static void co_a_cache_request_copies_too(struct fixture *fixture, void *arg)
{
    struct scene scene;
    (void)arg;
    scene_co_init(&scene, fixture, NULL, NULL);
    assert_int_equal(node_co_cache(fixture->node, 1, SIZE - 1), 0);
    expect_own(&scene, 0, CLUSTERS);
    assert_memory_equal(fixture->disk.data, scene.backing->data, SIZE);
    scene_co_fini(&scene);
}
COR_TEST(a_cache_request_copies_too)

static void co_a_read_only_image_is_read_and_not_copied(struct fixture *fixture, void *arg)
{
    struct scene scene;
    uint8_t data[CLUSTER];
    (void)arg;
    scene_co_init(&scene, fixture, "read-only", "on");
    assert_int_equal(fixture_co_read(fixture->node, 0, data, CLUSTER), 0);
    assert_memory_equal(data, scene.backing->data, CLUSTER);
    expect_own(&scene, 0, 0);
    scene_co_fini(&scene);
}
COR_TEST(a_read_only_image_is_read_and_not_copied)

static void co_a_copy_that_fails_fails_the_read(struct fixture *fixture, void *arg)
{
    struct scene scene;
    uint8_t data[CLUSTER];
    (void)arg;
    scene_co_init(&scene, fixture, NULL, NULL);
    fixture->disk.fail_code = -ENOSPC;
    fixture->disk.fail_ops = 1u << MEMORY_WRITE;
    assert_int_equal(fixture_co_read(fixture->node, 0, data, CLUSTER), -ENOSPC);
    fixture->disk.fail_code = 0;
    expect_own(&scene, 0, 0);
    scene.backing->fail_code = -EIO;
    scene.backing->fail_ops = 1u << MEMORY_READ;
    assert_int_equal(fixture_co_read(fixture->node, 0, data, CLUSTER), -EIO);
    scene.backing->fail_code = 0;
    assert_int_equal(fixture_co_read(fixture->node, 0, data, CLUSTER), 0);
    expect_own(&scene, 0, 1);
    scene_co_fini(&scene);
}
COR_TEST(a_copy_that_fails_fails_the_read)

static void read_entry(void *arg)
{
    struct scene *scene = arg;
    uint8_t data[CLUSTER];
    assert_int_equal(fixture_co_read(scene->fixture->node, 0, data, CLUSTER), 0);
}

static void write_entry(void *arg)
{
    struct scene *scene = arg;
    assert_int_equal(fixture_co_write(scene->fixture->node, 10, "new", 3, 0), 0);
}

/* The copy has read the old bytes and is about to write them: the write comes behind it. */
static void co_a_write_waits_for_the_copy_under_way(struct fixture *fixture, void *arg)
{
    struct scene scene;
    struct group group;
    (void)arg;
    scene_co_init(&scene, fixture, NULL, NULL);
    group_init(&group, fixture->loop);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_WRITE);
    group_start(&group, read_entry, &scene);
    memory_disk_co_wait_held(&fixture->disk, 1);
    group_start(&group, write_entry, &scene);
    for (unsigned i = 0; i < 30; i++)
        coroutine_co_pause();
    memory_disk_release(&fixture->disk);
    group_co_wait(&group);
    assert_memory_equal(fixture->disk.data + 10, "new", 3);
    assert_memory_equal(fixture->disk.data, scene.backing->data, 10);
    scene_co_fini(&scene);
}
COR_TEST(a_write_waits_for_the_copy_under_way)

/* The write is under way: the copy comes behind it and finds that there is nothing to copy. */
static void co_a_copy_waits_for_the_write_under_way(struct fixture *fixture, void *arg)
{
    struct scene scene;
    struct group group;
    (void)arg;
    scene_co_init(&scene, fixture, NULL, NULL);
    group_init(&group, fixture->loop);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_WRITE);
    group_start(&group, write_entry, &scene);
    memory_disk_co_wait_held(&fixture->disk, 1);
    group_start(&group, read_entry, &scene);
    for (unsigned i = 0; i < 30; i++)
        coroutine_co_pause();
    memory_disk_release(&fixture->disk);
    group_co_wait(&group);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 1);
    assert_memory_equal(fixture->disk.data + 10, "new", 3);
    scene_co_fini(&scene);
}
COR_TEST(a_copy_waits_for_the_write_under_way)

static void co_a_bottom_is_refused(struct fixture *fixture, void *arg)
{
    struct scene scene = {.fixture = fixture};
    struct error err = {.message = ""};
    (void)arg;
    scene.backing = calloc(1, sizeof(*scene.backing));
    assert_non_null(scene.backing);
    memory_disk_init(scene.backing, SIZE, SIZE, 2);
    assert_int_equal(co_try_open(&scene, "bottom", "base", &err), -ENOTSUP);
    assert_non_null(strstr(err.message, "bottom: "));
    memory_disk_fini(scene.backing);
    free(scene.backing);
}
COR_TEST(a_bottom_is_refused)

static void co_an_image_without_a_backing_file_has_all(struct fixture *fixture, void *arg)
{
    struct node_options *options = node_options_new();
    uint8_t data[CLUSTER];
    (void)arg;
    assert_non_null(options);
    assert_int_equal(node_options_set(options, "driver", "copy-on-read", NULL), 0);
    memory_disk_options(&fixture->disk, options, "file.", "file");
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, NULL), 0);
    assert_int_equal(fixture_co_read(fixture->node, 0, data, CLUSTER), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE] + fixture->disk.counts[MEMORY_ZERO], 0);
    fixture_co_close(fixture);
}
COR_TEST(an_image_without_a_backing_file_has_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_is_copied_by_whole_clusters),
        cmocka_unit_test(what_the_image_has_is_not_copied_again),
        cmocka_unit_test(a_cache_request_copies_too),
        cmocka_unit_test(a_read_only_image_is_read_and_not_copied),
        cmocka_unit_test(a_copy_that_fails_fails_the_read),
        cmocka_unit_test(a_write_waits_for_the_copy_under_way),
        cmocka_unit_test(a_copy_waits_for_the_write_under_way),
        cmocka_unit_test(a_bottom_is_refused),
        cmocka_unit_test(an_image_without_a_backing_file_has_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
