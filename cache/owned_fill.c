/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Filling the set when an image is opened: it has millions of tables at most, in any order, and
 * opening it shall take a tenth of a second at most.
 *
 * The file is cut into *parts*, of so many clusters that there are some thousand parts at most.
 * What comes is put into the part it lies in, a word for each element as it will be in a leaf, and
 * for the time being in leaves too, one behind the other. In the end one part after the other goes
 * to leaves for good, mostly those of the part before: as it is, or backwards, where it rises or
 * falls from begin to end, as tables mostly do; else it is brought together and sorted. A part that
 * has too many for that is parted again. So what is sorted fits the processor's caches, and all of
 * it takes hardly more memory than the set will.
 *
 * Tried and rejected: arrays that grow, one for each segment, sorted as a whole. Half of the time
 * was the kernel's for their memory, and passes over megabytes were most of the rest. Where tables
 * lie in no order, each goes to another part than the one before: to look for several in a row that
 * go to the same takes longer there than it saves elsewhere, and so does fetching where they will
 * go.
 */
#include "cache/owned_leaves.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/owned_sort.h"
#include "common/align.h"

#define PARTS_WANTED 4096
#define PARTS_MAX 16384 /* some of what is added may lie past the end that was said */
#define PART_BITS_MIN 20
#define LEAF_FILL (OWNED_LEAF_WORDS * 9 / 10) /* some may come between them later */
#define SORT_BITS 14 /* so many clusters at most, or words, are sorted at a time */
#define SORT_WORDS (1u << SORT_BITS)
#define SPLIT_WORDS_BITS 11 /* a part is parted into some of about so many words */
#define SPLIT_BITS_MAX 10
#define FETCHED_PARTS 8 /* together some ten thousand words, mostly */
#define FETCHED_LEAVES 32

struct owned_part {
    uint32_t *next; /* word of its newest leaf; at the end of that where it is full; or NULL */
};

/* --- gathering ----------------------------------------------------------------------------------
 */

void owned_filler_init(struct owned_filler *filler, struct owned *owned, uint64_t clusters_end)
{
    *filler = (struct owned_filler){.owned = owned, .part_bits = PART_BITS_MIN};
    assert(atomic_load(&atomic_load(&owned->top)->count) == 0);
    while (clusters_end >> filler->part_bits >= PARTS_WANTED &&
           filler->part_bits < OWNED_SEGMENT_BITS)
        filler->part_bits++;
}

void owned_filler_fini(struct owned_filler *filler)
{
    free(filler->parts); /* the leaves are the set's */
    *filler = (struct owned_filler){.owned = NULL};
}

static bool is_full(const struct owned_part *part)
{
    return (uintptr_t)part->next % sizeof(struct owned_leaf) == 0;
}

/* Its leaves are linked as free ones are, down to the oldest; each knows how many come behind it.
 */
static struct owned_leaf *newest_leaf(const struct owned_part *part)
{
    uintptr_t last = (uintptr_t)part->next - sizeof(uint32_t);
    return part->next ? (struct owned_leaf *)align_down(last, sizeof(struct owned_leaf)) : NULL;
}

/* It has one at least. */
static uint32_t words_of_newest(const struct owned_part *part)
{
    return (uint32_t)(part->next - newest_leaf(part)->plain);
}

static uint32_t words_of(const struct owned_part *part)
{
    return owned_leaf_count(newest_leaf(part)) * OWNED_LEAF_WORDS + words_of_newest(part);
}

static int enlarge_part(struct owned_filler *filler, struct owned_part *part)
{
    if (owned_reserve_leaves(filler->owned, 1) < 0)
        return -ENOMEM;
    struct owned_leaf *newest = newest_leaf(part), *leaf = owned_take_leaf(filler->owned);
    leaf->next_free = newest;
    atomic_init(&leaf->count, newest ? owned_leaf_count(newest) + 1 : 0);
    part->next = leaf->plain;
    return 0;
}

/* There are so many parts at least. */
static int reserve_parts(struct owned_filler *filler, uint64_t count)
{
    if (count > PARTS_MAX)
        return -EFBIG;
    size_t twice = (size_t)smaller(filler->part_count * 2, PARTS_MAX);
    size_t more = count > twice ? (size_t)count : twice;
    struct owned_part *parts = realloc(filler->parts, more * sizeof(*parts));
    if (!parts)
        return -ENOMEM;
    memset(parts + filler->part_count, 0, (more - filler->part_count) * sizeof(*parts));
    filler->parts = parts;
    filler->part_count = more;
    return 0;
}

