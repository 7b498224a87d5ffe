/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_GEOMETRY_H
#define FORMATS_QCOW2_GEOMETRY_H

/*
 * What follows from the header's cluster_bits, refcount_order and features: how large things are,
 * and which entry of which table belongs to an offset. Pure arithmetic, in 64 bits; the header's
 * limits keep every shift and product in range.
 */

#include <stdbool.h>
#include <stdint.h>

#include "formats/qcow2/header.h"

struct qcow2_geometry {
    uint32_t version;
    bool is_extended;   /* 16-byte L2 entries, 32 subclusters a cluster */
    bool has_data_file; /* guest clusters lie in a file of their own, at their guest offset */

    uint32_t cluster_bits;
    uint64_t cluster_bytes;
    uint32_t subcluster_bits; /* as cluster_bits, where the image has none */
    uint64_t subcluster_bytes;
    uint32_t subclusters_per_cluster; /* 1 or 32 */

    uint32_t l2_entry_bytes; /* 8 or 16 */
    uint32_t l2_bits;        /* log2 of l2_entries */
    uint32_t l2_entries;     /* in one table, which is one cluster */

    uint32_t refcount_order;
    uint32_t refcount_block_bits; /* log2 of the entries in one refcount block */
    uint64_t refcount_max;

    /* compressed L2 entries: bits [0, offset_bits) are the host offset, the rest up to 61 the count
     * of further sectors */
    uint32_t compressed_offset_bits;
};

/* The header was checked. */
void qcow2_geometry_init(struct qcow2_geometry *geometry, const struct qcow2_header *header);

/* Entries an L1 table needs for a disk of that many bytes. */
uint64_t qcow2_l1_entries_needed(const struct qcow2_geometry *geometry, uint64_t size_bytes);

static inline uint64_t qcow2_l1_index(const struct qcow2_geometry *geometry, uint64_t guest_offset)
{
    return guest_offset >> (geometry->cluster_bits + geometry->l2_bits);
}

static inline uint32_t qcow2_l2_index(const struct qcow2_geometry *geometry, uint64_t guest_offset)
{
    return (uint32_t)(guest_offset >> geometry->cluster_bits) & (geometry->l2_entries - 1);
}

static inline uint32_t qcow2_subcluster_index(const struct qcow2_geometry *geometry,
                                              uint64_t guest_offset)
{
    return (uint32_t)(guest_offset >> geometry->subcluster_bits) &
           (geometry->subclusters_per_cluster - 1);
}

static inline uint64_t qcow2_in_cluster(const struct qcow2_geometry *geometry, uint64_t offset)
{
    return offset & (geometry->cluster_bytes - 1);
}

/* Guest bytes that one L2 table maps. */
static inline uint64_t qcow2_l2_reach_bytes(const struct qcow2_geometry *geometry)
{
    return UINT64_C(1) << (geometry->cluster_bits + geometry->l2_bits);
}

/* Which entry of the refcount table, and which of its block, counts the cluster at host_offset. */
static inline uint64_t qcow2_refcount_table_index(const struct qcow2_geometry *geometry,
                                                  uint64_t host_offset)
{
    return host_offset >> (geometry->cluster_bits + geometry->refcount_block_bits);
}

static inline uint32_t qcow2_refcount_block_index(const struct qcow2_geometry *geometry,
                                                  uint64_t host_offset)
{
    return (uint32_t)(host_offset >> geometry->cluster_bits) &
           ((UINT32_C(1) << geometry->refcount_block_bits) - 1);
}

/* Clusters that hold so many bytes. */
static inline uint64_t qcow2_clusters_of(const struct qcow2_geometry *geometry, uint64_t bytes)
{
    return (bytes >> geometry->cluster_bits) + (qcow2_in_cluster(geometry, bytes) != 0);
}

#endif
