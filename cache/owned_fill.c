/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Filling the set when an image is opened. Elements are gathered by the segment that they are in,
 * each in one word as it will be in a leaf; at the end segment after segment is sorted and goes to
 * new leaves, and its words are given back. So it takes about as much memory as the set will have,
 * and a table that is in no order at all little more time than one that is.
 */
#include "cache/owned_leaves.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/align.h"

#define SLOTS_MIN 16
#define WORDS_MIN 4
#define LEAF_FILL (OWNED_LEAF_WORDS * 9 / 10) /* some may come between them later */
#define DIGIT_BITS 9
_Static_assert(OWNED_SEGMENT_BITS % DIGIT_BITS == 0, "digits fill a word");

struct owned_part {
    uint64_t segment;
    uint32_t *words;
    size_t count, capacity;
};

/* --- gathering ----------------------------------------------------------------------------------
 */

void owned_filler_init(struct owned_filler *filler, struct owned *owned)
{
    *filler = (struct owned_filler){.owned = owned};
    assert(atomic_load(&atomic_load(&owned->top)->count) == 0);
}

void owned_filler_fini(struct owned_filler *filler)
{
    for (size_t i = 0; i < filler->slot_count; i++) {
        if (filler->slots[i])
            free(filler->slots[i]->words);
        free(filler->slots[i]);
    }
    free(filler->slots);
    *filler = (struct owned_filler){.owned = NULL};
}

/* Where the segment's part is in the table, or would be: an open-addressed one, half full. */
static size_t find_slot(struct owned_part *const *slots, size_t slot_count, uint64_t segment)
{
    uint64_t at = segment * UINT64_C(0x9e3779b97f4a7c15) >> 32;
    while (slots[at & (slot_count - 1)] && slots[at & (slot_count - 1)]->segment != segment)
        at++;
    return at & (slot_count - 1);
}

static int grow_slots(struct owned_filler *filler)
{
    size_t slot_count = filler->slot_count ? filler->slot_count * 2 : SLOTS_MIN;
    struct owned_part **slots = calloc(slot_count, sizeof(struct owned_part *));
    if (!slots)
        return -ENOMEM;
    for (size_t i = 0; i < filler->slot_count; i++) {
        struct owned_part *part = filler->slots[i];
        if (part)
            slots[find_slot(slots, slot_count, part->segment)] = part;
    }
    free(filler->slots);
    filler->slots = slots;
    filler->slot_count = slot_count;
    return 0;
}

/* NULL: no memory. */
static struct owned_part *part_of(struct owned_filler *filler, uint64_t segment)
{
    if (filler->part_count * 2 >= filler->slot_count && grow_slots(filler) < 0)
        return NULL;
    size_t at = find_slot(filler->slots, filler->slot_count, segment);
    if (filler->slots[at])
        return filler->slots[at];
    struct owned_part *part = calloc(1, sizeof(*part));
    if (!part)
        return NULL;
    part->segment = segment;
    filler->slots[at] = part;
    filler->part_count++;
    return part;
}

static int gather(struct owned_filler *filler, uint64_t cluster_index, enum owned_kind kind,
                  unsigned owner)
{
    struct owned_part *part = part_of(filler, owned_segment_of(cluster_index));
    if (!part)
        return -ENOMEM;
    if (part->count == part->capacity) {
        size_t capacity = part->capacity ? part->capacity * 2 : WORDS_MIN;
        uint32_t *words = realloc(part->words, capacity * sizeof(*words));
        if (!words)
            return -ENOMEM;
        part->words = words;
        part->capacity = capacity;
    }
    /* What does not go into a word is the segment. */
    part->words[part->count++] = (uint32_t)owned_element(cluster_index, kind, owner);
    return 0;
}

int owned_filler_add(struct owned_filler *filler, uint64_t first, uint64_t count, unsigned owner)
{
    assert(first < OWNED_CLUSTERS_MAX && count > 0 && count <= OWNED_CLUSTERS_MAX - first);
    assert(owner > OWNED_NOBODY && owner <= OWNED_OWNERS_MAX);
    if (count == 1)
        return gather(filler, first, OWNED_ALONE, owner);
    int ret = gather(filler, first, OWNED_FIRST, owner);
    return ret == 0 ? gather(filler, first + count - 1, OWNED_LAST, owner) : ret;
}

/* --- sorting ------------------------------------------------------------------------------------
 */

/* In which bits some of them differ; 0 when they are in order. */
static uint32_t bits_to_sort(const uint32_t *words, size_t count)
{
    uint32_t bits = 0, falls = 0;
    for (size_t i = 1; i < count; i++) {
        bits |= words[i] ^ words[i - 1];
        falls |= words[i] < words[i - 1];
    }
    return falls ? bits : 0;
}