/* The part of that cluster has room for a word. */
static int make_room(struct owned_filler *filler, uint64_t cluster_index)
{
    uint64_t at = cluster_index >> filler->part_bits;
    int ret = at < filler->part_count ? 0 : reserve_parts(filler, at + 1);
    return ret == 0 && is_full(&filler->parts[at]) ? enlarge_part(filler, &filler->parts[at]) : ret;
}

static int gather(struct owned_filler *filler, uint64_t cluster_index, enum owned_kind kind,
                  unsigned owner)
{
    int ret = make_room(filler, cluster_index);
    /* What does not go into a word follows from the part. */
    if (ret == 0)
        *filler->parts[cluster_index >> filler->part_bits].next++ =
            (uint32_t)owned_element(cluster_index, kind, owner);
    return ret;
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

/* As gather() does, with what every one of millions needs at hand. */
int owned_filler_add_each(struct owned_filler *filler, const uint64_t *clusters, size_t count,
                          unsigned owner)
{
    struct owned_part *parts = filler->parts;
    size_t part_count = filler->part_count;
    const unsigned part_bits = filler->part_bits;
    const uint64_t tag = owned_element(0, OWNED_ALONE, owner);
    assert(owner > OWNED_NOBODY && owner <= OWNED_OWNERS_MAX);
    for (size_t i = 0; i < count; i++) {
        uint64_t at = clusters[i] >> part_bits;
        if (at >= part_count || is_full(&parts[at])) {
            assert(clusters[i] < OWNED_CLUSTERS_MAX);
            int ret = make_room(filler, clusters[i]);
            if (ret < 0)
                return ret;
            parts = filler->parts;
            part_count = filler->part_count;
        }
        *parts[at].next++ = (uint32_t)(clusters[i] << OWNED_TAG_BITS | tag);
    }
    return 0;
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

static int refuse(struct owned_filler *filler, uint64_t last, uint64_t element)
{
    filler->conflict = (struct owned_conflict){
        .cluster_index = owned_index_of(element),
        .owners = {owned_owner_of(element), owned_owner_of(last)},
    };
    return -EEXIST;
}

/* A leaf behind all others. */
static int add_leaf(struct owned_filler *filler, uint64_t base)
{
    struct owned *owned = filler->owned;
    struct owned_top *top = atomic_load(&owned->top);
    uint32_t count = atomic_load(&top->count);
    if (owned_reserve_leaves(owned, 1) < 0)
        return -ENOMEM;
    if (count == top->capacity) {
        top = owned_top_enlarge(owned);
        if (!top)
            return -ENOMEM;
    }
    filler->leaf = owned_take_leaf(owned);
    filler->leaf_base = base;
    owned_put_entry(top, count, base, filler->leaf);
    atomic_store(&top->count, count + 1);
    return 0;
}

/* The last leaf has room for elements of the segment, the first of which comes now. */
static int find_room(struct owned_filler *filler, uint64_t element)
{
    uint64_t segment = owned_segment_of(owned_index_of(element));
    if (!filler->leaf || owned_segment_of(filler->leaf_base) != segment)
        return add_leaf(filler, segment << OWNED_SEGMENT_BITS);
    return owned_leaf_count(filler->leaf) < LEAF_FILL ? 0
                                                      : add_leaf(filler, owned_index_of(element));
}

/* Whether all of them stand alone and behind what is there already: then no two conflict. */
static bool are_alone(const uint32_t *words, size_t count, uint64_t last, uint64_t first_element)
{
    uint32_t kinds = words[0], same = 0;
    for (size_t i = 1; i < count; i++) {
        kinds |= words[i];
        same |= words[i] >> OWNED_TAG_BITS <= words[i - 1] >> OWNED_TAG_BITS;
    }
    return owned_kind_of(kinds) == OWNED_ALONE && !same &&
           (last == 0 || !is_conflict(last, first_element | words[0]));
}

static int find_conflict(struct owned_filler *filler, const uint32_t *words, size_t count,
                         uint64_t first_element)
{
    uint64_t last = filler->last_element;
    if (are_alone(words, count, last, first_element))
        return 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t element = first_element | words[i];
        if (is_conflict(last, element) && last != 0)
            return refuse(filler, last, element);
        last = element;
    }
    return 0;
}

/* Behind all that is in leaves for good. They are sorted; first_element: the first that the
 * segment may have. */
static int push_words(struct owned_filler *filler, const uint32_t *words, size_t count,
                      uint64_t first_element)
{
    int ret = find_conflict(filler, words, count, first_element);
    if (ret < 0)
        return ret;
    filler->last_element = first_element | words[count - 1];
    while (count > 0) {
        if (find_room(filler, first_element | words[0]) < 0)
            return -ENOMEM;
        uint32_t at = owned_leaf_count(filler->leaf);
        uint32_t some = (uint32_t)smaller(LEAF_FILL - at, count);
        memcpy(filler->leaf->plain + at, words, some * sizeof(*words));
        atomic_store_explicit(&filler->leaf->count, at + some, memory_order_relaxed);
        words += some;
        count -= some;
    }
    return 0;
}

/* --- parts in order -----------------------------------------------------------------------------
 */

struct order {
    uint32_t rises, falls; /* not 0: from some word to the next */
};

static void compare(struct order *order, uint32_t word, uint32_t next)
{
    order->rises |= word < next;
    order->falls |= word > next;
}

static struct order order_of(const struct owned_part *part)
{
    struct order order = {0, 0};
    const struct owned_leaf *leaf = newest_leaf(part);
    uint32_t count = words_of_newest(part);
    while (!order.rises || !order.falls) {
        for (uint32_t i = 1; i < count; i++)
            compare(&order, leaf->plain[i - 1], leaf->plain[i]);
        const struct owned_leaf *older = leaf->next_free;
        if (!older)
            break;
        count = OWNED_LEAF_WORDS;
        compare(&order, older->plain[count - 1], leaf->plain[0]);
        leaf = older;
    }
    return order;
}

static struct owned_leaf *turn_leaves(struct owned_leaf *newest)
{
    struct owned_leaf *turned = NULL;
    for (struct owned_leaf *leaf = newest, *older; leaf; leaf = older) {
        older = leaf->next_free;
        leaf->next_free = turned;
        turned = leaf;
    }
    return turned;
}

static void turn_words(uint32_t *words, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        uint32_t word = words[i];
        words[i] = words[count - 1 - i];
        words[count - 1 - i] = word;
    }
}

