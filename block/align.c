/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/align.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "block/env.h"
#include "block/split.h"
#include "common/align.h"

/*
 * A driver that works in blocks gets whole ones. What a request has of its first and last block
 * only in part is read whole, changed in memory and written back:
 *
 *        block          block          block          block
 *     |..........|..............|..............|..............|
 *             ^offset                                ^end
 *     |--head----|------------body-------------|-----tail-----|
 *      read, copy    to the driver as it is      read, copy
 *      in, write                                 in, write
 *
 * A short request goes through one buffer as a whole instead: at most two reads and one write.
 *
 * The last block of a node whose size is no multiple ends where the node ends, so a request that
 * ends there has no tail, and nothing is ever read or written past the end to fill a block up. A
 * request that ends past the node's end grows the node, and has no tail either.
 *
 * A read-modify-write is serialising over its whole blocks (tracked.c), so none loses another's
 * bytes. The end of the node must also hold still while someone works up to an odd one. So growth
 * from an odd size, or to an odd end, is serialising from the last old block up to infinity, every
 * other growth covers the bytes from the old end on, and a read or write that touches the last
 * block covers it whole. Who waited looks at the size again (block/io).
 */

#define SHORT_BYTES_MAX (64u << 10) /* from here on copying costs more than a second request */

static uint64_t size_of(const struct block_node *node)
{
    return atomic_load(&node->size_bytes);
}

/* Where the blocks that hold the bytes up to end come to an end. */
static uint64_t blocks_end(const struct block_node *node, uint64_t end)
{
    uint64_t size = size_of(node);
    return end >= size ? end : smaller(align_up(end, node->limits.request_alignment), size);
}

/* --- what to be tracked as ------------------------------------------------------------------- */

struct align_cover align_cover_read(const struct block_node *node, uint64_t offset, uint64_t length,
                                    uint64_t size)
{
    uint32_t alignment = node->limits.request_alignment;
    (void)size;
    uint64_t start = align_down(offset, alignment);
    return (struct align_cover){.offset = start,
                                .length = align_up(offset + length, alignment) - start};
}

struct align_cover align_cover_write(const struct block_node *node, uint64_t offset,
                                     uint64_t length, uint64_t size)
{
    uint32_t alignment = node->limits.request_alignment;
    uint64_t end = offset + length;
    uint64_t start = align_down(offset, alignment);
    bool ends_odd = !is_aligned(end, alignment);
    if (end <= size)
        return (struct align_cover){.offset = start,
                                    .length = align_up(end, alignment) - start,
                                    .serialising = start != offset || (ends_odd && end != size)};

    uint64_t from = align_down(smaller(offset, size), alignment);
    if (start == offset && !ends_odd && is_aligned(size, alignment))
        return (struct align_cover){.offset = from, .length = end - from};
    return (struct align_cover){.offset = from, .length = UINT64_MAX - from, .serialising = true};
}

/* --- head, body and tail --------------------------------------------------------------------- */

struct cut {
    uint64_t body;     /* [offset, body) is the head: a part of one block, or nothing */
    uint64_t body_end; /* [body_end, end) is the tail */
};

static struct cut cut_range(const struct block_node *node, uint64_t offset, uint64_t end)
{
    uint32_t alignment = node->limits.request_alignment;
    uint64_t span_end = blocks_end(node, end);
    struct cut cut = {.body = offset, .body_end = end};
    bool is_whole = is_aligned(offset, alignment) && span_end == end;
    if (!is_whole && span_end - align_down(offset, alignment) <= SHORT_BYTES_MAX) {
        cut.body = end; /* all of it as one head */
        return cut;
    }
    if (!is_aligned(offset, alignment))
        cut.body = smaller(align_up(offset, alignment), end);
    if (span_end != end && cut.body < end)
        cut.body_end = align_down(end, alignment);
    return cut;
}

/* --- parts of blocks ------------------------------------------------------------------------- */

/* The blocks that hold [offset, end), in memory. */
struct blocks {
    struct buffer_pool *pool;
    uint8_t *data;
    uint64_t start;
    uint64_t length;
};

static int blocks_init(struct blocks *blocks, struct block_node *node, uint64_t offset,
                       uint64_t end)
{
    blocks->pool = &block_env_local(node->env)->buffers;
    blocks->start = align_down(offset, node->limits.request_alignment);
    blocks->length = blocks_end(node, end) - blocks->start;
    blocks->data = buffer_get(blocks->pool, blocks->length);
    return blocks->data ? 0 : -ENOMEM;
}

static void blocks_fini(struct blocks *blocks)
{
    buffer_put(blocks->pool, blocks->data, blocks->length);
}

/* Reads [start, end) of them; zeroes from the node's end on. */
static int blocks_co_load(const struct blocks *blocks, struct block_node *node, uint64_t start,
                          uint64_t end)
{
    uint8_t *data = blocks->data + (start - blocks->start);
    uint64_t stored_end = smaller(end, size_of(node));
    uint64_t stored = stored_end > start ? stored_end - start : 0;
    memset(data + stored, 0, end - start - stored);
    if (stored == 0)
        return 0;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, stored);
    return split_co_read(node, start, &vec);
}

