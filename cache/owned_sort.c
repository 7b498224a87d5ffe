/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One digit after the other, from the lowest: what it takes depends on nothing but how many words
 * there are.
 *
 * Tried and rejected, with two thousand words of 20 bits, 3.5 to 4 ns a word this way: as many
 * buckets as words by the highest bits, and the few of a bucket put in order where they are, took 3
 * where the words lie evenly, and 5 to 8 where they are drawn, as the processor cannot guess how
 * far each goes. A bit for each cluster of the part and the bits read in order took 4.5.
 */
#include "cache/owned_sort.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/owned_leaves.h"

_Static_assert(OWNED_SORT_DIGITS *OWNED_SORT_DIGIT_BITS >= OWNED_SEGMENT_BITS, "all of a word");

void owned_sorter_fini(struct owned_sorter *sorter)
{
    free(sorter->words);
    free(sorter->spare);
}

static int reserve(struct owned_sorter *sorter, size_t count)
{
    if (count <= sorter->room)
        return 0;
    owned_sorter_fini(sorter);
    sorter->words = malloc(count * sizeof(*sorter->words));
    sorter->spare = malloc(count * sizeof(*sorter->spare));
    sorter->room = sorter->words && sorter->spare ? count : 0;
    return sorter->room ? 0 : -ENOMEM;
}

int owned_sorter_begin(struct owned_sorter *sorter, size_t count, unsigned bits)
{
    if (reserve(sorter, count) < 0)
        return -ENOMEM;
    sorter->count = count;
    sorter->digits = (bits + OWNED_SORT_DIGIT_BITS - 1) / OWNED_SORT_DIGIT_BITS;
    sorter->digit_bits = (bits + sorter->digits - 1) / sorter->digits;
    for (unsigned nth = 0; nth < sorter->digits; nth++)
        memset(sorter->counts[nth], 0, sizeof(sorter->counts[nth][0]) << sorter->digit_bits);
    return 0;
}

static inline uint32_t digit_of(uint32_t word, unsigned nth, unsigned digit_bits)
{
    return word >> (OWNED_TAG_BITS + nth * digit_bits) & ((UINT32_C(1) << digit_bits) - 1);
}

/* Inline, so that those which millions of words go through know how many bits there are. */
static inline __attribute__((always_inline)) void count_words(struct owned_sorter *sorter,
                                                              const uint32_t *words, size_t count,
                                                              unsigned digits, unsigned digit_bits)
{
    for (size_t i = 0; i < count; i++) {
        sorter->counts[0][digit_of(words[i], 0, digit_bits)]++;
        if (digits > 1)
            sorter->counts[1][digit_of(words[i], 1, digit_bits)]++;
        if (digits > 2)
            sorter->counts[2][digit_of(words[i], 2, digit_bits)]++;
    }
}

static inline __attribute__((always_inline)) void place_words(uint32_t *to, uint32_t *places,
                                                              const uint32_t *words, size_t count,
                                                              unsigned nth, unsigned digit_bits)
{
    for (size_t i = 0; i < count; i++)
        to[places[digit_of(words[i], nth, digit_bits)]++] = words[i];
}

void owned_sorter_count(struct owned_sorter *sorter, const uint32_t *words, size_t count)
{
    if (sorter->digits == 2 && sorter->digit_bits == 10)
        count_words(sorter, words, count, 2, 10);
    else
        count_words(sorter, words, count, sorter->digits, sorter->digit_bits);
}

void owned_sorter_counted(struct owned_sorter *sorter)
{
    for (unsigned nth = 0; nth < sorter->digits; nth++) {
        uint32_t *counts = sorter->counts[nth], place = 0;
        for (uint32_t value = 0; value < UINT32_C(1) << sorter->digit_bits; value++) {
            uint32_t of_value = counts[value];
            counts[value] = place;
            place += of_value;
        }
    }
}

void owned_sorter_place(struct owned_sorter *sorter, const uint32_t *words, size_t count)
{
    if (sorter->digit_bits == 10)
        place_words(sorter->words, sorter->counts[0], words, count, 0, 10);
    else
        place_words(sorter->words, sorter->counts[0], words, count, 0, sorter->digit_bits);
}

const uint32_t *owned_sorter_end(struct owned_sorter *sorter)
{
    for (unsigned nth = 1; nth < sorter->digits; nth++) {
        uint32_t *words = sorter->words, *to = sorter->spare;
        if (nth == 1 && sorter->digit_bits == 10)
            place_words(to, sorter->counts[nth], words, sorter->count, 1, 10);
        else
            place_words(to, sorter->counts[nth], words, sorter->count, nth, sorter->digit_bits);
        sorter->words = to;
        sorter->spare = words;
    }
    return sorter->words;
}
