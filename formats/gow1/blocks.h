/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_GOW1_BLOCKS_H
#define FORMATS_GOW1_BLOCKS_H

/*
 * Which blocks of the file can be given to a block of the disk; numbers alone, nothing waits. The
 * caller's mutex guards it.
 *
 * Blocks below `allocated` that nobody has are given first, lowest first: those of writes that
 * failed, and those that a crash left behind. Then come new ones at the end. Since each block of
 * the disk has one at most, `allocated` never gets above the disk's size.
 *
 * A block is *fresh* when the file has never reached it: it reads as zeroes once the file does.
 * Blocks from fresh_from on are; all of them are free, or not below `allocated`.
 */

#include <stdbool.h>
#include <stdint.h>

struct gow1_blocks {
    uint32_t allocated;
    uint32_t fresh_from;
    uint32_t free_count; /* below allocated */
    uint32_t free_hint;  /* none of them is below it */
    uint64_t *free_bits;
};

/* file_blocks: that the file has anything of. 0 or -ENOMEM. */
int gow1_blocks_init(struct gow1_blocks *blocks, uint32_t allocated, uint32_t file_blocks);
void gow1_blocks_fini(struct gow1_blocks *blocks);

/* Nobody has this one, which is below allocated. Cannot fail. */
void gow1_blocks_give_back(struct gow1_blocks *blocks, uint32_t file_block);

/* At most count_max, at least one, in a row, all fresh or none. There is one: see above. */
struct gow1_taken {
    uint32_t first, count;
    bool is_fresh;
};
struct gow1_taken gow1_blocks_take(struct gow1_blocks *blocks, uint32_t count_max);

/* Lowers allocated as far as nobody has the last ones. */
void gow1_blocks_trim(struct gow1_blocks *blocks);

#endif
