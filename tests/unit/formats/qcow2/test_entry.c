/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "formats/qcow2/entry.h"

static struct qcow2_geometry make_geometry(uint32_t version, uint32_t cluster_bits,
                                           uint64_t incompatible)
{
    struct qcow2_geometry geometry;
    struct qcow2_header header = {
        .version = version,
        .cluster_bits = cluster_bits,
        .refcount_order = 4,
        .incompatible_features = incompatible,
    };
    qcow2_geometry_init(&geometry, &header);
    return geometry;
}

static enum qcow2_kind kind_of(const struct qcow2_geometry *geometry, uint64_t entry,
                               uint64_t bitmap, uint32_t subcluster)
{
    struct qcow2_cluster cluster;
    const char *why = "";
    if (!qcow2_l2_decode(geometry, entry, bitmap, &cluster, &why))
        fail_msg("0x%llx is corrupt: %s", (unsigned long long)entry, why);
    return qcow2_cluster_kind(&cluster, subcluster);
}

static void corrupt(const struct qcow2_geometry *geometry, uint64_t entry, uint64_t bitmap,
                    const char *expected)
{
    struct qcow2_cluster cluster;
    const char *why = "";
    assert_false(qcow2_l2_decode(geometry, entry, bitmap, &cluster, &why));
    assert_string_equal(why, expected);
}

static void standard_entries_say_what_a_cluster_is(void **state)
{
    struct qcow2_geometry geometry = make_geometry(3, 16, 0);
    struct qcow2_cluster cluster;
    const char *why;
    (void)state;
    assert_int_equal(kind_of(&geometry, 0, 0, 0), QCOW2_UNALLOCATED);
    assert_int_equal(kind_of(&geometry, 1, 0, 0), QCOW2_ZERO);
    assert_int_equal(kind_of(&geometry, 0x50001, 0, 0), QCOW2_ZERO_ALLOCATED);
    assert_int_equal(kind_of(&geometry, 0x50000, 0, 0), QCOW2_DATA);
    assert_int_equal(kind_of(&geometry, QCOW2_ENTRY_COPIED, 0, 0), QCOW2_UNALLOCATED);
    assert_true(qcow2_l2_decode(&geometry, QCOW2_ENTRY_COPIED | 0x50000, 0, &cluster, &why));
    assert_true(cluster.is_copied);
    assert_int_equal(cluster.host_offset, 0x50000);
    corrupt(&geometry, 0x50200, 0, "a cluster's offset is no multiple of the cluster size");
}

static void version_2_has_no_zero_clusters(void **state)
{
    struct qcow2_geometry geometry = make_geometry(2, 16, 0);
    (void)state;
    assert_int_equal(kind_of(&geometry, 0x50000, 0, 0), QCOW2_DATA);
    corrupt(&geometry, 0x50001, 0, "a zero cluster in an image of version 2");
}

static void the_first_cluster_of_a_data_file_is_at_0(void **state)
{
    struct qcow2_geometry geometry = make_geometry(3, 16, QCOW2_INCOMPATIBLE_DATA_FILE);
    (void)state;
    assert_int_equal(kind_of(&geometry, 0, 0, 0), QCOW2_UNALLOCATED);
    assert_int_equal(kind_of(&geometry, QCOW2_ENTRY_COPIED, 0, 0), QCOW2_DATA);
    assert_int_equal(kind_of(&geometry, QCOW2_ENTRY_COPIED | 1, 0, 0), QCOW2_ZERO_ALLOCATED);
    corrupt(&geometry, QCOW2_ENTRY_COMPRESSED | 0x50000, 0,
            "a compressed cluster in an image with an external data file");
}

