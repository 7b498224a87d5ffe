/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The set as owned_leaves.h describes it: memory, questions, and changes one at a time.
 *
 * Tried and rejected: a hash of words took 16 to 64 bytes a cluster and a miss of the processor's
 * caches for each; four million tables were seconds and 260 MiB. A bit for each cluster of the file
 * is more than this from a few TiB on.
 */
#include "cache/owned_leaves.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "common/align.h"

#define TOP_CAPACITY_MIN 8
#define TOP_CAPACITY_MAX (UINT32_C(1) << 30)
#define CHUNK_LEAVES_MIN 4
#define CHUNK_LEAVES_MAX OWNED_CHUNK_LEAVES
#define PAGE_BYTES 4096
#define TOUCHED_BYTES_MIN (128 << 10)

/* --- memory -------------------------------------------------------------------------------------
 */

static struct owned_top *top_new(uint64_t capacity)
{
    if (capacity > TOP_CAPACITY_MAX)
        return NULL;
    struct owned_top *top = malloc(sizeof(*top) + capacity * sizeof(top->entries[0]));
    if (!top)
        return NULL;
    top->older = NULL;
    top->capacity = (uint32_t)capacity;
    atomic_init(&top->count, 0);
    return top;
}

struct owned_top *owned_top_enlarge(struct owned *owned, uint64_t leaves)
{
    struct owned_top *top = atomic_load_explicit(&owned->top, memory_order_relaxed);
    uint64_t capacity = (uint64_t)top->capacity * 2;
    while (capacity < leaves)
        capacity *= 2;
    struct owned_top *larger = top_new(capacity);
    if (!larger)
        return NULL;
    uint32_t count = atomic_load_explicit(&top->count, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++)
        owned_put_entry(larger, i, owned_base_at(top, i), owned_leaf_at(top, i));
    atomic_init(&larger->count, count);
    larger->older = top;
    atomic_store_explicit(&owned->top, larger, memory_order_release);
    return larger;
}

/* They will all be used soon. With millions of tables, to have the host find each page when it is
 * written takes longer than all that is done with it. A wish: an older host finds them one by one.
 * Tried and rejected: large pages. They save some 5 ms of 60 to 100, and now and then take 60 more,
 * in a virtual machine whose own host has not found them yet. */
static void touch_pages(void *memory, size_t bytes)
{
#ifdef MADV_POPULATE_WRITE
    uintptr_t from = align_up((uintptr_t)memory, PAGE_BYTES);
    uintptr_t to = align_down((uintptr_t)memory + bytes, PAGE_BYTES);
    if (bytes >= TOUCHED_BYTES_MIN)
        madvise((void *)from, to - from, MADV_POPULATE_WRITE);
#else
    (void)memory;
    (void)bytes;
#endif
}

static struct owned_chunk *chunk_new(uint64_t leaves)
{
    struct owned_chunk *chunk;
    size_t bytes = sizeof(*chunk) + leaves * sizeof(chunk->leaves[0]);
    chunk = aligned_alloc(sizeof(chunk->leaves[0]), bytes);
    if (chunk)
        touch_pages(chunk, bytes);
    return chunk;
}

struct owned_chunk *owned_chunks_new(unsigned count)
{
    struct owned_chunk *chunks = NULL;
    for (struct owned_chunk *chunk; count > 0 && (chunk = chunk_new(CHUNK_LEAVES_MAX)); count--) {
        chunk->next = chunks;
        chunks = chunk;
    }
    return chunks;
}

void owned_chunks_free(struct owned_chunk *chunks)
{
    for (struct owned_chunk *next; chunks; chunks = next) {
        next = chunks->next;
        free(chunks);
    }
}

/* All leaves there are in use. */
static int add_chunk(struct owned_pool *pool)
{
    uint64_t more = pool->leaf_count < CHUNK_LEAVES_MIN   ? CHUNK_LEAVES_MIN
                    : pool->leaf_count > CHUNK_LEAVES_MAX ? CHUNK_LEAVES_MAX
                                                          : pool->leaf_count;
    struct owned_chunk *chunk = pool->spare;
    if (chunk) {
        more = CHUNK_LEAVES_MAX;
        pool->spare = chunk->next;
    } else {
        chunk = chunk_new(more);
    }
    if (!chunk)
        return -ENOMEM;
    chunk->next = pool->chunks;
    pool->chunks = chunk;
    pool->leaf_count += more;
    pool->next_leaf = chunk->leaves;
    pool->fresh_count = more;
    return 0;
}

