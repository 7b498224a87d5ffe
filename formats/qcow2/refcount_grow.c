/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Room for more refcounts: a block that is missing, or a larger table. One at a time; who comes
 * meanwhile waits and looks again.
 *
 * A new block is the first cluster of those that it counts, all of which had no count and so were
 * free; it counts itself (invariant 5). A new table lies behind the first of its new blocks, in
 * clusters that these blocks count; blocks and table are written and durable before the one write
 * of the header that shows them (invariant 6), and the old table is freed after it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/endian.h"
#include "formats/qcow2/writer.h"

/* Monitor; given up meanwhile. Whether nobody else was at it; else look again. */
static bool co_begin_growing(struct qcow2_image *image)
{
    struct qcow2_writer *writer = image->writer;
    if (!writer->is_growing) {
        writer->is_growing = true;
        return true;
    }
    while (writer->is_growing)
        co_queue_wait(&writer->growers, &image->monitor);
    return false;
}

static void end_growing(struct qcow2_image *image)
{
    pthread_mutex_lock(&image->monitor);
    image->writer->is_growing = false;
    co_queue_wake_all(&image->writer->growers);
    pthread_mutex_unlock(&image->monitor);
}

/* --- a block ------------------------------------------------------------------------------------
 */

/* Its content in the cache: zeroes, but for its own count. */
static int co_fill_block(struct qcow2_image *image, uint64_t block_offset)
{
    uint64_t piece;
    for (uint64_t done = 0; done < image->geometry.cluster_bytes; done += piece) {
        struct cache_table *table;
        int ret =
            cache_co_get_new(image->cache, QCOW2_TABLE_REFCOUNT_BLOCK, block_offset + done, &table);
        if (ret < 0)
            return ret;
        pthread_mutex_lock(&image->monitor);
        piece = qcow2_slice_bytes(image);
        if (done == 0) {
            uint8_t first[8] = {0};
            qcow2_refcount_set(first, image->geometry.refcount_order, 0, 1);
            cache_store(image->cache, table, 0, first, sizeof(first));
        }
        cache_put_locked(image->cache, table);
        pthread_mutex_unlock(&image->monitor);
    }
    return 0;
}

static int co_hook_block(struct qcow2_image *image, uint64_t table_index, uint64_t block_offset)
{
    struct cache_table *table;
    uint8_t bytes[8];
    uint64_t entry_offset = image->header.refcount_table_offset + table_index * 8;
    store_be64(bytes, block_offset);
    int ret = cache_co_get(image->cache, QCOW2_TABLE_REFCOUNT_TABLE, entry_offset, &table);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&image->monitor);
    ret = owned_add(image->writer->owned, block_offset >> image->geometry.cluster_bits, 1,
                    QCOW2_OWNER_REFCOUNT_BLOCK);
    if (ret == 0)
        cache_store(image->cache, table, entry_offset - cache_table_offset(table), bytes, 8);
    cache_put_locked(image->cache, table);
    pthread_mutex_unlock(&image->monitor);
    return ret;
}

static int co_make_block(struct qcow2_image *image, uint64_t table_index)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    uint64_t there;
    uint64_t entries = (uint64_t)image->header.refcount_table_clusters
                       << (geometry->cluster_bits - 3);
    if (table_index >= entries)
        return qcow2_co_grow_refcount_table(image, table_index);
    int ret = qcow2_co_find_refcount_block(image, table_index, &there);
    if (ret < 0 || there != 0)
        return ret;
    uint64_t block_offset = table_index << (geometry->refcount_block_bits + geometry->cluster_bits);
    if (block_offset == 0)
        return qcow2_co_corrupt(image, "the header has no refcount block", "refcount table",
                                image->header.refcount_table_offset, 0);
    node_co_event(image->node, "refblock_alloc");
    ret = qcow2_co_check_overlap(image, block_offset, geometry->cluster_bytes, 0);
    if (ret == 0)
        ret = co_fill_block(image, block_offset);
    if (ret < 0)
        return ret;
    node_co_event(image->node, "refblock_alloc_hookup");
    return co_hook_block(image, table_index, block_offset);
}

