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

#define COR_TEST(name) FIXTURE_TEST_WITH(name, drivers, SIZE, SIZE)

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

/* --- bottom ---------------------------------------------------------------------------------- */

/* copy-on-read, "top" on the fixture's disk, "middle", "base": the first two layered. What each
 * disk begins with is a byte of its own. */
struct chain {
    struct fixture *fixture;
    struct memory_disk *middle, *base;
};

#define TOP_BYTE 0x10
#define MIDDLE_BYTE 0x20
#define BASE_BYTE 0x30

static struct memory_disk *new_disk(uint64_t size, uint8_t byte)
{
    struct memory_disk *disk = calloc(1, sizeof(*disk));
    assert_non_null(disk);
    memory_disk_init(disk, size, size, byte);
    memset(disk->data, byte, size);
    return disk;
}

static void free_disk(struct memory_disk *disk)
{
    memory_disk_fini(disk);
    free(disk);
}

static struct node_options *chain_options(struct chain *chain, const char *bottom)
{
    static const char *const pairs[][2] = {
        {"driver", "copy-on-read"},
        {"node-name", "filter"},
        {"file.driver", "layered"},
        {"file.node-name", "top"},
        {"file.file.node-name", "file-of-top"},
        {"file.backing.driver", "layered"},
        {"file.backing.node-name", "middle"},
        {"file.backing.backing.node-name", "base"},
    };
    struct node_options *options = node_options_new();
    assert_non_null(options);
    for (unsigned i = 0; i < sizeof(pairs) / sizeof(*pairs); i++)
        assert_int_equal(node_options_set(options, pairs[i][0], pairs[i][1], NULL), 0);
    memory_disk_options(&chain->fixture->disk, options, "file.file.", "file");
    memory_disk_options(chain->middle, options, "file.backing.file.", "file");
    memory_disk_options(chain->base, options, "file.backing.backing.", "file");
    if (bottom)
        assert_int_equal(node_options_set(options, "bottom", bottom, NULL), 0);
    return options;
}

static void chain_init(struct chain *chain, struct fixture *fixture, uint64_t middle_size)
{
    chain->fixture = fixture;
    memset(fixture->disk.data, TOP_BYTE, SIZE);
    chain->middle = new_disk(middle_size, MIDDLE_BYTE);
    chain->base = new_disk(SIZE, BASE_BYTE);
}

static void chain_fini(struct chain *chain)
{
    free_disk(chain->middle);
    free_disk(chain->base);
}

