/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_VIRTIO_CONFIG_H
#define TESTS_HARNESS_VIRTIO_CONFIG_H

/*
 * What a virtio-blk device says of itself: the features it offers and its configuration space.
 * VIRTIO 1.2, sections 5.2.3 and 5.2.4; the layout is that of linux/virtio_blk.h.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#define VIRTIO_SECTOR 512
#define VIRTIO_FEATURE(bit) (UINT64_C(1) << (bit))

/* Of one DISCARD or WRITE_ZEROES request. */
#define VIRTIO_SEGMENTS_MAX 32
#define VIRTIO_SEGMENT_SECTORS_MAX (UINT32_C(1) << 22) /* 2 GiB */
#define VIRTIO_DATA_BYTES_MAX (UINT32_C(1) << 30)      /* of a read or a write */

/* What a device is, for as long as it lives. */
struct virtio_blk_shape {
    uint64_t sector_count;  /* of 512 bytes; whole blocks */
    uint32_t block_bytes;   /* what requests are aligned to; a power of two from 512 on */
    uint32_t optimal_bytes; /* what goes without extra work; whole blocks */
    uint16_t queue_count, queue_size;
    bool is_read_only;
    char serial[VIRTIO_BLK_ID_BYTES]; /* filled up with zeroes; no zero behind a full one */
};

uint64_t virtio_blk_offered(const struct virtio_blk_shape *shape);

/* The configuration space with the write cache as it is now. */
struct virtio_blk_config virtio_blk_config_of(const struct virtio_blk_shape *shape,
                                              bool write_cache);

#endif
