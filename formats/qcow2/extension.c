/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/extension.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/align.h"
#include "common/endian.h"

#define EXTENSION_HEAD_BYTES 8
#define FEATURE_BYTES 48 /* an entry of the feature name table: type, bit, name */
#define FEATURE_NAME_BYTES 46

enum feature_type {
    FEATURE_INCOMPATIBLE = 0,
    FEATURE_COMPATIBLE = 1,
    FEATURE_AUTOCLEAR = 2,
};

/* --- reading ------------------------------------------------------------------------------------
 */

/* A name inside the image: no 0 in it, since it becomes a C string. */
static int take_string(const uint8_t *data, uint32_t length, uint32_t length_max, const char *what,
                       char *ret_text, struct error *err)
{
    if (length == 0 || length > length_max)
        return error_set(err, -EINVAL,
                         "its header extension for %s has the length %" PRIu32
                         "; it must be from 1 to %" PRIu32,
                         what, length, length_max);
    if (memchr(data, '\0', length))
        return error_set(err, -EINVAL, "its header extension for %s has a 0 in the name", what);
    memcpy(ret_text, data, length);
    ret_text[length] = '\0';
    return 0;
}

static int take_bitmaps(const uint8_t *data, uint32_t length, const struct qcow2_header *header,
                        struct qcow2_bitmaps_extension *ret_bitmaps, struct error *err)
{
    if (length != 24)
        return error_set(
            err, -EINVAL,
            "its header extension for bitmaps has the length %" PRIu32 "; it must be 24", length);
    struct qcow2_bitmaps_extension bitmaps = {
        .nb_bitmaps = load_be32(data),
        .directory_size = load_be64(data + 8),
        .directory_offset = load_be64(data + 16),
    };
    if (bitmaps.nb_bitmaps == 0 || bitmaps.nb_bitmaps > QCOW2_BITMAPS_MAX)
        return error_set(err, -EINVAL, "its nb_bitmaps is %" PRIu32 "; it must be from 1 to %d",
                         bitmaps.nb_bitmaps, QCOW2_BITMAPS_MAX);
    if (load_be32(data + 4) != 0)
        return error_set(err, -EINVAL,
                         "its header extension for bitmaps has 0x%" PRIx32
                         " in the reserved field; it must be 0",
                         load_be32(data + 4));
    if (!is_aligned(bitmaps.directory_offset, UINT64_C(1) << header->cluster_bits) ||
        bitmaps.directory_offset == 0 || bitmaps.directory_offset > QCOW2_HOST_BYTES_MAX)
        return error_set(err, -EINVAL,
                         "its bitmap_directory_offset is 0x%" PRIx64
                         "; it must be a multiple of the cluster size, and not 0",
                         bitmaps.directory_offset);
    if (bitmaps.directory_size > QCOW2_BITMAP_DIRECTORY_BYTES_MAX)
        return error_set(err, -EINVAL,
                         "its bitmap_directory_size is %" PRIu64 "; it must be at most %" PRIu64,
                         bitmaps.directory_size, QCOW2_BITMAP_DIRECTORY_BYTES_MAX);
    *ret_bitmaps = bitmaps;
    return 0;
}

static int check_crypto(const uint8_t *data, uint32_t length, const struct qcow2_header *header,
                        struct error *err)
{
    if (header->crypt_method != QCOW2_CRYPT_LUKS)
        return error_set(err, -EINVAL,
                         "it has a header extension for encryption, but its crypt_method is "
                         "%" PRIu32 ", not %d (LUKS)",
                         header->crypt_method, QCOW2_CRYPT_LUKS);
    if (length != 16)
        return error_set(err, -EINVAL,
                         "its header extension for encryption has the length %" PRIu32
                         "; it must be 16",
                         length);
    if (!is_aligned(load_be64(data), UINT64_C(1) << header->cluster_bits))
        return error_set(err, -EINVAL,
                         "its encryption header lies at 0x%" PRIx64
                         "; that must be a multiple of the cluster size",
                         load_be64(data));
    return 0;
}

static bool is_known(uint32_t type)
{
    switch (type) {
    case QCOW2_EXTENSION_BACKING_FORMAT:
    case QCOW2_EXTENSION_FEATURE_NAMES:
    case QCOW2_EXTENSION_BITMAPS:
    case QCOW2_EXTENSION_CRYPTO:
    case QCOW2_EXTENSION_DATA_FILE:
        return true;
    default:
        return false;
    }
}

