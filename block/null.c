/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The protocol driver "null", qemu's "null-co": a disk that keeps nothing. What a request to it
 * costs is what the server costs. Options:
 *
 *   size          how large the disk is; 1G without it
 *   latency-ns    every read, write, zero, discard and flush takes at least so long; 0 without it
 *   read-zeroes   on: reads give zeroes, which is the default here. off: a read does not touch its
 *                 buffer, as is qemu's default, so a client is sent what was in that memory before
 *
 * Nothing is remembered of it (status_remembered), so that a read is answered with data, not with
 * a hole.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/driver.h"
#include "block/graph.h"
#include "block/node_options.h"
#include "block/sleep.h"

#define SIZE_BYTES_DEFAULT (UINT64_C(1) << 30)
#define PREFERRED_BYTES 4096

struct null_disk {
    uint64_t latency_ns;
    bool reads_zeroes;
};

static int null_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    struct null_disk disk = {.reads_zeroes = true};
    uint64_t size_bytes = SIZE_BYTES_DEFAULT;
    graph_take_passed_down(options);
    int rc = node_options_take_size(options, "size", &size_bytes, err);
    if (rc == 0)
        rc = node_options_take_number(options, "latency-ns", &disk.latency_ns, err);
    if (rc == 0)
        rc = node_options_take_bool(options, "read-zeroes", &disk.reads_zeroes, err);
    if (rc < 0)
        return rc;
    struct null_disk *copy = malloc(sizeof(*copy));
    if (!copy)
        return error_set(err, -ENOMEM, "no memory to open '%s'", node->name);
    *copy = disk;
    node->state = copy;
    node->limits.preferred_bytes = PREFERRED_BYTES;
    atomic_store(&node->size_bytes, size_bytes);
    return 0;
}

static void null_co_close(struct block_node *node)
{
    free(node->state);
}

static int co_take_time(const struct block_node *node)
{
    const struct null_disk *disk = node->state;
    sleep_co_ns(disk->latency_ns);
    return 0;
}

static int null_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    const struct null_disk *disk = node->state;
    (void)offset;
    if (disk->reads_zeroes)
        vec_fill(vec, 0);
    return co_take_time(node);
}

static int null_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                         unsigned flags)
{
    (void)offset;
    (void)vec;
    (void)flags; /* there is nothing that could be lost */
    return co_take_time(node);
}

static int null_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    (void)offset;
    (void)length;
    (void)flags;
    return co_take_time(node);
}

static int null_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    (void)offset;
    (void)length;
    return co_take_time(node);
}

static int null_co_cache(struct block_node *node, uint64_t offset, uint64_t length)
{
    (void)node;
    (void)offset;
    (void)length;
    return 0;
}

static int null_co_flush(struct block_node *node)
{
    return co_take_time(node);
}

static int null_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                          struct block_extent *ret_extent)
{
    const struct null_disk *disk = node->state;
    (void)offset;
    *ret_extent = (struct block_extent){
        .length = length, .flags = disk->reads_zeroes ? BLOCK_EXTENT_ZERO : BLOCK_EXTENT_ALLOCATED};
    return 0;
}

static bool null_has_zero_init(struct block_node *node)
{
    const struct null_disk *disk = node->state;
    return disk->reads_zeroes;
}

static const struct block_driver_admin null_admin = {.has_zero_init = null_has_zero_init};

const struct block_driver block_driver_null = {
    .name = "null",
    .alias = "null-co",
    .flags = BLOCK_DRIVER_PROTOCOL | BLOCK_DRIVER_FUA,
    .co_open = null_co_open,
    .co_close = null_co_close,
    .co_read = null_co_read,
    .co_write = null_co_write,
    .co_zero = null_co_zero,
    .co_discard = null_co_discard,
    .co_cache = null_co_cache,
    .co_flush = null_co_flush,
    .co_status = null_co_status,
    .admin = &null_admin,
};
