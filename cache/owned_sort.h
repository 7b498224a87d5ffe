/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CACHE_OWNED_SORT_H
#define CACHE_OWNED_SORT_H

/*
 * Inside of owned_fill.c: sorts words as they are in leaves (owned_leaves.h), some thousand at a
 * time, so that all of it is in the processor's caches. They come in pieces, twice: to be counted,
 * and to be placed.
 */

#include <stddef.h>
#include <stdint.h>

#define OWNED_SORT_DIGIT_BITS 11
#define OWNED_SORT_DIGITS 3

struct owned_sorter {
    uint32_t *words, *spare;
    size_t room; /* of both */
    size_t count;
    unsigned digits, digit_bits;
    uint32_t counts[OWNED_SORT_DIGITS][1 << OWNED_SORT_DIGIT_BITS]; /* and then places */
};

/* Before the first use it is all zeroes. */
void owned_sorter_fini(struct owned_sorter *sorter);
/* So many words will come, which differ in so many bits of the cluster's index at most. 0 or
 * -ENOMEM. */
int owned_sorter_begin(struct owned_sorter *sorter, size_t count, unsigned bits);
void owned_sorter_count(struct owned_sorter *sorter, const uint32_t *words, size_t count);
/* All were counted, and now come once more. */
void owned_sorter_counted(struct owned_sorter *sorter);
void owned_sorter_place(struct owned_sorter *sorter, const uint32_t *words, size_t count);
/* All of them by their clusters, two of one cluster in any order; until the next call. */
const uint32_t *owned_sorter_end(struct owned_sorter *sorter);

#endif
