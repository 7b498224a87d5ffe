/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/block/layered_driver.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/node.h"
#include "block/range_lock.h"

struct layered {
    struct block_node *backing;
    struct range_lock clusters; /* a change takes its clusters alone */
    uint64_t cluster_count;
    atomic_bool *has;
};

static int layered_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    struct block_node *backing;
    int rc = block_co_open_child(node, options, "file", &node->file, err);
    if (rc == 0)
        rc = block_co_open_child(node, options, "backing", &backing, err);
    if (rc < 0)
        return rc;
    struct layered *layered = calloc(1, sizeof(*layered));
    assert(layered);
    layered->backing = backing;
    layered->cluster_count =
        (node_size(node->file) + LAYERED_CLUSTER_BYTES - 1) / LAYERED_CLUSTER_BYTES;
    layered->has = calloc(layered->cluster_count, sizeof(*layered->has));
    assert(layered->has);
    range_lock_init(&layered->clusters);
    node->state = layered;
    node->limits.preferred_bytes = LAYERED_CLUSTER_BYTES;
    atomic_store(&node->size_bytes, node_size(node->file));
    return 0;
}

static void layered_co_close(struct block_node *node)
{
    struct layered *layered = node->state;
    range_lock_fini(&layered->clusters);
    free(layered->has);
    free(layered);
}

bool layered_has(const struct block_node *node, uint64_t cluster)
{
    const struct layered *layered = node->state;
    return atomic_load(&layered->has[cluster]);
}

/* How much of the range, within a cluster. */
static uint64_t in_cluster(uint64_t offset, uint64_t length)
{
    uint64_t left = LAYERED_CLUSTER_BYTES - offset % LAYERED_CLUSTER_BYTES;
    return left < length ? left : length;
}

static int layered_co_is_own(struct block_node *node, uint64_t offset, uint64_t length,
                             bool *ret_is_own, uint64_t *ret_length)
{
    *ret_is_own = layered_has(node, offset / LAYERED_CLUSTER_BYTES);
    *ret_length = in_cluster(offset, length);
    return 0;
}

static int layered_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    struct layered *layered = node->state;
    int rc = 0;
    for (uint64_t done = 0; done < vec->length && rc == 0;) {
        uint64_t length = in_cluster(offset + done, vec->length - done);
        struct block_vec piece = vec_slice(vec, done, length);
        bool has = layered_has(node, (offset + done) / LAYERED_CLUSTER_BYTES);
        rc = node_co_read(has ? node->file : layered->backing, offset + done, &piece);
        done += length;
    }
    return rc;
}

/* A part of one cluster. */
static int co_write_cluster(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    struct layered *layered = node->state;
    uint64_t cluster = offset / LAYERED_CLUSTER_BYTES;
    uint64_t start = cluster * LAYERED_CLUSTER_BYTES;
    uint8_t data[LAYERED_CLUSTER_BYTES];
    struct iovec iov;
    uint64_t left = node_size(node) - start;
    struct block_vec whole = vec_of_buffer(&iov, data, left < sizeof(data) ? left : sizeof(data));
    if (layered_has(node, cluster))
        return node_co_write(node->file, offset, vec, 0);
    int rc = node_co_read(layered->backing, start, &whole);
    if (rc < 0)
        return rc;
    vec_copy_to(vec, data + (offset - start));
    rc = node_co_write(node->file, start, &whole, 0);
    if (rc == 0)
        atomic_store(&layered->has[cluster], true);
    return rc;
}

static int layered_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                            unsigned flags)
{
    struct layered *layered = node->state;
    struct locked_range range;
    (void)flags;
    uint64_t start = offset - offset % LAYERED_CLUSTER_BYTES;
    uint64_t end = offset + vec->length + LAYERED_CLUSTER_BYTES - 1;
    end -= end % LAYERED_CLUSTER_BYTES;
    range_lock_co_take(&layered->clusters, &range, start, end - start, true);
    int rc = 0;
    for (uint64_t done = 0; done < vec->length && rc == 0;) {
        uint64_t length = in_cluster(offset + done, vec->length - done);
        struct block_vec piece = vec_slice(vec, done, length);
        rc = co_write_cluster(node, offset + done, &piece);
        done += length;
    }
    range_lock_release(&layered->clusters, &range);
    return rc;
}

const struct block_driver layered_driver = {
    .name = "layered",
    .co_open = layered_co_open,
    .co_close = layered_co_close,
    .co_read = layered_co_read,
    .co_write = layered_co_write,
    .co_is_own = layered_co_is_own,
};
