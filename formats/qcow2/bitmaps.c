/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The persistent bitmaps of an open image: the directory, which of them are kept, and what a change
 * of the disk does to these. They come into memory in bitmap_load.c and go back in bitmap_store.c.
 *
 * Setting bits is an observer's work (block/observer.h): every write, every write of zeroes and
 * every trim comes by there before the driver sees it, with the bytes that it changes.
 */
#include "formats/qcow2/bitmaps.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/log.h"
#include "formats/qcow2/writer.h"

/* --- the directory ------------------------------------------------------------------------------
 */

static int compare_names(const void *a, const void *b)
{
    const struct qcow2_bitmap_entry *one = *(const struct qcow2_bitmap_entry *const *)a;
    const struct qcow2_bitmap_entry *other = *(const struct qcow2_bitmap_entry *const *)b;
    if (one->name_bytes != other->name_bytes)
        return one->name_bytes < other->name_bytes ? -1 : 1;
    return memcmp(one->name, other->name, one->name_bytes);
}

static int check_names(const struct qcow2_bitmaps *bitmaps, struct error *err)
{
    const struct qcow2_bitmap_entry **sorted = calloc(bitmaps->count, sizeof(void *));
    int ret = 0;
    if (!sorted)
        return error_set(err, -ENOMEM, "no memory for its bitmap directory");
    for (uint32_t i = 0; i < bitmaps->count; i++)
        sorted[i] = &bitmaps->all[i].entry;
    qsort(sorted, bitmaps->count, sizeof(void *), compare_names);
    for (uint32_t i = 1; i < bitmaps->count && ret == 0; i++) {
        if (compare_names(&sorted[i - 1], &sorted[i]) == 0)
            ret = error_set(err, -EINVAL, "two of its bitmaps are called '%.*s'",
                            QCOW2_BITMAP_NAME(sorted[i]));
    }
    free(sorted);
    return ret;
}

static int take_directory(struct qcow2_bitmaps *bitmaps, struct error *err)
{
    const struct qcow2_image *image = bitmaps->image;
    uint64_t at = 0;
    for (uint32_t i = 0; i < bitmaps->count; i++) {
        struct qcow2_bitmap *bitmap = &bitmaps->all[i];
        int ret = qcow2_bitmap_entry_decode(&image->geometry, bitmaps->directory + at,
                                            bitmaps->directory_bytes - at, image->header.size,
                                            &bitmap->entry, err);
        if (ret < 0)
            return ret;
        bitmap->directory_at = at;
        at += bitmap->entry.entry_bytes;
    }
    if (at != bitmaps->directory_bytes)
        return error_set(err, -EINVAL,
                         "its bitmap_directory_size is %" PRIu64 ", and its %" PRIu32
                         " bitmaps take %" PRIu64,
                         bitmaps->directory_bytes, bitmaps->count, at);
    return check_names(bitmaps, err);
}

static void bitmaps_free(struct qcow2_bitmaps *bitmaps)
{
    if (!bitmaps)
        return;
    for (uint32_t i = 0; bitmaps->all && i < bitmaps->count; i++) {
        dirty_bitmap_free(bitmaps->all[i].bits);
        dirty_bitmap_free(bitmaps->all[i].resized);
        free(bitmaps->all[i].table);
    }
    range_lock_fini(&bitmaps->lock);
    free(bitmaps->kept);
    free(bitmaps->all);
    free(bitmaps->directory);
    free(bitmaps);
}

static int co_read_directory(struct qcow2_bitmaps *bitmaps, struct block_node *file,
                             struct error *err)
{
    struct iovec iov;
    uint64_t file_bytes = atomic_load(&file->size_bytes);
    if (!range_is_inside(bitmaps->directory_offset, bitmaps->directory_bytes, file_bytes))
        return error_set(err, -EINVAL,
                         "its bitmap_directory_offset is 0x%" PRIx64
                         " and its bitmap_directory_size %" PRIu64
                         ": that is past the end of the file",
                         bitmaps->directory_offset, bitmaps->directory_bytes);
    /* So that a header cannot ask for more memory than its directory can fill. */
    if (bitmaps->count > bitmaps->directory_bytes / QCOW2_BITMAP_HEAD_BYTES)
        return error_set(err, -EINVAL,
                         "its bitmap_directory_size is %" PRIu64 ", too little for its %" PRIu32
                         " bitmaps",
                         bitmaps->directory_bytes, bitmaps->count);
    bitmaps->directory = malloc(bitmaps->directory_bytes);
    bitmaps->all = calloc(bitmaps->count, sizeof(*bitmaps->all));
    bitmaps->kept = calloc(bitmaps->count, sizeof(*bitmaps->kept));
    if (!bitmaps->directory || !bitmaps->all || !bitmaps->kept)
        return error_set(err, -ENOMEM, "no memory for its bitmap directory");
    struct block_vec vec = vec_of_buffer(&iov, bitmaps->directory, bitmaps->directory_bytes);
    int ret = node_co_read(file, bitmaps->directory_offset, &vec);
    if (ret < 0)
        return error_set(err, ret, "its bitmap directory cannot be read: %s", error_text(ret));
    return take_directory(bitmaps, err);
}