int qcow2_co_make_refcount_block(struct qcow2_image *image, uint64_t table_index)
{
    pthread_mutex_lock(&image->monitor);
    bool is_mine = co_begin_growing(image);
    pthread_mutex_unlock(&image->monitor);
    if (!is_mine)
        return 0;
    int ret = co_make_block(image, table_index);
    end_growing(image);
    return ret;
}

/* --- a larger table -----------------------------------------------------------------------------
 */

/* New blocks, then the new table, in one run of clusters that begins at first_cluster. */
struct growth {
    uint64_t first_cluster;
    uint64_t block_count, table_clusters;
    uint8_t *bytes; /* all of it */
    uint64_t bytes_length;
};

static uint64_t growth_offset(const struct qcow2_image *image, const struct growth *growth)
{
    return growth->first_cluster << image->geometry.cluster_bits;
}

/* How large it must be to count itself. False: beyond the limit. */
static bool plan(const struct qcow2_image *image, uint64_t table_index, struct growth *growth)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    uint64_t entry_bits = geometry->cluster_bits - 3;
    uint64_t per_block = UINT64_C(1) << geometry->refcount_block_bits;
    growth->first_cluster = table_index << geometry->refcount_block_bits;
    growth->block_count = 1;
    for (;;) {
        uint64_t entries = table_index + growth->block_count;
        entries += entries / 2;
        growth->table_clusters = (entries >> entry_bits) + 1;
        uint64_t all = growth->block_count + growth->table_clusters;
        if (growth->table_clusters << geometry->cluster_bits > QCOW2_REFCOUNT_TABLE_BYTES_MAX)
            return false;
        if (all <= growth->block_count * per_block)
            return true;
        growth->block_count = (all + per_block - 1) / per_block;
    }
}

static int co_copy_old_table(struct qcow2_image *image, uint8_t *to)
{
    uint64_t length = (uint64_t)image->header.refcount_table_clusters
                      << image->geometry.cluster_bits;
    uint64_t piece = qcow2_slice_bytes(image);
    for (uint64_t done = 0; done < length; done += piece) {
        int ret = cache_co_read(image->cache, QCOW2_TABLE_REFCOUNT_TABLE,
                                image->header.refcount_table_offset + done, to + done, piece);
        if (ret < 0)
            return ret;
    }
    return 0;
}

/* Each of the new blocks is in the run, and counts what of the run is in its part. */
static int co_fill_growth(struct qcow2_image *image, uint64_t table_index, struct growth *growth)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    uint64_t per_block = UINT64_C(1) << geometry->refcount_block_bits;
    uint64_t all = growth->block_count + growth->table_clusters;
    uint8_t *table = growth->bytes + (growth->block_count << geometry->cluster_bits);
    int ret = co_copy_old_table(image, table);
    if (ret < 0)
        return ret;
    for (uint64_t i = 0; i < all; i++)
        qcow2_refcount_set(growth->bytes + (i / per_block << geometry->cluster_bits),
                           geometry->refcount_order, (uint32_t)(i % per_block), 1);
    for (uint64_t i = 0; i < growth->block_count; i++)
        store_be64(table + (table_index + i) * 8,
                   growth_offset(image, growth) + (i << geometry->cluster_bits));
    return 0;
}

static void disown_growth(struct qcow2_image *image, const struct growth *growth)
{
    struct owned *owned = image->writer->owned;
    pthread_mutex_lock(&image->monitor);
    for (uint64_t i = 0; i < growth->block_count; i++)
        owned_remove(owned, growth->first_cluster + i, 1);
    owned_remove(owned, growth->first_cluster + growth->block_count, growth->table_clusters);
    pthread_mutex_unlock(&image->monitor);
}

static int own_growth(struct qcow2_image *image, const struct growth *growth)
{
    struct owned *owned = image->writer->owned;
    int ret = 0;
    pthread_mutex_lock(&image->monitor);
    for (uint64_t i = 0; i < growth->block_count && ret == 0; i++)
        ret = owned_add(owned, growth->first_cluster + i, 1, QCOW2_OWNER_REFCOUNT_BLOCK);
    if (ret == 0)
        ret = owned_add(owned, growth->first_cluster + growth->block_count, growth->table_clusters,
                        QCOW2_OWNER_REFCOUNT_TABLE);
    pthread_mutex_unlock(&image->monitor);
    if (ret < 0)
        disown_growth(image, growth);
    return ret;
}

