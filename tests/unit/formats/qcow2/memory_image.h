/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_FORMATS_QCOW2_MEMORY_IMAGE_H
#define TESTS_UNIT_FORMATS_QCOW2_MEMORY_IMAGE_H

/*
 * An empty qcow2 image in a disk in memory, put together by hand, and a checker that shares no code
 * with the driver but the codecs: it counts what points to each cluster. Persistent bitmaps and a
 * snapshot on demand.
 */

#include "formats/qcow2/geometry.h"
#include "tests/unit/block/memory_driver.h"

struct memory_image {
    uint32_t cluster_bits, refcount_order;
    bool is_extended, has_data_file;
    uint64_t disk_bytes; /* what a client sees */
};

/* Clusters: header, refcount table, refcount block, L1. The disk's capacity is large enough. */
void memory_image_make(struct memory_disk *disk, const struct memory_image *image);

/* A snapshot "1" of a closed image: its L1 table, then the snapshot table, in new clusters at the
 * end of the file, all of which the first refcount block counts. */
void memory_image_add_snapshot(struct memory_disk *disk);

/* A persistent bitmap, all clean. */
struct memory_bitmap {
    const char *name;
    uint32_t flags, granularity_bits;
    uint32_t extra_bytes; /* each is 0xee */
};

/* Into an image that memory_image_make() has just made: the tables, then the directory, in new
 * clusters. */
void memory_image_add_bitmaps(struct memory_disk *disk, const struct memory_bitmap *bitmaps,
                              uint32_t count);
/* Where the entry of that name lies in the disk's data. */
uint8_t *memory_image_bitmap_entry(const struct memory_disk *disk, const char *name);
uint32_t memory_image_bitmap_flags(const struct memory_disk *disk, const char *name);
bool memory_image_bitmap_get(const struct memory_disk *disk, const char *name, uint64_t granule);

struct memory_image_faults {
    unsigned leaks;      /* refcount above the references */
    unsigned errors;     /* below; COPIED that is not true; a pointer out of the file */
    unsigned compressed; /* no fault: guest clusters that are */
};
struct memory_image_faults memory_image_check(const struct memory_disk *disk);

#endif
