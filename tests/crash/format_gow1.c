/* SPDX-License-Identifier: BSD-3-Clause */
/* gow1. The images are made here, by the description of the format; what is left after a cut is
 * also read by tests/lib/gow1.py, which shares nothing with us. */
#include <string.h>

#include "common/endian.h"
#include "formats/gow1/driver.h"
#include "tests/crash/crash.h"

#define BLOCK 65536
#define DATA (12 + 4 * 1048576) /* where the blocks begin */
#define FREE UINT32_MAX
#define BLOCKS_MAX 16

/* How an image of a shape is made: its entries, and what is in the file's blocks. */
struct making {
    uint32_t allocated, file_blocks;
    uint32_t entries[BLOCKS_MAX + 1]; /* of the first disk blocks, their index from 1 on; 0: free */
};

/* Blocks that nobody has are full of something: of a write that a crash has cut off, say. */
static const struct making empty = {.allocated = 0},
                           filled = {.allocated = 5,
                                     .file_blocks = 5,
                                     .entries = {5, 0, 1, 2, 4, 0, 3}},
                           leaky = {.allocated = 6, .file_blocks = 7, .entries = {5, 0, 2}},
                           /* and one whose file was never as long as its header says */
    shorter = {.allocated = 6, .file_blocks = 2, .entries = {0, 2}},
                           /* entries that exclude each other, or the file, or `allocated` */
    damaged = {.allocated = 4, .file_blocks = 8, .entries = {5, 3, 3, 0, 16, 1, 3, 0, 7}};

static const struct crash_shape shapes[] = {
    {.name = "empty", .disk_bytes = 6 * BLOCK, .unit_bytes = BLOCK, .share = 5, .own = &empty},
    {.name = "filled", .disk_bytes = 8 * BLOCK, .unit_bytes = BLOCK, .share = 5, .own = &filled},
    {.name = "leaky", .disk_bytes = 8 * BLOCK, .unit_bytes = BLOCK, .share = 5, .own = &leaky},
    {.name = "shorter", .disk_bytes = 7 * BLOCK, .unit_bytes = 4096, .share = 3, .own = &shorter},
    {.name = "damaged",
     .disk_bytes = 9 * BLOCK,
     .unit_bytes = BLOCK,
     .options = "repair=all",
     .share = 3,
     .own = &damaged},
    {.name = NULL},
};

static void make(const struct crash_shape *shape, const char *folder,
                 struct crash_content contents[CRASH_ROLES])
{
    const struct making *making = shape->own;
    uint64_t length = DATA + (uint64_t)making->file_blocks * BLOCK;
    uint8_t *bytes = crash_alloc(length);
    (void)folder;
    memcpy(bytes, "GOW1", 4);
    store_le32(bytes + 4, (uint32_t)(shape->disk_bytes / BLOCK));
    store_le32(bytes + 8, making->allocated);
    memset(bytes + 12, 0xff, DATA - 12);
    for (uint32_t i = 0; i < BLOCKS_MAX; i++) {
        if (making->entries[i] > 0)
            store_le32(bytes + 12 + (size_t)i * 4, making->entries[i] - 1);
    }
    for (uint32_t i = 0; i < making->file_blocks; i++)
        memset(bytes + DATA + (uint64_t)i * BLOCK, 0xd0 + (int)i, BLOCK);
    contents[CRASH_FILE] = (struct crash_content){.bytes = bytes, .length = length};
}

/* Whether an entry breaks a rule, as those of the shape "damaged" do at the beginning. In another
 * shape such an image would not open, and that would be seen. */
static bool needs_repair(const uint8_t *head, uint64_t length)
{
    bool is_used[BLOCKS_MAX] = {false};
    for (uint32_t i = 0; i < BLOCKS_MAX; i++) {
        uint32_t entry = load_le32(head + 12 + (size_t)i * 4);
        if (entry == FREE)
            continue;
        if (entry >= BLOCKS_MAX || entry >= load_le32(head + 8) || is_used[entry] ||
            DATA + ((uint64_t)entry + 1) * BLOCK > length)
            return true;
        is_used[entry] = true;
    }
    return false;
}

const struct crash_format crash_gow1 = {
    .name = "gow1",
    .driver = &format_gow1,
    .shapes = shapes,
    .make = make,
    .prefixes = {[CRASH_FILE] = "file."},
    .needs_repair = needs_repair,
    .foreign = GOW1_PEER " check",
};
