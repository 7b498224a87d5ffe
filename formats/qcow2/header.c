/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/header.h"

#include <errno.h>
#include <inttypes.h>

#include "common/align.h"
#include "common/checked.h"
#include "common/endian.h"
#include "formats/qcow2/geometry.h"

/* --- bytes --------------------------------------------------------------------------------------
 */

static void decode_version_2(const uint8_t *bytes, struct qcow2_header *header)
{
    *header = (struct qcow2_header){
        .version = load_be32(bytes + 4),
        .backing_file_offset = load_be64(bytes + 8),
        .backing_file_size = load_be32(bytes + 16),
        .cluster_bits = load_be32(bytes + 20),
        .size = load_be64(bytes + 24),
        .crypt_method = load_be32(bytes + 32),
        .l1_size = load_be32(bytes + 36),
        .l1_table_offset = load_be64(bytes + 40),
        .refcount_table_offset = load_be64(bytes + 48),
        .refcount_table_clusters = load_be32(bytes + 56),
        .nb_snapshots = load_be32(bytes + 60),
        .snapshots_offset = load_be64(bytes + 64),
        .refcount_order = QCOW2_REFCOUNT_ORDER_V2,
        .header_length = QCOW2_HEADER_V2_BYTES,
    };
}

static int decode_version_3(const uint8_t *bytes, size_t length, struct qcow2_header *header,
                            struct error *err)
{
    if (length < QCOW2_HEADER_V3_BYTES_MIN)
        return error_set(err, -EINVAL, "it has %zu bytes; a header of version 3 has %d", length,
                         QCOW2_HEADER_V3_BYTES_MIN);
    header->incompatible_features = load_be64(bytes + 72);
    header->compatible_features = load_be64(bytes + 80);
    header->autoclear_features = load_be64(bytes + 88);
    header->refcount_order = load_be32(bytes + 96);
    header->header_length = load_be32(bytes + 100);
    if (header->header_length < QCOW2_HEADER_V3_BYTES_MIN || header->header_length % 8 != 0 ||
        header->header_length > UINT64_C(1) << header->cluster_bits)
        return error_set(err, -EINVAL,
                         "its header_length is %" PRIu32
                         "; it must be a multiple of 8 from %d to the cluster size",
                         header->header_length, QCOW2_HEADER_V3_BYTES_MIN);
    if (header->header_length > QCOW2_HEADER_COMPRESSION_TYPE) {
        if (length <= QCOW2_HEADER_COMPRESSION_TYPE)
            return error_set(err, -EINVAL, "it has %zu bytes, but its header_length is %" PRIu32,
                             length, header->header_length);
        header->compression_type = bytes[QCOW2_HEADER_COMPRESSION_TYPE];
    }
    return 0;
}

int qcow2_header_decode(const uint8_t *bytes, size_t length, struct qcow2_header *ret_header,
                        struct error *err)
{
    struct qcow2_header header;
    if (length < QCOW2_HEADER_V2_BYTES)
        return error_set(err, -EINVAL, "it has %zu bytes; a qcow2 image has at least %d", length,
                         QCOW2_HEADER_V2_BYTES);
    if (load_be32(bytes) != QCOW2_MAGIC)
        return error_set(err, -EINVAL,
                         "it is not a qcow2 image: its magic is 0x%08" PRIx32 ", not 0x%08" PRIx32,
                         load_be32(bytes), QCOW2_MAGIC);
    decode_version_2(bytes, &header);
    if (header.version != 2 && header.version != 3)
        return error_set(err, -EINVAL, "its version is %" PRIu32 "; versions 2 and 3 are supported",
                         header.version);
    if (header.cluster_bits < QCOW2_CLUSTER_BITS_MIN ||
        header.cluster_bits > QCOW2_CLUSTER_BITS_MAX)
        return error_set(err, -EINVAL, "its cluster_bits is %" PRIu32 "; it must be from %d to %d",
                         header.cluster_bits, QCOW2_CLUSTER_BITS_MIN, QCOW2_CLUSTER_BITS_MAX);
    int ret = header.version == 2 ? 0 : decode_version_3(bytes, length, &header, err);
    if (ret == 0)
        *ret_header = header;
    return ret;
}