static void encode_fields(uint64_t table_offset, uint32_t table_clusters, uint8_t bytes[static 12])
{
    store_be64(bytes, table_offset);
    store_be32(bytes + 8, table_clusters);
}

/* Offset and size of the table change in one write of one sector. */
static int co_switch_header(struct qcow2_image *image, const struct growth *growth)
{
    uint8_t old[12], new[12];
    const struct qcow2_header *header = &image->header;
    uint64_t table_offset = (growth->first_cluster + growth->block_count)
                            << image->geometry.cluster_bits;
    encode_fields(header->refcount_table_offset, header->refcount_table_clusters, old);
    encode_fields(table_offset, (uint32_t)growth->table_clusters, new);
    node_co_event(image->node, "refblock_alloc_switch_table");
    int ret =
        qcow2_co_replace_header_bytes(image, QCOW2_HEADER_REFCOUNT_TABLE, new, old, sizeof(new));
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&image->monitor);
    image->header.refcount_table_offset = table_offset;
    image->header.refcount_table_clusters = (uint32_t)growth->table_clusters;
    pthread_mutex_unlock(&image->monitor);
    return 0;
}

/* Not at once: others may just be looking up a block in it. */
static void co_free_old_table(struct qcow2_image *image, struct qcow2_unlinked *unlinked,
                              uint64_t offset, uint64_t clusters)
{
    uint32_t bits = image->geometry.cluster_bits;
    cache_co_forget(image->cache, QCOW2_TABLE_REFCOUNT_TABLE, offset, clusters << bits);
    pthread_mutex_lock(&image->monitor);
    owned_remove(image->writer->owned, offset >> bits, clusters);
    qcow2_unlink_clusters(unlinked, offset, clusters);
    pthread_mutex_unlock(&image->monitor);
}

static int co_write_growth(struct qcow2_image *image, const struct growth *growth)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, growth->bytes, growth->bytes_length);
    uint64_t offset = growth_offset(image, growth);
    node_co_event(image->node, "refblock_alloc_write_blocks");
    int ret =
        qcow2_is_corrupt(image) ? -EIO : qcow2_co_write_to(image, image->node->file, offset, &vec);
    /* Of a former life of the place. */
    cache_co_forget(image->cache, QCOW2_TABLE_REFCOUNT_TABLE, offset, growth->bytes_length);
    cache_co_forget(image->cache, QCOW2_TABLE_REFCOUNT_BLOCK, offset, growth->bytes_length);
    return ret == 0 ? qcow2_co_flush_file(image) : ret;
}

static int co_put_growth(struct qcow2_image *image, uint64_t table_index, struct growth *growth)
{
    int ret = co_fill_growth(image, table_index, growth);
    if (ret == 0)
        ret = own_growth(image, growth);
    if (ret < 0)
        return ret;
    ret = co_write_growth(image, growth);
    if (ret == 0)
        ret = co_switch_header(image, growth);
    if (ret < 0)
        disown_growth(image, growth);
    return ret;
}

/* The old table's entries are of blocks that may be in memory alone: these come first. */
int qcow2_co_grow_refcount_table(struct qcow2_image *image, uint64_t table_index)
{
    struct growth growth;
    uint64_t old_offset = image->header.refcount_table_offset;
    uint64_t old_clusters = image->header.refcount_table_clusters;
    if (!plan(image, table_index, &growth))
        return -ENOSPC;
    node_co_event(image->node, "reftable_grow");
    uint64_t clusters = growth.block_count + growth.table_clusters;
    growth.bytes_length = clusters << image->geometry.cluster_bits;
    int ret = qcow2_co_check_overlap(image, growth_offset(image, &growth), growth.bytes_length, 0);
    if (ret < 0)
        return ret;
    growth.bytes = calloc(1, growth.bytes_length);
    struct qcow2_unlinked *unlinked = qcow2_unlinked_new(image, false);
    ret = growth.bytes && unlinked ? cache_co_flush_all(image->cache) : -ENOMEM;
    if (ret == 0)
        ret = co_put_growth(image, table_index, &growth);
    free(growth.bytes);
    if (ret == 0)
        co_free_old_table(image, unlinked, old_offset, old_clusters);
    else
        qcow2_unlinked_free(unlinked);
    return ret;
}

