/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_ENTRY_H
#define FORMATS_QCOW2_ENTRY_H

/*
 * Entries of the tables: one or two 64-bit numbers in, what they say out, and back. Pure; numbers
 * are in the host's order (load_be64() before, store_be64() after).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/qcow2/geometry.h"

/* What a guest cluster, or a subcluster of it, is. */
enum qcow2_kind {
    QCOW2_UNALLOCATED,    /* reads as the backing file; space may be there (extended L2 entries) */
    QCOW2_ZERO,           /* reads as zeroes, has no space */
    QCOW2_ZERO_ALLOCATED, /* reads as zeroes, has space */
    QCOW2_DATA,
    QCOW2_COMPRESSED, /* the whole cluster */
};

struct qcow2_cluster {
    bool is_compressed;
    bool is_copied;            /* the refcount is exactly 1: may be written in place */
    bool has_host;             /* host_offset is one */
    uint64_t host_offset;      /* of the cluster; of the compressed data, at any byte */
    uint32_t compressed_bytes; /* from there to the end of the last sector: at most these */
    /* by subcluster; where there are none, bit 0 is the cluster. Never both. */
    uint32_t allocated_bits;
    uint32_t zero_bits;
};

/* One L2 entry; bitmap is its second half in an image with extended L2 entries, else ignored.
 * False: it is corrupt, and *ret_why says in which way. */
bool qcow2_l2_decode(const struct qcow2_geometry *geometry, uint64_t entry, uint64_t bitmap,
                     struct qcow2_cluster *ret_cluster, const char **ret_why);

/* The reverse. Of a compressed cluster the bitmap is 0. */
void qcow2_l2_encode(const struct qcow2_geometry *geometry, const struct qcow2_cluster *cluster,
                     uint64_t *ret_entry, uint64_t *ret_bitmap);

enum qcow2_kind qcow2_cluster_kind(const struct qcow2_cluster *cluster, uint32_t subcluster);

/* An L1 entry: where its L2 table is, 0 for none. False: corrupt. */
bool qcow2_l1_decode(const struct qcow2_geometry *geometry, uint64_t entry, uint64_t *ret_l2_offset,
                     const char **ret_why);

/* A refcount table's entry: where its block is, 0 for none. False: corrupt. */
bool qcow2_refcount_table_decode(const struct qcow2_geometry *geometry, uint64_t entry,
                                 uint64_t *ret_block_offset, const char **ret_why);

/* The counts in a refcount block, of 1 to 64 bits. Narrower than a byte, the first is in the lowest
 * bits. index is inside the block; value fits. */
uint64_t qcow2_refcount_get(const uint8_t *block, uint32_t refcount_order, uint32_t index);
void qcow2_refcount_set(uint8_t *block, uint32_t refcount_order, uint32_t index, uint64_t value);

#endif
