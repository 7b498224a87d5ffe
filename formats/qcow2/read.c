/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads. A range is cut into extents; what lies in one piece, as most do, is read by the request's
 * own coroutine straight into its memory. Several pieces are read side by side, some at a time, a
 * coroutine each.
 *
 * A chain of images is read by recursion through the nodes, an image a level, so the frames here
 * are small: the chain's depth limit times all frames of a level fits a coroutine's stack
 * (tests/integration has such a chain).
 */
#include <errno.h>

#include "block/buffer.h"
#include "block/env.h"
#include "block/parts.h"
#include "block/workers.h"
#include "common/inflate.h"
#include "formats/qcow2/image.h"

/* --- compressed clusters ------------------------------------------------------------------------
 */

struct inflate_job {
    enum compression_method method;
    const void *from;
    size_t from_length;
    void *to;
    size_t to_length;
};

static int inflate_work(void *arg)
{
    const struct inflate_job *job = arg;
    return inflate_bytes(job->method, job->from, job->from_length, job->to, job->to_length);
}

struct fill {
    struct qcow2_image *image;
    uint64_t host_offset;
    uint32_t length;
};

/* A cluster's compressed bytes are read, and expanded by a worker: it takes as long as many reads.
 */
static int co_fill_cluster(void *arg, uint64_t key, uint8_t *buffer)
{
    const struct fill *fill = arg;
    struct qcow2_image *image = fill->image;
    struct buffer_pool *pool = &block_env_local(image->node->env)->buffers;
    void *packed = buffer_get(pool, fill->length);
    (void)key;
    if (!packed)
        return -ENOMEM;
    node_co_event(image->node, "read_compressed");
    int ret = qcow2_co_read_bytes(image, fill->host_offset, packed, fill->length);
    if (ret == 0) {
        struct inflate_job job = {
            .method = image->header.compression_type == QCOW2_COMPRESSION_ZSTD
                          ? COMPRESSION_ZSTD
                          : COMPRESSION_DEFLATE,
            .from = packed,
            .from_length = fill->length,
            .to = buffer,
            .to_length = image->geometry.cluster_bytes,
        };
        ret = workers_co_run(image->node->env->workers, inflate_work, &job);
    }
    buffer_put(pool, packed, fill->length);
    return ret;
}

static int co_read_compressed(struct qcow2_image *image, const struct qcow2_extent *extent,
                              uint64_t guest_offset, const struct block_vec *vec)
{
    struct cluster *cluster;
    struct fill fill = {
        .image = image,
        .host_offset = extent->host_offset,
        .length = extent->compressed_bytes,
    };
    int ret = clusters_co_get(image->clusters, extent->compressed_entry, co_fill_cluster, &fill,
                              &cluster);
    if (ret < 0)
        return ret;
    vec_copy_from(vec, cluster_data(cluster) + qcow2_in_cluster(&image->geometry, guest_offset));
    clusters_put(image->clusters, cluster);
    return 0;
}

/* --- one extent ---------------------------------------------------------------------------------
 */

/* Whether it takes no waiting, so that a coroutine of its own would be in vain. */
static bool is_quick(const struct qcow2_image *image, const struct qcow2_extent *extent)
{
    return extent->kind == QCOW2_ZERO || extent->kind == QCOW2_ZERO_ALLOCATED ||
           (extent->kind == QCOW2_UNALLOCATED && !image->backing);
}

static int co_read_extent(struct qcow2_image *image, const struct qcow2_extent *extent,
                          uint64_t guest_offset, const struct block_vec *vec)
{
    if (is_quick(image, extent)) {
        vec_fill(vec, 0);
        return 0;
    }
    switch (extent->kind) {
    case QCOW2_DATA:
        node_co_event(image->node, "read_aio");
        return node_co_read(image->data, extent->host_offset, vec);
    case QCOW2_COMPRESSED:
        return co_read_compressed(image, extent, guest_offset, vec);
    default: /* past a shorter backing file's end there are zeroes, as past any node's */
        node_co_event(image->node, "read_backing_aio");
        return node_co_read(image->backing, guest_offset, vec);
    }
}

/* --- several extents ----------------------------------------------------------------------------
 */

struct piece {
    struct qcow2_image *image;
    struct qcow2_extent extent;
    uint64_t guest_offset;
    struct block_vec vec;
};

static int co_read_piece(void *arg)
{
    const struct piece *piece = arg;
    return co_read_extent(piece->image, &piece->extent, piece->guest_offset, &piece->vec);
}

/* extent is the first one of the range. */
static int co_read_pieces(struct qcow2_image *image, const struct qcow2_extent *first,
                          uint64_t guest_offset, const struct block_vec *vec)
{
    struct piece piece = {.image = image, .extent = *first};
    struct parts *parts = parts_new(sizeof(piece), co_read_piece);
    if (!parts)
        return -ENOMEM;
    int ret = 0;
    for (size_t done = 0; done < vec->length && !parts_failed(parts); done += piece.vec.length) {
        size_t left = vec->length - done;
        if (done > 0)
            ret = qcow2_co_map(image, guest_offset + done, left, &piece.extent);
        if (ret < 0)
            break;
        size_t length = piece.extent.length < left ? (size_t)piece.extent.length : left;
        piece.guest_offset = guest_offset + done;
        piece.vec = vec_slice(vec, done, length);
        if (is_quick(image, &piece.extent))
            vec_fill(&piece.vec, 0);
        else
            parts_co_start(parts, &piece);
    }
    int parts_ret = parts_co_end(parts);
    return ret < 0 ? ret : parts_ret;
}

/* --- the driver's calls -------------------------------------------------------------------------
 */

int qcow2_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    struct qcow2_image *image = qcow2_of(node);
    struct qcow2_extent extent;
    struct cache_use use;
    cache_use_begin(image->cache, &use);
    int ret = qcow2_co_map(image, offset, vec->length, &extent);
    if (ret == 0 && extent.length >= vec->length)
        ret = co_read_extent(image, &extent, offset, vec);
    else if (ret == 0)
        ret = co_read_pieces(image, &extent, offset, vec);
    cache_use_end(image->cache, &use);
    return ret;
}

/* What is going to be asked for is fetched where it lies. */
int qcow2_co_cache(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct qcow2_image *image = qcow2_of(node);
    struct cache_use use;
    int ret = 0;
    cache_use_begin(image->cache, &use);
    for (uint64_t done = 0; done < length && ret == 0;) {
        struct qcow2_extent extent;
        ret = qcow2_co_map(image, offset + done, length - done, &extent);
        if (ret < 0)
            break;
        if (extent.kind == QCOW2_DATA)
            ret = node_co_cache(image->data, extent.host_offset, extent.length);
        else if (extent.kind == QCOW2_COMPRESSED)
            ret = node_co_cache(image->node->file, extent.host_offset, extent.compressed_bytes);
        else if (extent.kind == QCOW2_UNALLOCATED && image->backing)
            ret = node_co_cache(image->backing, offset + done, extent.length);
        done += extent.length;
    }
    cache_use_end(image->cache, &use);
    return ret;
}
