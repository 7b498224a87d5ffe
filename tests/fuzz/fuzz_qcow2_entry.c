/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entries of qcow2's tables. Input: three bytes (version, cluster_bits and refcount_order,
 * features), then pairs of 64-bit numbers. Properties: what is taken as an L2 entry is written
 * again as the same entry, but for bits that mean nothing; a place is aligned and below the limits;
 * a refcount that is set is what is got, and its neighbours stay.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "common/endian.h"
#include "formats/qcow2/entry.h"

static void check_l2(const struct qcow2_geometry *geometry, uint64_t entry, uint64_t bitmap)
{
    struct qcow2_cluster cluster, again;
    const char *why = NULL;
    uint64_t entry_again, bitmap_again;
    if (!qcow2_l2_decode(geometry, entry, bitmap, &cluster, &why)) {
        FUZZ_CHECK(why && *why);
        return;
    }
    FUZZ_CHECK(cluster.host_offset <= QCOW2_HOST_OFFSET_MAX);
    FUZZ_CHECK((cluster.allocated_bits & cluster.zero_bits) == 0);
    if (cluster.is_compressed)
        FUZZ_CHECK(cluster.compressed_bytes > 0 &&
                   cluster.compressed_bytes <= 2 * geometry->cluster_bytes);
    else
        FUZZ_CHECK(qcow2_in_cluster(geometry, cluster.host_offset) == 0);
    for (uint32_t i = 0; i < geometry->subclusters_per_cluster; i++) {
        enum qcow2_kind kind = qcow2_cluster_kind(&cluster, i);
        FUZZ_CHECK(cluster.has_host || kind == QCOW2_UNALLOCATED || kind == QCOW2_ZERO);
    }
    qcow2_l2_encode(geometry, &cluster, &entry_again, &bitmap_again);
    FUZZ_CHECK(qcow2_l2_decode(geometry, entry_again, bitmap_again, &again, &why));
    FUZZ_CHECK(again.is_compressed == cluster.is_compressed);
    FUZZ_CHECK(again.has_host == cluster.has_host);
    FUZZ_CHECK(again.host_offset == cluster.host_offset);
    FUZZ_CHECK(again.compressed_bytes == cluster.compressed_bytes);
    FUZZ_CHECK(again.allocated_bits == cluster.allocated_bits);
    FUZZ_CHECK(again.zero_bits == cluster.zero_bits);
}

static void check_tables(const struct qcow2_geometry *geometry, uint64_t entry)
{
    const char *why = NULL;
    uint64_t offset;
    if (qcow2_l1_decode(geometry, entry, &offset, &why))
        FUZZ_CHECK(qcow2_in_cluster(geometry, offset) == 0 && offset <= QCOW2_HOST_OFFSET_MAX);
    else
        FUZZ_CHECK(why && *why);
    why = NULL;
    if (qcow2_refcount_table_decode(geometry, entry, &offset, &why))
        FUZZ_CHECK(qcow2_in_cluster(geometry, offset) == 0 && offset <= QCOW2_HOST_BYTES_MAX);
    else
        FUZZ_CHECK(why && *why);
}

static void check_refcount(uint32_t order, uint64_t where, uint64_t value)
{
    uint8_t block[512], before[512];
    uint32_t count = (512 * 8) >> order, index = (uint32_t)(where % count);
    memset(block, (int)(where >> 32) & 0xff, sizeof(block));
    memcpy(before, block, sizeof(block));
    if (order < 6)
        value &= (UINT64_C(1) << (1u << order)) - 1;
    qcow2_refcount_set(block, order, index, value);
    uint32_t first = index < 9 ? 0 : index - 9;
    for (uint32_t i = first; i < count && i < first + 18; i++)
        FUZZ_CHECK(qcow2_refcount_get(block, order, i) ==
                   (i == index ? value : qcow2_refcount_get(before, order, i)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qcow2_geometry geometry;
    if (size < 3)
        return 0;
    struct qcow2_header header = {
        .version = 2 + data[0] % 2,
        .cluster_bits = 9 + data[1] % 13,
        .refcount_order = data[1] / 13 % 7,
    };
    if (header.version == 3)
        header.incompatible_features = data[2] & QCOW2_INCOMPATIBLE_KNOWN;
    if (header.cluster_bits < QCOW2_CLUSTER_BITS_EXTENDED_MIN)
        header.incompatible_features &= ~QCOW2_INCOMPATIBLE_EXTENDED_L2;
    qcow2_geometry_init(&geometry, &header);
    for (size_t at = 3; at + 16 <= size && at < 3 + 16 * 64; at += 16) {
        uint64_t first = load_be64(data + at), second = load_be64(data + at + 8);
        check_l2(&geometry, first, second);
        check_tables(&geometry, first);
        check_refcount(header.refcount_order, first, second);
    }
    return 0;
}
