/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads. What lies in one piece, as most do, is read by the request's own coroutine straight into
 * its memory; several pieces are read side by side.
 */
#include <errno.h>

#include "block/parts.h"
#include "formats/gow1/image.h"

struct piece {
    struct block_node *file;
    uint64_t file_offset;
    struct block_vec vec;
};

static int co_read_piece(void *arg)
{
    const struct piece *piece = arg;
    return node_co_read(piece->file, piece->file_offset, &piece->vec);
}

/* extent is the first one of the range. */
static int co_read_pieces(struct gow1_image *image, struct gow1_extent extent, uint64_t disk_offset,
                          const struct block_vec *vec)
{
    struct piece piece = {.file = image->node->file};
    struct parts *parts = parts_new(sizeof(piece), co_read_piece);
    int ret = 0;
    if (!parts)
        return -ENOMEM;
    for (size_t done = 0; done < vec->length && !parts_failed(parts); done += piece.vec.length) {
        if (done > 0)
            ret = gow1_co_map(image, disk_offset + done, vec->length - done, &extent);
        if (ret < 0)
            break;
        piece.file_offset = extent.file_offset;
        piece.vec = vec_slice(vec, done, (size_t)extent.length);
        if (extent.is_allocated)
            parts_co_start(parts, &piece);
        else
            vec_fill(&piece.vec, 0);
    }
    int parts_ret = parts_co_end(parts);
    return ret < 0 ? ret : parts_ret;
}

int gow1_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    struct gow1_image *image = gow1_of(node);
    struct gow1_extent extent;
    node_co_event(node, "read_aio");
    int ret = gow1_co_map(image, offset, vec->length, &extent);
    if (ret < 0)
        return ret;
    if (extent.length < vec->length)
        return co_read_pieces(image, extent, offset, vec);
    if (extent.is_allocated)
        return node_co_read(node->file, extent.file_offset, vec);
    vec_fill(vec, 0);
    return 0;
}

/* What is going to be asked for is fetched where it lies. */
int gow1_co_cache(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct gow1_extent extent = {.length = 0};
    int ret = 0;
    for (uint64_t done = 0; done < length && ret == 0; done += extent.length) {
        ret = gow1_co_map(gow1_of(node), offset + done, length - done, &extent);
        if (ret == 0 && extent.is_allocated)
            ret = node_co_cache(node->file, extent.file_offset, extent.length);
    }
    return ret;
}
