/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bits lie in words; a second, smaller set of bits says in which *groups* of words any bit was
 * ever set, so that an empty disk of any size is looked through at once. A bit is set in its word
 * first and then in its group: who finds the group empty is as if he had come before.
 *
 * Both are plain memory that the kernel gives out page by page when it is first written to.
 */
#include "block/dirty_bitmap.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/endian.h"

#define WORD_BITS 64
#define GROUP_WORDS 64
#define LOOK_WORDS_MAX 16384 /* of one look: 128 KiB of memory */

typedef _Atomic uint64_t bitmap_word;

struct dirty_bitmap {
    uint64_t size_bytes;
    uint64_t bits; /* granules */
    uint32_t granularity_bits;
    bitmap_word *words, *groups;
};

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static uint64_t word_count(uint64_t bits)
{
    return divide_up(bits, WORD_BITS);
}

static uint64_t group_word_count(uint64_t bits)
{
    return divide_up(divide_up(word_count(bits), GROUP_WORDS), WORD_BITS);
}

static uint64_t granules_of(uint64_t size_bytes, uint32_t granularity_bits)
{
    return divide_up(size_bytes, UINT64_C(1) << granularity_bits);
}

uint64_t dirty_bitmap_bytes(uint64_t size_bytes, uint32_t granularity_bits)
{
    return divide_up(granules_of(size_bytes, granularity_bits), 8);
}

/* Bits [from, to) of a word, to > from. */
static uint64_t mask_of(uint64_t from, uint64_t to)
{
    uint64_t below_to = to == WORD_BITS ? UINT64_MAX : (UINT64_C(1) << to) - 1;
    return below_to & ~((UINT64_C(1) << from) - 1);
}

/* --- life ---------------------------------------------------------------------------------------
 */

int dirty_bitmap_new(struct dirty_bitmap **ret_bitmap, uint64_t size_bytes,
                     uint32_t granularity_bits)
{
    assert(granularity_bits <= DIRTY_BITMAP_GRANULARITY_BITS_MAX);
    uint64_t bits = granules_of(size_bytes, granularity_bits);
    struct dirty_bitmap *bitmap = calloc(1, sizeof(*bitmap));
    if (!bitmap)
        return -ENOMEM;
    *bitmap = (struct dirty_bitmap){
        .size_bytes = size_bytes,
        .bits = bits,
        .granularity_bits = granularity_bits,
        /* At least one word each: calloc may give NULL for none. */
        .words = calloc(word_count(bits) + 1, sizeof(*bitmap->words)),
        .groups = calloc(group_word_count(bits) + 1, sizeof(*bitmap->groups)),
    };
    if (!bitmap->words || !bitmap->groups) {
        dirty_bitmap_free(bitmap);
        return -ENOMEM;
    }
    *ret_bitmap = bitmap;
    return 0;
}

void dirty_bitmap_free(struct dirty_bitmap *bitmap)
{
    if (!bitmap)
        return;
    free(bitmap->words);
    free(bitmap->groups);
    free(bitmap);
}

uint64_t dirty_bitmap_size_bytes(const struct dirty_bitmap *bitmap)
{
    return bitmap->size_bytes;
}

uint32_t dirty_bitmap_granularity_bits(const struct dirty_bitmap *bitmap)
{
    return bitmap->granularity_bits;
}

int dirty_bitmap_copy(const struct dirty_bitmap *bitmap, uint64_t size_bytes,
                      struct dirty_bitmap **ret_copy)
{
    uint64_t end = bitmap->size_bytes < size_bytes ? bitmap->size_bytes : size_bytes;
    uint64_t offset = 0, length;
    struct dirty_bitmap *copy;
    if (dirty_bitmap_new(&copy, size_bytes, bitmap->granularity_bits) < 0)
        return -ENOMEM;
    for (; dirty_bitmap_next(bitmap, offset, end - offset, &offset, &length); offset += length)
        dirty_bitmap_set(copy, offset, length);
    *ret_copy = copy;
    return 0;
}

