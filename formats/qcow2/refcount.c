/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Refcounts: clusters are taken and given back. A count is changed under the monitor, in a piece of
 * its refcount block that the cache holds, so two never take the same cluster. What points to a
 * cluster is stored afterwards, in a higher class of the cache (invariant 2).
 */
#include <assert.h>
#include <errno.h>

#include "common/endian.h"
#include "formats/qcow2/writer.h"

#define COUNTS_BYTES_MAX 4096 /* of one piece of a refcount block: tables.c's slice */

/* A pinned piece of a refcount block. */
struct counts {
    struct cache_table *table;
    uint64_t first_cluster; /* host cluster index of its first count */
    uint32_t count;
};

int qcow2_co_find_refcount_block(struct qcow2_image *image, uint64_t table_index,
                                 uint64_t *ret_block_offset)
{
    uint8_t bytes[8];
    const char *why;
    uint64_t entry_offset, entries;
    pthread_mutex_lock(&image->monitor);
    entries = (uint64_t)image->header.refcount_table_clusters << (image->geometry.cluster_bits - 3);
    entry_offset = image->header.refcount_table_offset + table_index * 8;
    pthread_mutex_unlock(&image->monitor);
    if (table_index >= entries) {
        *ret_block_offset = 0;
        return 0;
    }
    int ret = cache_co_read(image->cache, QCOW2_TABLE_REFCOUNT_TABLE, entry_offset, bytes, 8);
    if (ret < 0)
        return ret;
    if (!qcow2_refcount_table_decode(&image->geometry, load_be64(bytes), ret_block_offset, &why))
        return qcow2_co_corrupt(image, why, "refcount table", entry_offset, 0);
    return 0;
}

/* The piece that counts this host cluster. -ENOENT: there is no refcount block. */
static int co_get_counts(struct qcow2_image *image, uint64_t host_cluster,
                         struct counts *ret_counts)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    uint64_t block_offset;
    int ret = qcow2_co_find_refcount_block(image, host_cluster >> geometry->refcount_block_bits,
                                           &block_offset);
    if (ret < 0)
        return ret;
    if (block_offset == 0)
        return -ENOENT;
    uint32_t index = (uint32_t)(host_cluster & ((1u << geometry->refcount_block_bits) - 1));
    uint64_t byte = ((uint64_t)index << geometry->refcount_order) / 8;
    struct counts counts;
    ret =
        cache_co_get(image->cache, QCOW2_TABLE_REFCOUNT_BLOCK, block_offset + byte, &counts.table);
    if (ret < 0)
        return ret;
    counts.count = qcow2_slice_bytes(image) * 8 >> geometry->refcount_order;
    counts.first_cluster = host_cluster & ~(uint64_t)(counts.count - 1);
    *ret_counts = counts;
    return 0;
}

/* Which bytes of the piece hold the counts [first, first + count). */
static void span_of(const struct qcow2_image *image, uint32_t first, uint32_t count,
                    size_t *ret_from, size_t *ret_length)
{
    uint64_t from_bit = (uint64_t)first << image->geometry.refcount_order;
    uint64_t end_bit = (uint64_t)(first + count) << image->geometry.refcount_order;
    *ret_from = from_bit / 8;
    *ret_length = (end_bit + 7) / 8 - from_bit / 8;
}

/* Monitor. */
static uint64_t get_count(struct qcow2_image *image, const struct counts *counts, uint32_t index)
{
    uint8_t bytes[COUNTS_BYTES_MAX];
    size_t from, length;
    uint32_t order = image->geometry.refcount_order;
    uint32_t per_byte = order < 3 ? 8u >> order : 1;
    span_of(image, index, 1, &from, &length);
    cache_load(counts->table, from, bytes, length);
    return qcow2_refcount_get(bytes, order, index % per_byte);
}

/* Monitor. The same value for some in a row. */
static void set_counts(struct qcow2_image *image, const struct counts *counts, uint32_t first,
                       uint32_t count, uint64_t value)
{
    uint8_t bytes[COUNTS_BYTES_MAX];
    size_t from, length;
    uint32_t order = image->geometry.refcount_order;
    uint32_t per_byte = order < 3 ? 8u >> order : 1;
    span_of(image, first, count, &from, &length);
    cache_load(counts->table, from, bytes, length);
    for (uint32_t i = 0; i < count; i++)
        qcow2_refcount_set(bytes, order, first % per_byte + i, value);
    cache_store(image->cache, counts->table, from, bytes, length);
}

