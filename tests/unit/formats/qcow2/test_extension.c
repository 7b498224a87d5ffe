/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "formats/qcow2/extension.h"

#define CLUSTER_BYTES 65536

static uint8_t cluster[CLUSTER_BYTES];
static struct qcow2_extensions found;

static struct qcow2_header header_of_writer(void)
{
    return (struct qcow2_header){
        .version = 3, .cluster_bits = 16, .refcount_order = 4, .header_length = 112};
}

static struct qcow2_header_writer begin(void)
{
    struct qcow2_header_writer writer;
    memset(cluster, 0, sizeof(cluster));
    qcow2_header_writer_init(&writer, cluster, sizeof(cluster), 112);
    return writer;
}

static void what_is_written_is_found(void **state)
{
    struct qcow2_header header = header_of_writer(), again;
    struct qcow2_header_writer writer = begin();
    const struct qcow2_bitmaps_extension bitmaps = {
        .nb_bitmaps = 2, .directory_size = 100, .directory_offset = 0x70000};
    uint8_t bitmap_bytes[24];
    (void)state;
    qcow2_bitmaps_extension_encode(&bitmaps, bitmap_bytes);
    qcow2_header_writer_extension(&writer, QCOW2_EXTENSION_BACKING_FORMAT, "raw", 3);
    qcow2_header_writer_extension(&writer, 0x12345678, "unknown data", 12);
    qcow2_header_writer_feature_names(&writer);
    qcow2_header_writer_extension(&writer, QCOW2_EXTENSION_BITMAPS, bitmap_bytes, 24);
    qcow2_header_writer_extension(&writer, QCOW2_EXTENSION_DATA_FILE, "disk.data", 9);
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, "base.img"), 0);

    assert_int_equal(qcow2_header_decode(cluster, sizeof(cluster), &again, NULL), 0);
    assert_int_equal(again.backing_file_size, 8);
    assert_memory_equal(cluster + again.backing_file_offset, "base.img", 8);
    assert_int_equal(qcow2_extensions_decode(cluster, sizeof(cluster), &again, &found, NULL), 0);
    assert_int_equal(found.count, 5);
    assert_string_equal(found.backing_format, "raw");
    assert_string_equal(found.data_file_name, "disk.data");
    assert_int_equal(found.all[1].type, 0x12345678);
    assert_memory_equal(cluster + found.all[1].data_offset, "unknown data", 12);
    assert_true(found.has_bitmaps);
    assert_int_equal(found.bitmaps.nb_bitmaps, 2);
    assert_int_equal(found.bitmaps.directory_size, 100);
    assert_int_equal(found.bitmaps.directory_offset, 0x70000);
    assert_int_equal(found.end_offset, again.backing_file_offset);
}

static void unknown_features_are_named_from_the_images_own_table(void **state)
{
    struct qcow2_header header = header_of_writer();
    struct qcow2_header_writer writer = begin();
    uint8_t names[96] = {0, 5, 'w', 'a', 'r', 'p', '\n'};
    struct error err;
    (void)state;
    names[48] = 1; /* a compatible one, of the same number */
    names[49] = 7;
    memcpy(&names[50], "other", 5);
    qcow2_header_writer_extension(&writer, QCOW2_EXTENSION_FEATURE_NAMES, names, sizeof(names));
    header.incompatible_features = 1 << 5 | 1 << 7 | 3;
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, NULL), 0);
    assert_int_equal(header.backing_file_offset, 0);
    assert_int_equal(qcow2_extensions_decode(cluster, sizeof(cluster), &header, &found, NULL), 0);
    assert_int_equal(qcow2_features_check(cluster, &header, &found, &err), -ENOTSUP);
    assert_string_equal(err.message, "it uses features that this version does not know "
                                     "(incompatible_features 0xa3): bit 5 'warp?', bit 7");
    header.incompatible_features = 0x1f;
    header.compatible_features = header.autoclear_features = UINT64_MAX;
    assert_int_equal(qcow2_features_check(cluster, &header, &found, &err), 0);
}

/* Names of all, or none; a table that ends inside an entry; something else before it. */
static void what_features_are_called_is_shown_as_far_as_it_goes(void **state)
{
    struct qcow2_header header = header_of_writer();
    struct qcow2_header_writer writer = begin();
    uint8_t names[30 * 48 + 47] = {0};
    struct error err;
    (void)state;
    for (unsigned i = 0; i < 30; i++) {
        names[i * 48 + 1] = (uint8_t)(5 + i);
        memset(&names[i * 48 + 2], i == 0 ? '\0' : i == 1 ? 0x7f : 'x', 46);
    }
    qcow2_header_writer_extension(&writer, 0x1111, "12345678", 8);
    qcow2_header_writer_extension(&writer, QCOW2_EXTENSION_FEATURE_NAMES, names, sizeof(names));
    header.incompatible_features = 1 << 5 | 1 << 6;
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, NULL), 0);
    assert_int_equal(qcow2_extensions_decode(cluster, sizeof(cluster), &header, &found, NULL), 0);
    assert_int_equal(qcow2_features_check(cluster, &header, &found, &err), -ENOTSUP);
    assert_non_null(strstr(err.message, ": bit 5, bit 6 '???"));
    header.incompatible_features = UINT64_MAX; /* more than a sentence holds */
    assert_int_equal(qcow2_features_check(cluster, &header, &found, &err), -ENOTSUP);
    assert_non_null(strstr(err.message, "bit 7 'xxx"));
    assert_null(strstr(err.message, "bit 40"));
}