static bool has_bitmaps(const struct qcow2_image *image)
{
    return image->extensions.has_bitmaps &&
           (image->header.autoclear_features & QCOW2_AUTOCLEAR_BITMAPS);
}

int qcow2_bitmaps_co_load_directory(struct qcow2_image *image, struct block_node *file,
                                    struct error *err)
{
    if (!has_bitmaps(image))
        return 0;
    const struct qcow2_bitmaps_extension *extension = &image->extensions.bitmaps;
    struct qcow2_bitmaps *bitmaps = calloc(1, sizeof(*bitmaps));
    if (!bitmaps)
        return error_set(err, -ENOMEM, "no memory for its bitmap directory");
    bitmaps->image = image;
    bitmaps->count = extension->nb_bitmaps;
    bitmaps->directory_offset = extension->directory_offset;
    bitmaps->directory_bytes = extension->directory_size;
    range_lock_init(&bitmaps->lock);
    int ret = co_read_directory(bitmaps, file, err);
    if (ret < 0)
        bitmaps_free(bitmaps);
    else
        image->bitmaps = bitmaps;
    return ret;
}

/* --- changes of the disk ------------------------------------------------------------------------
 */

static int co_before_change(struct block_observer *observer, struct block_node *node,
                            enum block_change change, uint64_t offset, uint64_t length)
{
    struct qcow2_bitmaps *bitmaps = container_of(observer, struct qcow2_bitmaps, observer);
    (void)node, (void)change;
    if (!atomic_load_explicit(&bitmaps->is_marked, memory_order_acquire)) {
        struct locked_range range;
        range_lock_co_take(&bitmaps->lock, &range, 0, 1, true);
        int ret = qcow2_bitmaps_co_mark(bitmaps);
        range_lock_release(&bitmaps->lock, &range);
        if (ret < 0)
            return ret;
    }
    for (uint32_t i = 0; i < bitmaps->kept_count; i++) {
        if (bitmaps->kept[i]->is_enabled)
            dirty_bitmap_set(bitmaps->kept[i]->bits, offset, length);
    }
    return 0;
}

/* --- an image that is written -------------------------------------------------------------------
 */

/* Metadata that a write must not hit, and that has one owner: it is written where it lies. */
static int co_own_cluster(struct qcow2_image *image, const char *what, uint64_t host_offset,
                          struct error *err)
{
    uint64_t refcount = 0, cluster = host_offset >> image->geometry.cluster_bits;
    int ret = qcow2_co_refcount(image, host_offset, &refcount);
    if (ret < 0)
        return error_set(err, ret, "the refcount of %s cannot be read: %s", what, error_text(ret));
    if (refcount != 1)
        return error_set(err, -EINVAL,
                         "%s at 0x%" PRIx64 " has the refcount %" PRIu64
                         ", and must have 1; repair it with qemu-img check -r all",
                         what, host_offset, refcount);
    if (owned_by(image->writer->owned, cluster) != OWNED_NOBODY)
        return error_set(err, -EINVAL,
                         "%s at 0x%" PRIx64 " is in a cluster that other metadata has", what,
                         host_offset);
    pthread_mutex_lock(&image->monitor);
    ret = owned_add(image->writer->owned, cluster, 1, QCOW2_OWNER_BITMAPS);
    pthread_mutex_unlock(&image->monitor);
    return ret < 0 ? error_set(err, ret, "no memory for its bitmaps") : 0;
}

static int co_own(struct qcow2_image *image, const char *what, uint64_t host_offset,
                  uint64_t length, struct error *err)
{
    int ret = 0;
    for (uint64_t at = 0; at < length && ret == 0; at += image->geometry.cluster_bytes)
        ret = co_own_cluster(image, what, host_offset + at, err);
    return ret;
}

static int co_own_bitmap(struct qcow2_image *image, const struct qcow2_bitmap *bitmap,
                         struct error *err)
{
    int ret = co_own(image, "a bitmap's table", bitmap->entry.table_offset,
                     (uint64_t)bitmap->entry.table_size * 8, err);
    for (uint32_t i = 0; i < bitmap->entry.table_size && ret == 0; i++) {
        if (bitmap->table[i] > 1)
            ret = co_own(image, "a cluster of a bitmap", bitmap->table[i],
                         image->geometry.cluster_bytes, err);
    }
    return ret;
}