/* --- taking -------------------------------------------------------------------------------------
 */

/* Monitor. The first run of zeroes from index on, at most count_max long. False: there is none. */
static bool find_free(struct qcow2_image *image, const struct counts *counts, uint32_t index,
                      uint64_t count_max, uint32_t *ret_first, uint32_t *ret_count)
{
    uint8_t bytes[COUNTS_BYTES_MAX];
    size_t from, length;
    span_of(image, 0, counts->count, &from, &length);
    cache_load(counts->table, from, bytes, length);
    uint32_t order = image->geometry.refcount_order;
    while (index < counts->count && qcow2_refcount_get(bytes, order, index) != 0)
        index++;
    uint32_t end = index;
    while (end < counts->count && end - index < count_max &&
           qcow2_refcount_get(bytes, order, end) == 0)
        end++;
    *ret_first = index;
    *ret_count = end - index;
    return end > index;
}

/* Monitor. Takes what it can from one piece; 0 when there is nothing free in it from the hint on.
 */
static uint32_t take_from(struct qcow2_image *image, const struct counts *counts,
                          uint64_t count_max, uint64_t *ret_cluster)
{
    struct qcow2_writer *writer = image->writer;
    uint64_t end = counts->first_cluster + counts->count;
    uint32_t first, count;
    if (writer->free_hint >= end)
        return 0;
    uint32_t from = writer->free_hint > counts->first_cluster
                        ? (uint32_t)(writer->free_hint - counts->first_cluster)
                        : 0;
    bool begins_at_hint = writer->free_hint >= counts->first_cluster;
    if (!find_free(image, counts, from, count_max, &first, &count)) {
        if (begins_at_hint)
            writer->free_hint = end;
        return 0;
    }
    set_counts(image, counts, first, count, 1);
    *ret_cluster = counts->first_cluster + first;
    if (begins_at_hint)
        writer->free_hint = *ret_cluster + count;
    return count;
}

static uint64_t hint_of(struct qcow2_image *image)
{
    pthread_mutex_lock(&image->monitor);
    uint64_t hint = image->writer->free_hint;
    pthread_mutex_unlock(&image->monitor);
    return hint;
}

/* 1: taken; 0: look again. */
static int co_try_alloc(struct qcow2_image *image, uint64_t count_max, uint64_t *ret_cluster,
                        uint64_t *ret_count)
{
    struct counts counts;
    uint64_t hint = hint_of(image);
    if (hint >= QCOW2_HOST_OFFSET_MAX >> image->geometry.cluster_bits)
        return -ENOSPC;
    int ret = co_get_counts(image, hint, &counts);
    if (ret == -ENOENT)
        return qcow2_co_make_refcount_block(image, hint >> image->geometry.refcount_block_bits);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&image->monitor);
    *ret_count = take_from(image, &counts, count_max, ret_cluster);
    cache_put_locked(image->cache, counts.table);
    pthread_mutex_unlock(&image->monitor);
    return *ret_count > 0;
}

int qcow2_co_alloc(struct qcow2_image *image, uint64_t count_max, uint64_t *ret_host_offset,
                   uint64_t *ret_count)
{
    uint64_t cluster = 0, count = 0;
    int ret;
    assert(count_max > 0);
    node_co_event(image->node, "cluster_alloc");
    ret = qcow2_co_postpone_refcounts(image);
    while (ret == 0) {
        if (qcow2_is_corrupt(image))
            return -EIO;
        ret = co_try_alloc(image, count_max, &cluster, &count);
    }
    if (ret < 0)
        return ret;
    uint64_t host_offset = cluster << image->geometry.cluster_bits;
    uint64_t length = count << image->geometry.cluster_bits;
    /* A refcount of 0 on a cluster in use is how most corruption begins. */
    ret = qcow2_co_check_overlap(image, host_offset, length, 0);
    if (ret < 0)
        return ret;
    *ret_host_offset = host_offset;
    *ret_count = count;
    return 0;
}

/* --- giving back --------------------------------------------------------------------------------
 */