/* What is left of the newest chunk is free as others are. */
static void give_fresh_leaves(struct owned_pool *pool)
{
    for (; pool->fresh_count > 0; pool->fresh_count--)
        owned_pool_give(pool, pool->next_leaf++);
}

int owned_pool_reserve(struct owned_pool *pool, uint64_t count)
{
    int ret = 0;
    while (pool->free_count + pool->fresh_count < count && ret == 0) {
        give_fresh_leaves(pool);
        ret = add_chunk(pool);
    }
    return ret;
}

struct owned_leaf *owned_pool_take(struct owned_pool *pool)
{
    struct owned_leaf *leaf = pool->free_leaves;
    if (leaf) {
        pool->free_leaves = leaf->next_free;
        pool->free_count--;
    } else {
        assert(pool->fresh_count > 0);
        leaf = pool->next_leaf++;
        pool->fresh_count--;
    }
    atomic_store_explicit(&leaf->count, 0, memory_order_release);
    return leaf;
}

void owned_pool_give(struct owned_pool *pool, struct owned_leaf *leaf)
{
    leaf->next_free = pool->free_leaves;
    pool->free_leaves = leaf;
    pool->free_count++;
}

void owned_pool_join(struct owned_pool *pool, struct owned_pool *other)
{
    struct owned_chunk **chunks_end = &pool->chunks;
    struct owned_leaf **free_end = &other->free_leaves;
    give_fresh_leaves(other);
    while (*chunks_end)
        chunks_end = &(*chunks_end)->next;
    *chunks_end = other->chunks;
    while (*free_end)
        free_end = &(*free_end)->next_free;
    *free_end = pool->free_leaves;
    pool->free_leaves = other->free_leaves;
    pool->free_count += other->free_count;
    pool->leaf_count += other->leaf_count;
    *other = (struct owned_pool){.chunks = NULL};
}

int owned_new(struct owned **ret_owned)
{
    struct owned *owned = calloc(1, sizeof(*owned));
    struct owned_top *top = top_new(TOP_CAPACITY_MIN);
    if (!owned || !top) {
        free(owned);
        free(top);
        return -ENOMEM;
    }
    atomic_store(&owned->top, top);
    *ret_owned = owned;
    return 0;
}

void owned_free(struct owned *owned)
{
    if (!owned)
        return;
    for (struct owned_top *top = atomic_load(&owned->top), *older; top; top = older) {
        older = top->older;
        free(top);
    }
    owned_chunks_free(owned->pool.chunks);
    free(owned);
}

uint64_t owned_bytes(const struct owned *owned)
{
    uint64_t bytes = sizeof(*owned) + owned->pool.leaf_count * sizeof(struct owned_leaf);
    for (struct owned_top *top = atomic_load(&owned->top); top; top = top->older)
        bytes += sizeof(*top) + top->capacity * sizeof(top->entries[0]);
    return bytes;
}

/* --- searching ----------------------------------------------------------------------------------
 */

static struct owned_top *top_of(const struct owned *owned)
{
    return atomic_load_explicit(&owned->top, memory_order_acquire);
}

static uint32_t top_count(const struct owned_top *top)
{
    return atomic_load_explicit(&top->count, memory_order_acquire);
}

