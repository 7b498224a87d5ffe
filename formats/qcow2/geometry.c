/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/geometry.h"

#include <assert.h>

void qcow2_geometry_init(struct qcow2_geometry *geometry, const struct qcow2_header *header)
{
    assert(header->cluster_bits >= QCOW2_CLUSTER_BITS_MIN);
    assert(header->cluster_bits <= QCOW2_CLUSTER_BITS_MAX);
    assert(header->refcount_order <= QCOW2_REFCOUNT_ORDER_MAX);
    bool is_extended = qcow2_header_has(header, QCOW2_INCOMPATIBLE_EXTENDED_L2);
    uint32_t subcluster_bits = header->cluster_bits - (is_extended ? 5 : 0);
    uint32_t refcount_bits = 1u << header->refcount_order;
    *geometry = (struct qcow2_geometry){
        .version = header->version,
        .is_extended = is_extended,
        .has_data_file = qcow2_header_has(header, QCOW2_INCOMPATIBLE_DATA_FILE),
        .cluster_bits = header->cluster_bits,
        .cluster_bytes = UINT64_C(1) << header->cluster_bits,
        .subcluster_bits = subcluster_bits,
        .subcluster_bytes = UINT64_C(1) << subcluster_bits,
        .subclusters_per_cluster = is_extended ? QCOW2_SUBCLUSTERS : 1,
        .l2_entry_bytes = is_extended ? 16 : 8,
        .l2_bits = header->cluster_bits - (is_extended ? 4 : 3),
        .refcount_order = header->refcount_order,
        .refcount_block_bits = header->cluster_bits + 3 - header->refcount_order,
        .refcount_max = refcount_bits == 64 ? UINT64_MAX : (UINT64_C(1) << refcount_bits) - 1,
        .compressed_offset_bits = 62 - (header->cluster_bits - 8),
    };
    geometry->l2_entries = UINT32_C(1) << geometry->l2_bits;
}

uint64_t qcow2_l1_entries_needed(const struct qcow2_geometry *geometry, uint64_t size_bytes)
{
    uint64_t reach_bytes = qcow2_l2_reach_bytes(geometry);
    return size_bytes / reach_bytes + (size_bytes % reach_bytes != 0);
}