/* Monitor. */
static int decrement(struct qcow2_image *image, const struct counts *counts, uint64_t host_cluster)
{
    uint32_t index = (uint32_t)(host_cluster - counts->first_cluster);
    uint64_t value = get_count(image, counts, index);
    if (value == 0)
        return -ERANGE;
    set_counts(image, counts, index, 1, value - 1);
    if (value == 1 && host_cluster < image->writer->free_hint)
        image->writer->free_hint = host_cluster;
    if (value == 1 && host_cluster == image->writer->packed_end >> image->geometry.cluster_bits)
        image->writer->packed_end = 0; /* it may be given to anybody now */
    return 0;
}

/* Monitor. */
static bool share_packed(struct qcow2_image *image, const struct counts *counts, uint64_t length)
{
    struct qcow2_writer *writer = image->writer;
    uint64_t cluster = writer->packed_end >> image->geometry.cluster_bits;
    uint32_t index = (uint32_t)(cluster - counts->first_cluster);
    uint64_t value = get_count(image, counts, index);
    if (value >= image->geometry.refcount_max) {
        writer->packed_end = 0;
        return false;
    }
    set_counts(image, counts, index, 1, value + 1);
    writer->packed_end += length;
    if (qcow2_in_cluster(&image->geometry, writer->packed_end) == 0)
        writer->packed_end = 0; /* the next cluster is another's */
    return true;
}

int qcow2_co_share_packed(struct qcow2_image *image, uint64_t packed_end, uint64_t length)
{
    struct counts counts;
    int ret = co_get_counts(image, packed_end >> image->geometry.cluster_bits, &counts);
    if (ret == -ENOENT)
        return 0;
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&image->monitor);
    ret = image->writer->packed_end == packed_end && share_packed(image, &counts, length);
    cache_put_locked(image->cache, counts.table);
    pthread_mutex_unlock(&image->monitor);
    return ret;
}

int qcow2_co_refcount_decrement(struct qcow2_image *image, uint64_t host_offset)
{
    struct counts counts;
    uint64_t host_cluster = host_offset >> image->geometry.cluster_bits;
    int ret = co_get_counts(image, host_cluster, &counts);
    if (ret == 0) {
        pthread_mutex_lock(&image->monitor);
        ret = decrement(image, &counts, host_cluster);
        cache_put_locked(image->cache, counts.table);
        pthread_mutex_unlock(&image->monitor);
    }
    if (ret == -ERANGE || ret == -ENOENT)
        return qcow2_co_corrupt(image, "a cluster in use has the refcount 0", "refcount",
                                host_offset, 0);
    return ret;
}

/* What cannot be given back is a leak, which is allowed (invariant 1). */
void qcow2_co_unalloc(struct qcow2_image *image, uint64_t host_offset, uint64_t count)
{
    uint64_t end = host_offset + (count << image->geometry.cluster_bits);
    pthread_mutex_lock(&image->monitor);
    if (atomic_load(&image->writer->given_back_end) < end)
        atomic_store(&image->writer->given_back_end, end);
    pthread_mutex_unlock(&image->monitor);
    for (uint64_t i = 0; i < count; i++)
        qcow2_co_refcount_decrement(image, host_offset + (i << image->geometry.cluster_bits));
}

bool qcow2_is_fresh(const struct qcow2_image *image, uint64_t host_offset)
{
    const struct block_node *file = image->node->file;
    return (file->driver->flags & BLOCK_DRIVER_GROWS) &&
           host_offset >= atomic_load(&file->size_bytes) &&
           host_offset >= atomic_load(&image->writer->given_back_end);
}

int qcow2_co_refcount(struct qcow2_image *image, uint64_t host_offset, uint64_t *ret_refcount)
{
    struct counts counts;
    uint64_t host_cluster = host_offset >> image->geometry.cluster_bits;
    int ret = co_get_counts(image, host_cluster, &counts);
    if (ret == -ENOENT) {
        *ret_refcount = 0;
        return 0;
    }
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&image->monitor);
    *ret_refcount = get_count(image, &counts, (uint32_t)(host_cluster - counts.first_cluster));
    cache_put_locked(image->cache, counts.table);
    pthread_mutex_unlock(&image->monitor);
    return 0;
}