/* --- a run of clusters with blocks of its own
 * -----------------------------------------------------
 */

/* Block `nth` of the run, in the cache: it counts what of the run's `all` clusters is in its part.
 */
static int co_fill_run_block(struct qcow2_image *image, uint64_t block_offset, uint64_t nth,
                             uint64_t all)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    uint8_t bytes[4096];
    uint64_t piece = qcow2_slice_bytes(image);
    uint64_t per_piece = piece * 8 >> geometry->refcount_order;
    uint64_t first = nth << geometry->refcount_block_bits;
    for (uint64_t done = 0; done < geometry->cluster_bytes; done += piece, first += per_piece) {
        struct cache_table *table;
        int ret =
            cache_co_get_new(image->cache, QCOW2_TABLE_REFCOUNT_BLOCK, block_offset + done, &table);
        if (ret < 0)
            return ret;
        memset(bytes, 0, piece);
        for (uint64_t i = 0; i < per_piece && first + i < all; i++)
            qcow2_refcount_set(bytes, geometry->refcount_order, (uint32_t)i, 1);
        pthread_mutex_lock(&image->monitor);
        cache_store(image->cache, table, 0, bytes, piece);
        cache_put_locked(image->cache, table);
        pthread_mutex_unlock(&image->monitor);
    }
    return 0;
}

/* The first index from which on there is no block. */
static int co_find_free_index(struct qcow2_image *image, uint64_t *ret_index)
{
    uint64_t there = 0, index = (uint64_t)image->header.refcount_table_clusters
                                << (image->geometry.cluster_bits - 3);
    int ret = 0;
    for (; index > 0 && there == 0 && ret == 0; index--)
        ret = qcow2_co_find_refcount_block(image, index - 1, &there);
    *ret_index = there != 0 ? index + 1 : index;
    return ret;
}

static int co_alloc_in_new_blocks(struct qcow2_image *image, uint64_t count,
                                  uint64_t *ret_host_offset)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    uint64_t per_block = UINT64_C(1) << geometry->refcount_block_bits;
    uint64_t blocks = (count + per_block - 2) / (per_block - 1);
    uint64_t all = blocks + count, index;
    int ret = co_find_free_index(image, &index);
    if (ret == 0 && index + blocks > (uint64_t)image->header.refcount_table_clusters
                                         << (geometry->cluster_bits - 3))
        ret = qcow2_co_grow_refcount_table(image, index + blocks); /* which lies behind the run */
    if (ret < 0)
        return ret;
    uint64_t begin = index << (geometry->refcount_block_bits + geometry->cluster_bits);
    ret = qcow2_co_check_overlap(image, begin, all << geometry->cluster_bits, 0);
    for (uint64_t i = 0; i < blocks && ret == 0; i++)
        ret = co_fill_run_block(image, begin + (i << geometry->cluster_bits), i, all);
    for (uint64_t i = 0; i < blocks && ret == 0; i++)
        ret = co_hook_block(image, index + i, begin + (i << geometry->cluster_bits));
    if (ret == 0)
        *ret_host_offset = begin + (blocks << geometry->cluster_bits);
    return ret; /* after a failure, what is hooked counts what nobody has: a leak */
}

int qcow2_co_alloc_in_new_blocks(struct qcow2_image *image, uint64_t count,
                                 uint64_t *ret_host_offset)
{
    pthread_mutex_lock(&image->monitor);
    while (!co_begin_growing(image))
        ;
    pthread_mutex_unlock(&image->monitor);
    int ret = co_alloc_in_new_blocks(image, count, ret_host_offset);
    end_growing(image);
    return ret;
}
