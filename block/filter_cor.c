/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter "copy-on-read": what a read takes from the backing file of the image below is written
 * to that image, so that the next read finds it there. Clusters that the image has itself, zeroes
 * too, are read and nothing else; an image that cannot have a backing file, such as raw, has all of
 * its clusters.
 *
 * A copy must never put old bytes over a client's new ones. So it takes its range of whole clusters
 * alone, asks again what of it the image still does not have, and copies that alone; writes, zeroes
 * and trims share the ranges they change. One that comes during a copy waits, and then changes what
 * was copied; a copy that comes during a write waits, and finds that the image has the cluster.
 *
 * A copy that cannot be written fails the read, as in qemu. Zeroes are made, not written. A
 * read-only node copies nothing.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/buffer.h"
#include "block/env.h"
#include "block/filter.h"
#include "block/filters.h"
#include "block/node.h"
#include "block/node_options.h"
#include "block/range_lock.h"
#include "common/align.h"

#define COPY_BYTES_MAX (UINT64_C(256) << 10) /* in one piece, and in one buffer */
#define CLUSTER_BYTES_DEFAULT (64u << 10)    /* where the image prefers nothing */

struct cor {
    struct range_lock lock;
    uint64_t cluster_bytes;
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static int cor_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    if (node_options_has(options, "bottom"))
        return node_options_refuse(options, "bottom", -ENOTSUP, err,
                                   "nodes have no names here, so none can be the bottom; leave it "
                                   "out to copy from the whole chain");
    int rc = filter_co_open(node, options, err);
    if (rc < 0)
        return rc;
    struct cor *cor = calloc(1, sizeof(*cor));
    if (!cor)
        return error_set(err, -ENOMEM, "no memory to open '%s'", node->name);
    uint32_t preferred = node->file->limits.preferred_bytes;
    range_lock_init(&cor->lock);
    cor->cluster_bytes = preferred > 0 ? smaller(preferred, COPY_BYTES_MAX) : CLUSTER_BYTES_DEFAULT;
    node->state = cor;
    return 0;
}

static void cor_co_close(struct block_node *node)
{
    struct cor *cor = node->state;
    range_lock_fini(&cor->lock);
    free(cor);
}

/* --- copies ---------------------------------------------------------------------------------- */

static int co_read_and_keep(struct block_node *node, uint64_t offset, uint8_t *data, size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    int rc = node_co_read(node->file, offset, &vec);
    if (rc < 0)
        return rc;
    if (vec_is_zero(&vec))
        return node_co_zero(node->file, offset, length, 0);
    return node_co_write(node->file, offset, &vec, 0);
}

/* Makes the image have all of [start, start + length), which the caller holds alone. */
static int co_copy_locked(struct block_node *node, uint64_t start, uint64_t length, uint8_t *data)
{
    for (uint64_t done = 0; done < length;) {
        uint64_t piece;
        bool is_own;
        int rc = node_co_is_own(node->file, start + done, length - done, &is_own, &piece);
        if (rc == 0 && !is_own)
            rc = co_read_and_keep(node, start + done, data, piece);
        if (rc < 0)
            return rc;
        done += piece;
    }
    return 0;
}

/* The whole clusters around a range that the image does not have, up to a bound; *ret_end is how
 * far they were copied. */
static int co_copy(struct block_node *node, uint64_t offset, uint64_t length, uint64_t *ret_end)
{
    struct cor *cor = node->state;
    struct buffer_pool *pool = &block_env_local(node->env)->buffers;
    struct locked_range range;
    uint64_t start = offset - offset % cor->cluster_bytes;
    uint64_t wanted = offset + length - start;
    uint64_t whole = (wanted + cor->cluster_bytes - 1) / cor->cluster_bytes * cor->cluster_bytes;
    uint64_t most = COPY_BYTES_MAX / cor->cluster_bytes * cor->cluster_bytes;
    uint64_t bytes = smaller(smaller(whole, most), node_size(node->file) - start);
    uint8_t *data = buffer_get(pool, bytes);
    if (!data)
        return -ENOMEM;
    range_lock_co_take(&cor->lock, &range, start, bytes, true);
    int rc = co_copy_locked(node, start, bytes, data);
    range_lock_release(&cor->lock, &range);
    buffer_put(pool, data, bytes);
    *ret_end = start + bytes;
    return rc;
}

static int cor_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    uint64_t end = offset + vec->length;
    if (node->read_only)
        return filter_co_read(node, offset, vec);
    for (uint64_t at = offset; at < end;) {
        uint64_t piece;
        bool is_own;
        int rc = node_co_is_own(node->file, at, end - at, &is_own, &piece);
        uint64_t next = at + piece;
        if (rc == 0 && !is_own)
            rc = co_copy(node, at, piece, &next);
        if (rc < 0)
            return rc;
        at = next;
    }
    return filter_co_read(node, offset, vec);
}

/* --- changes --------------------------------------------------------------------------------- */

static int cor_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                        unsigned flags)
{
    struct cor *cor = node->state;
    struct locked_range range;
    range_lock_co_take(&cor->lock, &range, offset, vec->length, false);
    int rc = filter_co_write(node, offset, vec, flags);
    range_lock_release(&cor->lock, &range);
    return rc;
}

static int cor_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    struct cor *cor = node->state;
    struct locked_range range;
    range_lock_co_take(&cor->lock, &range, offset, length, false);
    int rc = filter_co_zero(node, offset, length, flags);
    range_lock_release(&cor->lock, &range);
    return rc;
}

static int cor_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct cor *cor = node->state;
    struct locked_range range;
    range_lock_co_take(&cor->lock, &range, offset, length, false);
    int rc = filter_co_discard(node, offset, length);
    range_lock_release(&cor->lock, &range);
    return rc;
}

/* What is lent was not copied. */
static int cor_lend(struct block_node *node, uint64_t offset, uint64_t length,
                    struct block_loan *loan)
{
    return node->read_only ? filter_lend(node, offset, length, loan) : -ENOTSUP;
}

/* A hint to read ahead (co_cache) is a read here, and so a copy. */
const struct block_driver block_filter_copy_on_read = {
    .name = "copy-on-read",
    .flags = FILTER_FLAGS,
    .co_open = cor_co_open,
    .co_close = cor_co_close,
    .co_read = cor_co_read,
    .co_write = cor_co_write,
    .co_zero = cor_co_zero,
    .co_discard = cor_co_discard,
    .co_flush = filter_co_flush,
    .co_status = filter_co_status,
    .status_remembered = filter_status_remembered,
    .lend = cor_lend,
    .admin = &filter_admin,
};
