/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A new size for the disk. Nothing else is in flight; the header's field comes last (invariant 27):
 *
 *     grow    a larger L1 table, if there must be one (l1_grow.c) | what was mapped or may show
 *             behind the old end reads as zeroes | tables for the new part, if asked for | all of
 *             it durable | size
 *     shrink  what lies behind the new end reads as zeroes and has no space | durable, and freed |
 *             size | L2 tables that lie behind it go | durable, and freed | the file is cut where
 *             its last cluster ends
 *
 * So a crash or a failure leaves the old size or the new one; of a shrink it may leave the old size
 * with zeroes at its end. (With the backing file there, in an image of version 2: no entry of its
 * tables can say zero.)
 *
 * What lies behind the end of a disk is not always empty: the rest of its last cluster, a backing
 * file that is longer, and what an older program left in the tables. All of that reads as zeroes
 * once the disk has grown over it.
 *
 * Persistent bitmaps get the size too: what can fail of that comes first.
 *
 * Refused, as by qemu: an image of version 2 with snapshots, whose size then nobody has noted.
 */
#include "formats/qcow2/resize.h"

#include <errno.h>
#include <inttypes.h>

#include "block/buffer.h"
#include "block/env.h"
#include "common/align.h"
#include "common/endian.h"
#include "common/log.h"
#include "common/zero_scan.h"
#include "formats/qcow2/bitmaps.h"
#include "formats/qcow2/writer.h"

#define SIZE_UNIT 512
#define PIECE_BYTES ((size_t)64 << 10)

static bool is_raw_data_file(const struct qcow2_image *image)
{
    return image->header.autoclear_features & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
}

/* --- what is refused ----------------------------------------------------------------------------
 */

static int check_snapshots(const struct qcow2_image *image, struct error *err)
{
    const char *name = image->node->name;
    if (image->header.nb_snapshots > 0 && image->header.version < 3)
        return error_set(err, -ENOTSUP,
                         "cannot resize '%s': it has snapshots, and its version is 2, in which "
                         "they have no size of their own; make it version 3 with qemu-img amend -o "
                         "compat=v3",
                         name);
    for (uint32_t i = 0; i < image->snapshots.count; i++) {
        if (!image->snapshots.all[i].has_disk_size)
            return error_set(err, -ENOTSUP,
                             "cannot resize '%s': its snapshot '%.64s' has no size of its own; "
                             "repair it with qemu-img check -r all",
                             name, image->snapshots.all[i].id);
    }
    return 0;
}

static int check(const struct qcow2_image *image, const struct qcow2_resize *resize,
                 struct error *err)
{
    const char *name = image->node->name;
    if (resize->size_bytes < image->header.size && !resize->may_shrink)
        return error_set(err, -EINVAL,
                         "cannot resize '%s' from %" PRIu64 " to %" PRIu64
                         " bytes: what lies beyond would be lost; allow it to shrink",
                         name, image->header.size, resize->size_bytes);
    if (resize->size_bytes < image->header.size && resize->has_tables)
        return error_set(err, -EINVAL,
                         "cannot resize '%s': preallocation is for a disk that grows, and it "
                         "shrinks from %" PRIu64 " to %" PRIu64 " bytes",
                         name, image->header.size, resize->size_bytes);
    if (qcow2_l1_entries_needed(&image->geometry, resize->size_bytes) > QCOW2_L1_BYTES_MAX / 8)
        return error_set(err, -EFBIG,
                         "cannot resize '%s' to %" PRIu64
                         " bytes: too large for its clusters of %" PRIu64 " bytes",
                         name, resize->size_bytes, image->geometry.cluster_bytes);
    return check_snapshots(image, err);
}

/* --- both ways ----------------------------------------------------------------------------------
 */

static int co_set_size(struct qcow2_image *image, uint64_t size)
{
    uint8_t old_field[8], field[8];
    store_be64(old_field, image->header.size);
    store_be64(field, size);
    int ret = qcow2_co_replace_header_bytes(image, QCOW2_HEADER_SIZE, field, old_field, 8);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&image->monitor);
    image->header.size = size;
    pthread_mutex_unlock(&image->monitor);
    atomic_store(&image->node->size_bytes, size);
    return 0;
}

/* The external data file is as long as the disk; where it cannot be, as a device, it may be longer.
 */
