/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The first cluster of a qcow2 image. Input: a byte that gives the size of the file (1 << byte %
 * 48), then the cluster. Properties: a refusal says something and fits; what is taken is inside the
 * limits; a header that is written and read again is the same; extensions lie inside the input.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "formats/qcow2/extension.h"
#include "formats/qcow2/geometry.h"

static void check_sentence(const struct error *err)
{
    FUZZ_CHECK(err->message[0] != '\0');
    FUZZ_CHECK(strlen(err->message) < sizeof(err->message));
}

static void check_round_trip(const struct qcow2_header *header)
{
    uint8_t bytes[QCOW2_HEADER_OURS_BYTES] = {0}, bytes_again[QCOW2_HEADER_OURS_BYTES] = {0};
    struct qcow2_header again;
    qcow2_header_encode(header, bytes);
    FUZZ_CHECK(qcow2_header_decode(bytes, sizeof(bytes), &again, NULL) == 0);
    qcow2_header_encode(&again, bytes_again);
    FUZZ_CHECK(memcmp(bytes, bytes_again, sizeof(bytes)) == 0);
}

static void check_extensions(const struct qcow2_extensions *extensions, size_t size)
{
    FUZZ_CHECK(extensions->count <= QCOW2_EXTENSIONS_MAX);
    for (unsigned i = 0; i < extensions->count; i++) {
        const struct qcow2_extension *extension = &extensions->all[i];
        FUZZ_CHECK(extension->data_offset <= size &&
                   extension->length <= size - extension->data_offset);
    }
    FUZZ_CHECK(strlen(extensions->backing_format) <= QCOW2_BACKING_FORMAT_MAX);
    FUZZ_CHECK(strlen(extensions->data_file_name) <= QCOW2_DATA_FILE_NAME_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct qcow2_extensions extensions;
    struct qcow2_header header;
    struct qcow2_geometry geometry;
    struct error err = {.message = ""};
    if (size < 1)
        return 0;
    uint64_t file_bytes = UINT64_C(1) << data[0] % 48;
    int rc = qcow2_header_decode(data + 1, size - 1, &header, &err);
    if (rc < 0) {
        check_sentence(&err);
        return 0;
    }
    check_round_trip(&header);
    if (qcow2_extensions_decode(data + 1, size - 1, &header, &extensions, &err) < 0) {
        check_sentence(&err);
        return 0;
    }
    check_extensions(&extensions, size - 1);
    if (qcow2_features_check(data + 1, &header, &extensions, &err) < 0)
        check_sentence(&err);
    if (qcow2_header_check(&header, file_bytes, &err) < 0) {
        check_sentence(&err);
        return 0;
    }
    qcow2_geometry_init(&geometry, &header);
    FUZZ_CHECK((uint64_t)header.l1_size * 8 <= file_bytes);
    FUZZ_CHECK(qcow2_l1_entries_needed(&geometry, header.size) <= header.l1_size);
    FUZZ_CHECK(header.backing_file_offset == 0 ||
               header.backing_file_offset + header.backing_file_size <= geometry.cluster_bytes);
    return 0;
}
