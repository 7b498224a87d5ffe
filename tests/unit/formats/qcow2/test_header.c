/* SPDX-License-Identifier: BSD-3-Clause */
/* Each row of the validation table that one field of the header breaks: refused, and the sentence
 * names the field and its value. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "formats/qcow2/header.h"

#define FILE_BYTES (UINT64_C(1) << 20)

static struct qcow2_header good_header(void)
{
    return (struct qcow2_header){
        .version = 3,
        .cluster_bits = 16,
        .size = UINT64_C(1) << 30,
        .l1_size = 2,
        .l1_table_offset = 0x30000,
        .refcount_table_offset = 0x10000,
        .refcount_table_clusters = 1,
        .refcount_order = 4,
        .header_length = 112,
    };
}

static void fields_come_back_as_they_were_written(void **state)
{
    uint8_t bytes[QCOW2_HEADER_OURS_BYTES] = {0}, bytes_again[QCOW2_HEADER_OURS_BYTES] = {0};
    struct qcow2_header header = good_header(), again;
    struct error err;
    (void)state;
    header.backing_file_offset = 200;
    header.backing_file_size = 11;
    header.crypt_method = 3;
    header.nb_snapshots = 4;
    header.snapshots_offset = 0x50000;
    header.incompatible_features = 8;
    header.compatible_features = 0x8000000000000001;
    header.autoclear_features = 2;
    header.compression_type = 1;
    qcow2_header_encode(&header, bytes);
    assert_memory_equal(bytes, "QFI\xfb\0\0\0\3", 8);
    assert_int_equal(qcow2_header_decode(bytes, sizeof(bytes), &again, &err), 0);
    qcow2_header_encode(&again, bytes_again);
    assert_memory_equal(bytes, bytes_again, sizeof(bytes));
    assert_int_equal(again.size, header.size);
    assert_int_equal(again.autoclear_features, 2);
    assert_int_equal(again.snapshots_offset, 0x50000);
}

static void version_2_stands_for_fixed_values(void **state)
{
    uint8_t bytes[QCOW2_HEADER_OURS_BYTES];
    struct qcow2_header header = good_header(), again;
    (void)state;
    memset(bytes, 0xee, sizeof(bytes));
    header.version = 2;
    qcow2_header_encode(&header, bytes);
    for (size_t i = QCOW2_HEADER_V2_BYTES; i < sizeof(bytes); i++)
        assert_int_equal(bytes[i], 0xee); /* not ours to write */
    assert_int_equal(qcow2_header_decode(bytes, QCOW2_HEADER_V2_BYTES, &again, NULL), 0);
    assert_int_equal(again.refcount_order, 4);
    assert_int_equal(again.header_length, 72);
    assert_int_equal(again.incompatible_features, 0);
    assert_int_equal(again.compression_type, 0);
}

static void a_short_header_has_no_compression_type(void **state)
{
    uint8_t bytes[QCOW2_HEADER_OURS_BYTES];
    struct qcow2_header header = good_header(), again;
    (void)state;
    memset(bytes, 0xee, sizeof(bytes));
    header.header_length = 104;
    qcow2_header_encode(&header, bytes);
    assert_int_equal(bytes[104], 0xee);
    assert_int_equal(qcow2_header_decode(bytes, 104, &again, NULL), 0);
    assert_int_equal(again.compression_type, 0);
}

static void decode_refused(const uint8_t *bytes, size_t length, const char *sentence)
{
    struct qcow2_header header;
    struct error err = {.message = ""};
    assert_int_equal(qcow2_header_decode(bytes, length, &header, &err), -EINVAL);
    assert_string_equal(err.message, sentence);
}