void dirty_bitmap_take_over(struct dirty_bitmap *bitmap, struct dirty_bitmap *other)
{
    struct dirty_bitmap old = *bitmap;
    *bitmap = *other;
    *other = old;
    dirty_bitmap_free(other);
}

/* --- setting ------------------------------------------------------------------------------------
 */

static void set_bits(bitmap_word *words, uint64_t from, uint64_t end)
{
    while (from < end) {
        bitmap_word *word = &words[from / WORD_BITS];
        uint64_t word_end = (from / WORD_BITS + 1) * WORD_BITS;
        uint64_t to = end < word_end ? end : word_end;
        uint64_t mask = mask_of(from % WORD_BITS, (to - 1) % WORD_BITS + 1);
        /* Mostly it is set already, and then other processors keep their copy of the line. */
        if ((atomic_load_explicit(word, memory_order_acquire) & mask) != mask)
            atomic_fetch_or(word, mask);
        from = to;
    }
}

static void set_granules(struct dirty_bitmap *bitmap, uint64_t from, uint64_t end)
{
    uint64_t per_group = WORD_BITS * GROUP_WORDS;
    set_bits(bitmap->words, from, end);
    set_bits(bitmap->groups, from / per_group, (end - 1) / per_group + 1);
}

void dirty_bitmap_set(struct dirty_bitmap *bitmap, uint64_t offset, uint64_t length)
{
    if (length == 0 || offset >= bitmap->size_bytes)
        return;
    uint64_t left = bitmap->size_bytes - offset;
    uint64_t last = offset + (length < left ? length : left) - 1;
    set_granules(bitmap, offset >> bitmap->granularity_bits,
                 (last >> bitmap->granularity_bits) + 1);
}

void dirty_bitmap_clear(struct dirty_bitmap *bitmap)
{
    for (uint64_t i = 0; i < group_word_count(bitmap->bits); i++) {
        uint64_t group = atomic_exchange(&bitmap->groups[i], 0);
        for (; group != 0; group &= group - 1) {
            uint64_t first = (i * WORD_BITS + (unsigned)__builtin_ctzll(group)) * GROUP_WORDS;
            for (uint64_t w = first; w < first + GROUP_WORDS && w < word_count(bitmap->bits); w++)
                atomic_store(&bitmap->words[w], 0);
        }
    }
}

/* --- looking ------------------------------------------------------------------------------------
 */

static bool is_group_clean(const struct dirty_bitmap *bitmap, uint64_t word)
{
    uint64_t group = word / GROUP_WORDS;
    return !(atomic_load_explicit(&bitmap->groups[group / WORD_BITS], memory_order_acquire) >>
                 group % WORD_BITS &
             1);
}

/* The first granule in [from, end) that is dirty, or is not; end when there is none. After
 * words_max words it gives up, and says how far it came. */
static uint64_t find(const struct dirty_bitmap *bitmap, uint64_t from, uint64_t end, bool dirty,
                     uint64_t words_max)
{
    while (from < end && words_max > 0) {
        uint64_t index = from / WORD_BITS;
        if (from % WORD_BITS == 0 && index % GROUP_WORDS == 0 && is_group_clean(bitmap, index)) {
            if (!dirty)
                return from;
            from += WORD_BITS * GROUP_WORDS;
            words_max--;
            continue;
        }
        uint64_t word = atomic_load_explicit(&bitmap->words[index], memory_order_acquire);
        uint64_t wanted = (dirty ? word : ~word) & mask_of(from % WORD_BITS, WORD_BITS);
        if (wanted != 0) {
            uint64_t found = index * WORD_BITS + (unsigned)__builtin_ctzll(wanted);
            return found < end ? found : end;
        }
        from = (index + 1) * WORD_BITS;
        words_max--;
    }
    return from < end ? from : end;
}