/* Cluster 1 is the top's own, 2 and 3 the middle's, 3 also the top's. The rest is the base's. */
static void chain_co_open(struct chain *chain, const char *bottom)
{
    struct error err = {.message = ""};
    struct fixture *fixture = chain->fixture;
    if (block_co_open(&fixture->env, chain_options(chain, bottom), &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
    struct block_node *top = fixture->node->file;
    uint8_t data[CLUSTER];
    assert_ptr_equal(top->backing, top->children[1]);
    memset(data, MIDDLE_BYTE, sizeof(data));
    assert_int_equal(fixture_co_write(top->backing, 2 * CLUSTER, data, CLUSTER, 0), 0);
    assert_int_equal(fixture_co_write(top->backing, 3 * CLUSTER, data, CLUSTER, 0), 0);
    memset(data, TOP_BYTE, sizeof(data));
    assert_int_equal(fixture_co_write(top, 1 * CLUSTER, data, CLUSTER, 0), 0);
    assert_int_equal(fixture_co_write(top, 3 * CLUSTER, data, CLUSTER, 0), 0);
}

/* Reads all of it, in one request or each half of a cluster, and looks which clusters the top has
 * then, as bits. */
static unsigned chain_co_read_all(struct chain *chain, const char *bottom, size_t step)
{
    struct fixture *fixture = chain->fixture;
    uint8_t data[SIZE];
    unsigned has = 0;
    chain_co_open(chain, bottom);
    for (size_t at = 0; at < SIZE; at += step)
        assert_int_equal(fixture_co_read(fixture->node, at, data + at, step), 0);
    for (size_t i = 0; i < SIZE; i++) {
        size_t cluster = i / CLUSTER;
        assert_int_equal(data[i], cluster == 1 || cluster == 3 ? TOP_BYTE
                                  : cluster == 2               ? MIDDLE_BYTE
                                                               : BASE_BYTE);
    }
    for (unsigned i = 0; i < CLUSTERS; i++)
        has |= layered_has(fixture->node->file, i) ? 1u << i : 0;
    fixture_co_close(fixture);
    return has;
}

static void co_what_lies_below_the_bottom_is_not_copied(struct fixture *fixture, void *arg)
{
    static const size_t steps[] = {SIZE, CLUSTER / 2, 2 * CLUSTER};
    const unsigned all = (1u << CLUSTERS) - 1, own = 1u << 1 | 1u << 3;
    struct chain chain;
    (void)arg;
    chain_init(&chain, fixture, SIZE);
    for (unsigned i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
        assert_int_equal(chain_co_read_all(&chain, NULL, steps[i]), all);
        assert_int_equal(chain_co_read_all(&chain, "base", steps[i]), all);
        assert_int_equal(chain_co_read_all(&chain, "middle", steps[i]), own | 1u << 2);
        assert_int_equal(chain_co_read_all(&chain, "top", steps[i]), own);
    }
    chain_fini(&chain);
}
COR_TEST(what_lies_below_the_bottom_is_not_copied)

/* The middle ends within cluster 4: what it has there is the base's, and zeroes come behind. */
static void co_past_the_end_of_a_short_bottom_its_zeroes_are_copied(struct fixture *fixture,
                                                                    void *arg)
{
    struct chain chain;
    uint8_t data[CLUSTER];
    (void)arg;
    chain_init(&chain, fixture, 4 * CLUSTER + 100);
    chain_co_open(&chain, "middle");
    assert_int_equal(fixture_co_read(fixture->node, 0, data, CLUSTER), 0);
    assert_false(layered_has(fixture->node->file, 0));
    assert_int_equal(fixture_co_read(fixture->node, 6 * CLUSTER, data, CLUSTER), 0);
    assert_true(layered_has(fixture->node->file, 6));
    for (unsigned i = 0; i < CLUSTER; i++)
        assert_int_equal(data[i] | fixture->disk.data[6 * CLUSTER + i], 0);
    assert_int_equal(fixture_co_read(fixture->node, 4 * CLUSTER, data, CLUSTER), 0);
    for (unsigned i = 0; i < CLUSTER; i++)
        assert_int_equal(data[i], i < 100 ? BASE_BYTE : 0);
    fixture_co_close(fixture);
    chain_fini(&chain);
}
COR_TEST(past_the_end_of_a_short_bottom_its_zeroes_are_copied)

static void co_expect_refused(struct chain *chain, const char *bottom, const char *sentence)
{
    struct block_node *node = NULL;
    struct error err = {.message = ""};
    struct block_env *env = &chain->fixture->env;
    assert_int_equal(block_co_open(env, chain_options(chain, bottom), &node, &err), -EINVAL);
    assert_null(node);
    if (!strstr(err.message, sentence))
        fail_msg("'%s' is not in: %s", sentence, err.message);
}

static void co_a_bottom_that_is_no_image_of_the_chain_is_refused(struct fixture *fixture, void *arg)
{
    struct chain chain;
    struct block_node *other = NULL;
    struct memory_disk *disk = new_disk(SIZE, 1);
    struct node_options *options = node_options_new();
    (void)arg;
    chain_init(&chain, fixture, SIZE);
    memory_disk_options(disk, options, "", "file");
    assert_int_equal(node_options_set(options, "node-name", "other", NULL), 0);
    assert_int_equal(block_co_open(&fixture->env, options, &other, NULL), 0);
    co_expect_refused(&chain, "none", "bottom: no node is called 'none'");
    co_expect_refused(&chain, "", "bottom: no node is called ''");
    co_expect_refused(&chain, "other", "bottom: 'other' is not in the chain");
    co_expect_refused(&chain, "file-of-top", "bottom: 'file-of-top' is not in the chain");
    co_expect_refused(&chain, "filter", "bottom: no node is called 'filter'"); /* not open yet */
    block_co_node_unref(other);
    assert_int_equal(fixture->disk.counts[MEMORY_OPEN], 5);
    assert_int_equal(fixture->disk.counts[MEMORY_CLOSE], 5);
    free_disk(disk);
    chain_fini(&chain);
}
COR_TEST(a_bottom_that_is_no_image_of_the_chain_is_refused)

/* A filter between the images of a chain is looked through, but is no bottom itself. */
static void co_filters_in_the_chain_are_looked_through(struct fixture *fixture, void *arg)
{
    static const char *const bottoms[] = {"middle", "between"};
    struct chain chain;
    (void)arg;
    chain_init(&chain, fixture, SIZE);
    for (unsigned i = 0; i < 2; i++) {
        struct error err = {.message = ""};
        struct node_options *options = node_options_new();
        static const char *const pairs[][2] = {
            {"driver", "copy-on-read"},
            {"file.driver", "layered"},
            {"file.backing.driver", "copy-on-read"},
            {"file.backing.node-name", "between"},
            {"file.backing.file.driver", "layered"},
            {"file.backing.file.node-name", "middle"},
        };
        for (unsigned j = 0; j < sizeof(pairs) / sizeof(*pairs); j++)
            assert_int_equal(node_options_set(options, pairs[j][0], pairs[j][1], NULL), 0);
        memory_disk_options(&fixture->disk, options, "file.file.", "file");
        memory_disk_options(chain.middle, options, "file.backing.file.file.", "file");
        memory_disk_options(chain.base, options, "file.backing.file.backing.", "file");
        assert_int_equal(node_options_set(options, "bottom", bottoms[i], NULL), 0);
        int rc = block_co_open(&fixture->env, options, &fixture->node, &err);
        assert_int_equal(rc, i == 0 ? 0 : -EINVAL);
        if (rc == 0)
            fixture_co_close(fixture);
        else
            assert_non_null(strstr(err.message, "bottom: 'between' is a filter (copy-on-read)"));
    }
    chain_fini(&chain);
}
COR_TEST(filters_in_the_chain_are_looked_through)

int main(void)
{
    drivers[2] = memory_drivers[0];
    drivers[3] = memory_drivers[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_is_copied_by_whole_clusters),
        cmocka_unit_test(what_the_image_has_is_not_copied_again),
        cmocka_unit_test(a_cache_request_copies_too),
        cmocka_unit_test(a_read_only_image_is_read_and_not_copied),
        cmocka_unit_test(a_copy_that_fails_fails_the_read),
        cmocka_unit_test(a_write_waits_for_the_copy_under_way),
        cmocka_unit_test(a_copy_waits_for_the_write_under_way),
        cmocka_unit_test(an_image_without_a_backing_file_has_all),
        cmocka_unit_test(what_lies_below_the_bottom_is_not_copied),
        cmocka_unit_test(past_the_end_of_a_short_bottom_its_zeroes_are_copied),
        cmocka_unit_test(a_bottom_that_is_no_image_of_the_chain_is_refused),
        cmocka_unit_test(filters_in_the_chain_are_looked_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
