/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/virtio_config.h"

#include <endian.h>

#include "common/align.h"

uint64_t virtio_blk_offered(const struct virtio_blk_shape *shape)
{
    uint64_t features =
        VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |
        VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) | VIRTIO_FEATURE(VIRTIO_BLK_F_SEG_MAX) |
        VIRTIO_FEATURE(VIRTIO_BLK_F_BLK_SIZE) | VIRTIO_FEATURE(VIRTIO_BLK_F_TOPOLOGY) |
        VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH) | VIRTIO_FEATURE(VIRTIO_BLK_F_CONFIG_WCE);
    if (shape->queue_count > 1)
        features |= VIRTIO_FEATURE(VIRTIO_BLK_F_MQ);
    if (shape->is_read_only)
        features |= VIRTIO_FEATURE(VIRTIO_BLK_F_RO);
    else
        features |=
            VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD) | VIRTIO_FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
    return features;
}

struct virtio_blk_config virtio_blk_config_of(const struct virtio_blk_shape *shape,
                                              bool write_cache)
{
    uint32_t block_sectors = shape->block_bytes / VIRTIO_SECTOR;
    uint32_t optimal_blocks = shape->optimal_bytes / shape->block_bytes;
    /* Whole blocks, so that the driver never cuts a range inside of one. */
    uint32_t segment_sectors = (uint32_t)align_down(VIRTIO_SEGMENT_SECTORS_MAX, block_sectors);
    return (struct virtio_blk_config){
        .capacity = htole64(shape->sector_count),
        .seg_max = htole32(shape->queue_size - 2u), /* the header and the status take one each */
        .blk_size = htole32(shape->block_bytes),
        .min_io_size = htole16((uint16_t)smaller(optimal_blocks, UINT16_MAX)),
        .wce = write_cache,
        .num_queues = htole16(shape->queue_count),
        .max_discard_sectors = htole32(segment_sectors),
        .max_discard_seg = htole32(VIRTIO_SEGMENTS_MAX),
        .discard_sector_alignment = htole32(block_sectors),
        .max_write_zeroes_sectors = htole32(segment_sectors),
        .max_write_zeroes_seg = htole32(VIRTIO_SEGMENTS_MAX),
        .write_zeroes_may_unmap = 1,
    };
}