static void compressed_entries_have_a_place_and_a_length(void **state)
{
    /* Cluster bits, entry, offset, bytes; the sectors are counted from the one the offset is in. */
    static const struct {
        uint32_t cluster_bits;
        uint64_t entry, offset;
        uint32_t bytes;
    } rows[] = {
        {16, QCOW2_ENTRY_COMPRESSED | 0x50003, 0x50003, 512 - 3},
        {16, QCOW2_ENTRY_COMPRESSED | UINT64_C(5) << 54 | 0x501ff, 0x501ff, 5 * 512 + 1},
        {9, QCOW2_ENTRY_COMPRESSED | UINT64_C(1) << 61 | 0x200, 0x200, 1024},
        {21, QCOW2_ENTRY_COMPRESSED | UINT64_C(8191) << 49 | 7, 7, 8192 * 512 - 7},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct qcow2_geometry geometry = make_geometry(3, rows[i].cluster_bits, 0);
        struct qcow2_cluster cluster;
        uint64_t entry, bitmap;
        const char *why;
        assert_true(qcow2_l2_decode(&geometry, rows[i].entry, 0, &cluster, &why));
        assert_int_equal(qcow2_cluster_kind(&cluster, 0), QCOW2_COMPRESSED);
        assert_int_equal(cluster.host_offset, rows[i].offset);
        assert_int_equal(cluster.compressed_bytes, rows[i].bytes);
        qcow2_l2_encode(&geometry, &cluster, &entry, &bitmap);
        assert_int_equal(entry, rows[i].entry);
    }
    struct qcow2_geometry geometry = make_geometry(3, 9, 0);
    corrupt(&geometry, QCOW2_ENTRY_COMPRESSED | UINT64_C(1) << 56, 0,
            "compressed data past 64 PiB");
}

static void extended_entries_have_bits_for_subclusters(void **state)
{
    struct qcow2_geometry geometry = make_geometry(3, 16, QCOW2_INCOMPATIBLE_EXTENDED_L2);
    uint64_t bitmap = UINT64_C(4) << 32 | 2;
    (void)state;
    assert_int_equal(kind_of(&geometry, 0x50000, bitmap, 0), QCOW2_UNALLOCATED);
    assert_int_equal(kind_of(&geometry, 0x50000, bitmap, 1), QCOW2_DATA);
    assert_int_equal(kind_of(&geometry, 0x50000, bitmap, 2), QCOW2_ZERO_ALLOCATED);
    assert_int_equal(kind_of(&geometry, 0, UINT64_C(1) << 63, 31), QCOW2_ZERO);
    assert_int_equal(kind_of(&geometry, 0x50000, UINT64_C(1) << 31, 31), QCOW2_DATA);
    corrupt(&geometry, 0x50000, UINT64_C(1) << 32 | 1, "a subcluster is both allocated and zero");
    corrupt(&geometry, 0, 1, "a subcluster is allocated in a cluster that is not");
    corrupt(&geometry, QCOW2_ENTRY_COMPRESSED | 0x50000, 1,
            "a compressed cluster has bits for subclusters");
}

/* Field by field: what is between them is nobody's. */
static void expect_same(const struct qcow2_cluster *one, const struct qcow2_cluster *other)
{
    assert_int_equal(one->is_compressed, other->is_compressed);
    assert_int_equal(one->is_copied, other->is_copied);
    assert_int_equal(one->has_host, other->has_host);
    assert_int_equal(one->host_offset, other->host_offset);
    assert_int_equal(one->compressed_bytes, other->compressed_bytes);
    assert_int_equal(one->allocated_bits, other->allocated_bits);
    assert_int_equal(one->zero_bits, other->zero_bits);
}

static void what_is_encoded_is_decoded(void **state)
{
    static const struct qcow2_cluster clusters[] = {
        {.has_host = false},
        {.has_host = true, .is_copied = true, .host_offset = 0x70000, .allocated_bits = 1},
        {.has_host = true, .host_offset = 0x70000, .zero_bits = 1},
        {.zero_bits = 1},
    };
    (void)state;
    for (unsigned extended = 0; extended < 2; extended++) {
        struct qcow2_geometry geometry =
            make_geometry(3, 16, extended ? QCOW2_INCOMPATIBLE_EXTENDED_L2 : 0);
        for (size_t i = 0; i < sizeof(clusters) / sizeof(*clusters); i++) {
            struct qcow2_cluster again;
            uint64_t entry, bitmap;
            const char *why;
            qcow2_l2_encode(&geometry, &clusters[i], &entry, &bitmap);
            assert_true(qcow2_l2_decode(&geometry, entry, bitmap, &again, &why));
            expect_same(&clusters[i], &again);
        }
    }
}

