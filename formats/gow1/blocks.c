/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/gow1/blocks.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "formats/gow1/layout.h"

int gow1_blocks_init(struct gow1_blocks *blocks, uint32_t allocated, uint32_t file_blocks)
{
    uint64_t *bits = calloc(GOW1_BLOCKS_MAX / 64, sizeof(*bits));
    assert(allocated <= GOW1_BLOCKS_MAX && file_blocks <= GOW1_BLOCKS_MAX);
    if (!bits)
        return -ENOMEM;
    *blocks =
        (struct gow1_blocks){.allocated = allocated, .fresh_from = file_blocks, .free_bits = bits};
    return 0;
}

void gow1_blocks_fini(struct gow1_blocks *blocks)
{
    free(blocks->free_bits);
    blocks->free_bits = NULL;
}

static bool is_free(const struct gow1_blocks *blocks, uint32_t block)
{
    return blocks->free_bits[block / 64] >> (block % 64) & 1;
}

static void set_free(struct gow1_blocks *blocks, uint32_t block, bool free)
{
    assert(is_free(blocks, block) != free);
    blocks->free_bits[block / 64] ^= UINT64_C(1) << (block % 64);
    if (free)
        blocks->free_count++;
    else
        blocks->free_count--;
}

void gow1_blocks_give_back(struct gow1_blocks *blocks, uint32_t file_block)
{
    assert(file_block < blocks->allocated);
    set_free(blocks, file_block, true);
    if (file_block < blocks->free_hint)
        blocks->free_hint = file_block;
}

static uint32_t lowest_free(const struct gow1_blocks *blocks)
{
    uint32_t word = blocks->free_hint / 64;
    while (blocks->free_bits[word] == 0)
        word++;
    return word * 64 + (uint32_t)__builtin_ctzll(blocks->free_bits[word]);
}

static struct gow1_taken take_free(struct gow1_blocks *blocks, uint32_t count_max)
{
    struct gow1_taken taken = {.first = lowest_free(blocks)};
    uint32_t at = taken.first;
    taken.is_fresh = at >= blocks->fresh_from;
    while (taken.count < count_max && at < blocks->allocated && is_free(blocks, at) &&
           (at >= blocks->fresh_from) == taken.is_fresh) {
        set_free(blocks, at++, false);
        taken.count++;
    }
    blocks->free_hint = at;
    return taken;
}

static struct gow1_taken take_new(struct gow1_blocks *blocks, uint32_t count_max)
{
    struct gow1_taken taken = {.first = blocks->allocated, .count = count_max};
    taken.is_fresh = taken.first >= blocks->fresh_from;
    if (!taken.is_fresh && taken.count > blocks->fresh_from - taken.first)
        taken.count = blocks->fresh_from - taken.first;
    blocks->allocated += taken.count;
    assert(blocks->allocated <= GOW1_BLOCKS_MAX);
    return taken;
}

struct gow1_taken gow1_blocks_take(struct gow1_blocks *blocks, uint32_t count_max)
{
    assert(count_max > 0);
    struct gow1_taken taken =
        blocks->free_count > 0 ? take_free(blocks, count_max) : take_new(blocks, count_max);
    if (taken.is_fresh) {
        assert(taken.first == blocks->fresh_from);
        blocks->fresh_from += taken.count;
    }
    return taken;
}

void gow1_blocks_trim(struct gow1_blocks *blocks)
{
    while (blocks->allocated > 0 && is_free(blocks, blocks->allocated - 1)) {
        set_free(blocks, blocks->allocated - 1, false);
        blocks->allocated--;
    }
    if (blocks->free_hint > blocks->allocated)
        blocks->free_hint = blocks->allocated;
}
