/* SPDX-License-Identifier: BSD-3-Clause */
/* New sizes, and tables that grow, in which something fails, as failing_scene.h says. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "formats/qcow2/bitmaps.h"
#include "formats/qcow2/resize.h"
#include "formats/qcow2/writer.h"
#include "tests/unit/formats/qcow2/failing_scene.h"

#define VERSION_LAST_BYTE 7
#define AUTOCLEAR_LAST_BYTE 95

static int co_resize_to(struct stage *stage, uint64_t size, bool has_tables, struct error *err)
{
    struct block_node *node = stage->fixture.node;
    struct qcow2_resize resize = {.size_bytes = size, .may_shrink = true, .has_tables = has_tables};
    uint64_t before = atomic_load(&node->size_bytes);
    int rc = qcow2_co_resize_as(node, &resize, err);
    assert_int_equal(atomic_load(&node->size_bytes), rc == 0 ? size : before);
    assert_true(rc == 0 || err->message[0] != '\0');
    return rc;
}

static int co_resizes(struct stage *stage, struct error *err)
{
    int rc = co_resize_to(stage, 585 * 512, false, err);
    if (rc == 0)
        rc = co_resize_to(stage, 1 << 20, true, err);
    if (rc == 0)
        rc = scene_co_write(stage, 900000, 100000, 9, 0);
    if (rc == 0) /* with small clusters tables move */
        rc = co_resize_to(stage, stage->scene->image.cluster_bits == 9 ? 200 << 20 : 2 << 20, false,
                          err);
    return rc == 0 ? co_resize_to(stage, 524288 - 512, false, err) : rc;
}

/* Tables move, and those of its bitmaps with the next store. */
static int co_enlarge(struct stage *stage, struct error *err)
{
    int rc = co_resize_to(stage, 200 << 20, false, err);
    if (rc == 0)
        rc = scene_co_write(stage, 190 << 20, 3000, 9, 0);
    return rc == 0 ? qcow2_bitmaps_co_store(qcow2_of(stage->fixture.node)) : rc;
}

/* Most refcount blocks count nothing afterwards. */
static int co_shrink(struct stage *stage, struct error *err)
{
    return co_resize_to(stage, 51200, false, err);
}

/* Behind the end of the backing file, which version 2 writes zeroes over. */
static int co_enlarge_over_backing(struct stage *stage, struct error *err)
{
    return co_resize_to(stage, SCENE_OTHER_BYTES + 200000 / 512 * 512, true, err);
}

static int co_enlarge_with_tables(struct stage *stage, struct error *err)
{
    return co_resize_to(stage, SCENE_OTHER_BYTES - 4096, true, err);
}

static int co_store_bitmaps(struct stage *stage, struct error *err)
{
    (void)err;
    int rc = scene_co_write(stage, 100000, 5000, 1, 0);
    return rc == 0 ? qcow2_bitmaps_co_store(qcow2_of(stage->fixture.node)) : rc;
}

/* What comes next is taken behind the end of what a refcount table of one cluster can count. */
static int co_grow_refcounts(struct stage *stage, struct error *err)
{
    (void)err;
    struct qcow2_image *image = qcow2_of(stage->fixture.node);
    uint64_t entries = image->geometry.cluster_bytes / 8;
    image->writer->free_hint = entries << image->geometry.refcount_block_bits;
    int rc = scene_co_write(stage, 300000, 20000, 8, 0);
    return rc == 0 ? node_co_flush(stage->fixture.node) : rc;
}

/* In which no entry says zero; what version 3 has beyond its header is an empty extension. */
static void make_version_2(struct memory_disk *disk)
{
    uint64_t l1 = load_be64(disk->data + 40);
    uint8_t *l2 = disk->data + (load_be64(disk->data + l1) & QCOW2_ENTRY_OFFSET);
    for (unsigned i = 0; i < 512; i++) {
        if (load_be64(l2 + (size_t)i * 8) == QCOW2_ENTRY_ZERO)
            store_be64(l2 + (size_t)i * 8, 0);
    }
    disk->data[VERSION_LAST_BYTE] = 2;
}

static void make_raw(struct memory_disk *disk)
{
    disk->data[AUTOCLEAR_LAST_BYTE] |= QCOW2_AUTOCLEAR_DATA_FILE_RAW;
}

#define SCENES(X)                                                                                  \
    X(new_sizes, .image = SMALL, .has_bitmaps = true, .co_do = co_resizes)                         \
    X(new_sizes_of_small_clusters, .image = TINY, .has_bitmaps = true, .stride = 9,                \
      .co_do = co_resizes)                                                                         \
    X(new_sizes_above_a_backing_file, .image = EXTENDED, .has_backing = true, .co_do = co_resizes) \
    X(new_sizes_of_a_data_file, .image = EXTERNAL, .co_do = co_resizes)                            \
    X(a_new_size_of_a_raw_data_file, .image = EXTERNAL, .damage = make_raw,                        \
      .co_do = co_enlarge_with_tables)                                                             \
    X(a_new_size_of_version_2, .co_do = co_enlarge_over_backing, .image = SMALL,                   \
      .has_backing = true, .gives_up = true, .damage = make_version_2)                             \
    X(a_larger_disk_of_small_clusters, .image = TINY, .has_bitmaps = true, .co_do = co_enlarge)    \
    X(a_smaller_disk_of_small_clusters, .fails_each_table = true, .image = TINY,                   \
      .co_do = co_shrink)                                                                          \
    X(a_larger_refcount_table, .image = TINY, .co_do = co_grow_refcounts)                          \
    X(bitmaps_that_are_stored, .image = SMALL, .has_bitmaps = true, .co_do = co_store_bitmaps)
SCENES(SCENE_DEFINE)

int main(void)
{
    const struct CMUnitTest tests[] = {SCENES(SCENE_LIST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