static void what_cannot_be_a_header_is_refused(void **state)
{
    uint8_t bytes[QCOW2_HEADER_OURS_BYTES] = {0};
    struct qcow2_header header = good_header();
    (void)state;
    qcow2_header_encode(&header, bytes);
    decode_refused(bytes, 71, "it has 71 bytes; a qcow2 image has at least 72");
    decode_refused(bytes, 103, "it has 103 bytes; a header of version 3 has 104");
    decode_refused(bytes, 104, "it has 104 bytes, but its header_length is 112");
    bytes[0] = 'R';
    decode_refused(bytes, 112, "it is not a qcow2 image: its magic is 0x524649fb, not 0x514649fb");
    bytes[0] = 'Q';
    bytes[7] = 4;
    decode_refused(bytes, 112, "its version is 4; versions 2 and 3 are supported");
    bytes[7] = 3;
    bytes[23] = 8;
    decode_refused(bytes, 112, "its cluster_bits is 8; it must be from 9 to 21");
    bytes[23] = 22;
    decode_refused(bytes, 112, "its cluster_bits is 22; it must be from 9 to 21");
    bytes[23] = 9;
    bytes[103] = 96;
    decode_refused(bytes, 112,
                   "its header_length is 96; it must be a multiple of 8 from 104 to the cluster "
                   "size");
    bytes[103] = 113;
    decode_refused(bytes, 112,
                   "its header_length is 113; it must be a multiple of 8 from 104 to the cluster "
                   "size");
    bytes[102] = 2; /* 512 + 8 */
    bytes[103] = 8;
    decode_refused(bytes, 112,
                   "its header_length is 520; it must be a multiple of 8 from 104 to the cluster "
                   "size");
}

static void refused(const struct qcow2_header *header, int code, const char *begin)
{
    struct error err = {.message = ""};
    assert_int_equal(qcow2_header_check(header, FILE_BYTES, &err), code);
    if (strncmp(err.message, begin, strlen(begin)) != 0)
        fail_msg("'%s' does not begin with '%s'", err.message, begin);
}

/* Checks a good header in which the assignment was made. */
#define REFUSED(code, begin, ...)                   \
    do {                                            \
        struct qcow2_header header = good_header(); \
        __VA_ARGS__;                                \
        refused(&header, code, begin);              \
    } while (0)

static void a_good_header_is_taken(void **state)
{
    struct qcow2_header header = good_header();
    (void)state;
    assert_int_equal(qcow2_header_check(&header, FILE_BYTES, NULL), 0);
    /* The L1 table ends with the file. */
    assert_int_equal(qcow2_header_check(&header, 0x30010, NULL), 0);
    header.size = header.l1_size = header.l1_table_offset = 0;
    assert_int_equal(qcow2_header_check(&header, FILE_BYTES, NULL), 0);
}

static void encryption_and_unknown_methods_are_refused(void **state)
{
    (void)state;
    REFUSED(-ENOTSUP, "it is encrypted with AES (crypt_method 1), which is not supported; make",
            header.crypt_method = 1);
    REFUSED(-ENOTSUP, "it is encrypted with LUKS (crypt_method 2), which is not supported; make",
            header.crypt_method = 2);
    REFUSED(-EINVAL, "its crypt_method is 3", header.crypt_method = 3);
    REFUSED(-EINVAL, "its compression_type is 1, but the incompatible feature bit 3 is clear",
            header.compression_type = 1);
    REFUSED(-EINVAL, "its compression_type is 0, but the incompatible feature bit 3 is set",
            header.incompatible_features = 8);
    REFUSED(-ENOTSUP, "its compression_type is 2; 0 (zlib) and 1 (zstd) are supported",
            header.incompatible_features = 8, header.compression_type = 2);
}

static void widths_out_of_range_are_refused(void **state)
{
    (void)state;
    REFUSED(-EINVAL, "its refcount_order is 7; it must be at most 6", header.refcount_order = 7);
    REFUSED(-EINVAL,
            "its cluster_bits is 13; with extended L2 entries (incompatible feature bit 4)",
            header.incompatible_features = 16, header.cluster_bits = 13);
}

