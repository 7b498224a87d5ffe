/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CACHE_OWNED_PARTS_H
#define CACHE_OWNED_PARTS_H

/*
 * Inside of owned_fill.c and owned_finish.c: the words of a part of the file, in leaves for the
 * time being. Each leaf says which one comes behind it. All are full but the newest one; that has
 * in its count how many are before it, the others how many words they have.
 */

#include "cache/owned_leaves.h"
#include "common/align.h"

struct owned_part {
    uint32_t *next; /* word of its newest leaf; at the end of that where it is full; or NULL */
};

static inline bool owned_part_is_full(const struct owned_part *part)
{
    return (uintptr_t)part->next % sizeof(struct owned_leaf) == 0;
}

static inline struct owned_leaf *owned_part_newest(const struct owned_part *part)
{
    uintptr_t last = (uintptr_t)part->next - sizeof(uint32_t);
    return part->next ? (struct owned_leaf *)align_down(last, sizeof(struct owned_leaf)) : NULL;
}

/* It has one leaf at least. */
static inline uint32_t owned_part_words_of_newest(const struct owned_part *part)
{
    return (uint32_t)(part->next - owned_part_newest(part)->plain);
}

static inline size_t owned_part_words(const struct owned_part *part)
{
    return (size_t)owned_leaf_count(owned_part_newest(part)) * OWNED_LEAF_WORDS +
           owned_part_words_of_newest(part);
}

/* It has room for a word. 0 or -ENOMEM. */
int owned_part_enlarge(struct owned_pool *pool, struct owned_part *part,
                       struct owned_leaf **ret_oldest);

#endif