/* How many leaves have their base at the cluster or before it. */
static uint32_t leaves_until(const struct owned_top *top, uint64_t cluster_index)
{
    uint32_t low = 0, high = top_count(top);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (owned_base_at(top, middle) <= cluster_index)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* How many elements of the leaf are before the cluster. */
static uint32_t elements_before(const struct owned_leaf *leaf, uint64_t base,
                                uint64_t cluster_index)
{
    uint32_t low = 0, high = owned_leaf_count(leaf);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (owned_index_of(owned_element_at(leaf, base, middle)) < cluster_index)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The first element at the cluster or behind it. 0: there is none (no element is 0, as each has an
 * owner). */
static uint64_t find_from(const struct owned_top *top, uint64_t cluster_index)
{
    uint32_t next = leaves_until(top, cluster_index);
    if (next > 0) {
        const struct owned_leaf *leaf = owned_leaf_at(top, next - 1);
        uint64_t base = owned_base_at(top, next - 1);
        uint32_t at = elements_before(leaf, base, cluster_index);
        if (at < owned_leaf_count(leaf))
            return owned_element_at(leaf, base, at);
    }
    if (next >= top_count(top))
        return 0;
    return owned_element_at(owned_leaf_at(top, next), owned_base_at(top, next), 0);
}

unsigned owned_first(const struct owned *owned, uint64_t first, uint64_t count,
                     uint64_t *ret_cluster_index)
{
    uint32_t before, after;
    uint64_t element;
    do {
        before = atomic_load_explicit(&owned->sequence, memory_order_acquire);
        element = find_from(top_of(owned), first);
        after = atomic_load_explicit(&owned->sequence, memory_order_relaxed);
    } while (before != after || before % 2 != 0);
    if (element == 0)
        return OWNED_NOBODY;
    /* Before the last of some in a row there are only those. */
    uint64_t where = owned_kind_of(element) == OWNED_LAST ? first : owned_index_of(element);
    if (where - first >= count)
        return OWNED_NOBODY;
    *ret_cluster_index = where;
    return owned_owner_of(element);
}

unsigned owned_by(const struct owned *owned, uint64_t cluster_index)
{
    uint64_t where;
    return owned_first(owned, cluster_index, 1, &where);
}

/* --- changes ------------------------------------------------------------------------------------
 */

static void begin_change(struct owned *owned)
{
    uint32_t sequence = atomic_load_explicit(&owned->sequence, memory_order_relaxed);
    atomic_store_explicit(&owned->sequence, sequence + 1, memory_order_relaxed);
}

static void end_change(struct owned *owned)
{
    uint32_t sequence = atomic_load_explicit(&owned->sequence, memory_order_relaxed);
    atomic_store_explicit(&owned->sequence, sequence + 1, memory_order_release);
}

/* For two elements more. */
static int reserve(struct owned *owned)
{
    struct owned_top *top = top_of(owned);
    int ret = owned_pool_reserve(&owned->pool, 2);
    if (ret == 0 && top->capacity - top_count(top) < 2 && !owned_top_enlarge(owned, 0))
        ret = -ENOMEM;
    return ret;
}

static void set_count(struct owned_leaf *leaf, uint32_t count)
{
    atomic_store_explicit(&leaf->count, count, memory_order_release);
}

static struct owned_leaf *insert_leaf(struct owned *owned, uint32_t at, uint64_t base)
{
    struct owned_top *top = top_of(owned);
    struct owned_leaf *leaf = owned_pool_take(&owned->pool);
    uint32_t count = top_count(top);
    for (uint32_t i = count; i > at; i--)
        owned_put_entry(top, i, owned_base_at(top, i - 1), owned_leaf_at(top, i - 1));
    owned_put_entry(top, at, base, leaf);
    atomic_store_explicit(&top->count, count + 1, memory_order_release);
    return leaf;
}

static void remove_leaf(struct owned *owned, uint32_t at)
{
    struct owned_top *top = top_of(owned);
    uint32_t count = top_count(top);
    owned_pool_give(&owned->pool, owned_leaf_at(top, at));
    for (uint32_t i = at; i + 1 < count; i++)
        owned_put_entry(top, i, owned_base_at(top, i + 1), owned_leaf_at(top, i + 1));
    atomic_store_explicit(&top->count, count - 1, memory_order_release);
}

/* The upper half of a full leaf gets a leaf of its own, behind it. */
static void split(struct owned *owned, uint32_t at)
{
    struct owned_leaf *leaf = owned_leaf_at(top_of(owned), at);
    uint64_t base = owned_base_at(top_of(owned), at);
    uint32_t half = OWNED_LEAF_WORDS / 2;
    uint64_t upper_base = owned_index_of(owned_element_at(leaf, base, half));
    struct owned_leaf *upper = insert_leaf(owned, at + 1, upper_base);
    for (uint32_t i = half; i < OWNED_LEAF_WORDS; i++)
        owned_put_element(upper, i - half, owned_element_at(leaf, base, i));
    set_count(upper, OWNED_LEAF_WORDS - half);
    set_count(leaf, half);
}

/* Where there is room for the cluster: a new leaf where its segment has none before it, and where
 * it comes behind all that is in a full one, as in a file that grows. */
static uint32_t make_room(struct owned *owned, uint64_t cluster_index)
{
    uint32_t next = leaves_until(top_of(owned), cluster_index);
    uint64_t segment = owned_segment_of(cluster_index);
    if (next == 0 || owned_segment_of(owned_base_at(top_of(owned), next - 1)) != segment) {
        insert_leaf(owned, next, segment << OWNED_SEGMENT_BITS);
        return next;
    }
    struct owned_leaf *leaf = owned_leaf_at(top_of(owned), next - 1);
    uint64_t base = owned_base_at(top_of(owned), next - 1);
    if (owned_leaf_count(leaf) < OWNED_LEAF_WORDS)
        return next - 1;
    if (elements_before(leaf, base, cluster_index) == OWNED_LEAF_WORDS) {
        insert_leaf(owned, next, cluster_index);
        return next;
    }
    split(owned, next - 1);
    return leaves_until(top_of(owned), cluster_index) - 1;
}

/* There is room for it, by reserve(). */
static void insert(struct owned *owned, uint64_t element)
{
    uint32_t where = make_room(owned, owned_index_of(element));
    struct owned_leaf *leaf = owned_leaf_at(top_of(owned), where);
    uint64_t base = owned_base_at(top_of(owned), where);
    uint32_t at = elements_before(leaf, base, owned_index_of(element));
    uint32_t count = owned_leaf_count(leaf);
    for (uint32_t i = count; i > at; i--)
        owned_put_element(leaf, i, owned_element_at(leaf, base, i - 1));
    owned_put_element(leaf, at, element);
    set_count(leaf, count + 1);
}

int owned_add(struct owned *owned, uint64_t first, uint64_t count, unsigned owner)
{
    uint64_t where;
    assert(first < OWNED_CLUSTERS_MAX && count > 0 && count <= OWNED_CLUSTERS_MAX - first);
    assert(owner > OWNED_NOBODY && owner <= OWNED_OWNERS_MAX);
    if (owned_first(owned, first, count, &where) != OWNED_NOBODY)
        return -EEXIST;
    int ret = reserve(owned);
    if (ret < 0)
        return ret;
    begin_change(owned);
    insert(owned, owned_element(first, count == 1 ? OWNED_ALONE : OWNED_FIRST, owner));
    if (count > 1)
        insert(owned, owned_element(first + count - 1, OWNED_LAST, owner));
    end_change(owned);
    return 0;
}

/* The element of this cluster, which is there. */
static void remove_at(struct owned *owned, uint64_t cluster_index)
{
    uint32_t where = leaves_until(top_of(owned), cluster_index) - 1;
    struct owned_leaf *leaf = owned_leaf_at(top_of(owned), where);
    uint64_t base = owned_base_at(top_of(owned), where);
    uint32_t count = owned_leaf_count(leaf);
    for (uint32_t i = elements_before(leaf, base, cluster_index); i + 1 < count; i++)
        owned_put_element(leaf, i, owned_element_at(leaf, base, i + 1));
    set_count(leaf, count - 1);
    if (count == 1)
        remove_leaf(owned, where);
}

static bool is_element(const struct owned *owned, uint64_t cluster_index, enum owned_kind kind)
{
    uint64_t element = find_from(top_of(owned), cluster_index);
    return element != 0 && owned_index_of(element) == cluster_index &&
           owned_kind_of(element) == kind;
}

void owned_remove(struct owned *owned, uint64_t first, uint64_t count)
{
    uint64_t last = first + count - 1;
    assert(count > 0);
    if (!is_element(owned, first, count == 1 ? OWNED_ALONE : OWNED_FIRST) ||
        (count > 1 && find_from(top_of(owned), first + 1) >> OWNED_TAG_BITS != last))
        return;
    begin_change(owned);
    remove_at(owned, first);
    if (count > 1)
        remove_at(owned, last);
    end_change(owned);
}