/* In memory, and in the list of those that are stored. */
static int co_keep(struct qcow2_bitmaps *bitmaps, struct qcow2_bitmap *bitmap, struct error *err)
{
    assert(!bitmap->is_kept);
    int ret = qcow2_bitmap_co_load(bitmaps, bitmap, true, err);
    if (ret < 0)
        return ret;
    ret = co_own_bitmap(bitmaps->image, bitmap, err);
    if (ret < 0) {
        free(bitmap->table);
        bitmap->table = NULL;
        return ret;
    }
    bitmap->is_kept = true;
    bitmaps->kept[bitmaps->kept_count++] = bitmap;
    return 0;
}

static int co_keep_enabled(struct qcow2_bitmaps *bitmaps, struct error *err)
{
    struct qcow2_image *image = bitmaps->image;
    uint32_t inconsistent = 0;
    int ret = co_own(image, "its bitmap directory", bitmaps->directory_offset,
                     bitmaps->directory_bytes, err);
    for (uint32_t i = 0; i < bitmaps->count && ret == 0; i++) {
        struct qcow2_bitmap *bitmap = &bitmaps->all[i];
        if (bitmap->is_kept) { /* the image was written before, and read-only meanwhile */
            ret = co_own_bitmap(image, bitmap, err);
        } else if (bitmap->entry.flags & QCOW2_BITMAP_IN_USE) {
            inconsistent++;
        } else if (bitmap->entry.flags & QCOW2_BITMAP_AUTO) {
            bitmap->is_enabled = true;
            ret = co_keep(bitmaps, bitmap, err);
        }
    }
    if (ret == 0 && inconsistent > 0)
        log_warning("'%s': %" PRIu32 " of its %" PRIu32 " bitmaps were not stored by the last who "
                    "wrote to it; they are left as they are (qemu-img bitmap --remove)",
                    image->node->name, inconsistent, bitmaps->count);
    return ret;
}

static int refuse(const struct qcow2_image *image, int code, const struct error *why,
                  struct error *err)
{
    return error_set(err, code,
                     "cannot open '%.200s' for writing, as its bitmaps would become untrue: %s; "
                     "serve it with --read-only",
                     image->node->name, why->message);
}

int qcow2_bitmaps_co_prepare(struct qcow2_image *image, struct error *err)
{
    struct error why;
    if (image->extensions.has_bitmaps && !has_bitmaps(image))
        log_warning("'%s': its bitmaps are out of date, since a program that does not know bitmaps "
                    "has written to it (autoclear feature bit 0 is not set); they are not used",
                    image->node->name);
    if (!has_bitmaps(image))
        return 0;
    int ret = image->bitmaps ? 0 : qcow2_bitmaps_co_load_directory(image, image->node->file, &why);
    if (ret == 0)
        ret = co_keep_enabled(image->bitmaps, &why);
    return ret < 0 ? refuse(image, ret, &why, err) : 0;
}

void qcow2_bitmaps_co_begin(struct qcow2_image *image)
{
    struct qcow2_bitmaps *bitmaps = image->bitmaps;
    if (!bitmaps || bitmaps->is_observing || bitmaps->kept_count == 0)
        return;
    bitmaps->observer.co_before = co_before_change;
    bitmaps->is_observing = true;
    observer_co_add(image->node, &bitmaps->observer);
}

void qcow2_bitmaps_co_close(struct qcow2_image *image)
{
    struct qcow2_bitmaps *bitmaps = image->bitmaps;
    if (bitmaps && bitmaps->is_observing)
        observer_co_remove(image->node, &bitmaps->observer);
    bitmaps_free(bitmaps);
    image->bitmaps = NULL;
}

/* --- a reader of one ----------------------------------------------------------------------------
 */

static int refuse_bitmap(const struct qcow2_image *image, int code, const struct error *why,
                         struct error *err)
{
    return error_set(err, code, "%s ('%.200s')", why->message, image->node->name);
}

static int co_get_bits(struct qcow2_bitmaps *bitmaps, struct qcow2_bitmap *bitmap,
                       struct error *err)
{
    struct locked_range range;
    int ret = 0;
    if (!bitmap->is_kept && (bitmap->entry.flags & QCOW2_BITMAP_IN_USE))
        return error_set(err, -EINVAL,
                         "bitmap '%.*s' is inconsistent and cannot be used: it was not stored by "
                         "the last who wrote to the image; remove it with qemu-img bitmap --remove",
                         QCOW2_BITMAP_NAME(&bitmap->entry));
    range_lock_co_take(&bitmaps->lock, &range, 0, 1, true);
    if (!bitmap->bits)
        ret = qcow2_bitmap_co_load(bitmaps, bitmap, false, err);
    range_lock_release(&bitmaps->lock, &range);
    return ret;
}

