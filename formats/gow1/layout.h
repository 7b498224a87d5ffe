/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_GOW1_LAYOUT_H
#define FORMATS_GOW1_LAYOUT_H

/*
 * Where what is in a gow1 file; docs/formats/gow1.md has the whole of it. All numbers in the file
 * are little-endian and have 32 bits:
 *
 *     0  magic | 4  size | 8  allocated | 12  map, 1048576 entries | 4194316  blocks
 *
 * `size` and `allocated` count blocks, of the disk and of the file. map[i] is the index, among the
 * blocks of the file, of the disk's i-th block, or GOW1_FREE.
 */

#include <stdint.h>

#define GOW1_MAGIC 0x31574f47 /* "GOW1"; ours, since the format's own is not known */
#define GOW1_FREE UINT32_MAX

#define GOW1_BLOCK_BITS 16
#define GOW1_BLOCK_BYTES (UINT64_C(1) << GOW1_BLOCK_BITS)

#define GOW1_HEADER_BYTES 12
#define GOW1_HEADER_SIZE 4 /* where the fields are */
#define GOW1_HEADER_ALLOCATED 8

#define GOW1_MAP_OFFSET GOW1_HEADER_BYTES
#define GOW1_MAP_ENTRIES (UINT32_C(1) << 20)
#define GOW1_MAP_BYTES ((uint64_t)GOW1_MAP_ENTRIES * 4)

#define GOW1_BLOCKS_OFFSET (GOW1_MAP_OFFSET + GOW1_MAP_BYTES)
#define GOW1_BLOCKS_MAX GOW1_MAP_ENTRIES /* of a disk, and of a file: 64 GiB */

static inline uint64_t gow1_entry_offset(uint32_t disk_block)
{
    return GOW1_MAP_OFFSET + (uint64_t)disk_block * 4;
}

/* Where a block of the file begins; also of the one behind the last. */
static inline uint64_t gow1_block_offset(uint32_t file_block)
{
    return GOW1_BLOCKS_OFFSET + ((uint64_t)file_block << GOW1_BLOCK_BITS);
}

/* How many blocks the file has anything of: the last one may be there in part. */
static inline uint32_t gow1_file_blocks(uint64_t file_bytes)
{
    if (file_bytes <= GOW1_BLOCKS_OFFSET)
        return 0;
    uint64_t blocks = (file_bytes - GOW1_BLOCKS_OFFSET + GOW1_BLOCK_BYTES - 1) >> GOW1_BLOCK_BITS;
    return blocks < GOW1_BLOCKS_MAX ? (uint32_t)blocks : GOW1_BLOCKS_MAX;
}

static inline uint32_t gow1_disk_block(uint64_t disk_offset)
{
    return (uint32_t)(disk_offset >> GOW1_BLOCK_BITS);
}

static inline uint64_t gow1_in_block(uint64_t disk_offset)
{
    return disk_offset & (GOW1_BLOCK_BYTES - 1);
}

#endif
