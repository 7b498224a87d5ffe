/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "formats/qcow2/bitmap_directory.h"

#define DISK_BYTES (UINT64_C(1) << 36)

static struct qcow2_geometry geometry_of_test(void)
{
    struct qcow2_geometry geometry;
    struct qcow2_header header = {.version = 3, .cluster_bits = 16, .refcount_order = 4};
    qcow2_geometry_init(&geometry, &header);
    return geometry;
}

/* 1 Mi granules of 64 KiB: 128 KiB of bits, two clusters. */
static const struct qcow2_bitmap_entry good = {
    .table_offset = 0x80000,
    .table_size = 2,
    .flags = QCOW2_BITMAP_AUTO,
    .granularity_bits = 16,
    .name = "backup-1",
    .name_bytes = 8,
};

static void an_entry_comes_back_as_it_was_written(void **state)
{
    struct qcow2_geometry geometry = geometry_of_test();
    struct qcow2_bitmap_entry again;
    uint8_t bytes[64];
    (void)state;
    qcow2_bitmap_entry_encode(&good, bytes);
    assert_int_equal(qcow2_bitmap_encoded_bytes(&good), 32);
    assert_int_equal(
        qcow2_bitmap_entry_decode(&geometry, bytes, sizeof(bytes), DISK_BYTES, &again, NULL), 0);
    assert_int_equal(again.table_offset, 0x80000);
    assert_int_equal(again.table_size, 2);
    assert_int_equal(again.flags, QCOW2_BITMAP_AUTO);
    assert_int_equal(again.granularity_bits, 16);
    assert_int_equal(again.entry_bytes, 32);
    assert_int_equal(again.name_bytes, 8);
    assert_memory_equal(again.name, "backup-1", 8);
    assert_int_equal(qcow2_bitmap_entry_check_usable(&again, DISK_BYTES, NULL), 0);
}

static void refused(const uint8_t *bytes, size_t length, int code, const char *begin)
{
    struct qcow2_geometry geometry = geometry_of_test();
    struct qcow2_bitmap_entry entry;
    struct error err = {.message = ""};
    assert_int_equal(qcow2_bitmap_entry_decode(&geometry, bytes, length, DISK_BYTES, &entry, &err),
                     code);
    if (strncmp(err.message, begin, strlen(begin)) != 0)
        fail_msg("'%s' does not begin with '%s'", err.message, begin);
}

static void entries_that_break_a_rule_are_refused(void **state)
{
    uint8_t bytes[64];
    (void)state;
#define REFUSED(code, begin, ...)                   \
    do {                                            \
        qcow2_bitmap_entry_encode(&good, bytes);    \
        __VA_ARGS__;                                \
        refused(bytes, sizeof(bytes), code, begin); \
    } while (0)
    REFUSED(-EINVAL, "a bitmap's name_size is 0;", store_be16(bytes + 18, 0));
    REFUSED(-EINVAL, "a bitmap's name_size is 1024;", store_be16(bytes + 18, 1024));
    REFUSED(-EINVAL, "its bitmap directory ends", store_be16(bytes + 18, 41));
    REFUSED(-EINVAL, "its bitmap directory ends", store_be32(bytes + 20, 33));
    REFUSED(-EINVAL, "its bitmap directory ends", store_be32(bytes + 20, UINT32_MAX));
    REFUSED(-EINVAL, "a bitmap's flags are 0x8;", store_be32(bytes + 12, 8));
    REFUSED(-EINVAL, "a bitmap's type is 2;", bytes[16] = 2);
    REFUSED(-EINVAL, "a bitmap's granularity_bits is 64;", bytes[17] = 64);
    REFUSED(-EINVAL, "the bitmap 'backup-1' has the bitmap_table_offset 0x80200;",
            store_be64(bytes, 0x80200));
    REFUSED(-EINVAL, "the bitmap 'backup-1' has the bitmap_table_offset 0x0;",
            store_be64(bytes, 0));
    REFUSED(-EINVAL, "the bitmap 'backup-1' has the bitmap_table_offset 0xffffffffffff0000;",
            store_be64(bytes, UINT64_C(0xffffffffffff0000)));
    REFUSED(-EFBIG, "the bitmap 'backup-1' has a bitmap_table_size of 0 entries",
            store_be32(bytes + 8, 0));
    REFUSED(-EFBIG, "the bitmap 'backup-1' has a bitmap_table_size of 134217729",
            store_be32(bytes + 8, 134217729));
    REFUSED(-EINVAL,
            "the bitmap 'backup-1' has a bitmap_table_size of 3 entries; for this disk it "
            "must be 2",
            store_be32(bytes + 8, 3));
    REFUSED(-EINVAL, "the name of the bitmap 'ba' has a 0", bytes[26] = 0);
    qcow2_bitmap_entry_encode(&good, bytes);
    refused(bytes, 31, -EINVAL, "its bitmap directory ends in an entry");
    refused(bytes, 23, -EINVAL, "its bitmap directory ends in an entry");
#undef REFUSED
}

