/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Filling the set when an image is opened: it has millions of tables at most, in any order, and
 * opening it shall take a tenth of a second at most.
 *
 * The file is cut into *parts*, of so many clusters that there are some thousand parts at most.
 * What comes is put into the part it lies in, a word for each element as it will be in a leaf, and
 * for the time being in leaves too, one behind the other. In the end one part after the other is
 * brought together, its leaves go back, it is sorted where it is in no order, and goes to leaves
 * for good, mostly those of the part before. A part and its sorting mostly fit the processor's
 * caches, and all of it takes hardly more memory than the set will.
 *
 * Tried and rejected: arrays that grow, one for each segment, sorted as a whole. Half of the time
 * was the kernel's for their memory, and passes over megabytes were most of the rest.
 */
#include "cache/owned_leaves.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/align.h"

#define PARTS_WANTED 4096
#define PARTS_MAX 16384 /* some of what is added may lie past the end that was said */
#define PART_BITS_MIN 20
#define LEAF_FILL (OWNED_LEAF_WORDS * 9 / 10) /* some may come between them later */
#define DIGIT_BITS 10
#define DIGIT_VALUES (1u << DIGIT_BITS)
#define DIGITS_MAX 3
_Static_assert(DIGITS_MAX *DIGIT_BITS >= OWNED_SEGMENT_BITS, "digits say all of a word");

