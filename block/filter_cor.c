/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter "copy-on-read": what a read takes from the backing file of the image below is written
 * to that image, so that the next read finds it there. Clusters that the image has itself, zeroes
 * too, are read and nothing else; an image that cannot have a backing file, such as raw, has all of
 * its clusters. With the option "bottom", the node-name of an image further down the chain, what no
 * image down to and with that one has is read and not copied.
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
#include "block/chain.h"
#include "block/env.h"
#include "block/filter.h"
#include "block/filters.h"
#include "block/graph.h"
#include "block/node.h"
#include "block/node_options.h"
#include "block/range_lock.h"
#include "common/align.h"

#define COPY_BYTES_MAX (UINT64_C(256) << 10) /* in one piece, and in one buffer */
#define CLUSTER_BYTES_DEFAULT (64u << 10)    /* where the image prefers nothing */

struct cor {
    struct range_lock lock;
    uint64_t cluster_bytes;
    const struct block_node *bottom; /* an image of the chain; NULL: all of it is copied from */
};

static int check_bottom(const struct block_node *node, const struct node_options *options,
                        const char *name, const struct block_node *bottom, struct error *err)
{
    const struct block_node *image = chain_image(node->file);
    if (bottom->driver->flags & BLOCK_DRIVER_FILTER)
        return node_options_refuse(options, "bottom", -EINVAL, err,
                                   "'%s' is a filter (%s); name the image below it", name,
                                   bottom->driver->name);
    while (image && image != bottom)
        image = chain_behind(image);
    if (image)
        return 0;
    return node_options_refuse(options, "bottom", -EINVAL, err,
                               "'%s' is not in the chain of images below; name the first one there "
                               "or a backing file",
                               name);
}

/* The chain is open. *ret_bottom is a part of it. */
static int co_take_bottom(const struct block_node *node, struct node_options *options,
                          const struct block_node **ret_bottom, struct error *err)
{
    const char *name = NULL;
    int rc = node_options_take_string(options, "bottom", &name, err);
    if (rc < 0 || !name)
        return rc;
    struct block_node *bottom = graph_find_node(node->env, name);
    if (!bottom)
        return node_options_refuse(
            options, "bottom", -EINVAL, err,
            "no node is called '%.100s'; say node-name for the last image to "
            "copy from",
            name);
    rc = check_bottom(node, options, name, bottom, err);
    if (rc == 0)
        *ret_bottom = bottom;
    block_co_node_unref(bottom);
    return rc;
}

static int cor_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    const struct block_node *bottom = NULL;
    int rc = filter_co_open(node, options, err);
    if (rc == 0)
        rc = co_take_bottom(node, options, &bottom, err);
    if (rc < 0)
        return rc;
    struct cor *cor = calloc(1, sizeof(*cor));
    if (!cor)
        return error_set(err, -ENOMEM, "no memory to open '%s'", node->name);
    uint32_t preferred = node->file->limits.preferred_bytes;
    range_lock_init(&cor->lock);
    cor->cluster_bytes = preferred > 0 ? smaller(preferred, COPY_BYTES_MAX) : CLUSTER_BYTES_DEFAULT;
    cor->bottom = bottom;
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

/* Whether what the range shows at its start is to be copied: the image does not have it, and one
 * behind it does, down to the bottom; and for how much of the range that is so. What lies past the
 * end of an image behind is that one's zeroes. */
static int co_is_to_copy(struct block_node *node, uint64_t offset, uint64_t length, bool *ret_is_to,
                         uint64_t *ret_length)
{
    const struct cor *cor = node->state;
    struct block_node *image = chain_image(node->file);
    bool is_own = false;
    int rc = node_co_is_own(image, offset, length, &is_own, &length);
    *ret_is_to = !is_own && !cor->bottom && image->backing;
    if (rc == 0 && !is_own && cor->bottom) {
        while (rc == 0 && !is_own && image != cor->bottom) {
            image = chain_behind(image);
            rc = node_co_is_own(image, offset, length, &is_own, &length);
        }
        *ret_is_to = is_own;
    }
    *ret_length = length;
    return rc;
}

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

/* Makes the image have all that is to be copied of [start, start + length), which the caller holds
 * alone. */
static int co_copy_locked(struct block_node *node, uint64_t start, uint64_t length, uint8_t *data)
{
    for (uint64_t done = 0; done < length;) {
        uint64_t piece;
        bool is_to_copy;
        int rc = co_is_to_copy(node, start + done, length - done, &is_to_copy, &piece);
        if (rc == 0 && is_to_copy)
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
        bool is_to_copy;
        int rc = co_is_to_copy(node, at, end - at, &is_to_copy, &piece);
        uint64_t next = at + piece;
        if (rc == 0 && is_to_copy)
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