static uint32_t crypt_method; /* of the images below */

static void refused(uint32_t type, const void *data, size_t length, const char *begin_of_sentence)
{
    struct qcow2_header header = header_of_writer();
    struct qcow2_header_writer writer = begin();
    struct error err = {.message = ""};
    header.crypt_method = crypt_method;
    qcow2_header_writer_extension(&writer, type, data, length);
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, NULL), 0);
    assert_int_equal(qcow2_extensions_decode(cluster, sizeof(cluster), &header, &found, &err),
                     -EINVAL);
    if (strncmp(err.message, begin_of_sentence, strlen(begin_of_sentence)) != 0)
        fail_msg("'%s' does not begin with '%s'", err.message, begin_of_sentence);
}

static void extensions_that_break_a_rule_are_refused(void **state)
{
    uint8_t bitmaps[25] = {0, 0, 0, 1};
    uint8_t crypto[16] = {0};
    (void)state;
    refused(QCOW2_EXTENSION_BACKING_FORMAT, "sixteen-letters!", 16,
            "its header extension for the backing file's format has the length 16; it must be "
            "from 1 to 15");
    refused(QCOW2_EXTENSION_BACKING_FORMAT, "a\0b", 3,
            "its header extension for the backing file's format has a 0 in the name");
    refused(QCOW2_EXTENSION_DATA_FILE, "", 0,
            "its header extension for the external data file has the length 0");
    refused(QCOW2_EXTENSION_BITMAPS, bitmaps, 25,
            "its header extension for bitmaps has the length 25; it must be 24");
    refused(QCOW2_EXTENSION_BITMAPS, bitmaps, 24, "its bitmap_directory_offset is 0x0;");
    bitmaps[22] = 2;
    refused(QCOW2_EXTENSION_BITMAPS, bitmaps, 24, "its bitmap_directory_offset is 0x200;");
    bitmaps[21] = 1;
    bitmaps[22] = 0;
    bitmaps[11] = 4;
    refused(QCOW2_EXTENSION_BITMAPS, bitmaps, 24, "its bitmap_directory_size is 17179869184;");
    bitmaps[7] = 1;
    refused(QCOW2_EXTENSION_BITMAPS, bitmaps, 24,
            "its header extension for bitmaps has 0x1 in the reserved field; it must be 0");
    bitmaps[3] = 0;
    refused(QCOW2_EXTENSION_BITMAPS, bitmaps, 24, "its nb_bitmaps is 0;");
    bitmaps[1] = 1;
    refused(QCOW2_EXTENSION_BITMAPS, bitmaps, 24, "its nb_bitmaps is 65536;");
    memcpy(bitmaps, (const uint8_t[]){0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, 12);
    bitmaps[16] = 0x80;
    refused(QCOW2_EXTENSION_BITMAPS, bitmaps, 24,
            "its bitmap_directory_offset is 0x8000000000010000;");
    refused(QCOW2_EXTENSION_CRYPTO, crypto, 16,
            "it has a header extension for encryption, but its crypt_method is 0");
    crypt_method = QCOW2_CRYPT_LUKS;
    refused(QCOW2_EXTENSION_CRYPTO, crypto, 8,
            "its header extension for encryption has the length 8; it must be 16");
    crypto[6] = 1;
    refused(QCOW2_EXTENSION_CRYPTO, crypto, 16, "its encryption header lies at 0x100;");
    crypt_method = QCOW2_CRYPT_NONE;
}

/* Some programs write it for "not known". */
static void an_empty_backing_format_is_none(void **state)
{
    struct qcow2_header header = header_of_writer();
    struct qcow2_header_writer writer = begin();
    (void)state;
    qcow2_header_writer_extension(&writer, QCOW2_EXTENSION_BACKING_FORMAT, NULL, 0);
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, NULL), 0);
    assert_int_equal(qcow2_extensions_decode(cluster, sizeof(cluster), &header, &found, NULL), 0);
    assert_string_equal(found.backing_format, "");
}