struct owned_part {
    struct owned_leaf *newest; /* linked as free ones are, down to the oldest */
    uint32_t leaf_count, room; /* words that the newest has left */
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

static int enlarge_part(struct owned_filler *filler, struct owned_part *part)
{
    if (owned_reserve_leaves(filler->owned, 1) < 0)
        return -ENOMEM;
    struct owned_leaf *leaf = owned_take_leaf(filler->owned);
    leaf->next_free = part->newest;
    part->newest = leaf;
    part->leaf_count++;
    part->room = OWNED_LEAF_WORDS;
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

static inline int gather(struct owned_filler *filler, uint64_t cluster_index, enum owned_kind kind,
                         unsigned owner)
{
    uint64_t at = cluster_index >> filler->part_bits;
    int ret = at < filler->part_count ? 0 : reserve_parts(filler, at + 1);
    if (ret < 0)
        return ret;
    struct owned_part *part = &filler->parts[at];
    if (part->room == 0 && enlarge_part(filler, part) < 0)
        return -ENOMEM;
    /* What does not go into a word follows from the part. */
    uint32_t word = (uint32_t)owned_element(cluster_index, kind, owner);
    atomic_store_explicit(&part->newest->words[OWNED_LEAF_WORDS - part->room--], word,
                          memory_order_relaxed);
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

int owned_filler_add_each(struct owned_filler *filler, const uint64_t *clusters, size_t count,
                          unsigned owner)
{
    int ret = 0;
    assert(owner > OWNED_NOBODY && owner <= OWNED_OWNERS_MAX);
    for (size_t i = 0; i < count && ret == 0; i++) {
        assert(clusters[i] < OWNED_CLUSTERS_MAX);
        ret = gather(filler, clusters[i], OWNED_ALONE, owner);
    }
    return ret;
}

/* --- sorting ------------------------------------------------------------------------------------
 */

struct words {
    uint32_t *all;
    size_t capacity;
};

/* The words of one part, one behind the other, and what they are sorted with. */
struct batch {
    struct words words, spare;
    size_t count;
    bool falls;      /* they are in no order */
    unsigned digits; /* in which they may differ */
};

/* What it had is gone. */
static int words_reserve(struct words *words, size_t count)
{
    if (count <= words->capacity)
        return 0;
    free(words->all);
    words->all = malloc(count * sizeof(*words->all));
    words->capacity = words->all ? count : 0;
    return words->all ? 0 : -ENOMEM;
}

static void words_fini(struct words *words)
{
    free(words->all);
    *words = (struct words){.all = NULL};
}

/* The part is empty afterwards, and the batch has its words as they came. */
static int batch_take(struct batch *batch, struct owned *owned, struct owned_part *part)
{
    size_t count = (size_t)part->leaf_count * OWNED_LEAF_WORDS - part->room;
    if (words_reserve(&batch->words, count) < 0)
        return -ENOMEM;
    uint32_t *to = batch->words.all + count; /* backwards, as the leaves are linked */
    uint32_t in_leaf = OWNED_LEAF_WORDS - part->room, behind = UINT32_MAX;
    bool falls = false;
    for (struct owned_leaf *leaf = part->newest, *older; leaf; leaf = older) {
        older = leaf->next_free;
        for (size_t at = 0; older && at < sizeof(*older); at += 64)
            __builtin_prefetch((const char *)older + at);
        for (uint32_t i = in_leaf; i > 0; i--) {
            uint32_t word = atomic_load_explicit(&leaf->words[i - 1], memory_order_relaxed);
            *--to = word;
            falls |= word > behind;
            behind = word;
        }
        in_leaf = OWNED_LEAF_WORDS;
        owned_give_leaf(owned, leaf);
    }
    batch->count = count;
    batch->falls = falls;
    *part = (struct owned_part){.newest = NULL};
    return 0;
}

static inline uint32_t digit_of(uint32_t word, unsigned digit)
{
    return word >> (OWNED_TAG_BITS + digit * DIGIT_BITS) & (DIGIT_VALUES - 1);
}

/* How many words have which digit, for all digits in one go. */
static void count_digits(const struct batch *batch, uint32_t counts[DIGITS_MAX][DIGIT_VALUES])
{
    memset(counts, 0, batch->digits * sizeof(counts[0]));
    for (size_t i = 0; i < batch->count; i++) {
        uint32_t word = batch->words.all[i];
        counts[0][digit_of(word, 0)]++;
        counts[1][digit_of(word, 1)]++;
        if (batch->digits > 2)
            counts[2][digit_of(word, 2)]++;
    }
}

/* One pass of a radix sort. counts: as count_digits() made them; they become places. */
static void sort_by_digit(const uint32_t *from, uint32_t *to, size_t count, unsigned digit,
                          uint32_t *counts)
{
    uint32_t place = 0;
    for (uint32_t value = 0; value < DIGIT_VALUES; value++) {
        uint32_t of_value = counts[value];
        counts[value] = place;
        place += of_value;
    }
    for (size_t i = 0; i < count; i++)
        to[counts[digit_of(from[i], digit)]++] = from[i];
}

/* By cluster; two of one cluster are a conflict in any order. */
static int batch_sort(struct batch *batch)
{
    uint32_t counts[DIGITS_MAX][DIGIT_VALUES];
    if (!batch->falls)
        return 0;
    if (words_reserve(&batch->spare, batch->count) < 0)
        return -ENOMEM;
    count_digits(batch, counts);
    for (unsigned digit = 0; digit < batch->digits; digit++) {
        sort_by_digit(batch->words.all, batch->spare.all, batch->count, digit, counts[digit]);
        struct words sorted = batch->spare;
        batch->spare = batch->words;
        batch->words = sorted;
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
static int find_room(struct owned_filler *filler, uint64_t segment, uint64_t element)
{
    if (!filler->leaf || owned_segment_of(filler->leaf_base) != segment)
        return add_leaf(filler, segment << OWNED_SEGMENT_BITS);
    return owned_leaf_count(filler->leaf) < LEAF_FILL ? 0
                                                      : add_leaf(filler, owned_index_of(element));
}

/* Whether all of them stand alone and behind what is there already: then no two conflict. */
static bool are_alone(const struct batch *batch, uint64_t last, uint64_t first_element)
{
    const uint32_t *words = batch->words.all;
    uint32_t kinds = words[0], twice = 0;
    for (size_t i = 1; i < batch->count; i++) {
        kinds |= words[i];
        twice |= words[i] >> OWNED_TAG_BITS == words[i - 1] >> OWNED_TAG_BITS;
    }
    return owned_kind_of(kinds) == OWNED_ALONE && !twice &&
           (last == 0 || !is_conflict(last, first_element + words[0]));
}

static int find_conflict(struct owned_filler *filler, const struct batch *batch,
                         uint64_t first_element)
{
    uint64_t last = filler->last_element;
    if (are_alone(batch, last, first_element))
        return 0;
    for (size_t i = 0; i < batch->count; i++) {
        uint64_t element = first_element + batch->words.all[i];
        if (is_conflict(last, element) && last != 0)
            return refuse(filler, last, element);
        last = element;
    }
    return 0;
}

/* Into the last leaf, which has room for them. */
static void push_words(struct owned_filler *filler, uint64_t first_element, const uint32_t *words,
                       uint32_t count)
{
    struct owned_leaf *leaf = filler->leaf;
    uint32_t at = owned_leaf_count(leaf);
    for (uint32_t i = 0; i < count; i++)
        owned_put_element(leaf, filler->leaf_base, at + i, first_element + words[i]);
    atomic_store_explicit(&leaf->count, at + count, memory_order_relaxed);
}

static int push_batch(struct owned_filler *filler, const struct batch *batch, uint64_t segment)
{
    uint64_t first_element = segment << OWNED_SEGMENT_BITS << OWNED_TAG_BITS;
    int ret = find_conflict(filler, batch, first_element);
    if (ret < 0)
        return ret;
    for (size_t done = 0; done < batch->count;) {
        const uint32_t *words = batch->words.all + done;
        if (find_room(filler, segment, first_element + words[0]) < 0)
            return -ENOMEM;
        uint32_t room = LEAF_FILL - owned_leaf_count(filler->leaf);
        uint32_t count = (uint32_t)smaller(room, batch->count - done);
        push_words(filler, first_element, words, count);
        done += count;
    }
    filler->last_element = first_element + batch->words.all[batch->count - 1];
    return 0;
}

static int move_part(struct owned_filler *filler, size_t at, struct batch *batch)
{
    int ret = batch_take(batch, filler->owned, &filler->parts[at]);
    if (ret == 0)
        ret = batch_sort(batch);
    if (ret == 0)
        ret = push_batch(filler, batch, at >> (OWNED_SEGMENT_BITS - filler->part_bits));
    return ret;
}

int owned_filler_finish(struct owned_filler *filler)
{
    struct batch batch = {.digits = filler->part_bits > 2 * DIGIT_BITS ? 3 : 2};
    int ret = 0;
    for (size_t i = 0; i < filler->part_count && ret == 0; i++) {
        if (filler->parts[i].newest)
            ret = move_part(filler, i, &batch);
    }
    words_fini(&batch.words);
    words_fini(&batch.spare);
    return ret;
}
