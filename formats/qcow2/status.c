/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is data and what reads as zeroes, through the chain: what an image does not have is asked of
 * its backing file. Data is not asked of the file below: a cluster that was written is data, though
 * a hole of the file may lie there.
 */
#include "formats/qcow2/image.h"

/* Extents of one kind that are put together in one answer, at most. */
#define STEPS_MAX 256

/* Of what is not to be asked of the backing file. */
static unsigned flags_of(enum qcow2_kind kind)
{
    switch (kind) {
    case QCOW2_DATA:
    case QCOW2_COMPRESSED:
        return BLOCK_EXTENT_ALLOCATED;
    case QCOW2_ZERO_ALLOCATED:
        return BLOCK_EXTENT_ALLOCATED | BLOCK_EXTENT_ZERO;
    default:
        return BLOCK_EXTENT_ZERO;
    }
}

static int co_extent_at(struct qcow2_image *image, uint64_t guest_offset, uint64_t length,
                        struct block_extent *ret_extent)
{
    struct qcow2_extent extent;
    int ret = qcow2_co_map(image, guest_offset, length, &extent);
    if (ret < 0)
        return ret;
    if (extent.kind == QCOW2_UNALLOCATED && image->backing)
        return node_co_status(image->backing, guest_offset, extent.length, ret_extent);
    *ret_extent = (struct block_extent){.length = extent.length, .flags = flags_of(extent.kind)};
    return 0;
}

int qcow2_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                    struct block_extent *ret_extent)
{
    struct qcow2_image *image = qcow2_of(node);
    struct cache_use use;
    struct block_extent whole = {.length = 0}, next;
    cache_use_begin(image->cache, &use);
    int ret = 0;
    for (unsigned step = 0; step < STEPS_MAX && whole.length < length; step++) {
        ret = co_extent_at(image, offset + whole.length, length - whole.length, &next);
        if (ret < 0 || (step > 0 && next.flags != whole.flags))
            break;
        whole.flags = next.flags;
        whole.length += next.length;
    }
    cache_use_end(image->cache, &use);
    if (ret < 0 && whole.length == 0)
        return ret;
    *ret_extent = whole;
    return 0;
}

int qcow2_co_is_own(struct block_node *node, uint64_t offset, uint64_t length, bool *ret_is_own,
                    uint64_t *ret_length)
{
    struct qcow2_image *image = qcow2_of(node);
    struct cache_use use;
    struct qcow2_extent extent;
    cache_use_begin(image->cache, &use);
    int ret = qcow2_co_map(image, offset, length, &extent);
    cache_use_end(image->cache, &use);
    if (ret < 0)
        return ret;
    *ret_is_own = extent.kind != QCOW2_UNALLOCATED;
    *ret_length = extent.length;
    return 0;
}

/* One extent alone: who asks is in a hurry. What is not in memory counts as data. */
void qcow2_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                             struct block_extent *ret_extent)
{
    struct qcow2_image *image = qcow2_of(node);
    struct qcow2_extent extent;
    *ret_extent = (struct block_extent){.length = length, .flags = BLOCK_EXTENT_ALLOCATED};
    if (!qcow2_map_remembered(image, offset, length, &extent))
        return;
    if (extent.kind == QCOW2_UNALLOCATED && image->backing) {
        node_status_remembered(image->backing, offset, extent.length, ret_extent);
        return;
    }
    *ret_extent = (struct block_extent){.length = extent.length, .flags = flags_of(extent.kind)};
}
