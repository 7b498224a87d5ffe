/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests, checks, openings and repairs in which something fails, as failing_scene.h says. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/activity.h"
#include "block/reopen.h"
#include "common/endian.h"
#include "common/random.h"
#include "formats/qcow2/image.h"
#include "tests/crash/no_memory.h"
#include "tests/unit/formats/qcow2/failing_scene.h"

#define CLUSTER 4096u
#define FEATURES_LAST_BYTE 79

/* --- requests -----------------------------------------------------------------------------------
 */

static int co_requests(struct stage *stage, struct error *err)
{
    static uint8_t data[300000];
    struct block_node *node = stage->fixture.node;
    struct block_extent extent;
    bool is_own;
    uint64_t length;
    int rc = 0;
    (void)err;
    SCENE_FIRST_ERROR(
        fixture_co_read(node, SCENE_STORED_BYTES, data, sizeof(data)),
        node_co_status(node, 0, 300000, &extent), node_co_cache(node, 0, 300000),
        qcow2_co_is_own(node, 0, 300000, &is_own, &length),
        scene_co_write(stage, 210000, 600, 1, 0), scene_co_write(stage, 66000, 100, 2, 0),
        scene_co_write(stage, 300000, 100000, 3, 0), node_co_flush(node),
        node_co_zero(node, 198000, 70000, 0), node_co_zero(node, 300100, 33000, BLOCK_NO_UNMAP),
        node_co_zero(node, 458752, 512, 0), node_co_zero(node, 459264, 512, 0),
        node_co_discard(node, 65536, 131072, 0), node_co_flush(node),
        scene_co_write(stage, 131072, 1, 4, 0), node_co_flush(node));
    if (!stage->scene->image.has_data_file)
        SCENE_FIRST_ERROR(scene_co_write(stage, 401408, 24576, 5, BLOCK_COMPRESS),
                          node_co_flush(node));
    return rc;
}

/* Clusters whose compressed form takes two thirds of one: most of them lie in two. */
static int co_compressed_requests(struct stage *stage, struct error *err)
{
    static uint8_t data[6 * CLUSTER];
    struct block_node *node = stage->fixture.node;
    struct random random;
    int rc = 0;
    (void)err;
    random_seed(&random, 1);
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = i % CLUSTER < CLUSTER / 3 * 2 ? (uint8_t)random_below(&random, 256) : 0;
    SCENE_FIRST_ERROR(fixture_co_write(node, 65536, data, sizeof(data), BLOCK_COMPRESS),
                      fixture_co_write(node, 200704, data, sizeof(data), BLOCK_COMPRESS),
                      node_co_flush(node),
                      fixture_co_write(node, 131072, data, sizeof(data), BLOCK_COMPRESS));
    return rc;
}

/* --- the whole image ----------------------------------------------------------------------------
 */

static int co_check(struct stage *stage, struct error *err)
{
    struct block_check check;
    struct block_node *node = stage->fixture.node;
    int rc = node->driver->admin->co_check(node, NULL, NULL, &check, err);
    return rc == 0 && check.unreadable > 0 ? -EIO : rc;
}

static int co_reopen(struct stage *stage, const char *text, struct error *err)
{
    bool was_armed = crash_no_memory_disarm();
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, text, NULL), 0);
    crash_no_memory_rearm(was_armed);
    int rc = block_co_reopen(stage->backend, options, err);
    assert_true(rc == 0 || err->message[0] != '\0');
    return rc;
}

static int co_reopens(struct stage *stage, struct error *err)
{
    int rc = scene_co_write(stage, 100000, 5000, 1, 0);
    if (rc == 0)
        rc = co_reopen(stage, "read-only=on", err);
    if (rc == 0)
        rc = co_reopen(stage, "read-only=off,l2-cache-size=64k", err);
    if (rc == 0)
        rc = scene_co_write(stage, 100000, 5000, 2, 0);
    return rc == 0 ? co_reopen(stage, "lazy-refcounts=off,cache-size=1M", err) : rc;
}

static int co_leave_and_take(struct stage *stage, struct error *err)
{
    int rc = scene_co_write(stage, 100000, 5000, 1, 0);
    if (rc == 0)
        rc = block_co_inactivate(stage->backend, err);
    if (rc < 0)
        return rc;
    rc = block_co_invalidate(stage->backend, err);
    return rc == 0 ? scene_co_write(stage, 100000, 5000, 2, 0) : rc;
}

/* --- damage -------------------------------------------------------------------------------------
 */

/* All counts are lost. */
static void make_dirty(struct memory_disk *disk)
{
    uint64_t table = load_be64(disk->data + 48);
    uint64_t cluster_bytes = UINT64_C(1) << load_be32(disk->data + 20);
    disk->data[FEATURES_LAST_BYTE] |= QCOW2_INCOMPATIBLE_DIRTY;
    memset(disk->data + load_be64(disk->data + table), 0, cluster_bytes);
}

