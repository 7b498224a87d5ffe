/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_HEADER_H
#define FORMATS_QCOW2_HEADER_H

/*
 * The header's fixed fields: bytes in, struct out, and back. Pure; the sentences name the field and
 * its value, and the caller says of which image. Fields that version 2 lacks have the values that
 * the specification says they stand for.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "formats/qcow2/layout.h"

struct qcow2_header {
    uint32_t version;
    uint64_t backing_file_offset; /* 0: there is none */
    uint32_t backing_file_size;
    uint32_t cluster_bits;
    uint64_t size; /* of the disk, in bytes */
    uint32_t crypt_method;
    uint32_t l1_size; /* entries */
    uint64_t l1_table_offset;
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    uint32_t nb_snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible_features;
    uint64_t compatible_features;
    uint64_t autoclear_features;
    uint32_t refcount_order;
    uint32_t header_length;
    uint8_t compression_type;
};

/* What stands in the first `length` bytes of an image, as far as one must know it to find the rest:
 * magic, version, cluster_bits and header_length are checked. 112 bytes are enough; fewer are
 * enough where the header is shorter. -EINVAL. */
int qcow2_header_decode(const uint8_t *bytes, size_t length, struct qcow2_header *ret_header,
                        struct error *err);

/* Writes the fields where the header has them: QCOW2_HEADER_V2_BYTES of a version 2, else
 * QCOW2_HEADER_V3_BYTES_MIN and the compression type where header_length reaches behind it. Bytes
 * beyond are left as they are: a newer program may know what they mean. */
void qcow2_header_encode(const struct qcow2_header *header, uint8_t *bytes);

/* Every rule of one field against the others, but for the feature bits (extension.h). file_bytes is
 * the size of the image's file. -EINVAL; -EFBIG: beyond our limits; -ENOTSUP: encrypted. */
int qcow2_header_check(const struct qcow2_header *header, uint64_t file_bytes, struct error *err);

static inline bool qcow2_header_has(const struct qcow2_header *header, uint64_t incompatible_bit)
{
    return header->incompatible_features & incompatible_bit;
}

#endif
