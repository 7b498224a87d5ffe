/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CACHE_OWNED_LEAVES_H
#define CACHE_OWNED_LEAVES_H

/*
 * Inside of owned.c, owned_fill.c and owned_finish.c.
 *
 * An *element* is a cluster's index with a *tag*: its owner, and whether it stands alone or is the
 * first or the last of some in a row; between these two there is no other element. Elements are
 * sorted. A *leaf* has some of them, all of one *segment*, as many clusters as a word can count:
 * each is one word, the lower half of the element. The *top* has the place of every leaf and its
 * *base*, a cluster of that segment that is behind all leaves before and not behind the first
 * element; sorted too, so that a search is one in the top and one in a leaf.
 *
 * Those who ask take no lock. Words are written whole; while something changes the sequence number
 * is odd, and who asked meanwhile asks again. So whatever they may still be looking at stays memory
 * of the same kind: leaves that are free are used again as leaves, and a top that was outgrown is
 * kept until the end; each is half the size of the next, so all of them together cost as much as
 * the last one.
 */

#include <stdatomic.h>

#include "cache/owned.h"

#define OWNED_OWNER_BITS 3
#define OWNED_TAG_BITS 5
#define OWNED_SEGMENT_BITS (32 - OWNED_TAG_BITS)
#define OWNED_LEAF_WORDS 125
#define OWNED_CHUNK_LEAVES 511 /* of a large one; with what comes before them, 256 KiB */

enum owned_kind {
    OWNED_ALONE,
    OWNED_FIRST,
    OWNED_LAST,
};

struct owned_leaf {
    _Alignas(512) struct owned_leaf *next_free;
    _Atomic uint32_t count;
    union {
        _Atomic uint32_t words[OWNED_LEAF_WORDS];
        uint32_t plain[OWNED_LEAF_WORDS]; /* the same, while nobody asks */
    };
};
_Static_assert(sizeof(struct owned_leaf) == 512, "a leaf has no room that is not used");

struct owned_top {
    struct owned_top *older;
    uint32_t capacity;
    _Atomic uint32_t count;
    struct {
        _Atomic uint64_t base;
        _Atomic(struct owned_leaf *) leaf;
    } entries[];
};

struct owned_chunk {
    struct owned_chunk *next;
    struct owned_leaf leaves[];
};
_Static_assert(sizeof(struct owned_chunk) == sizeof(struct owned_leaf), "as long as a leaf");

struct owned {
    _Atomic(struct owned_top *) top;
    _Atomic uint32_t sequence; /* odd while something changes */
    struct owned_pool pool;
};

static inline uint64_t owned_element(uint64_t cluster_index, enum owned_kind kind, unsigned owner)
{
    return cluster_index << OWNED_TAG_BITS | (uint64_t)kind << OWNED_OWNER_BITS | owner;
}

static inline uint64_t owned_index_of(uint64_t element)
{
    return element >> OWNED_TAG_BITS;
}

static inline enum owned_kind owned_kind_of(uint64_t element)
{
    return (enum owned_kind)(element >> OWNED_OWNER_BITS & 3);
}

static inline unsigned owned_owner_of(uint64_t element)
{
    return (unsigned)(element & OWNED_OWNERS_MAX);
}

static inline uint64_t owned_segment_of(uint64_t cluster_index)
{
    return cluster_index >> OWNED_SEGMENT_BITS;
}

static inline uint64_t owned_base_at(const struct owned_top *top, uint32_t at)
{
    return atomic_load_explicit(&top->entries[at].base, memory_order_acquire);
}

static inline struct owned_leaf *owned_leaf_at(const struct owned_top *top, uint32_t at)
{
    return atomic_load_explicit(&top->entries[at].leaf, memory_order_acquire);
}

static inline void owned_put_entry(struct owned_top *top, uint32_t at, uint64_t base,
                                   struct owned_leaf *leaf)
{
    atomic_store_explicit(&top->entries[at].base, base, memory_order_release);
    atomic_store_explicit(&top->entries[at].leaf, leaf, memory_order_release);
}

static inline uint32_t owned_leaf_count(const struct owned_leaf *leaf)
{
    return atomic_load_explicit(&leaf->count, memory_order_acquire);
}

static inline uint64_t owned_element_at(const struct owned_leaf *leaf, uint64_t base, uint32_t at)
{
    uint32_t word = atomic_load_explicit(&leaf->words[at], memory_order_acquire);
    return owned_segment_of(base) << 32 | word;
}

static inline void owned_put_element(struct owned_leaf *leaf, uint32_t at, uint64_t element)
{
    atomic_store_explicit(&leaf->words[at], (uint32_t)element, memory_order_release);
}

/* Another top, of at least twice the capacity and for so many leaves, with the same ones; NULL: no
 * memory. */
struct owned_top *owned_top_enlarge(struct owned *owned, uint64_t count);
/* There are so many free leaves at least. 0 or -ENOMEM. */
int owned_pool_reserve(struct owned_pool *pool, uint64_t count);
/* One of those, empty. */
struct owned_leaf *owned_pool_take(struct owned_pool *pool);
/* Of this pool or another one, as long as all of them are joined before one is freed. */
void owned_pool_give(struct owned_pool *pool, struct owned_leaf *leaf);
/* All that another pool has; that one is empty then. */
void owned_pool_join(struct owned_pool *pool, struct owned_pool *other);

#endif