int qcow2_co_find_bitmap(struct block_node *node, const char *name,
                         const struct dirty_bitmap **ret_bitmap, struct error *err)
{
    struct qcow2_image *image = qcow2_of(node);
    struct error why;
    if (!has_bitmaps(image))
        return -ENOENT;
    if (image->is_snapshot)
        return error_set(err, -EINVAL,
                         "a bitmap is of the disk, and a snapshot of '%.200s' is shown; leave one "
                         "of -B and -l out",
                         node->name);
    int ret = image->bitmaps ? 0 : qcow2_bitmaps_co_load_directory(image, node->file, &why);
    if (ret < 0)
        return refuse_bitmap(image, ret, &why, err);
    for (uint32_t i = 0; i < image->bitmaps->count; i++) {
        struct qcow2_bitmap *bitmap = &image->bitmaps->all[i];
        if (bitmap->entry.name_bytes != strlen(name) ||
            memcmp(bitmap->entry.name, name, bitmap->entry.name_bytes) != 0)
            continue;
        ret = co_get_bits(image->bitmaps, bitmap, &why);
        if (ret < 0)
            return refuse_bitmap(image, ret, &why, err);
        image->bitmaps->is_shown = true;
        *ret_bitmap = bitmap->bits;
        return 0;
    }
    return -ENOENT;
}

/* --- another size -------------------------------------------------------------------------------
 */

/* Those that are not enabled have the disk's size too. */
static int co_keep_all(struct qcow2_bitmaps *bitmaps, uint64_t size_bytes, struct error *err)
{
    int ret = 0;
    for (uint32_t i = 0; i < bitmaps->count && ret == 0; i++) {
        struct qcow2_bitmap *bitmap = &bitmaps->all[i];
        if (!bitmap->is_kept && (bitmap->entry.flags & QCOW2_BITMAP_IN_USE))
            continue; /* of whatever size it is */
        ret = qcow2_bitmap_entry_check_usable(&bitmap->entry, size_bytes, err);
        if (ret == 0 && !bitmap->is_kept)
            ret = co_keep(bitmaps, bitmap, err);
    }
    return ret;
}

static int co_prepare_resize(struct qcow2_bitmaps *bitmaps, uint64_t size_bytes, struct error *err)
{
    uint32_t marked = bitmaps->kept_count;
    int ret = co_keep_all(bitmaps, size_bytes, err);
    if (ret < 0 || bitmaps->kept_count == 0)
        return ret;
    if (bitmaps->kept_count > marked)
        atomic_store(&bitmaps->is_marked, false);
    ret = qcow2_bitmaps_co_mark(bitmaps);
    if (ret < 0)
        return error_set(err, ret, "they cannot be marked as in use: %s", error_text(ret));
    for (uint32_t i = 0; i < bitmaps->kept_count && ret == 0; i++)
        ret = dirty_bitmap_copy(bitmaps->kept[i]->bits, size_bytes, &bitmaps->kept[i]->resized);
    return ret < 0 ? error_set(err, ret, "there is no memory for them") : 0;
}

int qcow2_bitmaps_co_prepare_resize(struct qcow2_image *image, uint64_t size_bytes,
                                    struct error *err)
{
    struct qcow2_bitmaps *bitmaps = image->bitmaps;
    struct locked_range range;
    struct error why;
    if (!bitmaps)
        return 0;
    range_lock_co_take(&bitmaps->lock, &range, 0, 1, true);
    int ret = co_prepare_resize(bitmaps, size_bytes, &why);
    range_lock_release(&bitmaps->lock, &range);
    if (ret == 0)
        return 0;
    qcow2_bitmaps_abort_resize(image);
    return error_set(err, ret, "cannot resize '%.200s' with its bitmaps: %s", image->node->name,
                     why.message);
}

void qcow2_bitmaps_commit_resize(struct qcow2_image *image)
{
    struct qcow2_bitmaps *bitmaps = image->bitmaps;
    for (uint32_t i = 0; bitmaps && i < bitmaps->kept_count; i++) {
        struct qcow2_bitmap *bitmap = bitmaps->kept[i];
        dirty_bitmap_take_over(bitmap->bits, bitmap->resized);
        bitmap->resized = NULL;
    }
}

void qcow2_bitmaps_abort_resize(struct qcow2_image *image)
{
    struct qcow2_bitmaps *bitmaps = image->bitmaps;
    for (uint32_t i = 0; bitmaps && i < bitmaps->kept_count; i++) {
        dirty_bitmap_free(bitmaps->kept[i]->resized);
        bitmaps->kept[i]->resized = NULL;
    }
}