static void a_bitmap_that_was_not_saved_may_have_another_size(void **state)
{
    struct qcow2_geometry geometry = geometry_of_test();
    struct qcow2_bitmap_entry again;
    uint8_t bytes[64];
    (void)state;
    qcow2_bitmap_entry_encode(&good, bytes);
    store_be32(bytes + 8, 3);
    store_be32(bytes + 12, QCOW2_BITMAP_IN_USE);
    assert_int_equal(
        qcow2_bitmap_entry_decode(&geometry, bytes, sizeof(bytes), DISK_BYTES, &again, NULL), 0);
}

static void not_usable(const struct qcow2_bitmap_entry *entry, uint64_t disk_bytes, int code,
                       const char *part)
{
    struct error err = {.message = ""};
    assert_int_equal(qcow2_bitmap_entry_check_usable(entry, disk_bytes, &err), code);
    assert_non_null(strstr(err.message, part));
}

static void a_bitmap_too_large_for_memory_is_not_used(void **state)
{
    struct qcow2_bitmap_entry entry = good;
    (void)state;
    entry.granularity_bits = 9;
    not_usable(&entry, UINT64_C(1) << 42, -EFBIG, "with granularity_bits 9 takes 1073741824 bytes");
}

static void a_granularity_beyond_the_limits_is_not_used(void **state)
{
    struct qcow2_bitmap_entry entry = good;
    (void)state;
    entry.granularity_bits = 8;
    not_usable(&entry, DISK_BYTES, -ENOTSUP, "'backup-1' has the granularity_bits 8;");
    entry.granularity_bits = 32;
    not_usable(&entry, DISK_BYTES, -ENOTSUP, "'backup-1' has the granularity_bits 32;");
}

static void extra_data_forbids_the_use_unless_it_says_otherwise(void **state)
{
    struct qcow2_geometry geometry = geometry_of_test();
    struct qcow2_bitmap_entry entry;
    uint8_t bytes[64] = {0};
    (void)state;
    qcow2_bitmap_entry_encode(&good, bytes);
    store_be32(bytes + 20, 5);
    memset(bytes + 24, 0, 5); /* a 0 in the extra data is none in the name */
    memcpy(bytes + 29, good.name, good.name_bytes);
    assert_int_equal(
        qcow2_bitmap_entry_decode(&geometry, bytes, sizeof(bytes), DISK_BYTES, &entry, NULL), 0);
    assert_int_equal(entry.extra_bytes, 5);
    assert_int_equal(entry.entry_bytes, 40);
    assert_int_equal(entry.name_bytes, 8);
    assert_memory_equal(entry.name, "backup-1", 8);
    not_usable(&entry, DISK_BYTES, -ENOTSUP, "'backup-1' has 5 bytes of extra data");
    entry.flags |= QCOW2_BITMAP_EXTRA_DATA_COMPATIBLE;
    assert_int_equal(qcow2_bitmap_entry_check_usable(&entry, DISK_BYTES, NULL), 0);
}

static void table_entries_are_a_place_or_a_value(void **state)
{
    struct qcow2_geometry geometry = geometry_of_test();
    const char *why = "";
    uint64_t offset = 1;
    bool all_ones = true;
    (void)state;
    assert_true(qcow2_bitmap_table_decode(&geometry, 0, &offset, &all_ones, &why));
    assert_false(all_ones);
    assert_int_equal(offset, 0);
    assert_true(qcow2_bitmap_table_decode(&geometry, 1, &offset, &all_ones, &why));
    assert_true(all_ones);
    assert_true(qcow2_bitmap_table_decode(&geometry, 0x70000, &offset, &all_ones, &why));
    assert_int_equal(offset, 0x70000);
    assert_false(qcow2_bitmap_table_decode(&geometry, 0x70001, &offset, &all_ones, &why));
    assert_false(qcow2_bitmap_table_decode(&geometry, 0x70002, &offset, &all_ones, &why));
    assert_false(qcow2_bitmap_table_decode(&geometry, 0x70200, &offset, &all_ones, &why));
    assert_false(qcow2_bitmap_table_decode(&geometry, UINT64_C(1) << 56, &offset, &all_ones, &why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_comes_back_as_it_was_written),
        cmocka_unit_test(entries_that_break_a_rule_are_refused),
        cmocka_unit_test(a_bitmap_that_was_not_saved_may_have_another_size),
        cmocka_unit_test(a_bitmap_too_large_for_memory_is_not_used),
        cmocka_unit_test(a_granularity_beyond_the_limits_is_not_used),
        cmocka_unit_test(extra_data_forbids_the_use_unless_it_says_otherwise),
        cmocka_unit_test(table_entries_are_a_place_or_a_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
