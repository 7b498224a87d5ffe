/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What owned_fill.c has gathered goes to leaves for good, one part of the file after the other: as
 * it is, or backwards, where it rises or falls from begin to end, as tables mostly do; else it is
 * brought together and sorted. A part that has too many for that is parted again, or, where all but
 * some at its end rise, these are sorted and merged into the others. So what is sorted fits the
 * processor's caches. The leaves that held a part are mostly those that the next one goes
 * to, and all of it takes hardly more memory than the set will.
 *
 * Of very many the parts are divided into shares of about as many words, which threads of their own
 * may do: a share has nothing in common with another one. It gives the leaves of its parts to a
 * pool of its own, takes from there, and notes what shall be in the top. Where two shares meet, the
 * last element of one is compared with the first of the next when they are joined.
 *
 * Tried and rejected: to gather in two threads too. One thread reads the table for both, and to
 * hand what it has read to another processor took as long as to do the work there.
 */
#include "cache/owned_parts.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/owned_sort.h"

#define LEAF_FILL (OWNED_LEAF_WORDS * 9 / 10) /* some may come between them later */
#define SORT_BITS 14 /* so many clusters at most, or words, are sorted at a time */
#define SORT_WORDS (1u << SORT_BITS)
#define SPLIT_WORDS_BITS 11 /* a part is parted into some of about so many words */
#define SPLIT_BITS_MAX 10
#define FETCHED_PARTS 8 /* together some ten thousand words, mostly */
#define FETCHED_LEAVES 32
#define ENTRIES_MIN 8
#define SHARED_WORDS (512u << 10) /* fewer are not divided */

struct owned_entry {
    uint64_t base;
    struct owned_leaf *leaf;
};

/* Some words, in the order they came, in leaves that know how many they have. */
struct run {
    struct owned_leaf *oldest;
    size_t words;
};

/* What a share is brought to its place with. */
struct finish {
    struct owned_filler *filler;
    struct owned_share *share;
    struct owned_pool *pool; /* the share's, or the set's where there is one share */
    struct owned_leaf *leaf; /* the last one */
    uint64_t leaf_base;
    uint64_t segment_element; /* the first that the segment may have */
    struct owned_sorter sorter;
    struct pile {
        struct owned_part part;
        struct owned_leaf *oldest;
        unsigned bits;
    } * pile; /* parts of a part: the next one is on top */
    size_t pile_count, pile_room;
};

/* --- leaves for good ----------------------------------------------------------------------------
 */

/* Whether the second cannot come right behind the first. */
static bool is_conflict(uint64_t first, uint64_t second)
{
    bool is_inside = owned_kind_of(first) == OWNED_FIRST;
    bool is_end = owned_kind_of(second) == OWNED_LAST;
    return (owned_index_of(first) >= owned_index_of(second)) | (is_inside != is_end);
}

static int refuse(struct owned_conflict *ret_conflict, uint64_t last, uint64_t element)
{
    *ret_conflict = (struct owned_conflict){
        .cluster_index = owned_index_of(element),
        .owners = {owned_owner_of(element), owned_owner_of(last)},
    };
    return -EEXIST;
}

static int reserve_entry(struct owned_share *share)
{
    if (share->entry_count < share->entry_room)
        return 0;
    size_t room = share->entry_room ? share->entry_room * 2 : ENTRIES_MIN;
    struct owned_entry *entries = realloc(share->entries, room * sizeof(*entries));
    if (!entries)
        return -ENOMEM;
    share->entries = entries;
    share->entry_room = room;
    return 0;
}

/* A leaf behind all others. */
static int add_leaf(struct finish *finish, uint64_t base)
{
    struct owned_share *share = finish->share;
    if (reserve_entry(share) < 0 || owned_pool_reserve(finish->pool, 1) < 0)
        return -ENOMEM;
    finish->leaf = owned_pool_take(finish->pool);
    finish->leaf_base = base;
    share->entries[share->entry_count++] = (struct owned_entry){base, finish->leaf};
    return 0;
}