/* Of the granules [0, granule): how far their bytes reach past offset, `length` at most. */
static uint64_t bytes_up_to(const struct dirty_bitmap *bitmap, uint64_t granule, uint64_t offset,
                            uint64_t length)
{
    uint32_t bits = bitmap->granularity_bits;
    if (granule >= bitmap->bits || (granule << bits) - offset >= length)
        return length;
    return (granule << bits) - offset;
}

bool dirty_bitmap_look(const struct dirty_bitmap *bitmap, uint64_t offset, uint64_t length,
                       uint64_t *ret_length)
{
    assert(length > 0);
    *ret_length = length;
    if (offset >= bitmap->size_bytes)
        return false;
    uint64_t left = bitmap->size_bytes - offset;
    uint64_t inside = length < left ? length : left;
    uint64_t first = offset >> bitmap->granularity_bits;
    uint64_t end = ((offset + inside - 1) >> bitmap->granularity_bits) + 1;
    uint64_t word = atomic_load_explicit(&bitmap->words[first / WORD_BITS], memory_order_acquire);
    bool is_dirty = word >> first % WORD_BITS & 1;
    uint64_t change = find(bitmap, first + 1, end, !is_dirty, LOOK_WORDS_MAX);
    *ret_length = bytes_up_to(bitmap, change, offset, is_dirty ? inside : length);
    return is_dirty;
}

bool dirty_bitmap_next(const struct dirty_bitmap *bitmap, uint64_t offset, uint64_t length,
                       uint64_t *ret_offset, uint64_t *ret_length)
{
    uint32_t bits = bitmap->granularity_bits;
    if (length == 0 || offset >= bitmap->size_bytes)
        return false;
    uint64_t left = bitmap->size_bytes - offset;
    uint64_t range_end = offset + (length < left ? length : left);
    uint64_t end = ((range_end - 1) >> bits) + 1;
    uint64_t first = find(bitmap, offset >> bits, end, true, UINT64_MAX);
    if (first == end)
        return false;
    uint64_t change = find(bitmap, first, end, false, UINT64_MAX);
    *ret_offset = first << bits > offset ? first << bits : offset;
    *ret_length = bytes_up_to(bitmap, change, *ret_offset, range_end - *ret_offset);
    return true;
}

uint64_t dirty_bitmap_count(const struct dirty_bitmap *bitmap)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < word_count(bitmap->bits); i++) {
        if (i % GROUP_WORDS == 0 && is_group_clean(bitmap, i))
            i += GROUP_WORDS - 1;
        else
            count += (unsigned)__builtin_popcountll(atomic_load(&bitmap->words[i]));
    }
    return count;
}

/* --- bytes --------------------------------------------------------------------------------------
 */

void dirty_bitmap_give_bytes(const struct dirty_bitmap *bitmap, uint64_t first_byte, uint8_t *to,
                             size_t length)
{
    assert(first_byte % 8 == 0);
    memset(to, 0, length);
    for (size_t done = 0; done < length; done += 8) {
        uint64_t index = (first_byte + done) / 8;
        uint8_t bytes[8];
        if (index >= word_count(bitmap->bits))
            return;
        store_le64(bytes, atomic_load(&bitmap->words[index]));
        memcpy(to + done, bytes, length - done < 8 ? length - done : 8);
    }
}

void dirty_bitmap_take_bytes(struct dirty_bitmap *bitmap, uint64_t first_byte, const uint8_t *from,
                             size_t length)
{
    assert(first_byte % 8 == 0);
    for (size_t done = 0; done < length; done += 8) {
        uint64_t index = (first_byte + done) / 8;
        uint8_t bytes[8] = {0};
        if (index >= word_count(bitmap->bits))
            return;
        memcpy(bytes, from + done, length - done < 8 ? length - done : 8);
        uint64_t word = load_le64(bytes);
        uint64_t end = bitmap->bits - index * WORD_BITS;
        if (end < WORD_BITS)
            word &= mask_of(0, end);
        if (word == 0)
            continue;
        atomic_fetch_or(&bitmap->words[index], word);
        set_bits(bitmap->groups, index / GROUP_WORDS, index / GROUP_WORDS + 1);
    }
}
