/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_EXTENSION_H
#define FORMATS_QCOW2_EXTENSION_H

/*
 * The header extensions, which lie between the header and the backing file's name in the first
 * cluster: bytes in, struct out, and back. Pure. What is not known is kept, so that a header that
 * is written again loses nothing of a newer program.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "formats/qcow2/header.h"

struct qcow2_bitmaps_extension {
    uint32_t nb_bitmaps;
    uint64_t directory_size; /* in bytes */
    uint64_t directory_offset;
};

/* An extension as it stands in the first cluster. */
struct qcow2_extension {
    uint32_t type;
    uint32_t length;      /* of the data */
    uint32_t data_offset; /* from the cluster's beginning */
};

struct qcow2_extensions {
    struct qcow2_extension all[QCOW2_EXTENSIONS_MAX]; /* in their order, without the end */
    unsigned count;
    uint32_t end_offset; /* behind the last of them, its padding, and the end mark */

    char backing_format[QCOW2_BACKING_FORMAT_MAX + 1]; /* empty: none */
    char data_file_name[QCOW2_DATA_FILE_NAME_MAX + 1]; /* empty: none */
    bool has_bitmaps;
    struct qcow2_bitmaps_extension bitmaps;
    bool has_crypto;
};

/* `cluster` holds the first `length` bytes of the image: the whole first cluster, or all of a
 * shorter file. The header was decoded from it, and is not checked yet. -EINVAL, with a sentence
 * that names field and value. */
int qcow2_extensions_decode(const uint8_t *cluster, size_t length,
                            const struct qcow2_header *header,
                            struct qcow2_extensions *ret_extensions, struct error *err);

/* Whether this build knows all features that it must know: -ENOTSUP names each bit that it does
 * not, by the image's own table of names where it has one. */
int qcow2_features_check(const uint8_t *cluster, const struct qcow2_header *header,
                         const struct qcow2_extensions *extensions, struct error *err);

/* --- writing ------------------------------------------------------------------------------------
 */

/* The first cluster, built from front to back: init, the header, extensions, finish. */
struct qcow2_header_writer {
    uint8_t *bytes; /* cleared; of the caller */
    size_t size;    /* the cluster's */
    size_t used;
    bool is_full; /* something did not fit */
};

void qcow2_header_writer_init(struct qcow2_header_writer *writer, uint8_t *bytes, size_t size,
                              uint32_t header_length);
void qcow2_header_writer_extension(struct qcow2_header_writer *writer, uint32_t type,
                                   const void *data, size_t length);
/* The names of the features that we know; left out where the cluster is 4 KiB or less, as QEMU. */
void qcow2_header_writer_feature_names(struct qcow2_header_writer *writer);
void qcow2_bitmaps_extension_encode(const struct qcow2_bitmaps_extension *bitmaps,
                                    uint8_t bytes[24]);
/* The end of the extensions, the backing file's name ("" or NULL for none), and the header itself,
 * of which backing_file_offset and _size are set. -ENOSPC: it does not fit into the cluster. */
int qcow2_header_writer_finish(struct qcow2_header_writer *writer, struct qcow2_header *header,
                               const char *backing_name);

#endif
