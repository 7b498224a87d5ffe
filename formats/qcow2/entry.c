/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/entry.h"

#include <assert.h>

#include "common/endian.h"

#define SECTOR_BYTES 512u

static bool corrupt(const char *why, const char **ret_why)
{
    *ret_why = why;
    return false;
}

/* --- L2 -----------------------------------------------------------------------------------------
 */

static bool decode_compressed(const struct qcow2_geometry *geometry, uint64_t entry,
                              uint64_t bitmap, struct qcow2_cluster *cluster, const char **ret_why)
{
    uint32_t offset_bits = geometry->compressed_offset_bits;
    uint64_t offset = entry & ((UINT64_C(1) << offset_bits) - 1);
    uint64_t sectors =
        ((entry & ~(QCOW2_ENTRY_COMPRESSED | QCOW2_ENTRY_COPIED)) >> offset_bits) + 1;
    if (geometry->has_data_file)
        return corrupt("a compressed cluster in an image with an external data file", ret_why);
    /* COPIED may not be there, and check says so; nothing depends on it. */
    if (offset > QCOW2_HOST_OFFSET_MAX)
        return corrupt("compressed data past 64 PiB", ret_why);
    if (geometry->is_extended && bitmap != 0)
        return corrupt("a compressed cluster has bits for subclusters", ret_why);
    cluster->is_compressed = true;
    cluster->has_host = true;
    cluster->host_offset = offset;
    cluster->compressed_bytes = (uint32_t)(sectors * SECTOR_BYTES - offset % SECTOR_BYTES);
    return true;
}

static bool decode_bits(const struct qcow2_geometry *geometry, uint64_t entry, uint64_t bitmap,
                        struct qcow2_cluster *cluster, const char **ret_why)
{
    if (geometry->is_extended) {
        cluster->allocated_bits = (uint32_t)bitmap;
        cluster->zero_bits = (uint32_t)(bitmap >> 32);
        if (cluster->allocated_bits & cluster->zero_bits)
            return corrupt("a subcluster is both allocated and zero", ret_why);
        if (cluster->allocated_bits && !cluster->has_host)
            return corrupt("a subcluster is allocated in a cluster that is not", ret_why);
        return true;
    }
    cluster->zero_bits = entry & QCOW2_ENTRY_ZERO;
    cluster->allocated_bits = cluster->has_host && !cluster->zero_bits;
    if (cluster->zero_bits && geometry->version < 3)
        return corrupt("a zero cluster in an image of version 2", ret_why);
    return true;
}

bool qcow2_l2_decode(const struct qcow2_geometry *geometry, uint64_t entry, uint64_t bitmap,
                     struct qcow2_cluster *ret_cluster, const char **ret_why)
{
    struct qcow2_cluster cluster = {.is_compressed = false};
    if (entry & QCOW2_ENTRY_COMPRESSED) {
        if (!decode_compressed(geometry, entry, bitmap, &cluster, ret_why))
            return false;
        *ret_cluster = cluster;
        return true;
    }
    cluster.is_copied = entry & QCOW2_ENTRY_COPIED;
    cluster.host_offset = entry & QCOW2_ENTRY_OFFSET;
    /* Offset 0 is the header in an image, and the first guest cluster in a data file. */
    cluster.has_host = cluster.host_offset != 0 || (geometry->has_data_file && cluster.is_copied);
    if (qcow2_in_cluster(geometry, cluster.host_offset) != 0)
        return corrupt("a cluster's offset is no multiple of the cluster size", ret_why);
    if (!decode_bits(geometry, entry, bitmap, &cluster, ret_why))
        return false;
    *ret_cluster = cluster;
    return true;
}