/* A part whose words rise or fall all the way. */
static int move_in_order(struct owned_filler *filler, const struct owned_part *part, bool falls,
                         uint64_t first_element)
{
    struct owned_leaf *newest = newest_leaf(part);
    uint32_t of_newest = words_of_newest(part);
    int ret = 0;
    for (struct owned_leaf *leaf = falls ? newest : turn_leaves(newest), *next; leaf && ret == 0;
         leaf = next) {
        uint32_t count = leaf == newest ? of_newest : OWNED_LEAF_WORDS;
        next = leaf->next_free;
        if (falls)
            turn_words(leaf->plain, count);
        ret = push_words(filler, leaf->plain, count, first_element);
        owned_give_leaf(filler->owned, leaf);
    }
    return ret;
}

/* --- others -------------------------------------------------------------------------------------
 */

/* Goes through the leaves of a part, and gives each back when it goes on. */
struct taker {
    struct owned *owned;
    struct owned_leaf *leaf; /* whose turn it is; or NULL */
    uint32_t count;          /* of its words */
};

static struct taker take(struct owned_filler *filler, const struct owned_part *part)
{
    return (struct taker){filler->owned, newest_leaf(part), words_of_newest(part)};
}

static void take_next(struct taker *taker)
{
    struct owned_leaf *older = taker->leaf->next_free;
    owned_give_leaf(taker->owned, taker->leaf);
    taker->leaf = older;
    taker->count = OWNED_LEAF_WORDS;
}

static void fetch(const struct owned_leaf *leaf)
{
    for (size_t at = 0; at < sizeof(*leaf); at += 64)
        __builtin_prefetch((const char *)leaf + at);
}

/* What a part is brought to its place with. */
struct finish {
    struct owned_filler *filler;
    uint64_t first_element; /* of the segment */
    struct owned_sorter sorter;
    struct pile {
        struct owned_part part;
        unsigned bits;
    } * pile; /* parts of a part: the next one is on top */
    size_t pile_count, pile_room;
};

static int move_sorted(struct finish *finish, const struct owned_part *part, unsigned bits)
{
    struct owned_sorter *sorter = &finish->sorter;
    size_t count = words_of(part);
    uint32_t in_leaf = words_of_newest(part);
    if (owned_sorter_begin(sorter, count, bits) < 0)
        return -ENOMEM;
    for (const struct owned_leaf *leaf = newest_leaf(part); leaf; leaf = leaf->next_free) {
        owned_sorter_count(sorter, leaf->plain, in_leaf);
        in_leaf = OWNED_LEAF_WORDS;
    }
    owned_sorter_counted(sorter);
    for (struct taker taker = take(finish->filler, part); taker.leaf; take_next(&taker))
        owned_sorter_place(sorter, taker.leaf->plain, taker.count);
    return push_words(finish->filler, owned_sorter_end(sorter), count, finish->first_element);
}