/* The last leaf has room for elements of the segment, the first of which comes now. */
static int find_room(struct finish *finish, uint64_t element)
{
    uint64_t segment = owned_segment_of(owned_index_of(element));
    uint64_t begin = segment << OWNED_SEGMENT_BITS;
    uint64_t share_begin = (uint64_t)finish->share->first << finish->filler->part_bits;
    if (!finish->leaf || owned_segment_of(finish->leaf_base) != segment)
        return add_leaf(finish, begin > share_begin ? begin : share_begin);
    return owned_leaf_count(finish->leaf) < LEAF_FILL ? 0
                                                      : add_leaf(finish, owned_index_of(element));
}

/* Whether all of them stand alone and behind what is there already: then no two conflict. */
static bool are_alone(const uint32_t *words, size_t count, uint64_t last, uint64_t segment_element)
{
    uint32_t kinds = words[0], same = 0;
    for (size_t i = 1; i < count; i++) {
        kinds |= words[i];
        same |= words[i] >> OWNED_TAG_BITS <= words[i - 1] >> OWNED_TAG_BITS;
    }
    return owned_kind_of(kinds) == OWNED_ALONE && !same &&
           (last == 0 || !is_conflict(last, segment_element | words[0]));
}

static int find_conflict(struct finish *finish, const uint32_t *words, size_t count)
{
    uint64_t last = finish->share->last_element;
    if (are_alone(words, count, last, finish->segment_element))
        return 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t element = finish->segment_element | words[i];
        if (last != 0 && is_conflict(last, element))
            return refuse(&finish->share->conflict, last, element);
        last = element;
    }
    return 0;
}

/* Behind all that is in leaves for good. They are sorted. */
static int push_words(struct finish *finish, const uint32_t *words, size_t count)
{
    struct owned_share *share = finish->share;
    if (share->first_element == 0)
        share->first_element = finish->segment_element | words[0];
    int ret = find_conflict(finish, words, count);
    if (ret < 0)
        return ret;
    share->last_element = finish->segment_element | words[count - 1];
    while (count > 0) {
        if (find_room(finish, finish->segment_element | words[0]) < 0)
            return -ENOMEM;
        uint32_t at = owned_leaf_count(finish->leaf);
        uint32_t some = (uint32_t)smaller(LEAF_FILL - at, count);
        memcpy(finish->leaf->plain + at, words, some * sizeof(*words));
        atomic_store_explicit(&finish->leaf->count, at + some, memory_order_relaxed);
        words += some;
        count -= some;
    }
    return 0;
}

/* --- runs ---------------------------------------------------------------------------------------
 */

/* The part has one word at least. */
static struct run run_of(const struct owned_part *part, struct owned_leaf *oldest)
{
    struct owned_leaf *newest = owned_part_newest(part);
    struct run run = {oldest, owned_part_words(part)};
    atomic_store_explicit(&newest->count, owned_part_words_of_newest(part), memory_order_relaxed);
    return run;
}

struct order {
    uint32_t rises, falls; /* not 0: from some word to the next */
};

static void compare(struct order *order, uint32_t word, uint32_t next)
{
    order->rises |= word < next;
    order->falls |= word > next;
}

static struct order order_of(struct run run)
{
    struct order order = {0, 0};
    for (const struct owned_leaf *leaf = run.oldest; leaf && (!order.rises || !order.falls);
         leaf = leaf->next_free) {
        uint32_t count = owned_leaf_count(leaf);
        for (uint32_t i = 1; i < count; i++)
            compare(&order, leaf->plain[i - 1], leaf->plain[i]);
        if (leaf->next_free)
            compare(&order, leaf->plain[count - 1], leaf->next_free->plain[0]);
    }
    return order;
}