void qcow2_l2_encode(const struct qcow2_geometry *geometry, const struct qcow2_cluster *cluster,
                     uint64_t *ret_entry, uint64_t *ret_bitmap)
{
    *ret_bitmap = 0;
    if (cluster->is_compressed) {
        uint64_t last = cluster->host_offset + cluster->compressed_bytes - 1;
        uint64_t sectors = last / SECTOR_BYTES - cluster->host_offset / SECTOR_BYTES;
        assert(cluster->host_offset < UINT64_C(1) << geometry->compressed_offset_bits);
        assert(sectors < UINT64_C(1) << (62 - geometry->compressed_offset_bits));
        *ret_entry = QCOW2_ENTRY_COMPRESSED | cluster->host_offset |
                     sectors << geometry->compressed_offset_bits;
        return;
    }
    assert((cluster->host_offset & ~QCOW2_ENTRY_OFFSET) == 0);
    *ret_entry = cluster->has_host ? cluster->host_offset : 0;
    if (cluster->is_copied && cluster->has_host)
        *ret_entry |= QCOW2_ENTRY_COPIED;
    if (geometry->is_extended)
        *ret_bitmap = (uint64_t)cluster->zero_bits << 32 | cluster->allocated_bits;
    else if (cluster->zero_bits)
        *ret_entry |= QCOW2_ENTRY_ZERO;
}

enum qcow2_kind qcow2_cluster_kind(const struct qcow2_cluster *cluster, uint32_t subcluster)
{
    uint32_t bit = UINT32_C(1) << subcluster;
    if (cluster->is_compressed)
        return QCOW2_COMPRESSED;
    if (cluster->zero_bits & bit)
        return cluster->has_host ? QCOW2_ZERO_ALLOCATED : QCOW2_ZERO;
    return cluster->allocated_bits & bit ? QCOW2_DATA : QCOW2_UNALLOCATED;
}

/* --- the tables above ---------------------------------------------------------------------------
 */

bool qcow2_l1_decode(const struct qcow2_geometry *geometry, uint64_t entry, uint64_t *ret_l2_offset,
                     const char **ret_why)
{
    uint64_t offset = entry & QCOW2_ENTRY_OFFSET;
    if (qcow2_in_cluster(geometry, offset) != 0)
        return corrupt("an L2 table's offset is no multiple of the cluster size", ret_why);
    *ret_l2_offset = offset;
    return true;
}

bool qcow2_refcount_table_decode(const struct qcow2_geometry *geometry, uint64_t entry,
                                 uint64_t *ret_block_offset, const char **ret_why)
{
    uint64_t offset = entry & QCOW2_REFCOUNT_TABLE_OFFSET;
    if (qcow2_in_cluster(geometry, offset) != 0)
        return corrupt("a refcount block's offset is no multiple of the cluster size", ret_why);
    if (offset > QCOW2_HOST_BYTES_MAX)
        return corrupt("a refcount block's offset is past 2^62", ret_why);
    *ret_block_offset = offset;
    return true;
}

/* --- refcount blocks ----------------------------------------------------------------------------
 */

uint64_t qcow2_refcount_get(const uint8_t *block, uint32_t refcount_order, uint32_t index)
{
    switch (refcount_order) {
    case 6:
        return load_be64(block + (size_t)index * 8);
    case 5:
        return load_be32(block + (size_t)index * 4);
    case 4:
        return load_be16(block + (size_t)index * 2);
    case 3:
        return block[index];
    default:
        break;
    }
    uint32_t width = UINT32_C(1) << refcount_order;
    uint32_t per_byte = 8 / width;
    return (block[index / per_byte] >> (index % per_byte * width)) & ((1u << width) - 1);
}

void qcow2_refcount_set(uint8_t *block, uint32_t refcount_order, uint32_t index, uint64_t value)
{
    uint32_t width = UINT32_C(1) << refcount_order;
    assert(width == 64 || value < UINT64_C(1) << width);
    switch (refcount_order) {
    case 6:
        store_be64(block + (size_t)index * 8, value);
        return;
    case 5:
        store_be32(block + (size_t)index * 4, (uint32_t)value);
        return;
    case 4:
        store_be16(block + (size_t)index * 2, (uint16_t)value);
        return;
    case 3:
        block[index] = (uint8_t)value;
        return;
    default:
        break;
    }
    uint32_t per_byte = 8 / width;
    uint32_t shift = index % per_byte * width;
    uint8_t mask = (uint8_t)(((1u << width) - 1) << shift);
    uint8_t *byte = &block[index / per_byte];
    *byte = (uint8_t)((*byte & ~mask) | (value << shift));
}
