/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/formats/gow1/memory_gow1.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/endian.h"

#define ENTRIES 1048576u

/* --- the file -----------------------------------------------------------------------------------
 */

void gow_make(struct memory_disk *disk, uint32_t size)
{
    assert(disk->capacity_bytes >= GOW_DATA);
    memcpy(disk->data, "GOW1", 4);
    gow_set_field(disk, 1, size);
    gow_set_field(disk, 2, 0);
    memset(disk->data + 12, 0xff, 4 * (size_t)ENTRIES);
    disk->size_bytes = GOW_DATA;
}

uint32_t gow_field(const struct memory_disk *disk, unsigned index)
{
    return load_le32(disk->data + (size_t)index * 4);
}

void gow_set_field(struct memory_disk *disk, unsigned index, uint32_t value)
{
    store_le32(disk->data + (size_t)index * 4, value);
}

uint32_t gow_entry(const struct memory_disk *disk, uint32_t disk_block)
{
    return load_le32(disk->data + 12 + (size_t)disk_block * 4);
}

void gow_set_entry(struct memory_disk *disk, uint32_t disk_block, uint32_t entry)
{
    store_le32(disk->data + 12 + (size_t)disk_block * 4, entry);
}

void gow_set_blocks(struct memory_disk *disk, uint32_t count, int byte)
{
    uint64_t end = GOW_DATA + (uint64_t)count * GOW_BLOCK;
    assert(end <= disk->capacity_bytes && end >= disk->size_bytes);
    memset(disk->data + disk->size_bytes, byte, end - disk->size_bytes);
    disk->size_bytes = end;
    gow_set_field(disk, 2, count);
}

void gow_read(const struct memory_disk *disk, uint64_t offset, uint8_t *to, size_t length)
{
    memset(to, 0, length);
    for (size_t done = 0, piece; done < length; done += piece) {
        uint64_t in_block = (offset + done) % GOW_BLOCK;
        uint32_t entry = gow_entry(disk, (uint32_t)((offset + done) / GOW_BLOCK));
        uint64_t at = GOW_DATA + (uint64_t)entry * GOW_BLOCK + in_block;
        piece = GOW_BLOCK - in_block < length - done ? GOW_BLOCK - in_block : length - done;
        if (entry == GOW_FREE || at >= disk->size_bytes)
            continue;
        size_t there = disk->size_bytes - at < piece ? disk->size_bytes - at : piece;
        memcpy(to + done, disk->data + at, there);
    }
}

struct gow_faults gow_check(const struct memory_disk *disk)
{
    struct gow_faults faults = {0};
    uint32_t size = gow_field(disk, 1), allocated = gow_field(disk, 2), used = 0;
    bool *is_used = calloc(ENTRIES, 1);
    assert(is_used);
    faults.errors += size == 0 || size > ENTRIES || allocated > size;
    for (uint32_t i = 0; i < ENTRIES; i++) {
        uint32_t entry = gow_entry(disk, i);
        if (entry == GOW_FREE)
            continue;
        uint64_t end = GOW_DATA + ((uint64_t)entry + 1) * GOW_BLOCK;
        bool is_bad = i >= size || entry >= allocated || end > disk->size_bytes || is_used[entry];
        if (is_bad)
            printf("check: map[%u] is %u of %u, %llu bytes\n", i, entry, allocated,
                   (unsigned long long)disk->size_bytes);
        faults.errors += is_bad;
        if (!is_bad)
            is_used[entry] = ++used;
    }
    faults.leaks = allocated - used;
    free(is_used);
    return faults;
}
