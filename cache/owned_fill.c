/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Filling the set when an image is opened: it has millions of tables at most, in any order, and
 * opening it shall take a tenth of a second at most. Here they are gathered; owned_finish.c makes
 * of them what is searched.
 *
 * The file is cut into *parts*, of so many clusters that there are some thousand parts at most.
 * What comes is put into the part it lies in, a word for each element as it will be in a leaf, and
 * for the time being in leaves too, one behind the other.
 *
 * Tried and rejected: arrays that grow, one for each segment, sorted as a whole. Half of the time
 * was the kernel's for their memory, and passes over megabytes were most of the rest. Where tables
 * lie in no order, each goes to another part than the one before: to look for several in a row that
 * go to the same takes longer there than it saves elsewhere, and so does fetching where they will
 * go.
 */
#include "cache/owned_parts.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_WANTED 4096
#define PARTS_MAX 16384 /* some of what is added may lie past the end that was said */
#define PART_BITS_MIN 20
#define SUPPLIED_LEAVES_MIN 2048 /* fewer are no work for another thread */
#define SUPPLIED_CHUNKS 4        /* at a time */

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
    for (unsigned i = 0; i < filler->share_count; i++) {
        owned_pool_join(&filler->owned->pool, &filler->shares[i].pool);
        free(filler->shares[i].entries);
    }
    owned_chunks_free(filler->owned->pool.spare);
    filler->owned->pool.spare = NULL;
    free(filler->parts); /* the leaves are the set's */
    free(filler->oldest);
    *filler = (struct owned_filler){.owned = NULL};
}

int owned_part_enlarge(struct owned_pool *pool, struct owned_part *part,
                       struct owned_leaf **ret_oldest)
{
    if (owned_pool_reserve(pool, 1) < 0)
        return -ENOMEM;
    struct owned_leaf *newest = owned_part_newest(part), *leaf = owned_pool_take(pool);
    uint32_t before = 0;
    if (newest) {
        before = owned_leaf_count(newest) + 1;
        atomic_store_explicit(&newest->count, OWNED_LEAF_WORDS, memory_order_relaxed);
        newest->next_free = leaf;
    } else {
        *ret_oldest = leaf;
    }
    leaf->next_free = NULL;
    atomic_store_explicit(&leaf->count, before, memory_order_relaxed);
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
    filler->parts = parts;
    struct owned_leaf **oldest = realloc(filler->oldest, more * sizeof(*oldest));
    if (!oldest)
        return -ENOMEM;
    filler->oldest = oldest;
    memset(parts + filler->part_count, 0, (more - filler->part_count) * sizeof(*parts));
    filler->part_count = more;
    return 0;
}

/* The part of that cluster has room for a word. */
static int make_room(struct owned_filler *filler, uint64_t at)
{
    int ret = at < filler->part_count ? 0 : reserve_parts(filler, at + 1);
    return ret == 0 && owned_part_is_full(&filler->parts[at])
               ? owned_part_enlarge(&filler->owned->pool, &filler->parts[at], &filler->oldest[at])
               : ret;
}

static int gather(struct owned_filler *filler, uint64_t cluster_index, enum owned_kind kind,
                  unsigned owner)
{
    uint64_t at = cluster_index >> filler->part_bits;
    int ret = make_room(filler, at);
    /* What does not go into a word follows from the part. */
    if (ret == 0)
        *filler->parts[at].next++ = (uint32_t)owned_element(cluster_index, kind, owner);
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
        if (at >= part_count || owned_part_is_full(&parts[at])) {
            assert(clusters[i] < OWNED_CLUSTERS_MAX);
            int ret = make_room(filler, at);
            if (ret < 0)
                return ret;
            parts = filler->parts;
            part_count = filler->part_count;
        }
        *parts[at].next++ = (uint32_t)(clusters[i] << OWNED_TAG_BITS | tag);
    }
    return 0;
}

/* --- memory that others make ready --------------------------------------------------------------
 */

unsigned owned_filler_wants(const struct owned_filler *filler, uint64_t clusters)
{
    const struct owned_pool *pool = &filler->owned->pool;
    unsigned spare = 0;
    for (const struct owned_chunk *chunk = pool->spare; chunk; chunk = chunk->next)
        spare++;
    if (pool->leaf_count < SUPPLIED_LEAVES_MIN || spare >= SUPPLIED_CHUNKS)
        return 0;
    uint64_t left = clusters / (OWNED_CHUNK_LEAVES * OWNED_LEAF_WORDS);
    return (unsigned)smaller(SUPPLIED_CHUNKS, left > spare ? left - spare : 0);
}

void owned_filler_supply(struct owned_filler *filler, struct owned_chunk *chunks)
{
    struct owned_chunk **end = &filler->owned->pool.spare;
    while (*end)
        end = &(*end)->next;
    *end = chunks;
}