void qcow2_header_encode(const struct qcow2_header *header, uint8_t *bytes)
{
    store_be32(bytes, QCOW2_MAGIC);
    store_be32(bytes + 4, header->version);
    store_be64(bytes + 8, header->backing_file_offset);
    store_be32(bytes + 16, header->backing_file_size);
    store_be32(bytes + 20, header->cluster_bits);
    store_be64(bytes + 24, header->size);
    store_be32(bytes + 32, header->crypt_method);
    store_be32(bytes + 36, header->l1_size);
    store_be64(bytes + 40, header->l1_table_offset);
    store_be64(bytes + 48, header->refcount_table_offset);
    store_be32(bytes + 56, header->refcount_table_clusters);
    store_be32(bytes + 60, header->nb_snapshots);
    store_be64(bytes + 64, header->snapshots_offset);
    if (header->version == 2)
        return;
    store_be64(bytes + 72, header->incompatible_features);
    store_be64(bytes + 80, header->compatible_features);
    store_be64(bytes + 88, header->autoclear_features);
    store_be32(bytes + 96, header->refcount_order);
    store_be32(bytes + 100, header->header_length);
    if (header->header_length > QCOW2_HEADER_COMPRESSION_TYPE)
        bytes[QCOW2_HEADER_COMPRESSION_TYPE] = header->compression_type;
}

/* --- rules --------------------------------------------------------------------------------------
 */

static int check_crypt_method(const struct qcow2_header *header, struct error *err)
{
    switch (header->crypt_method) {
    case QCOW2_CRYPT_NONE:
        return 0;
    case QCOW2_CRYPT_AES:
    case QCOW2_CRYPT_LUKS:
        return error_set(err, -ENOTSUP,
                         "it is encrypted with %s (crypt_method %" PRIu32
                         "), which is not supported; make a plain copy with qemu-img convert",
                         header->crypt_method == QCOW2_CRYPT_AES ? "AES" : "LUKS",
                         header->crypt_method);
    default:
        return error_set(err, -EINVAL, "its crypt_method is %" PRIu32 ", which is not known",
                         header->crypt_method);
    }
}

static int check_compression(const struct qcow2_header *header, struct error *err)
{
    bool has_bit = qcow2_header_has(header, QCOW2_INCOMPATIBLE_COMPRESSION);
    if (has_bit != (header->compression_type != QCOW2_COMPRESSION_ZLIB))
        return error_set(err, -EINVAL,
                         "its compression_type is %u, but the incompatible feature bit 3 is %s; "
                         "the bit must be set for all types but 0",
                         header->compression_type, has_bit ? "set" : "clear");
    if (header->compression_type > QCOW2_COMPRESSION_ZSTD)
        return error_set(err, -ENOTSUP,
                         "its compression_type is %u; 0 (zlib) and 1 (zstd) are supported",
                         header->compression_type);
    return 0;
}

static int check_widths(const struct qcow2_header *header, struct error *err)
{
    if (qcow2_header_has(header, QCOW2_INCOMPATIBLE_EXTENDED_L2) &&
        header->cluster_bits < QCOW2_CLUSTER_BITS_EXTENDED_MIN)
        return error_set(err, -EINVAL,
                         "its cluster_bits is %" PRIu32
                         "; with extended L2 entries (incompatible feature bit 4) it must be at "
                         "least %d",
                         header->cluster_bits, QCOW2_CLUSTER_BITS_EXTENDED_MIN);
    if (header->refcount_order > QCOW2_REFCOUNT_ORDER_MAX)
        return error_set(err, -EINVAL, "its refcount_order is %" PRIu32 "; it must be at most %d",
                         header->refcount_order, QCOW2_REFCOUNT_ORDER_MAX);
    return 0;
}

/* A table's place: on a cluster, not on the header, not past the end of the file. must_fit: all of
 * it is there, or else its first byte. */
static int check_place(const struct qcow2_header *header, const char *field, uint64_t host_offset,
                       uint64_t bytes, uint64_t file_bytes, bool must_fit, struct error *err)
{
    uint64_t cluster_bytes = UINT64_C(1) << header->cluster_bits;
    if (!is_aligned(host_offset, cluster_bytes) || host_offset == 0)
        return error_set(err, -EINVAL,
                         "its %s is 0x%" PRIx64
                         "; it must be a multiple of the cluster size, 0x%" PRIx64 ", and not 0",
                         field, host_offset, cluster_bytes);
    if (!range_is_inside(host_offset, must_fit ? bytes : 1, file_bytes))
        return error_set(err, -EINVAL,
                         "its %s is 0x%" PRIx64 ": the %" PRIu64
                         " bytes from there on reach past the end of the file, which has %" PRIu64
                         " bytes",
                         field, host_offset, bytes, file_bytes);
    return 0;
}

static int check_refcount_table(const struct qcow2_header *header, uint64_t file_bytes,
                                struct error *err)
{
    uint64_t bytes = (uint64_t)header->refcount_table_clusters << header->cluster_bits;
    if (header->refcount_table_clusters == 0)
        return error_set(err, -EINVAL,
                         "its refcount_table_clusters is 0: it has no reference counts; repair it "
                         "with qemu-img check -r all");
    if (bytes > QCOW2_REFCOUNT_TABLE_BYTES_MAX)
        return error_set(err, -EFBIG,
                         "its refcount_table_clusters is %" PRIu32 ", %" PRIu64
                         " bytes; at most %" PRIu64 " bytes are supported",
                         header->refcount_table_clusters, bytes, QCOW2_REFCOUNT_TABLE_BYTES_MAX);
    return check_place(header, "refcount_table_offset", header->refcount_table_offset, bytes,
                       file_bytes, false, err);
}

