/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The end of the file, after a shrink: refcount blocks that count nothing are given up, so that
 * the file can be cut where its last used cluster ends. Nothing else changes the image meanwhile,
 * and the quarantine is empty.
 *
 * A block counts nothing when all its counts are 0, but for the one of its own cluster. Its pointer
 * is removed first, and durable before its cluster is given to anybody (invariant 3): a block that
 * counts itself ceases to be counted with its pointer; one that another block counts goes through
 * the quarantine.
 */
#include <errno.h>

#include "formats/qcow2/writer.h"

static uint64_t table_entries(const struct qcow2_image *image)
{
    return (uint64_t)image->header.refcount_table_clusters << (image->geometry.cluster_bits - 3);
}

static uint64_t clusters_per_block(const struct qcow2_image *image)
{
    return UINT64_C(1) << image->geometry.refcount_block_bits;
}

/* Whether the block at that index counts nothing but, perhaps, itself. */
static int co_is_idle(struct qcow2_image *image, uint64_t index, uint64_t block_offset,
                      bool *ret_is_idle)
{
    uint64_t first = index << image->geometry.refcount_block_bits;
    uint64_t own = block_offset >> image->geometry.cluster_bits;
    *ret_is_idle = false;
    for (uint64_t i = 0; i < clusters_per_block(image); i++) {
        uint64_t refcount;
        int ret = qcow2_co_refcount(image, (first + i) << image->geometry.cluster_bits, &refcount);
        if (ret < 0)
            return ret;
        if (refcount > (first + i == own ? 1 : 0))
            return 0;
    }
    *ret_is_idle = true;
    return 0;
}

static int co_unhook(struct qcow2_image *image, uint64_t index, uint64_t block_offset,
                     struct qcow2_unlinked *unlinked)
{
    static const uint8_t nothing[8];
    struct cache_table *table;
    uint64_t at = image->header.refcount_table_offset + index * 8;
    bool counts_itself =
        block_offset >> image->geometry.cluster_bits >> image->geometry.refcount_block_bits ==
        index;
    int ret = cache_co_get(image->cache, QCOW2_TABLE_REFCOUNT_TABLE, at, &table);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&image->monitor);
    cache_store(image->cache, table, at - cache_table_offset(table), nothing, sizeof(nothing));
    owned_remove(image->writer->owned, block_offset >> image->geometry.cluster_bits, 1);
    if (!counts_itself)
        qcow2_unlink_clusters(unlinked, block_offset, 1);
    cache_put_locked(image->cache, table);
    pthread_mutex_unlock(&image->monitor);
    if (counts_itself)
        qcow2_unlinked_free(unlinked);
    cache_co_forget(image->cache, QCOW2_TABLE_REFCOUNT_BLOCK, block_offset,
                    image->geometry.cluster_bytes);
    return 0;
}

int qcow2_co_drop_refcount_blocks(struct qcow2_image *image)
{
    int ret = 0;
    for (uint64_t index = table_entries(image); index > 1 && ret == 0; index--) {
        uint64_t block_offset;
        bool is_idle = false;
        ret = qcow2_co_find_refcount_block(image, index - 1, &block_offset);
        if (ret == 0 && block_offset != 0)
            ret = co_is_idle(image, index - 1, block_offset, &is_idle);
        if (ret < 0 || block_offset == 0)
            continue;
        if (!is_idle)
            break;
        struct qcow2_unlinked *unlinked = qcow2_unlinked_new(image, true);
        ret = unlinked ? co_unhook(image, index - 1, block_offset, unlinked) : -ENOMEM;
        if (ret < 0)
            qcow2_unlinked_free(unlinked);
    }
    return ret == 0 ? cache_co_settle(image->cache) : ret;
}

int qcow2_co_used_end(struct qcow2_image *image, uint64_t *ret_host_offset)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    uint64_t bytes = atomic_load(&image->node->file->size_bytes);
    uint64_t cluster = qcow2_clusters_of(geometry, bytes), refcount = 0;
    while (cluster > 0 && refcount == 0) {
        uint64_t index = (cluster - 1) >> geometry->refcount_block_bits, block_offset;
        int ret = qcow2_co_find_refcount_block(image, index, &block_offset);
        if (ret == 0 && block_offset != 0)
            ret = qcow2_co_refcount(image, (cluster - 1) << geometry->cluster_bits, &refcount);
        if (ret < 0)
            return ret;
        if (block_offset == 0)
            cluster = index << geometry->refcount_block_bits;
        else if (refcount == 0)
            cluster--;
    }
    *ret_host_offset = cluster << geometry->cluster_bits;
    return 0;
}