/* Loads the first and the last block where [offset, end) has only a part of them. */
static int blocks_co_load_ends(const struct blocks *blocks, struct block_node *node,
                               uint64_t offset, uint64_t end)
{
    uint32_t alignment = node->limits.request_alignment;
    uint64_t span_end = blocks->start + blocks->length;
    uint64_t head_end = smaller(blocks->start + alignment, span_end);
    uint64_t tail_start = align_down(end, alignment);
    bool has_head = offset > blocks->start;
    bool has_tail = end < span_end;
    int rc = 0;
    if (has_head && has_tail && tail_start <= head_end) {
        has_tail = false;
        head_end = span_end;
    }
    if (has_head) {
        node_co_event(node, "pwritev_rmw_head");
        rc = blocks_co_load(blocks, node, blocks->start, head_end);
        node_co_event(node, "pwritev_rmw_after_head");
    }
    if (rc == 0 && has_tail) {
        node_co_event(node, "pwritev_rmw_tail");
        rc = blocks_co_load(blocks, node, tail_start, span_end);
        node_co_event(node, "pwritev_rmw_after_tail");
    }
    return rc;
}

static int co_read_part(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    struct blocks blocks;
    int rc = blocks_init(&blocks, node, offset, offset + vec->length);
    if (rc < 0)
        return rc;
    rc = blocks_co_load(&blocks, node, blocks.start, blocks.start + blocks.length);
    if (rc == 0)
        vec_copy_from(vec, blocks.data + (offset - blocks.start));
    blocks_fini(&blocks);
    return rc;
}

/* vec NULL: zeroes. */
static int co_write_part(struct block_node *node, uint64_t offset, uint64_t length,
                         const struct block_vec *vec, unsigned flags)
{
    struct blocks blocks;
    int rc = blocks_init(&blocks, node, offset, offset + length);
    if (rc < 0)
        return rc;
    rc = blocks_co_load_ends(&blocks, node, offset, offset + length);
    if (rc == 0) {
        struct iovec iov;
        struct block_vec whole = vec_of_buffer(&iov, blocks.data, blocks.length);
        uint8_t *data = blocks.data + (offset - blocks.start);
        if (vec)
            vec_copy_to(vec, data);
        else
            memset(data, 0, length);
        rc = split_co_write(node, blocks.start, &whole,
                            flags & (unsigned)(BLOCK_FUA | BLOCK_COMPRESS));
    }
    blocks_fini(&blocks);
    return rc;
}

/* --- whole requests -------------------------------------------------------------------------- */

static int co_read_inside(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    uint64_t end = offset + vec->length;
    struct cut cut = cut_range(node, offset, end);
    if (cut.body == offset && cut.body_end == end)
        return split_co_read(node, offset, vec);
    int rc = 0;
    if (cut.body > offset) {
        struct block_vec head = vec_slice(vec, 0, cut.body - offset);
        rc = co_read_part(node, offset, &head);
    }
    if (rc == 0 && cut.body_end > cut.body) {
        struct block_vec body = vec_slice(vec, cut.body - offset, cut.body_end - cut.body);
        rc = split_co_read(node, cut.body, &body);
    }
    if (rc == 0 && end > cut.body_end) {
        struct block_vec tail = vec_slice(vec, cut.body_end - offset, end - cut.body_end);
        rc = co_read_part(node, cut.body_end, &tail);
    }
    return rc;
}

int align_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    uint64_t size = size_of(node);
    if (offset + vec->length <= size)
        return co_read_inside(node, offset, vec);
    uint64_t stored = offset < size ? size - offset : 0;
    struct block_vec beyond = vec_slice(vec, stored, vec->length - stored);
    vec_fill(&beyond, 0);
    if (stored == 0)
        return 0;
    struct block_vec inside = vec_slice(vec, 0, stored);
    return co_read_inside(node, offset, &inside);
}

int align_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                   unsigned flags)
{
    uint64_t end = offset + vec->length;
    struct cut cut = cut_range(node, offset, end);
    if (cut.body == offset && cut.body_end == end)
        return split_co_write(node, offset, vec, flags);
    int rc = 0;
    if (cut.body > offset) {
        struct block_vec head = vec_slice(vec, 0, cut.body - offset);
        rc = co_write_part(node, offset, head.length, &head, flags);
    }
    if (rc == 0 && cut.body_end > cut.body) {
        struct block_vec body = vec_slice(vec, cut.body - offset, cut.body_end - cut.body);
        rc = split_co_write(node, cut.body, &body, flags);
    }
    if (rc == 0 && end > cut.body_end) {
        struct block_vec tail = vec_slice(vec, cut.body_end - offset, end - cut.body_end);
        rc = co_write_part(node, cut.body_end, tail.length, &tail, flags);
    }
    return rc;
}

int align_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    uint64_t end = offset + length;
    struct cut cut = cut_range(node, offset, end);
    bool is_whole = cut.body == offset && cut.body_end == end;
    if ((flags & BLOCK_FAST) && (!is_whole || end > size_of(node)))
        return -ENOTSUP;
    int rc = 0;
    if (cut.body > offset)
        rc = co_write_part(node, offset, cut.body - offset, NULL, flags);
    if (rc == 0 && cut.body_end > cut.body)
        rc = split_co_zero(node, cut.body, cut.body_end - cut.body, flags);
    if (rc == 0 && end > cut.body_end)
        rc = co_write_part(node, cut.body_end, end - cut.body_end, NULL, flags);
    return rc;
}

int align_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    uint32_t alignment = node->limits.request_alignment;
    uint64_t size = size_of(node);
    uint64_t start = align_up(offset, alignment);
    uint64_t end = offset + length >= size ? size : align_down(offset + length, alignment);
    return start < end ? split_co_discard(node, start, end - start) : 0;
}