static int take_known(const uint8_t *cluster, const struct qcow2_extension *extension,
                      const struct qcow2_header *header, struct qcow2_extensions *extensions,
                      struct error *err)
{
    const uint8_t *data = cluster + extension->data_offset;
    switch (extension->type) {
    case QCOW2_EXTENSION_BACKING_FORMAT:
        if (extension->length == 0) /* some programs write an empty one for "not known" */
            return 0;
        return take_string(data, extension->length, QCOW2_BACKING_FORMAT_MAX,
                           "the backing file's format", extensions->backing_format, err);
    case QCOW2_EXTENSION_DATA_FILE:
        return take_string(data, extension->length, QCOW2_DATA_FILE_NAME_MAX,
                           "the external data file", extensions->data_file_name, err);
    case QCOW2_EXTENSION_BITMAPS:
        extensions->has_bitmaps = true;
        return take_bitmaps(data, extension->length, header, &extensions->bitmaps, err);
    case QCOW2_EXTENSION_CRYPTO:
        extensions->has_crypto = true;
        return check_crypto(data, extension->length, header, err);
    default:
        return 0;
    }
}

static bool is_there(const struct qcow2_extensions *extensions, uint32_t type)
{
    for (unsigned i = 0; i < extensions->count; i++) {
        if (extensions->all[i].type == type)
            return true;
    }
    return false;
}

static int add(const uint8_t *cluster, const struct qcow2_extension *extension,
               const struct qcow2_header *header, struct qcow2_extensions *extensions,
               struct error *err)
{
    if (is_known(extension->type) && is_there(extensions, extension->type))
        return error_set(err, -EINVAL,
                         "its header extension 0x%08" PRIx32 " is there twice; once is allowed",
                         extension->type);
    if (extensions->count == QCOW2_EXTENSIONS_MAX)
        return error_set(err, -EFBIG, "it has more than %d header extensions, which is the limit",
                         QCOW2_EXTENSIONS_MAX);
    int ret = take_known(cluster, extension, header, extensions, err);
    if (ret == 0)
        extensions->all[extensions->count++] = *extension;
    return ret;
}

/* Where the extensions must end: where the backing file's name begins, if it is where it may be. */
static size_t end_of_area(const struct qcow2_header *header, size_t length)
{
    uint64_t cluster_bytes = UINT64_C(1) << header->cluster_bits;
    size_t end = length < cluster_bytes ? length : (size_t)cluster_bytes;
    if (header->backing_file_offset >= header->header_length && header->backing_file_offset < end)
        end = (size_t)header->backing_file_offset;
    return end;
}

int qcow2_extensions_decode(const uint8_t *cluster, size_t length,
                            const struct qcow2_header *header,
                            struct qcow2_extensions *ret_extensions, struct error *err)
{
    size_t end = end_of_area(header, length);
    size_t at = header->header_length;
    memset(ret_extensions, 0, sizeof(*ret_extensions));
    while (at + EXTENSION_HEAD_BYTES <= end) {
        struct qcow2_extension extension = {
            .type = load_be32(cluster + at),
            .length = load_be32(cluster + at + 4),
            .data_offset = (uint32_t)(at + EXTENSION_HEAD_BYTES),
        };
        if (extension.type == QCOW2_EXTENSION_END) {
            at += EXTENSION_HEAD_BYTES;
            break;
        }
        if (extension.length > end - extension.data_offset)
            return error_set(err, -EINVAL,
                             "its header extension 0x%08" PRIx32 " at %zu has the length %" PRIu32
                             ", which reaches past the end of the header at %zu",
                             extension.type, at, extension.length, end);
        int ret = add(cluster, &extension, header, ret_extensions, err);
        if (ret < 0)
            return ret;
        at = align_up(extension.data_offset + (uint64_t)extension.length, 8);
    }
    ret_extensions->end_offset = (uint32_t)at;
    return 0;
}

/* --- features -----------------------------------------------------------------------------------
 */

/* What the image calls that bit; false where it has no name for it. Only what can be printed is
 * taken over. */
static bool find_feature_name(const uint8_t *cluster, const struct qcow2_extensions *extensions,
                              unsigned bit, char ret_name[FEATURE_NAME_BYTES + 1])
{
    for (unsigned i = 0; i < extensions->count; i++) {
        const struct qcow2_extension *table = &extensions->all[i];
        if (table->type != QCOW2_EXTENSION_FEATURE_NAMES)
            continue;
        for (uint32_t at = 0; at + FEATURE_BYTES <= table->length; at += FEATURE_BYTES) {
            const uint8_t *entry = cluster + table->data_offset + at;
            if (entry[0] != FEATURE_INCOMPATIBLE || entry[1] != bit || entry[2] == '\0')
                continue;
            for (unsigned n = 0; n < FEATURE_NAME_BYTES; n++) {
                char c = (char)entry[2 + n];
                ret_name[n] = c == '\0' || (c >= ' ' && c <= '~') ? c : '?';
            }
            ret_name[FEATURE_NAME_BYTES] = '\0';
            return true;
        }
    }
    return false;
}

