/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_FORMATS_GOW1_MEMORY_GOW1_H
#define TESTS_UNIT_FORMATS_GOW1_MEMORY_GOW1_H

/*
 * A gow1 image in a disk in memory, put together by hand, and a reader and a checker that share
 * nothing with the driver: they go by the description of the format alone.
 */

#include "tests/unit/block/memory_driver.h"

#define GOW_DATA (12 + 4 * 1048576) /* where the blocks begin */
#define GOW_BLOCK 65536
#define GOW_FREE 0xffffffffu

/* An empty image; the disk's capacity is large enough. */
void gow_make(struct memory_disk *disk, uint32_t size);

uint32_t gow_field(const struct memory_disk *disk, unsigned index); /* magic, size, allocated */
void gow_set_field(struct memory_disk *disk, unsigned index, uint32_t value);
uint32_t gow_entry(const struct memory_disk *disk, uint32_t disk_block);
void gow_set_entry(struct memory_disk *disk, uint32_t disk_block, uint32_t entry);
/* The file has so many blocks, the new ones of this byte, and calls all of them allocated. */
void gow_set_blocks(struct memory_disk *disk, uint32_t count, int byte);

/* What the image shows. */
void gow_read(const struct memory_disk *disk, uint64_t offset, uint8_t *to, size_t length);

struct gow_faults {
    unsigned errors, leaks;
};
struct gow_faults gow_check(const struct memory_disk *disk);

#endif
