/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter "compress", as qemu's: every write to the image below is stored compressed, by whole
 * clusters. It asks for whole clusters itself, so a smaller write is made one by reading the rest
 * of its cluster first (block/align). Nothing else is changed; what is read is what the image
 * shows.
 */
#include <errno.h>

#include "block/filter.h"
#include "block/filters.h"
#include "block/node_options.h"

/* Whole clusters of the child, in pieces that it cuts itself. */
static struct block_limits limits_above(const struct block_limits *child)
{
    return (struct block_limits){
        .request_alignment = child->compress_bytes,
        .memory_alignment = child->memory_alignment,
        .preferred_bytes = child->preferred_bytes,
        .compress_bytes = child->compress_bytes,
    };
}

static int compress_co_open(struct block_node *node, struct node_options *options,
                            struct error *err)
{
    int rc = filter_co_open(node, options, err);
    if (rc < 0)
        return rc;
    if (node->limits.compress_bytes == 0)
        return node_options_refuse(options, "file", -ENOTSUP, err,
                                   "'%.200s' cannot be compressed by the driver %s; put compress "
                                   "above an image of the format qcow2 that has no external data "
                                   "file",
                                   node->file->name, node->file->driver->name);
    node->limits = limits_above(&node->file->limits);
    return 0;
}

static int compress_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                             unsigned flags)
{
    return filter_co_write(node, offset, vec, flags | BLOCK_COMPRESS);
}

static void compress_co_reopen_commit(struct block_node *node, struct block_reopen *reopen)
{
    (void)reopen;
    node->limits = limits_above(&node->file->limits);
}

static const struct block_driver_admin compress_admin = {
    .co_stored_size = filter_co_stored_size,
    .co_reopen_prepare = filter_co_reopen_prepare,
    .co_reopen_commit = compress_co_reopen_commit,
    .co_resize = filter_co_resize,
    .has_zero_init = filter_has_zero_init,
};

const struct block_driver block_filter_compress = {
    .name = "compress",
    .flags = FILTER_FLAGS,
    .co_open = compress_co_open,
    .co_close = filter_co_close,
    .co_read = filter_co_read,
    .co_write = compress_co_write,
    .co_zero = filter_co_zero,
    .co_discard = filter_co_discard,
    .co_cache = filter_co_cache,
    .co_flush = filter_co_flush,
    .co_status = filter_co_status,
    .status_remembered = filter_status_remembered,
    .lend = filter_lend,
    .admin = &compress_admin,
};