static void turn_leaves(struct run *run)
{
    struct owned_leaf *turned = NULL;
    for (struct owned_leaf *leaf = run->oldest, *next; leaf; leaf = next) {
        next = leaf->next_free;
        leaf->next_free = turned;
        turned = leaf;
    }
    run->oldest = turned;
}

static void turn_words(uint32_t *words, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        uint32_t word = words[i];
        words[i] = words[count - 1 - i];
        words[count - 1 - i] = word;
    }
}

/* The first leaf of a run is done with. */
static void give_first(struct finish *finish, struct run *run)
{
    struct owned_leaf *next = run->oldest->next_free;
    owned_pool_give(finish->pool, run->oldest);
    run->oldest = next;
}

/* Words that rise or fall all the way. */
static int move_in_order(struct finish *finish, struct run run, bool falls)
{
    int ret = 0;
    if (falls)
        turn_leaves(&run);
    for (; run.oldest && ret == 0; give_first(finish, &run)) {
        uint32_t count = owned_leaf_count(run.oldest);
        if (falls)
            turn_words(run.oldest->plain, count);
        ret = push_words(finish, run.oldest->plain, count);
    }
    return ret;
}

/* The words of a run, which is given back, until the next ones are sorted. NULL: no memory. */
static const uint32_t *sort(struct finish *finish, struct run run, unsigned bits)
{
    struct owned_sorter *sorter = &finish->sorter;
    if (owned_sorter_begin(sorter, run.words, bits) < 0)
        return NULL;
    for (const struct owned_leaf *leaf = run.oldest; leaf; leaf = leaf->next_free)
        owned_sorter_count(sorter, leaf->plain, owned_leaf_count(leaf));
    owned_sorter_counted(sorter);
    for (; run.oldest; give_first(finish, &run))
        owned_sorter_place(sorter, run.oldest->plain, owned_leaf_count(run.oldest));
    return owned_sorter_end(sorter);
}

static int move_sorted(struct finish *finish, struct run run, unsigned bits)
{
    const uint32_t *words = sort(finish, run, bits);
    return words ? push_words(finish, words, run.words) : -ENOMEM;
}

/* --- runs that rise, but for their end ----------------------------------------------------------
 *
 * As where there are the refcount blocks of the whole file and then some L2 tables.
 */

/* The leaves that rise from begin to end, of a run that falls somewhere; it is what comes behind
 * them then. */
static struct run cut_rising(struct run *run)
{
    struct run rising = {.oldest = NULL};
    struct owned_leaf *last = NULL;
    for (struct owned_leaf *leaf = run->oldest;; leaf = leaf->next_free) {
        assert(leaf);
        struct order order = {0, 0};
        uint32_t count = owned_leaf_count(leaf);
        for (uint32_t i = 1; i < count; i++)
            compare(&order, leaf->plain[i - 1], leaf->plain[i]);
        if (order.falls || (last && last->plain[owned_leaf_count(last) - 1] > leaf->plain[0]))
            break;
        rising.words += count;
        last = leaf;
    }
    if (!last)
        return rising;
    rising.oldest = run->oldest;
    run->oldest = last->next_free;
    run->words -= rising.words;
    last->next_free = NULL;
    return rising;
}

/* As it was before. */
static struct run join_runs(struct run first, struct run second)
{
    struct owned_leaf **end = &first.oldest;
    while (*end)
        end = &(*end)->next_free;
    *end = second.oldest;
    first.words += second.words;
    return first;
}

/* A leaf's words, and those of some others that come before its last one. */
static int push_leaf_among(struct finish *finish, const struct owned_leaf *leaf,
                           const uint32_t **others, size_t *other_count)
{
    const uint32_t count = owned_leaf_count(leaf);
    uint32_t at = 0, end = 0;
    int ret = 0;
    while (ret == 0) {
        uint32_t other = *other_count > 0 ? **others : UINT32_MAX;
        while (end < count && leaf->plain[end] <= other)
            end++;
        if (end > at)
            ret = push_words(finish, leaf->plain + at, end - at);
        at = end;
        if (at == count || ret < 0)
            break;
        ret = push_words(finish, *others, 1);
        ++*others;
        --*other_count;
    }
    return ret;
}

