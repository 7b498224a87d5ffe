/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_VIRTIO_DRIVER_RING_H
#define TESTS_HARNESS_VIRTIO_DRIVER_RING_H

/*
 * The driver's half of a split virtqueue, for tests that play the guest: fills the rings as a Linux
 * guest does. Chains of one buffer lie in the queue's own table, longer ones in an indirect table
 * where that was negotiated. VIRTIO 1.2, sections 2.7.13 and 2.7.14.
 *
 * One thread has a queue's driver half; the device's half may be another's.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_ring.h>

#include "tests/harness/guest_memory.h"
#include "tests/harness/virtio_ring.h"

/* A piece of guest memory. */
struct virtio_buffer {
    uint64_t address;
    uint32_t length;
};

#define VIRTIO_DRIVER_RING_MAX 256 /* entries */

struct virtio_driver_ring {
    uint16_t size;
    bool has_event_index, has_indirect;
    struct virtio_ring_place place;
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint64_t tables; /* the guest address of `size` indirect tables */
    struct vring_desc *tables_host;
    uint16_t free_head, free_count; /* of descriptors, linked by their `next` */
    uint16_t next_avail, kicked_avail, last_used;
    void *tokens[VIRTIO_DRIVER_RING_MAX];           /* by head; NULL: not in flight */
    uint16_t chain_lengths[VIRTIO_DRIVER_RING_MAX]; /* descriptors of the queue's table, by head */
};

#define VIRTIO_DRIVER_TABLE_LENGTH 64 /* descriptors in an indirect table */

/* How many bytes of guest memory it takes. */
uint64_t virtio_driver_ring_bytes(uint16_t size);
/* Lays the parts out from `address` on, a multiple of 4096 with that many zero bytes behind it. */
void virtio_driver_ring_init(struct virtio_driver_ring *ring, const struct guest_memory *memory,
                             uint64_t address, uint16_t size, uint64_t features);

/* Adds a chain: `readable` buffers for the device to read, then `writable` ones. Not shown to the
 * device before virtio_driver_ring_kick_due(). False: there are not so many descriptors left. */
bool virtio_driver_ring_add(struct virtio_driver_ring *ring, const struct virtio_buffer *buffers,
                            unsigned readable, unsigned writable, void *token);
/* Shows the device what was added. True: it wants a kick for that. */
bool virtio_driver_ring_kick_due(struct virtio_driver_ring *ring);

/* The next chain that the device has used: its token, and how many bytes were written into it;
 * NULL: none. */
void *virtio_driver_ring_used(struct virtio_driver_ring *ring, uint32_t *ret_written);
/* The device shall not notify; it may nevertheless. */
void virtio_driver_ring_calls_off(struct virtio_driver_ring *ring);
/* It shall, from the next used chain on. True: there is one already; look again. */
bool virtio_driver_ring_calls_on(struct virtio_driver_ring *ring);

#endif