/* So many empty ones more on the pile. */
static int enlarge_pile(struct finish *finish, size_t more, unsigned bits)
{
    if (finish->pile_count + more > finish->pile_room) {
        size_t room = finish->pile_count + more;
        struct pile *pile = realloc(finish->pile, room * sizeof(*pile));
        if (!pile)
            return -ENOMEM;
        finish->pile = pile;
        finish->pile_room = room;
    }
    for (size_t i = 0; i < more; i++)
        finish->pile[finish->pile_count++] = (struct pile){.bits = bits};
    return 0;
}

/* A part of so many bits, with more words than are sorted at a time. Some will be parted again. */
static int split(struct finish *finish, const struct owned_part *part, unsigned bits)
{
    unsigned split_bits = 1;
    while (split_bits < SPLIT_BITS_MAX && words_of(part) >> split_bits >> SPLIT_WORDS_BITS > 1)
        split_bits++;
    uint32_t mask = (UINT32_C(1) << split_bits) - 1;
    unsigned shift = OWNED_TAG_BITS + bits - split_bits;
    int ret = enlarge_pile(finish, mask + 1, bits - split_bits);
    struct pile *top = finish->pile + finish->pile_count - 1;
    for (struct taker taker = take(finish->filler, part); taker.leaf && ret == 0;
         take_next(&taker)) {
        for (uint32_t i = 0; i < taker.count && ret == 0; i++) {
            uint32_t word = taker.leaf->plain[i];
            struct owned_part *to = &(top - (word >> shift & mask))->part;
            ret = is_full(to) ? enlarge_part(finish->filler, to) : 0;
            if (ret == 0)
                *to->next++ = word;
        }
    }
    return ret;
}

static int move_part(struct finish *finish, struct owned_part *part, unsigned bits)
{
    struct order order = order_of(part);
    if (!order.falls || !order.rises)
        return move_in_order(finish->filler, part, order.falls, finish->first_element);
    if (words_of(part) > SORT_WORDS && bits > SORT_BITS)
        return split(finish, part, bits);
    return move_sorted(finish, part, bits);
}

/* And all that it is parted into. */
static int move_all_of(struct finish *finish, size_t at)
{
    struct owned_filler *filler = finish->filler;
    uint64_t segment = owned_segment_of((uint64_t)at << filler->part_bits);
    finish->first_element = segment << OWNED_SEGMENT_BITS << OWNED_TAG_BITS;
    int ret = move_part(finish, &filler->parts[at], filler->part_bits);
    while (finish->pile_count > 0 && ret == 0) {
        struct pile next = finish->pile[--finish->pile_count];
        if (next.part.next)
            ret = move_part(finish, &next.part, next.bits);
    }
    return ret;
}

/* The leaves of some parts, from this one on, come into the processor's caches. Each says where the
 * next one of its part is, so they are waited for one after the other: those of several parts at
 * the same time, then. Of parts with many the rest comes by itself. */
static void fetch_parts(const struct owned_filler *filler, size_t first)
{
    const struct owned_leaf *leaves[FETCHED_PARTS];
    size_t count = (size_t)smaller(FETCHED_PARTS, filler->part_count - first);
    for (size_t i = 0; i < count; i++)
        leaves[i] = newest_leaf(&filler->parts[first + i]);
    for (unsigned nth = 0; nth < FETCHED_LEAVES; nth++) {
        for (size_t i = 0; i < count; i++) {
            if (!leaves[i])
                continue;
            fetch(leaves[i]);
            leaves[i] = leaves[i]->next_free;
        }
    }
}

int owned_filler_finish(struct owned_filler *filler)
{
    struct finish *finish = calloc(1, sizeof(*finish));
    if (!finish)
        return -ENOMEM;
    finish->filler = filler;
    int ret = 0;
    for (size_t i = 0; i < filler->part_count && ret == 0; i++) {
        if (i % FETCHED_PARTS == 0)
            fetch_parts(filler, i);
        if (filler->parts[i].next)
            ret = move_all_of(finish, i);
    }
    owned_sorter_fini(&finish->sorter);
    free(finish->pile);
    free(finish);
    return ret;
}