static int check_l1(const struct qcow2_header *header, uint64_t file_bytes, struct error *err)
{
    struct qcow2_geometry geometry;
    uint64_t bytes = (uint64_t)header->l1_size * 8;
    qcow2_geometry_init(&geometry, header);
    uint64_t needed = qcow2_l1_entries_needed(&geometry, header->size);
    if (bytes > QCOW2_L1_BYTES_MAX)
        return error_set(err, -EFBIG,
                         "its l1_size is %" PRIu32 " entries; at most %" PRIu64 " are supported",
                         header->l1_size, QCOW2_L1_BYTES_MAX / 8);
    if (header->l1_size < needed)
        return error_set(err, -EINVAL,
                         "its l1_size is %" PRIu32 " entries; a disk with the size %" PRIu64
                         " needs %" PRIu64,
                         header->l1_size, header->size, needed);
    if (header->l1_size == 0)
        return 0;
    return check_place(header, "l1_table_offset", header->l1_table_offset, bytes, file_bytes, true,
                       err);
}

static int check_backing_name(const struct qcow2_header *header, struct error *err)
{
    uint64_t cluster_bytes = UINT64_C(1) << header->cluster_bits;
    if (header->backing_file_offset == 0)
        return 0;
    if (header->backing_file_offset < header->header_length ||
        header->backing_file_offset >= cluster_bytes)
        return error_set(err, -EINVAL,
                         "its backing_file_offset is %" PRIu64
                         "; it must lie in the first cluster, behind the header, from %" PRIu32
                         " to %" PRIu64,
                         header->backing_file_offset, header->header_length, cluster_bytes - 1);
    if (header->backing_file_size == 0 || header->backing_file_size > QCOW2_BACKING_NAME_MAX ||
        header->backing_file_size > cluster_bytes - header->backing_file_offset)
        return error_set(err, -EINVAL,
                         "its backing_file_size is %" PRIu32
                         "; it must be from 1 to %d, inside the first cluster",
                         header->backing_file_size, QCOW2_BACKING_NAME_MAX);
    return 0;
}

static int check_snapshots(const struct qcow2_header *header, uint64_t file_bytes,
                           struct error *err)
{
    if (header->nb_snapshots == 0)
        return 0;
    if (header->nb_snapshots > QCOW2_SNAPSHOTS_MAX)
        return error_set(err, -EFBIG, "its nb_snapshots is %" PRIu32 "; at most %d are supported",
                         header->nb_snapshots, QCOW2_SNAPSHOTS_MAX);
    if (qcow2_header_has(header, QCOW2_INCOMPATIBLE_DATA_FILE))
        return error_set(err, -EINVAL,
                         "its nb_snapshots is %" PRIu32
                         "; an image with an external data file cannot have snapshots",
                         header->nb_snapshots);
    return check_place(header, "snapshots_offset", header->snapshots_offset, 1, file_bytes, true,
                       err);
}

static int check_data_file(const struct qcow2_header *header, struct error *err)
{
    bool is_raw = header->autoclear_features & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    if (is_raw && !qcow2_header_has(header, QCOW2_INCOMPATIBLE_DATA_FILE))
        return error_set(err, -EINVAL,
                         "its autoclear feature bit 1 (raw external data) is set, but it has no "
                         "external data file (incompatible feature bit 2)");
    if (is_raw && header->backing_file_offset != 0)
        return error_set(err, -EINVAL,
                         "its autoclear feature bit 1 (raw external data) is set, and it has a "
                         "backing file (backing_file_offset %" PRIu64 "); these exclude each other",
                         header->backing_file_offset);
    return 0;
}

int qcow2_header_check(const struct qcow2_header *header, uint64_t file_bytes, struct error *err)
{
    int ret = check_crypt_method(header, err);
    if (ret == 0)
        ret = check_compression(header, err);
    if (ret == 0)
        ret = check_widths(header, err);
    if (ret == 0)
        ret = check_refcount_table(header, file_bytes, err);
    if (ret == 0)
        ret = check_l1(header, file_bytes, err);
    if (ret == 0)
        ret = check_backing_name(header, err);
    if (ret == 0)
        ret = check_data_file(header, err);
    if (ret == 0)
        ret = check_snapshots(header, file_bytes, err);
    return ret;
}
