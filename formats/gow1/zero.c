/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Zeroes and discards. A free block reads as zeroes already. An allocated one keeps its place: what
 * it holds there becomes zero, or is given back to the host, by the file below.
 */
#include <errno.h>

#include "formats/gow1/image.h"

int gow1_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    struct gow1_image *image = gow1_of(node);
    struct gow1_extent extent = {.length = 0};
    int ret = atomic_load(&image->is_corrupt) ? -EIO : 0;
    for (uint64_t done = 0; done < length && ret == 0; done += extent.length) {
        ret = gow1_co_map(image, offset + done, length - done, &extent);
        if (ret < 0 || !extent.is_allocated)
            continue;
        ret = node_co_zero(node->file, extent.file_offset, extent.length, flags);
        flags &= ~(unsigned)BLOCK_FAST; /* something is changed now, so the rest must be, too */
    }
    return ret;
}

int gow1_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct gow1_image *image = gow1_of(node);
    struct gow1_extent extent = {.length = 0};
    int ret = atomic_load(&image->is_corrupt) ? -EIO : 0;
    for (uint64_t done = 0; done < length && ret == 0; done += extent.length) {
        ret = gow1_co_map(image, offset + done, length - done, &extent);
        if (ret == 0 && extent.is_allocated)
            ret = node_co_discard(node->file, extent.file_offset, extent.length, 0);
    }
    return ret;
}
