/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A larger L1 table, in a new place (invariant 6): its clusters are counted and everything that it
 * points to is durable, then it is written and durable, then one write of the header shows it, and
 * after that the old one is freed. Nothing else changes the image meanwhile.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/endian.h"
#include "formats/qcow2/writer.h"

/* The new table's clusters, and what is in them. */
struct growth {
    uint64_t entries, clusters, host_offset;
    uint8_t *bytes;
};

static int co_copy_old_table(struct qcow2_image *image, uint8_t *to)
{
    uint64_t piece = qcow2_slice_bytes(image);
    uint64_t length = (uint64_t)image->header.l1_size * 8;
    for (uint64_t done = 0; done < length; done += piece) {
        size_t part = length - done < piece ? (size_t)(length - done) : (size_t)piece;
        int ret = cache_co_read(image->cache, QCOW2_TABLE_L1, image->header.l1_table_offset + done,
                                to + done, part);
        if (ret < 0)
            return ret;
    }
    return 0;
}

/* Monitor. Whose the clusters of a table are. */
static int own(struct qcow2_image *image, uint64_t host_offset, uint64_t clusters)
{
    return owned_add(image->writer->owned, host_offset >> image->geometry.cluster_bits, clusters,
                     QCOW2_OWNER_L1);
}

/* Monitor. */
static void disown(struct qcow2_image *image, uint64_t host_offset, uint64_t clusters)
{
    owned_remove(image->writer->owned, host_offset >> image->geometry.cluster_bits, clusters);
}

static int co_write_table(struct qcow2_image *image, const struct growth *growth)
{
    struct iovec iov;
    uint64_t length = growth->clusters << image->geometry.cluster_bits;
    struct block_vec vec = vec_of_buffer(&iov, growth->bytes, length);
    node_co_event(image->node, "l1_grow_write_table");
    int ret = qcow2_is_corrupt(image)
                  ? -EIO
                  : qcow2_co_write_to(image, image->node->file, growth->host_offset, &vec);
    /* Of a former life of the place. */
    cache_co_forget(image->cache, QCOW2_TABLE_L1, growth->host_offset, length);
    return ret == 0 ? qcow2_co_flush_file(image) : ret;
}

static void encode_fields(uint32_t entries, uint64_t host_offset, uint8_t bytes[static 12])
{
    store_be32(bytes, entries);
    store_be64(bytes + 4, host_offset);
}

/* Count and place change in one write of one sector. */
static int co_switch_header(struct qcow2_image *image, const struct growth *growth)
{
    uint8_t old[12], new[12];
    encode_fields(image->header.l1_size, image->header.l1_table_offset, old);
    encode_fields((uint32_t)growth->entries, growth->host_offset, new);
    node_co_event(image->node, "l1_grow_activate_table");
    int ret = qcow2_co_replace_header_bytes(image, QCOW2_HEADER_L1, new, old, sizeof(new));
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&image->monitor);
    image->header.l1_size = (uint32_t)growth->entries;
    image->header.l1_table_offset = growth->host_offset;
    pthread_mutex_unlock(&image->monitor);
    atomic_store(&image->l1_size, (uint32_t)growth->entries);
    atomic_store(&image->l1_table_offset, growth->host_offset);
    return 0;
}

static void co_free_old_table(struct qcow2_image *image, struct qcow2_unlinked *unlinked,
                              uint64_t host_offset, uint64_t clusters)
{
    cache_co_forget(image->cache, QCOW2_TABLE_L1, host_offset,
                    clusters << image->geometry.cluster_bits);
    pthread_mutex_lock(&image->monitor);
    disown(image, host_offset, clusters);
    qcow2_unlink_clusters(unlinked, host_offset, clusters);
    pthread_mutex_unlock(&image->monitor);
}

/* *ret_is_shown: the header may point to the new table, though it could not be written. */
static int co_put_table(struct qcow2_image *image, const struct growth *growth, bool *ret_is_shown)
{
    pthread_mutex_lock(&image->monitor);
    int ret = own(image, growth->host_offset, growth->clusters);
    pthread_mutex_unlock(&image->monitor);
    if (ret == 0)
        ret = cache_co_flush(image->cache);
    if (ret == 0)
        ret = co_copy_old_table(image, growth->bytes);
    if (ret == 0)
        ret = co_write_table(image, growth);
    if (ret < 0)
        return ret;
    *ret_is_shown = true;
    return co_switch_header(image, growth);
}

int qcow2_co_grow_l1(struct qcow2_image *image, uint64_t entries)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    struct growth growth = {.entries = entries,
                            .clusters = qcow2_clusters_of(geometry, entries * 8)};
    uint64_t old_offset = image->header.l1_table_offset;
    uint64_t old_clusters = qcow2_clusters_of(geometry, (uint64_t)image->header.l1_size * 8);
    bool is_shown = false;
    growth.bytes = calloc(growth.clusters, geometry->cluster_bytes);
    struct qcow2_unlinked *unlinked = qcow2_unlinked_new(image, false);
    node_co_event(image->node, "l1_grow_alloc_table");
    int ret = growth.bytes && unlinked
                  ? qcow2_co_alloc_run(image, growth.clusters, &growth.host_offset)
                  : -ENOMEM;
    if (ret < 0)
        goto out;
    ret = co_put_table(image, &growth, &is_shown);
    if (ret == 0 && old_clusters > 0) {
        co_free_old_table(image, unlinked, old_offset, old_clusters);
        unlinked = NULL;
    }
    if (ret == 0 || is_shown)
        goto out; /* where the header is in doubt, the new clusters are nobody's from now on */
    pthread_mutex_lock(&image->monitor);
    disown(image, growth.host_offset, growth.clusters);
    pthread_mutex_unlock(&image->monitor);
    qcow2_co_unalloc(image, growth.host_offset, growth.clusters);
out:
    qcow2_unlinked_free(unlinked);
    free(growth.bytes);
    return ret;
}