/* A file that is shorter than its first cluster; a name that lies behind the cluster. */
static void extensions_end_with_what_there_is(void **state)
{
    struct qcow2_header header = header_of_writer();
    struct qcow2_header_writer writer = begin();
    (void)state;
    qcow2_header_writer_extension(&writer, 0x1111, "12345678", 8);
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, NULL), 0);
    assert_int_equal(qcow2_extensions_decode(cluster, 128, &header, &found, NULL), 0);
    assert_int_equal(found.count, 1);
    assert_int_equal(qcow2_extensions_decode(cluster, 127, &header, &found, NULL), -EINVAL);
    header.backing_file_offset = CLUSTER_BYTES;
    assert_int_equal(qcow2_extensions_decode(cluster, sizeof(cluster), &header, &found, NULL), 0);
    assert_int_equal(found.count, 1);
}

static void an_extension_does_not_leave_the_header(void **state)
{
    struct qcow2_header header = header_of_writer();
    struct qcow2_header_writer writer = begin();
    struct error err;
    (void)state;
    qcow2_header_writer_extension(&writer, 0x1111, "12345678", 8);
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, "name"), 0);
    store_be32(cluster + 116, 17); /* one more than up to the name */
    assert_int_equal(qcow2_extensions_decode(cluster, sizeof(cluster), &header, &found, &err),
                     -EINVAL);
    assert_string_equal(err.message,
                        "its header extension 0x00001111 at 112 has the length 17, which reaches "
                        "past the end of the header at 136");
    store_be32(cluster + 116, UINT32_MAX);
    assert_int_equal(qcow2_extensions_decode(cluster, sizeof(cluster), &header, &found, &err),
                     -EINVAL);
    store_be32(cluster + 116, 16);
    assert_int_equal(qcow2_extensions_decode(cluster, sizeof(cluster), &header, &found, &err), 0);
}

static void a_known_extension_is_there_once(void **state)
{
    struct qcow2_header header = header_of_writer();
    struct qcow2_header_writer writer = begin();
    struct error err;
    (void)state;
    qcow2_header_writer_extension(&writer, QCOW2_EXTENSION_BACKING_FORMAT, "raw", 3);
    qcow2_header_writer_extension(&writer, QCOW2_EXTENSION_BACKING_FORMAT, "raw", 3);
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, NULL), 0);
    assert_int_equal(qcow2_extensions_decode(cluster, sizeof(cluster), &header, &found, &err),
                     -EINVAL);
    assert_string_equal(err.message,
                        "its header extension 0xe2792aca is there twice; once is allowed");
}

static void more_extensions_than_the_limit_are_refused(void **state)
{
    struct qcow2_header header = header_of_writer();
    struct qcow2_header_writer writer = begin();
    struct error err;
    (void)state;
    for (uint32_t i = 0; i <= QCOW2_EXTENSIONS_MAX; i++)
        qcow2_header_writer_extension(&writer, 0x1000 + i, NULL, 0);
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, NULL), 0);
    assert_int_equal(qcow2_extensions_decode(cluster, sizeof(cluster), &header, &found, &err),
                     -EFBIG);
}

static void what_does_not_fit_is_told_at_the_end(void **state)
{
    static uint8_t small[512], name[400];
    struct qcow2_header header = header_of_writer();
    struct qcow2_header_writer writer;
    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    qcow2_header_writer_init(&writer, small, sizeof(small), 112);
    qcow2_header_writer_feature_names(&writer); /* left out */
    assert_int_equal(writer.used, 112);
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, (char *)name), -ENOSPC);
    qcow2_header_writer_init(&writer, small, sizeof(small), 112);
    qcow2_header_writer_extension(&writer, 0x1111, name, 393);
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, NULL), -ENOSPC);
    qcow2_header_writer_init(&writer, small, sizeof(small), 112);
    qcow2_header_writer_extension(&writer, 0x1111, name, 400); /* without its head it would fit */
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, NULL), -ENOSPC);
    qcow2_header_writer_init(&writer, small, sizeof(small), 112);
    qcow2_header_writer_extension(&writer, 0x1111, name, 1000);
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, NULL), -ENOSPC);
    qcow2_header_writer_init(&writer, small, sizeof(small), 112);
    name[392] = '\0';
    assert_int_equal(qcow2_header_writer_finish(&writer, &header, (char *)name), 0);
    assert_int_equal(header.backing_file_offset + header.backing_file_size, 512);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_found),
        cmocka_unit_test(unknown_features_are_named_from_the_images_own_table),
        cmocka_unit_test(what_features_are_called_is_shown_as_far_as_it_goes),
        cmocka_unit_test(extensions_that_break_a_rule_are_refused),
        cmocka_unit_test(an_empty_backing_format_is_none),
        cmocka_unit_test(extensions_end_with_what_there_is),
        cmocka_unit_test(an_extension_does_not_leave_the_header),
        cmocka_unit_test(a_known_extension_is_there_once),
        cmocka_unit_test(more_extensions_than_the_limit_are_refused),
        cmocka_unit_test(what_does_not_fit_is_told_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