static int move_merged(struct finish *finish, struct run rising, struct run rest, unsigned bits)
{
    const uint32_t *others = sort(finish, rest, bits);
    size_t other_count = rest.words;
    int ret = others ? 0 : -ENOMEM;
    for (; rising.oldest && ret == 0; give_first(finish, &rising))
        ret = push_leaf_among(finish, rising.oldest, &others, &other_count);
    return ret == 0 && other_count > 0 ? push_words(finish, others, other_count) : ret;
}

/* --- parts of parts -----------------------------------------------------------------------------
 */

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

/* A run of so many bits, with more words than are sorted at a time. Some will be parted again; what
 * was in order still is. */
static int split(struct finish *finish, struct run run, unsigned bits)
{
    unsigned split_bits = 1;
    while (split_bits < SPLIT_BITS_MAX && run.words >> split_bits >> SPLIT_WORDS_BITS > 1)
        split_bits++;
    uint32_t mask = (UINT32_C(1) << split_bits) - 1;
    unsigned shift = OWNED_TAG_BITS + bits - split_bits;
    if (enlarge_pile(finish, mask + 1, bits - split_bits) < 0)
        return -ENOMEM;
    struct pile *top = finish->pile + finish->pile_count - 1;
    for (; run.oldest; give_first(finish, &run)) {
        uint32_t count = owned_leaf_count(run.oldest);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t word = run.oldest->plain[i];
            struct pile *to = top - (word >> shift & mask);
            if (owned_part_is_full(&to->part) &&
                owned_part_enlarge(finish->pool, &to->part, &to->oldest) < 0)
                return -ENOMEM;
            *to->part.next++ = word;
        }
    }
    return 0;
}

static int move_run(struct finish *finish, struct run run, unsigned bits)
{
    struct order order = order_of(run);
    if (!order.falls || !order.rises)
        return move_in_order(finish, run, order.falls);
    if (run.words <= SORT_WORDS || bits <= SORT_BITS)
        return move_sorted(finish, run, bits);
    struct run rising = cut_rising(&run);
    if (run.words <= SORT_WORDS)
        return move_merged(finish, rising, run, bits);
    return split(finish, join_runs(rising, run), bits);
}

/* And all that it is parted into. */
static int move_part(struct finish *finish, size_t at)
{
    const struct owned_filler *filler = finish->filler;
    uint64_t segment = owned_segment_of((uint64_t)at << filler->part_bits);
    finish->segment_element = segment << OWNED_SEGMENT_BITS << OWNED_TAG_BITS;
    int ret = move_run(finish, run_of(&filler->parts[at], filler->oldest[at]), filler->part_bits);
    while (finish->pile_count > 0 && ret == 0) {
        struct pile next = finish->pile[--finish->pile_count];
        if (next.part.next)
            ret = move_run(finish, run_of(&next.part, next.oldest), next.bits);
    }
    return ret;
}

/* --- shares -------------------------------------------------------------------------------------
 */

static void fetch(const struct owned_leaf *leaf)
{
    for (size_t at = 0; at < sizeof(*leaf); at += 64)
        __builtin_prefetch((const char *)leaf + at);
}

/* The leaves of some parts, from this one on, come into the processor's caches. Each says where the
 * next one of its part is, so they are waited for one after the other: those of several parts at
 * the same time, then. Of parts with many the rest comes by itself. */
