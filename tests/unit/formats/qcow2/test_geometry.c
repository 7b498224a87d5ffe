/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "formats/qcow2/geometry.h"

static struct qcow2_geometry make(uint32_t cluster_bits, uint32_t order, uint64_t incompatible)
{
    struct qcow2_geometry geometry;
    struct qcow2_header header = {
        .version = 3,
        .cluster_bits = cluster_bits,
        .refcount_order = order,
        .incompatible_features = incompatible,
    };
    qcow2_geometry_init(&geometry, &header);
    return geometry;
}

static void sizes_follow_from_the_header(void **state)
{
    struct qcow2_geometry usual = make(16, 4, 0), small = make(9, 6, 0), large = make(21, 0, 0);
    struct qcow2_geometry extended = make(16, 4, QCOW2_INCOMPATIBLE_EXTENDED_L2);
    (void)state;
    assert_int_equal(usual.cluster_bytes, 65536);
    assert_int_equal(usual.l2_entries, 8192);
    assert_int_equal(usual.subclusters_per_cluster, 1);
    assert_int_equal(usual.subcluster_bytes, 65536);
    assert_int_equal(1 << usual.refcount_block_bits, 32768);
    assert_int_equal(usual.refcount_max, 65535);
    assert_int_equal(usual.compressed_offset_bits, 54);
    assert_int_equal(qcow2_l2_reach_bytes(&usual), UINT64_C(512) << 20);
    assert_int_equal(small.l2_entries, 64);
    assert_int_equal(1 << small.refcount_block_bits, 64);
    assert_int_equal(small.refcount_max, UINT64_MAX);
    assert_int_equal(small.compressed_offset_bits, 61);
    assert_int_equal(large.l2_entries, 262144);
    assert_int_equal(1 << large.refcount_block_bits, 2097152 * 8);
    assert_int_equal(large.refcount_max, 1);
    assert_int_equal(large.compressed_offset_bits, 49);
    assert_int_equal(extended.l2_entries, 4096);
    assert_int_equal(extended.l2_entry_bytes, 16);
    assert_int_equal(extended.subcluster_bytes, 2048);
}

static void offsets_lead_to_entries(void **state)
{
    struct qcow2_geometry usual = make(16, 4, 0);
    struct qcow2_geometry extended = make(16, 4, QCOW2_INCOMPATIBLE_EXTENDED_L2);
    uint64_t offset = (UINT64_C(512) << 20) * 3 + 65536 * 5 + 2048 * 31 + 7;
    (void)state;
    assert_int_equal(qcow2_l1_index(&usual, offset), 3);
    assert_int_equal(qcow2_l2_index(&usual, offset), 5);
    assert_int_equal(qcow2_subcluster_index(&usual, offset), 0);
    assert_int_equal(qcow2_in_cluster(&usual, offset), 2048 * 31 + 7);
    assert_int_equal(qcow2_l1_index(&extended, offset), 6);
    assert_int_equal(qcow2_subcluster_index(&extended, offset), 31);
    assert_int_equal(qcow2_refcount_table_index(&usual, UINT64_C(65536) * 32768), 1);
    assert_int_equal(qcow2_refcount_block_index(&usual, UINT64_C(65536) * 32769), 1);
}

static void counts_round_up(void **state)
{
    struct qcow2_geometry usual = make(16, 4, 0);
    (void)state;
    assert_int_equal(qcow2_l1_entries_needed(&usual, 0), 0);
    assert_int_equal(qcow2_l1_entries_needed(&usual, 1), 1);
    assert_int_equal(qcow2_l1_entries_needed(&usual, UINT64_C(512) << 20), 1);
    assert_int_equal(qcow2_l1_entries_needed(&usual, (UINT64_C(512) << 20) + 1), 2);
    assert_int_equal(qcow2_l1_entries_needed(&usual, UINT64_MAX), UINT64_C(1) << 35);
    assert_int_equal(qcow2_clusters_of(&usual, 0), 0);
    assert_int_equal(qcow2_clusters_of(&usual, 65537), 2);
    assert_int_equal(qcow2_clusters_of(&usual, UINT64_MAX), UINT64_C(1) << 48);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_follow_from_the_header),
        cmocka_unit_test(offsets_lead_to_entries),
        cmocka_unit_test(counts_round_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
