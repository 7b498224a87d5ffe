/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CACHE_OWNED_SORT_H
#define CACHE_OWNED_SORT_H

/*
 * Inside of owned_fill.c: sorts words as they are in leaves (owned_leaves.h), some thousand at a
 * time, so that all of it is in the processor's caches.
 */

#include <stddef.h>
#include <stdint.h>

#define OWNED_SORT_DIGIT_BITS 11
#define OWNED_SORT_DIGITS 3

struct owned_sorter {
    uint32_t *words; /* those that are to be sorted, and those that are */
    uint32_t *spare;
    size_t room; /* of both */
    uint32_t counts[OWNED_SORT_DIGITS][1 << OWNED_SORT_DIGIT_BITS];
};

/* Before the first use it is all zeroes. */
void owned_sorter_fini(struct owned_sorter *sorter);
/* There is room for so many words; what they were is lost. 0 or -ENOMEM. */
int owned_sorter_reserve(struct owned_sorter *sorter, size_t count);
/* Sorts so many of its words by their clusters, two of one cluster in any order. They differ in so
 * many bits of the cluster's index at most. */
void owned_sorter_sort(struct owned_sorter *sorter, size_t count, unsigned bits);

#endif