static void fetch_parts(const struct owned_filler *filler, size_t first, size_t end)
{
    const struct owned_leaf *leaves[FETCHED_PARTS];
    size_t count = 0;
    for (size_t at = first; at < end && at < first + FETCHED_PARTS; at++) {
        if (filler->parts[at].next)
            leaves[count++] = filler->oldest[at];
    }
    for (unsigned nth = 0; nth < FETCHED_LEAVES; nth++) {
        for (size_t i = 0; i < count; i++) {
            if (!leaves[i])
                continue;
            fetch(leaves[i]);
            leaves[i] = leaves[i]->next_free;
        }
    }
}

static int move_parts(struct finish *finish)
{
    const size_t first = finish->share->first, end = finish->share->end;
    int ret = 0;
    for (size_t i = first; i < end && ret == 0; i++) {
        if ((i - first) % FETCHED_PARTS == 0)
            fetch_parts(finish->filler, i, end);
        if (finish->filler->parts[i].next)
            ret = move_part(finish, i);
    }
    return ret;
}

void owned_filler_finish_share(struct owned_filler *filler, unsigned nth)
{
    struct owned_share *share = &filler->shares[nth];
    struct finish *finish = calloc(1, sizeof(*finish));
    assert(nth < filler->share_count);
    share->ret = -ENOMEM;
    if (!finish)
        return;
    finish->filler = filler;
    finish->share = share;
    finish->pool = filler->share_count > 1 ? &share->pool : &filler->owned->pool;
    share->ret = move_parts(finish);
    owned_sorter_fini(&finish->sorter);
    free(finish->pile);
    free(finish);
}

static size_t words_of_part(const struct owned_filler *filler, size_t at)
{
    return filler->parts[at].next ? owned_part_words(&filler->parts[at]) : 0;
}

unsigned owned_filler_divide(struct owned_filler *filler)
{
    size_t words = 0, given = 0, at = 0;
    for (size_t i = 0; i < filler->part_count; i++)
        words += words_of_part(filler, i);
    filler->share_count = words < SHARED_WORDS ? 1 : OWNED_SHARES_MAX;
    for (unsigned i = 0; i < filler->share_count; i++) {
        size_t wanted = words / filler->share_count * (i + 1);
        filler->shares[i].first = at;
        while (at < filler->part_count && (given < wanted || i == filler->share_count - 1))
            given += words_of_part(filler, at++);
        filler->shares[i].end = at;
    }
    return filler->share_count;
}

/* How many leaves the shares have; or the first thing that is wrong with one, or between two. */
static int64_t check_shares(struct owned_filler *filler)
{
    uint64_t last_element = 0;
    int64_t leaves = 0;
    for (unsigned i = 0; i < filler->share_count; i++) {
        const struct owned_share *share = &filler->shares[i];
        if (last_element != 0 && share->first_element != 0 &&
            is_conflict(last_element, share->first_element))
            return refuse(&filler->conflict, last_element, share->first_element);
        filler->conflict = share->conflict;
        if (share->ret < 0)
            return share->ret;
        last_element = share->last_element != 0 ? share->last_element : last_element;
        leaves += (int64_t)share->entry_count;
    }
    return leaves;
}

int owned_filler_join(struct owned_filler *filler)
{
    struct owned_top *top = atomic_load(&filler->owned->top);
    int64_t leaves = check_shares(filler);
    uint32_t count = 0;
    if (leaves < 0)
        return (int)leaves;
    if ((uint64_t)leaves > top->capacity)
        top = owned_top_enlarge(filler->owned, (uint64_t)leaves);
    if (!top)
        return -ENOMEM;
    for (unsigned i = 0; i < filler->share_count; i++) {
        const struct owned_share *share = &filler->shares[i];
        for (size_t nth = 0; nth < share->entry_count; nth++)
            owned_put_entry(top, count++, share->entries[nth].base, share->entries[nth].leaf);
    }
    atomic_store(&top->count, count);
    return 0;
}

int owned_filler_finish(struct owned_filler *filler)
{
    unsigned count = owned_filler_divide(filler);
    for (unsigned i = 0; i < count; i++)
        owned_filler_finish_share(filler, i);
    return owned_filler_join(filler);
}