/* And what is written anew lies far behind. */
static void make_long_and_dirty(struct memory_disk *disk)
{
    uint64_t l1 = load_be64(disk->data + 40);
    make_dirty(disk);
    disk->data[l1] &= 0x7f; /* COPIED */
    disk->size_bytes = 2 << 20;
}

static void make_corrupt(struct memory_disk *disk)
{
    disk->data[FEATURES_LAST_BYTE] |= QCOW2_INCOMPATIBLE_CORRUPT;
}

/* Some clusters of the file are nobody's. */
static void make_leaks(struct memory_disk *disk)
{
    uint64_t block = load_be64(disk->data + load_be64(disk->data + 48));
    uint32_t bits = load_be32(disk->data + 20), order = load_be32(disk->data + 96);
    for (uint32_t i = 0; i < 3; i++, disk->size_bytes += UINT64_C(1) << bits)
        qcow2_refcount_set(disk->data + block, order, (uint32_t)(disk->size_bytes >> bits), 1);
}

/* --- scenes -------------------------------------------------------------------------------------
 */

/* A cluster has one user at most. */
#define UNSHARED                                                      \
    {                                                                 \
        .cluster_bits = 12, .refcount_order = 0, .disk_bytes = 524288 \
    }

/* A bitmap's table has two clusters. */
#define HUGE                                                                      \
    {                                                                             \
        .cluster_bits = 12, .refcount_order = 4, .disk_bytes = UINT64_C(12) << 30 \
    }

#define SCENES(X)                                                                                  \
    X(requests, .image = SMALL, .has_bitmaps = true, .co_do = co_requests)                         \
    X(requests_of_small_clusters, .image = TINY, .stride = 3, .co_do = co_requests)                \
    X(requests_above_a_backing_file, .image = EXTENDED, .has_backing = true, .co_do = co_requests) \
    X(requests_to_a_data_file, .image = EXTERNAL, .co_do = co_requests)                            \
    X(requests_beside_a_snapshot, .image = SMALL, .has_snapshot = true, .co_do = co_requests)      \
    X(lazy_requests, .image = SMALL, .options = "lazy-refcounts=on", .co_do = co_requests)         \
    X(compressed_requests_that_share_nothing, .image = UNSHARED, .co_do = co_compressed_requests)  \
    X(compressed_requests, .image = SMALL, .co_do = co_compressed_requests)                        \
    X(a_check, .image = SMALL, .has_bitmaps = true, .has_snapshot = true, .co_do = co_check)       \
    X(a_reopening, .gives_up = true, .image = SMALL, .has_bitmaps = true, .co_do = co_reopens)     \
    X(a_turn_of_another_server, .gives_up = true, .image = SMALL, .has_bitmaps = true,             \
      .has_snapshot = true, .has_backing = true, .co_do = co_leave_and_take)                       \
    X(an_opening, .image = SMALL, .has_bitmaps = true, .has_snapshot = true, .has_backing = true,  \
      .is_opening = true)                                                                          \
    X(an_opening_with_large_clusters, .image = EXTENDED, .is_opening = true)                       \
    X(an_opening_of_a_huge_disk, .image = HUGE, .has_bitmaps = true, .is_opening = true)           \
    X(an_opening_with_a_data_file, .image = EXTERNAL, .is_opening = true)                          \
    X(an_opening_of_what_the_image_names, .image = SMALL, .has_backing = true, .has_names = true,  \
      .is_opening = true)                                                                          \
    X(an_opening_of_a_snapshot, .image = SMALL, .has_snapshot = true,                              \
      .options = "read-only=on,load-snapshot=then", .is_opening = true)                            \
    X(a_repair, .image = SMALL, .has_bitmaps = true, .has_snapshot = true, .damage = make_dirty,   \
      .is_opening = true)                                                                          \
    X(a_repair_of_small_clusters, .image = TINY, .damage = make_dirty, .is_opening = true)         \
    X(a_repair_of_a_long_file, .image = TINY, .damage = make_long_and_dirty, .is_opening = true)   \
    X(a_repair_of_what_is_marked, .image = SMALL, .options = "repair=all", .damage = make_corrupt, \
      .is_opening = true)                                                                          \
    X(a_repair_of_leaks, .image = SMALL, .has_snapshot = true, .options = "repair=leaks",          \
      .damage = make_leaks, .is_opening = true)
SCENES(SCENE_DEFINE)

int main(void)
{
    const struct CMUnitTest tests[] = {SCENES(SCENE_LIST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
