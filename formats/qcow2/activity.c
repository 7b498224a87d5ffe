/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An image that is left to another server, and taken back. Whoever wrote it meanwhile may have
 * moved any table, made it larger, taken snapshots; so everything but the files that it names and
 * the shape of its tables is read anew. One that has another shape is not the same image.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "formats/qcow2/bitmaps.h"
#include "formats/qcow2/repair.h"
#include "formats/qcow2/writer.h"

/* --- away ---------------------------------------------------------------------------------------
 */

static int refuse(const struct qcow2_image *image, const char *why, struct error *err)
{
    return error_set(err, -ENOTSUP, "'%.200s' stays active: %s", image->node->name, why);
}

int qcow2_co_inactivate(struct block_node *node, struct error *err)
{
    struct qcow2_image *image = qcow2_of(node);
    if (image->is_snapshot)
        return refuse(image, "a snapshot is shown, which might be gone then", err);
    if (image->bitmaps && image->bitmaps->is_shown)
        return refuse(image, "a bitmap of it is shown to clients", err);
    int ret = image->writer ? qcow2_co_make_clean(image, err) : 0;
    if (ret < 0)
        return ret;
    qcow2_bitmaps_co_close(image);
    qcow2_redo_co_close(image);
    qcow2_writer_free(image);
    cache_invalidate(image->cache);
    clusters_forget_all(image->clusters);
    return 0;
}

/* --- and back -----------------------------------------------------------------------------------
 */

static bool is_same_name(const char *one, const char *other)
{
    return one && other ? strcmp(one, other) == 0 : !one && !other;
}

/* What the tables in memory, and the open children, were made for. */
static bool is_same_image(const struct qcow2_image *image, const struct qcow2_image *fresh)
{
    const uint64_t states = QCOW2_INCOMPATIBLE_DIRTY | QCOW2_INCOMPATIBLE_CORRUPT;
    const struct qcow2_header *one = &image->header, *other = &fresh->header;
    return one->version == other->version && one->cluster_bits == other->cluster_bits &&
           one->refcount_order == other->refcount_order &&
           one->compression_type == other->compression_type &&
           (one->incompatible_features | states) == (other->incompatible_features | states) &&
           is_same_name(image->backing_name, fresh->backing_name) &&
           strcmp(image->extensions.data_file_name, fresh->extensions.data_file_name) == 0;
}

/* What was read of the header is the image's; fresh has what it was. */
static void take_over(struct qcow2_image *image, struct qcow2_image *fresh)
{
    uint8_t *first_cluster = image->first_cluster;
    char *backing_name = image->backing_name;
    pthread_mutex_lock(&image->monitor);
    image->header = fresh->header;
    pthread_mutex_unlock(&image->monitor);
    image->extensions = fresh->extensions;
    image->first_cluster_length = fresh->first_cluster_length;
    image->first_cluster = fresh->first_cluster;
    image->backing_name = fresh->backing_name;
    fresh->first_cluster = first_cluster;
    fresh->backing_name = backing_name;
    atomic_store(&image->node->size_bytes, image->header.size);
    image->l1_table_offset = image->header.l1_table_offset;
    image->l1_size = image->header.l1_size;
}

static int co_load_anew(struct qcow2_image *image, struct error *err)
{
    struct qcow2_image *fresh = qcow2_image_new(image->node);
    if (!fresh)
        return error_set(err, -ENOMEM, "no memory to open '%.200s' again", image->node->name);
    int ret = qcow2_co_load_header(fresh, image->node->file, err);
    if (ret == 0 && !is_same_image(image, fresh))
        ret = error_set(err, -ESTALE,
                        "'%.200s' is another image now, with other clusters or other files; close "
                        "it and open it again",
                        image->node->name);
    if (ret == 0)
        take_over(image, fresh);
    qcow2_image_free(fresh);
    if (ret < 0)
        return ret;
    qcow2_snapshots_fini(&image->snapshots);
    return image->header.nb_snapshots > 0 ? qcow2_co_load_snapshots(image, err) : 0;
}

/* As at an open: who wrote it last may have been cut off. */
static int co_make_writable(struct qcow2_image *image, struct error *err)
{
    int ret = qcow2_redo_co_open(image, err);
    if (ret == 0)
        ret = qcow2_image_co_repair_at_open(image, QCOW2_REPAIR_NOTHING, err);
    if (ret == 0)
        ret = qcow2_writer_co_open(image, err);
    if (ret < 0) {
        qcow2_bitmaps_co_close(image);
        qcow2_redo_co_close(image);
        qcow2_writer_free(image);
    }
    return ret;
}

int qcow2_co_invalidate(struct block_node *node, struct error *err)
{
    struct qcow2_image *image = qcow2_of(node);
    int ret = co_load_anew(image, err);
    if (ret == 0)
        ret = qcow2_check_state(image, QCOW2_REPAIR_NOTHING, err);
    return ret == 0 && !node->read_only ? co_make_writable(image, err) : ret;
}
