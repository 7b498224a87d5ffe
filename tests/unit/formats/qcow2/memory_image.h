/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_FORMATS_QCOW2_MEMORY_IMAGE_H
#define TESTS_UNIT_FORMATS_QCOW2_MEMORY_IMAGE_H

/*
 * An empty qcow2 image in a disk in memory, put together by hand, and a checker that shares no code
 * with the driver but the codecs: it counts what points to each cluster.
 */

#include "formats/qcow2/geometry.h"
#include "tests/unit/block/memory_driver.h"

struct memory_image {
    uint32_t cluster_bits, refcount_order;
    bool is_extended;
    uint64_t disk_bytes; /* what a client sees */
};

/* Clusters: header, refcount table, refcount block, L1. The disk's capacity is large enough. */
void memory_image_make(struct memory_disk *disk, const struct memory_image *image);

struct memory_image_faults {
    unsigned leaks;  /* refcount above the references */
    unsigned errors; /* below; COPIED that is not true; a pointer out of the file */
};
struct memory_image_faults memory_image_check(const struct memory_disk *disk);

#endif