static int co_resize_data_file(struct qcow2_image *image, uint64_t size)
{
    uint64_t data_bytes = atomic_load(&image->data->size_bytes);
    if (!image->geometry.has_data_file || data_bytes == size)
        return 0;
    int ret = node_co_resize(image->data, size, NULL);
    return size < data_bytes ? 0 : ret;
}

/* --- growing ------------------------------------------------------------------------------------
 */

/* The part of the last cluster that was behind the old end: zeroes are written where something else
 * shows. */
static int co_clear_last_cluster(struct qcow2_image *image, uint64_t from, uint64_t to)
{
    struct buffer_pool *pool = &block_env_local(image->node->env)->buffers;
    uint8_t *bytes = buffer_get(pool, PIECE_BYTES);
    int ret = bytes ? 0 : -ENOMEM;
    while (from < to && ret == 0) {
        struct iovec iov;
        size_t length = (size_t)smaller(to - from, PIECE_BYTES);
        struct block_vec vec = vec_of_buffer(&iov, bytes, length);
        ret = qcow2_co_read(image->node, from, &vec);
        if (ret == 0 && !zero_scan(bytes, length))
            ret = qcow2_co_write_zeroes(image, from, from + length);
        from += length;
    }
    buffer_put(pool, bytes, PIECE_BYTES);
    return ret;
}

/* Whole clusters that L2 tables have from there on, up to the end of the L1 table. */
static int co_each_table_from(struct qcow2_image *image, uint64_t from,
                              int (*co_do)(struct qcow2_image *, uint64_t, uint64_t))
{
    uint64_t reach = qcow2_l2_reach_bytes(&image->geometry);
    int ret = 0;
    for (uint64_t index = from / reach; index < image->header.l1_size && ret == 0; index++) {
        uint64_t begin = index * reach, l2_offset;
        bool is_ours;
        ret = qcow2_co_read_l1(image, begin, &l2_offset, &is_ours);
        if (ret == 0 && l2_offset != 0)
            ret = co_do(image, begin > from ? begin : from, begin + reach);
    }
    return ret;
}

/* The new part of the disk reads as zeroes. */
static int co_clear_new(struct qcow2_image *image, uint64_t old_size, uint64_t size)
{
    uint64_t cluster = image->geometry.cluster_bytes;
    uint64_t whole = align_up(old_size, cluster);
    uint64_t backing_bytes = image->backing ? atomic_load(&image->backing->size_bytes) : 0;
    int ret = co_clear_last_cluster(image, old_size, smaller(whole, size));
    if (ret == 0)
        ret = co_each_table_from(image, whole, qcow2_co_unmap);
    if (ret == 0 && smaller(backing_bytes, size) > whole)
        ret = qcow2_co_make_zero(image, whole, smaller(align_up(backing_bytes, cluster), size));
    return ret;
}

/* Of a raw data file, which shows the disk by itself: all of the new part. */
static int co_clear_data_file(struct qcow2_image *image, uint64_t old_size, uint64_t size)
{
    uint64_t stored = smaller(atomic_load(&image->data->size_bytes), size);
    if (!is_raw_data_file(image) || stored <= old_size)
        return 0;
    return node_co_zero(image->data, old_size, stored - old_size, 0);
}

static int co_grow(struct qcow2_image *image, const struct qcow2_resize *resize)
{
    uint64_t old_size = image->header.size, size = resize->size_bytes;
    uint64_t entries = qcow2_l1_entries_needed(&image->geometry, size);
    bool has_tables = resize->has_tables || is_raw_data_file(image);
    int ret = entries > image->header.l1_size ? qcow2_co_grow_l1(image, entries) : 0;
    if (ret == 0)
        ret = co_clear_data_file(image, old_size, size);
    if (ret == 0)
        ret = co_clear_new(image, old_size, size);
    if (ret == 0)
        ret = co_resize_data_file(image, size);
    if (ret == 0 && has_tables)
        ret = qcow2_co_preallocate(image, align_up(old_size, image->geometry.cluster_bytes), size);
    if (ret == 0)
        ret = cache_co_flush(image->cache);
    return ret == 0 ? co_set_size(image, size) : ret;
}

/* --- shrinking ----------------------------------------------------------------------------------
 */