static void tables_lie_on_clusters(void **state)
{
    struct qcow2_geometry geometry = make_geometry(3, 16, 0);
    uint64_t offset = 1;
    const char *why = "";
    (void)state;
    assert_true(qcow2_l1_decode(&geometry, QCOW2_ENTRY_COPIED | 0x30000, &offset, &why));
    assert_int_equal(offset, 0x30000);
    assert_true(qcow2_l1_decode(&geometry, 0, &offset, &why));
    assert_int_equal(offset, 0);
    assert_false(qcow2_l1_decode(&geometry, 0x30200, &offset, &why));
    assert_string_equal(why, "an L2 table's offset is no multiple of the cluster size");
    assert_true(qcow2_refcount_table_decode(&geometry, 0x20000, &offset, &why));
    assert_int_equal(offset, 0x20000);
    assert_false(qcow2_refcount_table_decode(&geometry, 0x20200, &offset, &why));
    assert_false(qcow2_refcount_table_decode(&geometry, UINT64_C(1) << 63, &offset, &why));
}

static void refcounts_of_every_width_keep_their_neighbours(void **state)
{
    (void)state;
    for (uint32_t order = 0; order <= 6; order++) {
        uint8_t block[512] = {0};
        uint32_t width = 1u << order, count = 512 * 8 / width;
        uint64_t max = width == 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
        for (uint32_t i = 0; i < count; i += 2)
            qcow2_refcount_set(block, order, i, max);
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(qcow2_refcount_get(block, order, i), i % 2 ? 0 : max);
        qcow2_refcount_set(block, order, count - 2, 0);
        qcow2_refcount_set(block, order, count - 1, 1);
        assert_int_equal(qcow2_refcount_get(block, order, count - 2), 0);
        assert_int_equal(qcow2_refcount_get(block, order, count - 1), 1);
    }
    /* Bit 0 is the least significant one. */
    uint8_t bits[1] = {0};
    qcow2_refcount_set(bits, 0, 1, 1);
    assert_int_equal(bits[0], 2);
    qcow2_refcount_set(bits, 2, 1, 0xa);
    assert_int_equal(bits[0], 0xa2);
    uint8_t words[4] = {0};
    qcow2_refcount_set(words, 4, 1, 0x1234);
    assert_memory_equal(words, "\0\0\x12\x34", 4);
}

/* Of a subcluster that was never there, whatever the image said of its cluster. */
static void nothing_is_not_copied(void **state)
{
    struct qcow2_geometry geometry;
    const struct qcow2_header header = {.version = 3, .cluster_bits = 16, .refcount_order = 4};
    const struct qcow2_cluster cluster = {.is_copied = true};
    uint64_t entry = 1, bitmap = 1;
    (void)state;
    qcow2_geometry_init(&geometry, &header);
    qcow2_l2_encode(&geometry, &cluster, &entry, &bitmap);
    assert_int_equal(entry, 0);
    assert_int_equal(bitmap, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_not_copied),
        cmocka_unit_test(standard_entries_say_what_a_cluster_is),
        cmocka_unit_test(version_2_has_no_zero_clusters),
        cmocka_unit_test(the_first_cluster_of_a_data_file_is_at_0),
        cmocka_unit_test(compressed_entries_have_a_place_and_a_length),
        cmocka_unit_test(extended_entries_have_bits_for_subclusters),
        cmocka_unit_test(what_is_encoded_is_decoded),
        cmocka_unit_test(tables_lie_on_clusters),
        cmocka_unit_test(refcounts_of_every_width_keep_their_neighbours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
