/* SPDX-License-Identifier: BSD-3-Clause */
#include "cache/owned.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

/*
 * An open-addressed hash of words, each a cluster's index and its owner, at most half full. What
 * comes after a removed word moves up, so there are no tombstones to clear away.
 *
 * Those who ask take no lock. Words are written whole; while some move, the sequence number is odd,
 * and who asked meanwhile asks again. A set that was outgrown is kept until the end, since somebody
 * may still be looking through it: each is half the size of the next, so all of them together cost
 * as much as the last one.
 */

#define EMPTY UINT64_C(0)
#define OWNER_MASK UINT64_C(0xff)
#define SLOT_BITS_MIN 6
#define SLOT_BITS_MAX 40

struct slots {
    struct slots *older;
    unsigned bits;
    _Atomic uint64_t words[];
};

struct owned {
    _Atomic(struct slots *) slots;
    _Atomic uint64_t count;
    _Atomic uint32_t sequence; /* odd while words move */
};

static uint64_t word_of(uint64_t cluster_index, unsigned owner)
{
    return cluster_index << 8 | owner;
}

static uint64_t mask_of(const struct slots *slots)
{
    return (UINT64_C(1) << slots->bits) - 1;
}

static uint64_t hash_of(const struct slots *slots, uint64_t cluster_index)
{
    return (cluster_index * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - slots->bits);
}

static struct slots *slots_new(unsigned bits)
{
    if (bits > SLOT_BITS_MAX)
        return NULL;
    struct slots *slots = calloc(1, sizeof(*slots) + (sizeof(uint64_t) << bits));
    if (slots)
        slots->bits = bits;
    return slots;
}

int owned_new(struct owned **ret_owned)
{
    struct owned *owned = calloc(1, sizeof(*owned));
    struct slots *slots = slots_new(SLOT_BITS_MIN);
    if (!owned || !slots) {
        free(owned);
        free(slots);
        return -ENOMEM;
    }
    atomic_store(&owned->slots, slots);
    *ret_owned = owned;
    return 0;
}

void owned_free(struct owned *owned)
{
    if (!owned)
        return;
    for (struct slots *slots = atomic_load(&owned->slots), *older; slots; slots = older) {
        older = slots->older;
        free(slots);
    }
    free(owned);
}

static uint64_t word_at(const struct slots *slots, uint64_t at)
{
    return atomic_load_explicit(&slots->words[at & mask_of(slots)], memory_order_acquire);
}

static void put_at(struct slots *slots, uint64_t at, uint64_t word)
{
    atomic_store_explicit(&slots->words[at & mask_of(slots)], word, memory_order_release);
}

static bool is_of(uint64_t word, uint64_t cluster_index)
{
    return word != EMPTY && word >> 8 == cluster_index;
}

/* Where the cluster's word is, or the free place where it would be. */
static uint64_t find(const struct slots *slots, uint64_t cluster_index)
{
    uint64_t at = hash_of(slots, cluster_index);
    for (;; at++) {
        uint64_t word = word_at(slots, at);
        if (word == EMPTY || is_of(word, cluster_index))
            return at & mask_of(slots);
    }
}

int owned_reserve(struct owned *owned, uint64_t count)
{
    struct slots *slots = atomic_load_explicit(&owned->slots, memory_order_relaxed);
    if (count > UINT64_C(1) << SLOT_BITS_MAX)
        return -ENOMEM;
    if (owned_count(owned) + count <= mask_of(slots) / 2)
        return 0;
    unsigned bits = SLOT_BITS_MIN;
    while ((owned_count(owned) + count) * 4 > UINT64_C(1) << bits)
        bits++;
    struct slots *larger = slots_new(bits);
    if (!larger)
        return -ENOMEM;
    for (uint64_t at = 0; at <= mask_of(slots); at++) {
        uint64_t word = word_at(slots, at);
        if (word != EMPTY)
            put_at(larger, find(larger, word >> 8), word);
    }
    larger->older = slots;
    atomic_store_explicit(&owned->slots, larger, memory_order_release);
    return 0;
}

int owned_add(struct owned *owned, uint64_t cluster_index, unsigned owner)
{
    assert(cluster_index < OWNED_CLUSTERS_MAX);
    assert(owner > OWNED_NOBODY && owner <= OWNED_OWNERS_MAX);
    unsigned there = owned_by(owned, cluster_index);
    if (there != OWNED_NOBODY)
        return there == owner ? 0 : -EEXIST;
    int rc = owned_reserve(owned, 1);
    if (rc < 0)
        return rc;
    struct slots *slots = atomic_load_explicit(&owned->slots, memory_order_relaxed);
    put_at(slots, find(slots, cluster_index), word_of(cluster_index, owner));
    atomic_fetch_add(&owned->count, 1);
    return 0;
}

/* Whether a word that belongs at `home` or later may move from `at` up to the hole before it. */
static bool may_move(const struct slots *slots, uint64_t hole, uint64_t at, uint64_t home)
{
    uint64_t mask = mask_of(slots);
    return ((at - home) & mask) >= ((at - hole) & mask);
}

static void remove_at(struct slots *slots, uint64_t hole)
{
    for (uint64_t at = hole + 1;; at++) {
        uint64_t word = word_at(slots, at);
        if (word == EMPTY)
            break;
        if (!may_move(slots, hole, at, hash_of(slots, word >> 8)))
            continue;
        put_at(slots, hole, word);
        hole = at;
    }
    put_at(slots, hole, EMPTY);
}

void owned_remove(struct owned *owned, uint64_t cluster_index)
{
    struct slots *slots = atomic_load_explicit(&owned->slots, memory_order_relaxed);
    uint64_t at = find(slots, cluster_index);
    if (word_at(slots, at) == EMPTY)
        return;
    uint32_t sequence = atomic_load_explicit(&owned->sequence, memory_order_relaxed);
    atomic_store_explicit(&owned->sequence, sequence + 1, memory_order_relaxed);
    remove_at(slots, at);
    atomic_store_explicit(&owned->sequence, sequence + 2, memory_order_release);
    atomic_fetch_sub(&owned->count, 1);
}

unsigned owned_by(const struct owned *owned, uint64_t cluster_index)
{
    for (;;) {
        uint32_t before = atomic_load_explicit(&owned->sequence, memory_order_acquire);
        struct slots *slots = atomic_load_explicit(&owned->slots, memory_order_acquire);
        uint64_t word = word_at(slots, find(slots, cluster_index));
        uint32_t after = atomic_load_explicit(&owned->sequence, memory_order_relaxed);
        if (before == after && before % 2 == 0)
            return is_of(word, cluster_index) ? (unsigned)(word & OWNER_MASK) : OWNED_NOBODY;
    }
}

unsigned owned_first(const struct owned *owned, uint64_t first, uint64_t count,
                     uint64_t *ret_cluster_index)
{
    for (uint64_t i = 0; i < count; i++) {
        unsigned owner = owned_by(owned, first + i);
        if (owner == OWNED_NOBODY)
            continue;
        *ret_cluster_index = first + i;
        return owner;
    }
    return OWNED_NOBODY;
}

uint64_t owned_count(const struct owned *owned)
{
    return atomic_load(&owned->count);
}
