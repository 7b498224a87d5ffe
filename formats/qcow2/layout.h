/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_LAYOUT_H
#define FORMATS_QCOW2_LAYOUT_H

/*
 * The numbers of the qcow2 format, as its specification (docs/interop/qcow2.rst of QEMU) names
 * them, and the limits that we set where it sets none. All numbers of an image are big endian.
 *
 * Words: a *cluster* is the unit of allocation; a *guest* offset is one in the disk that a client
 * sees, a *host* offset one in the image file (or in its external data file). A *table* is one
 * cluster of entries (L2, refcount block) or a run of clusters (L1, refcount table).
 */

#include <stdint.h>

#define QCOW2_MAGIC UINT32_C(0x514649fb) /* "QFI\xfb" */

#define QCOW2_HEADER_V2_BYTES 72
#define QCOW2_HEADER_V3_BYTES_MIN 104
#define QCOW2_HEADER_COMPRESSION_TYPE 104 /* offset of the first additional field */
#define QCOW2_HEADER_OURS_BYTES 112       /* what we write: all fields that we know, padded */

#define QCOW2_CLUSTER_BITS_MIN 9
#define QCOW2_CLUSTER_BITS_MAX 21
#define QCOW2_CLUSTER_BITS_EXTENDED_MIN 14 /* of an image with extended L2 entries */
#define QCOW2_REFCOUNT_ORDER_MAX 6
#define QCOW2_REFCOUNT_ORDER_V2 4
#define QCOW2_SUBCLUSTERS 32 /* a cluster, with extended L2 entries */

/* Limits, the same as QEMU's: an image beyond them is refused before memory is taken. */
#define QCOW2_L1_BYTES_MAX (UINT64_C(32) << 20)
#define QCOW2_REFCOUNT_TABLE_BYTES_MAX (UINT64_C(8) << 20)
#define QCOW2_BACKING_NAME_MAX 1023
#define QCOW2_BACKING_FORMAT_MAX 15
#define QCOW2_DATA_FILE_NAME_MAX 1023
#define QCOW2_SNAPSHOTS_MAX 65536
#define QCOW2_SNAPSHOT_TABLE_BYTES_MAX (UINT64_C(64) << 20)
#define QCOW2_SNAPSHOT_EXTRA_MAX 1024
#define QCOW2_BITMAPS_MAX 65535
#define QCOW2_BITMAP_DIRECTORY_BYTES_MAX (UINT64_C(1024) * QCOW2_BITMAPS_MAX)
#define QCOW2_BITMAP_TABLE_ENTRIES_MAX UINT32_C(0x8000000)
#define QCOW2_BITMAP_NAME_MAX 1023
#define QCOW2_BITMAP_MEMORY_MAX (UINT64_C(512) << 20)
#define QCOW2_EXTENSIONS_MAX 64 /* header extensions of one image */
/* No host offset is larger: 56 bits in an entry, and the kernel's are signed. */
#define QCOW2_HOST_OFFSET_MAX ((UINT64_C(1) << 56) - 1)
#define QCOW2_HOST_BYTES_MAX (UINT64_C(1) << 62)

enum qcow2_crypt_method {
    QCOW2_CRYPT_NONE = 0,
    QCOW2_CRYPT_AES = 1,
    QCOW2_CRYPT_LUKS = 2,
};

enum qcow2_compression_type {
    QCOW2_COMPRESSION_ZLIB = 0, /* raw deflate, no zlib header */
    QCOW2_COMPRESSION_ZSTD = 1,
};

/* incompatible_features: who does not know a bit must not open the image. */
#define QCOW2_INCOMPATIBLE_DIRTY (UINT64_C(1) << 0)
#define QCOW2_INCOMPATIBLE_CORRUPT (UINT64_C(1) << 1)
#define QCOW2_INCOMPATIBLE_DATA_FILE (UINT64_C(1) << 2)
#define QCOW2_INCOMPATIBLE_COMPRESSION (UINT64_C(1) << 3)
#define QCOW2_INCOMPATIBLE_EXTENDED_L2 (UINT64_C(1) << 4)
#define QCOW2_INCOMPATIBLE_KNOWN UINT64_C(0x1f)

/* compatible_features: who does not know a bit may ignore it. */
#define QCOW2_COMPATIBLE_LAZY_REFCOUNTS (UINT64_C(1) << 0)

/* autoclear_features: who does not know a bit clears it before writing to the image. */
#define QCOW2_AUTOCLEAR_BITMAPS (UINT64_C(1) << 0)
#define QCOW2_AUTOCLEAR_DATA_FILE_RAW (UINT64_C(1) << 1)
#define QCOW2_AUTOCLEAR_REDO (UINT64_C(1) << 63) /* ours, with the 31 bits below: see redo.c */
#define QCOW2_AUTOCLEAR_REDO_ALL (UINT64_C(0xffffffff) << 32)
#define QCOW2_AUTOCLEAR_KNOWN (UINT64_C(3) | QCOW2_AUTOCLEAR_REDO_ALL)

enum qcow2_extension_type {
    QCOW2_EXTENSION_END = 0,
    QCOW2_EXTENSION_BACKING_FORMAT = 0xe2792aca,
    QCOW2_EXTENSION_FEATURE_NAMES = 0x6803f857,
    QCOW2_EXTENSION_BITMAPS = 0x23852875,
    QCOW2_EXTENSION_CRYPTO = 0x0537be77,
    QCOW2_EXTENSION_DATA_FILE = 0x44415441,
};

/* L1 and L2 entries. */
#define QCOW2_ENTRY_COPIED (UINT64_C(1) << 63)     /* the refcount is exactly 1 */
#define QCOW2_ENTRY_COMPRESSED (UINT64_C(1) << 62) /* L2 */
#define QCOW2_ENTRY_ZERO UINT64_C(1)               /* L2, version 3, not extended */
#define QCOW2_ENTRY_OFFSET UINT64_C(0x00fffffffffffe00)
#define QCOW2_L1_RESERVED UINT64_C(0x7f000000000001ff)
#define QCOW2_L2_RESERVED UINT64_C(0x3f000000000001fe) /* of a standard entry */
#define QCOW2_REFCOUNT_TABLE_OFFSET (~UINT64_C(0x1ff))
#define QCOW2_REFCOUNT_TABLE_RESERVED UINT64_C(0x1ff)

#endif
