/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_BITMAP_DIRECTORY_H
#define FORMATS_QCOW2_BITMAP_DIRECTORY_H

/* The directory of persistent bitmaps and their tables: bytes in, structs out, and back. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "formats/qcow2/extension.h"
#include "formats/qcow2/geometry.h"

#define QCOW2_BITMAP_HEAD_BYTES 24
/* Where an entry has what is changed in place. */
#define QCOW2_BITMAP_TABLE_OFFSET_AT 0
#define QCOW2_BITMAP_TABLE_SIZE_AT 8
#define QCOW2_BITMAP_FLAGS_AT 12

#define QCOW2_BITMAP_IN_USE (UINT32_C(1) << 0)
#define QCOW2_BITMAP_AUTO (UINT32_C(1) << 1)
#define QCOW2_BITMAP_EXTRA_DATA_COMPATIBLE (UINT32_C(1) << 2)

struct qcow2_bitmap_entry {
    uint64_t table_offset;
    uint32_t table_size; /* entries */
    uint32_t flags;
    uint32_t granularity_bits;
    uint32_t extra_bytes; /* extra data that the image keeps with it; we know none */
    uint32_t entry_bytes; /* in the directory, with its padding */
    uint32_t name_bytes;
    const char *name; /* in the directory's bytes, without a 0 at the end */
};

static inline int qcow2_bitmap_shown_bytes(const struct qcow2_bitmap_entry *entry)
{
    return entry->name_bytes < 64 ? (int)entry->name_bytes : 64;
}

/* For messages: printf("%.*s", QCOW2_BITMAP_NAME(entry)). */
#define QCOW2_BITMAP_NAME(entry) qcow2_bitmap_shown_bytes(entry), (entry)->name

/* The entry at the beginning of `length` bytes, for a disk of disk_bytes. -EINVAL, -EFBIG; a
 * sentence names the bitmap and the field. What is decoded can be followed: its table is known. */
int qcow2_bitmap_entry_decode(const struct qcow2_geometry *geometry, const uint8_t *bytes,
                              size_t length, uint64_t disk_bytes,
                              struct qcow2_bitmap_entry *ret_entry, struct error *err);
/* Whether we can read and keep the bitmap's bits: extra data must allow it, and granularity and
 * size must be inside the limits. -ENOTSUP, -EFBIG, with a sentence. */
int qcow2_bitmap_entry_check_usable(const struct qcow2_bitmap_entry *entry, uint64_t disk_bytes,
                                    struct error *err);

/* What encode() writes of it: no extra data. */
uint32_t qcow2_bitmap_encoded_bytes(const struct qcow2_bitmap_entry *entry);
void qcow2_bitmap_entry_encode(const struct qcow2_bitmap_entry *entry, uint8_t *bytes);

/* Entries of the table of a bitmap, for a disk of disk_bytes. */
uint64_t qcow2_bitmap_table_entries(const struct qcow2_geometry *geometry, uint64_t disk_bytes,
                                    uint32_t granularity_bits);

/* An entry of a bitmap's table: where its cluster of bits is; 0: all bits are *ret_all_ones. False:
 * corrupt. */
bool qcow2_bitmap_table_decode(const struct qcow2_geometry *geometry, uint64_t entry,
                               uint64_t *ret_offset, bool *ret_all_ones, const char **ret_why);

#endif