static int co_cut_at(struct qcow2_image *image, uint64_t end, struct error *err)
{
    qcow2_redo_beat(image);
    return node_co_resize(image->node->file, end, err);
}

/* What is not cut is only longer than it need be. Where the refcounts turned out to be wrong, they
 * do not say what is in use. */
static void co_cut_file(struct qcow2_image *image)
{
    struct block_node *file = image->node->file;
    struct error why = {.message = ""};
    uint64_t end;
    int ret = qcow2_co_drop_refcount_blocks(image);
    if (ret == 0)
        ret = qcow2_co_used_end(image, &end);
    if (ret == 0 && qcow2_is_corrupt(image))
        ret = -EIO;
    if (ret == 0 && end < atomic_load(&file->size_bytes))
        ret = co_cut_at(image, end, &why);
    if (ret < 0)
        log_verbose("'%s' keeps the length of its file: %s", image->node->name,
                    *why.message ? why.message : error_text(ret));
}

static int co_drop_table(struct qcow2_image *image, uint64_t from, uint64_t to)
{
    (void)to;
    return qcow2_co_drop_l2(image, from);
}

/* The disk is as small as was asked for, so what fails here only costs space. */
static void co_drop_tables_from(struct qcow2_image *image, uint64_t from)
{
    int ret = co_each_table_from(image, from, co_drop_table);
    if (ret == 0)
        ret = cache_co_settle(image->cache);
    if (ret < 0)
        log_verbose("'%s' keeps tables of what was cut off: %s", image->node->name,
                    error_text(ret));
}

static int co_shrink(struct qcow2_image *image, uint64_t size)
{
    uint64_t reach = qcow2_l2_reach_bytes(&image->geometry);
    int ret =
        co_each_table_from(image, align_up(size, image->geometry.cluster_bytes), qcow2_co_empty);
    if (ret == 0)
        ret = cache_co_settle(image->cache);
    if (ret == 0)
        ret = co_set_size(image, size);
    if (ret < 0)
        return ret;
    co_drop_tables_from(image, align_up(size, reach));
    co_resize_data_file(image, size);
    co_cut_file(image);
    return 0;
}

/* --- the calls ----------------------------------------------------------------------------------
 */

static int co_resize(struct qcow2_image *image, const struct qcow2_resize *wanted,
                     struct error *err)
{
    struct qcow2_resize resize = *wanted;
    const char *name = image->node->name;
    uint64_t old_size = image->header.size;
    if (resize.size_bytes > INT64_MAX - SIZE_UNIT)
        return error_set(err, -EFBIG, "cannot resize '%s' to %" PRIu64 " bytes: too many", name,
                         resize.size_bytes);
    resize.size_bytes = align_up(resize.size_bytes, SIZE_UNIT);
    int ret = check(image, &resize, err);
    if (ret < 0 || resize.size_bytes == old_size)
        return ret;
    ret = qcow2_bitmaps_co_prepare_resize(image, resize.size_bytes, err);
    if (ret < 0)
        return ret;
    qcow2_redo_co_begin(image);
    if (qcow2_is_corrupt(image))
        ret = -EIO;
    else if (resize.size_bytes > old_size)
        ret = co_grow(image, &resize);
    else
        ret = co_shrink(image, resize.size_bytes);
    if (ret == 0)
        qcow2_bitmaps_commit_resize(image);
    else
        qcow2_bitmaps_abort_resize(image);
    if (ret < 0)
        return error_set(err, ret, "cannot resize '%s' from %" PRIu64 " to %" PRIu64 " bytes: %s",
                         name, old_size, resize.size_bytes, error_text(ret));
    return 0;
}

int qcow2_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    struct qcow2_resize resize = {.size_bytes = size_bytes, .may_shrink = true};
    return co_resize(qcow2_of(node), &resize, err);
}

struct alone {
    struct block_node *node;
    const struct qcow2_resize *resize;
    struct error *err;
};

static int co_resize_alone(void *arg)
{
    const struct alone *alone = arg;
    return co_resize(qcow2_of(alone->node), alone->resize, alone->err);
}

int qcow2_co_resize_as(struct block_node *node, const struct qcow2_resize *resize,
                       struct error *err)
{
    if (node->read_only)
        return error_set(err, -EPERM, "cannot resize '%s': it is open read-only", node->name);
    return node_co_alone(node, co_resize_alone, &(struct alone){node, resize, err});
}