static void tables_out_of_place_are_refused(void **state)
{
    (void)state;
    REFUSED(-EINVAL, "its refcount_table_clusters is 0", header.refcount_table_clusters = 0);
    REFUSED(-EFBIG, "its refcount_table_clusters is 129, 8454144 bytes; at most 8388608",
            header.refcount_table_clusters = 129);
    REFUSED(-EINVAL, "its refcount_table_offset is 0x10200; it must be a multiple of",
            header.refcount_table_offset = 0x10200);
    REFUSED(-EINVAL, "its refcount_table_offset is 0x0;", header.refcount_table_offset = 0);
    REFUSED(-EINVAL, "its refcount_table_offset is 0x100000: the 65536 bytes from there on reach",
            header.refcount_table_offset = 0x100000);
    REFUSED(-EINVAL, "its refcount_table_offset is 0xffffffffffff0000:",
            header.refcount_table_offset = 0xffffffffffff0000);
    REFUSED(-EFBIG, "its l1_size is 4194305 entries; at most 4194304 are supported",
            header.l1_size = 4194305);
    REFUSED(-EINVAL, "its l1_size is 1 entries; a disk with the size 1073741824 needs 2",
            header.l1_size = 1);
    REFUSED(-EINVAL, "its l1_size is 2 entries; a disk with the size 18446744073709551615 needs",
            header.size = UINT64_MAX);
    REFUSED(-EINVAL, "its l1_table_offset is 0x30008;", header.l1_table_offset = 0x30008);
    REFUSED(-EINVAL, "its l1_table_offset is 0xf0000: the 131080 bytes",
            header.l1_table_offset = 0xf0000, header.l1_size = 16385);
}

static void backing_names_out_of_place_are_refused(void **state)
{
    (void)state;
    REFUSED(-EINVAL, "its backing_file_offset is 104;", header.backing_file_offset = 104,
            header.backing_file_size = 5);
    REFUSED(-EINVAL, "its backing_file_offset is 65536;", header.backing_file_offset = 65536,
            header.backing_file_size = 5);
    REFUSED(-EINVAL, "its backing_file_size is 0;", header.backing_file_offset = 200);
    REFUSED(-EINVAL, "its backing_file_size is 1024;", header.backing_file_offset = 200,
            header.backing_file_size = 1024);
    REFUSED(-EINVAL, "its backing_file_size is 6;", header.backing_file_offset = 65531,
            header.backing_file_size = 6);
}

static void snapshots_and_data_files_keep_their_rules(void **state)
{
    (void)state;
    REFUSED(-EFBIG, "its nb_snapshots is 65537; at most 65536 are supported",
            header.nb_snapshots = 65537);
    REFUSED(-EINVAL, "its snapshots_offset is 0x201;", header.nb_snapshots = 1,
            header.snapshots_offset = 0x201);
    REFUSED(-EINVAL, "its snapshots_offset is 0x100000:", header.nb_snapshots = 1,
            header.snapshots_offset = 0x100000);
    REFUSED(-EINVAL, "its nb_snapshots is 1; an image with an external data file",
            header.nb_snapshots = 1, header.incompatible_features = 4);
    REFUSED(-EINVAL, "its autoclear feature bit 1 (raw external data) is set, but it has no",
            header.autoclear_features = 2);
    REFUSED(-EINVAL, "its autoclear feature bit 1 (raw external data) is set, and it has a backing",
            header.autoclear_features = 2, header.incompatible_features = 4,
            header.backing_file_offset = 200, header.backing_file_size = 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_come_back_as_they_were_written),
        cmocka_unit_test(version_2_stands_for_fixed_values),
        cmocka_unit_test(a_short_header_has_no_compression_type),
        cmocka_unit_test(what_cannot_be_a_header_is_refused),
        cmocka_unit_test(a_good_header_is_taken),
        cmocka_unit_test(encryption_and_unknown_methods_are_refused),
        cmocka_unit_test(widths_out_of_range_are_refused),
        cmocka_unit_test(tables_out_of_place_are_refused),
        cmocka_unit_test(backing_names_out_of_place_are_refused),
        cmocka_unit_test(snapshots_and_data_files_keep_their_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
