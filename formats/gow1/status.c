/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is data and what reads as zeroes, and where reads need no copy. A free block is a hole; of
 * an allocated one the file below is asked, since zeroes that were written there are in no map.
 */
#include <errno.h>

#include "common/align.h"
#include "formats/gow1/image.h"

/* Extents that are put together in one answer, at most. */
#define STEPS_MAX 256
#define SECTOR_BYTES 512

/* The file's pages and holes lie 12 bytes off the disk's sectors. Clients like whole ones: what
 * ends inside a sector ends before it, or, if it is data or too short for that, behind it as data.
 */
static void round_to_sectors(uint64_t disk_offset, uint64_t length_max, struct block_extent *extent)
{
    uint64_t end = disk_offset + extent->length;
    uint64_t before = align_down(end, SECTOR_BYTES), behind = align_up(end, SECTOR_BYTES);
    if (extent->length == length_max || before == end)
        return;
    if (extent->flags != BLOCK_EXTENT_ALLOCATED && before > disk_offset) {
        extent->length = before - disk_offset;
        return;
    }
    extent->flags = BLOCK_EXTENT_ALLOCATED;
    extent->length = behind - disk_offset < length_max ? behind - disk_offset : length_max;
}

static int co_extent_at(struct gow1_image *image, uint64_t disk_offset, uint64_t length,
                        struct block_extent *ret_extent)
{
    struct gow1_extent extent;
    int ret = gow1_co_map(image, disk_offset, length, &extent);
    if (ret < 0)
        return ret;
    if (!extent.is_allocated) {
        *ret_extent = (struct block_extent){.length = extent.length, .flags = BLOCK_EXTENT_ZERO};
        return 0;
    }
    ret = node_co_status(image->node->file, extent.file_offset, extent.length, ret_extent);
    if (ret == 0)
        round_to_sectors(disk_offset, extent.length, ret_extent);
    return ret;
}

int gow1_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                   struct block_extent *ret_extent)
{
    struct block_extent whole = {.length = 0}, next;
    int ret = 0;
    for (unsigned step = 0; step < STEPS_MAX && whole.length < length; step++) {
        ret = co_extent_at(gow1_of(node), offset + whole.length, length - whole.length, &next);
        if (ret < 0 || (step > 0 && next.flags != whole.flags))
            break;
        whole.flags = next.flags;
        whole.length += next.length;
    }
    if (ret < 0 && whole.length == 0)
        return ret;
    *ret_extent = whole;
    return 0;
}

/* One extent alone: who asks is in a hurry. What is not in memory counts as data. */
void gow1_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                            struct block_extent *ret_extent)
{
    struct gow1_extent extent;
    *ret_extent = (struct block_extent){.length = length, .flags = BLOCK_EXTENT_ALLOCATED};
    if (!gow1_map_remembered(gow1_of(node), offset, length, &extent))
        return;
    if (extent.is_allocated)
        node_status_remembered(node->file, extent.file_offset, extent.length, ret_extent);
    else
        *ret_extent = (struct block_extent){.length = extent.length, .flags = BLOCK_EXTENT_ZERO};
}

/* A block of the file belongs to one disk block as long as the image is open; only a resize gives
 * one away, and that refuses once something was lent. */
int gow1_lend(struct block_node *node, uint64_t offset, uint64_t length, struct block_loan *loan)
{
    struct gow1_image *image = gow1_of(node);
    struct gow1_extent extent;
    if (!gow1_map_remembered(image, offset, length, &extent) || !extent.is_allocated)
        return -EAGAIN;
    if (!atomic_load_explicit(&image->has_lent, memory_order_relaxed))
        atomic_store(&image->has_lent, true);
    return node_lend(node->file, extent.file_offset, extent.length, loan);
}