int qcow2_features_check(const uint8_t *cluster, const struct qcow2_header *header,
                         const struct qcow2_extensions *extensions, struct error *err)
{
    uint64_t unknown = header->incompatible_features & ~QCOW2_INCOMPATIBLE_KNOWN;
    char list[256] = "";
    size_t used = 0;
    if (unknown == 0)
        return 0;
    for (unsigned bit = 0; bit < 64 && used < sizeof(list); bit++) {
        char name[FEATURE_NAME_BYTES + 1];
        if (!(unknown & (UINT64_C(1) << bit)))
            continue;
        bool has_name = find_feature_name(cluster, extensions, bit, name);
        int added =
            snprintf(list + used, sizeof(list) - used, "%sbit %u%s%s%s", used > 0 ? ", " : "", bit,
                     has_name ? " '" : "", has_name ? name : "", has_name ? "'" : "");
        assert(added > 0);
        used += (size_t)added;
    }
    return error_set(err, -ENOTSUP,
                     "it uses features that this version does not know (incompatible_features "
                     "0x%" PRIx64 "): %s",
                     header->incompatible_features, list);
}

/* --- writing ------------------------------------------------------------------------------------
 */

void qcow2_header_writer_init(struct qcow2_header_writer *writer, uint8_t *bytes, size_t size,
                              uint32_t header_length)
{
    assert(header_length <= size);
    *writer = (struct qcow2_header_writer){.bytes = bytes, .size = size, .used = header_length};
}

void qcow2_header_writer_extension(struct qcow2_header_writer *writer, uint32_t type,
                                   const void *data, size_t length)
{
    size_t padded = align_up(length, 8);
    if (writer->is_full || padded > writer->size - writer->used ||
        EXTENSION_HEAD_BYTES > writer->size - writer->used - padded) {
        writer->is_full = true;
        return;
    }
    store_be32(writer->bytes + writer->used, type);
    store_be32(writer->bytes + writer->used + 4, (uint32_t)length);
    if (length > 0)
        memcpy(writer->bytes + writer->used + EXTENSION_HEAD_BYTES, data, length);
    writer->used += EXTENSION_HEAD_BYTES + padded;
}

void qcow2_header_writer_feature_names(struct qcow2_header_writer *writer)
{
    static const struct {
        uint8_t type, bit;
        const char *name;
    } features[] = {
        {FEATURE_INCOMPATIBLE, 0, "dirty bit"},
        {FEATURE_INCOMPATIBLE, 1, "corrupt bit"},
        {FEATURE_INCOMPATIBLE, 2, "external data file"},
        {FEATURE_INCOMPATIBLE, 3, "compression type"},
        {FEATURE_INCOMPATIBLE, 4, "extended L2 entries"},
        {FEATURE_COMPATIBLE, 0, "lazy refcounts"},
        {FEATURE_AUTOCLEAR, 0, "bitmaps"},
        {FEATURE_AUTOCLEAR, 1, "raw external data"},
    };
    uint8_t table[sizeof(features) / sizeof(*features)][FEATURE_BYTES] = {{0}};
    if (writer->size <= 4096)
        return;
    for (size_t i = 0; i < sizeof(features) / sizeof(*features); i++) {
        table[i][0] = features[i].type;
        table[i][1] = features[i].bit;
        memcpy(&table[i][2], features[i].name, strlen(features[i].name));
    }
    qcow2_header_writer_extension(writer, QCOW2_EXTENSION_FEATURE_NAMES, table, sizeof(table));
}

void qcow2_bitmaps_extension_encode(const struct qcow2_bitmaps_extension *bitmaps,
                                    uint8_t bytes[24])
{
    store_be32(bytes, bitmaps->nb_bitmaps);
    store_be32(bytes + 4, 0);
    store_be64(bytes + 8, bitmaps->directory_size);
    store_be64(bytes + 16, bitmaps->directory_offset);
}

int qcow2_header_writer_finish(struct qcow2_header_writer *writer, struct qcow2_header *header,
                               const char *backing_name)
{
    size_t length = backing_name ? strlen(backing_name) : 0;
    qcow2_header_writer_extension(writer, QCOW2_EXTENSION_END, NULL, 0);
    if (writer->is_full || length > writer->size - writer->used)
        return -ENOSPC;
    header->backing_file_offset = length > 0 ? writer->used : 0;
    header->backing_file_size = (uint32_t)length;
    if (length > 0)
        memcpy(writer->bytes + writer->used, backing_name, length);
    qcow2_header_encode(header, writer->bytes);
    return 0;
}