/* One pass of a radix sort, by the digit at `shift`. */
static void sort_by_digit(const uint32_t *from, uint32_t *to, size_t count, unsigned shift)
{
    const uint32_t mask = (1u << DIGIT_BITS) - 1;
    size_t places[1 << DIGIT_BITS] = {0};
    for (size_t i = 0; i < count; i++)
        places[from[i] >> shift & mask]++;
    size_t place = 0;
    for (size_t digit = 0; digit <= mask; digit++) {
        size_t of_digit = places[digit];
        places[digit] = place;
        place += of_digit;
    }
    for (size_t i = 0; i < count; i++)
        to[places[from[i] >> shift & mask]++] = from[i];
}

/* By cluster; two of one cluster are a conflict in any order. */
static int sort_part(struct owned_part *part)
{
    uint32_t bits = bits_to_sort(part->words, part->count);
    if (bits == 0)
        return 0;
    uint32_t *other = malloc(part->count * sizeof(*other));
    if (!other)
        return -ENOMEM;
    for (unsigned shift = OWNED_TAG_BITS; shift < 32; shift += DIGIT_BITS) {
        if ((bits >> shift & ((1u << DIGIT_BITS) - 1)) == 0)
            continue;
        sort_by_digit(part->words, other, part->count, shift);
        uint32_t *sorted = other;
        other = part->words;
        part->words = sorted;
    }
    part->capacity = part->count;
    free(other);
    return 0;
}

static int compare_parts(const void *a, const void *b)
{
    const struct owned_part *const *first = a, *const *second = b;
    return ((*first)->segment > (*second)->segment) - ((*first)->segment < (*second)->segment);
}

/* The parts alone, in order, at the begin of the slots. */
static void sort_parts(struct owned_filler *filler)
{
    size_t count = 0;
    for (size_t i = 0; i < filler->slot_count; i++) {
        struct owned_part *part = filler->slots[i];
        filler->slots[i] = NULL;
        if (part)
            filler->slots[count++] = part;
    }
    if (count > 0)
        qsort(filler->slots, count, sizeof(struct owned_part *), compare_parts);
}

/* --- leaves -------------------------------------------------------------------------------------
 */

/* Whether the second cannot come right behind the first. */
static bool is_conflict(uint64_t first, uint64_t second)
{
    bool is_inside = owned_kind_of(first) == OWNED_FIRST;
    bool is_end = owned_kind_of(second) == OWNED_LAST;
    return (owned_index_of(first) >= owned_index_of(second)) | (is_inside != is_end);
}

/* last: the element before them all; 0 where there is none. */
static int check_part(struct owned_filler *filler, const struct owned_part *part, uint64_t last)
{
    uint64_t base = part->segment << OWNED_SEGMENT_BITS << OWNED_TAG_BITS;
    for (size_t i = 0; i < part->count; i++) {
        uint64_t element = base + part->words[i];
        if (is_conflict(last, element) && last != 0) {
            filler->conflict = (struct owned_conflict){
                .cluster_index = owned_index_of(element),
                .owners = {owned_owner_of(element), owned_owner_of(last)},
            };
            return -EEXIST;
        }
        last = element;
    }
    return 0;
}

static struct owned_leaf *push_leaf(struct owned *owned, uint64_t base)
{
    struct owned_top *top = atomic_load(&owned->top);
    uint32_t count = atomic_load(&top->count);
    if (owned_reserve_leaves(owned, 1) < 0)
        return NULL;
    if (count == top->capacity) {
        top = owned_top_enlarge(owned);
        if (!top)
            return NULL;
    }
    struct owned_leaf *leaf = owned_take_leaf(owned);
    owned_put_entry(top, count, base, leaf);
    atomic_store(&top->count, count + 1);
    return leaf;
}

static int push_part(struct owned *owned, const struct owned_part *part)
{
    uint64_t base = part->segment << OWNED_SEGMENT_BITS;
    uint64_t first_element = base << OWNED_TAG_BITS;
    for (size_t done = 0; done < part->count;) {
        uint32_t count = (uint32_t)smaller(LEAF_FILL, part->count - done);
        if (done > 0)
            base = owned_index_of(first_element + part->words[done]);
        struct owned_leaf *leaf = push_leaf(owned, base);
        if (!leaf)
            return -ENOMEM;
        for (uint32_t i = 0; i < count; i++)
            owned_put_element(leaf, base, i, first_element + part->words[done + i]);
        atomic_store(&leaf->count, count);
        done += count;
    }
    return 0;
}

int owned_filler_finish(struct owned_filler *filler)
{
    uint64_t last = 0;
    int ret = 0;
    sort_parts(filler);
    for (size_t i = 0; i < filler->part_count && ret == 0; i++) {
        struct owned_part *part = filler->slots[i];
        ret = sort_part(part);
        if (ret == 0)
            ret = check_part(filler, part, last);
        if (ret == 0)
            ret = push_part(filler->owned, part);
        last =
            (part->segment << OWNED_SEGMENT_BITS << OWNED_TAG_BITS) + part->words[part->count - 1];
        free(part->words);
        part->words = NULL;
    }
    return ret;
}
