/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_VIRTIO_RING_H
#define TESTS_HARNESS_VIRTIO_RING_H

/*
 * The device's half of a split virtqueue: guest memory in, chains of buffers out, and used elements
 * back. VIRTIO 1.2, sections 2.6 to 2.7.14; the layout is that of linux/virtio_ring.h.
 *
 * The guest is hostile until proven otherwise, and it runs while we look: whatever lies in its
 * memory is read once and then checked. A ring that makes no sense is *broken*: `broken` says why,
 * nothing more is taken from it or put into it, until it is started again.
 *
 * A *chain* is one request of the guest: buffers that we may read, then buffers that we may write,
 * named by the index of its first descriptor, its *head*. It is the device's from pop to push.
 *
 * Nothing here waits, allocates or makes a system call.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include <linux/virtio_ring.h>

#include "tests/harness/guest_memory.h"

#define VIRTIO_RING_SIZE_MAX 1024 /* the specification has 32768; no block driver asks for that */
/* The specification bounds a chain by the queue's size. One of 128 and one of 1024 are as good. */
#define VIRTIO_CHAIN_IOVECS_MAX 1024

struct virtio_ring {
    const struct guest_memory *memory; /* the owner's */
    uint16_t size;                     /* a power of two; 0: not started */
    bool has_event_index, has_indirect;
    const char *broken; /* NULL, or why */

    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t next_avail;     /* the next entry to take */
    uint16_t next_used;      /* the next entry to fill */
    uint16_t published_used; /* the guest was shown entries before this one */
    uint16_t taken_count;    /* chains between pop and push */
};

/* Where the driver has put it, in guest addresses. */
struct virtio_ring_place {
    uint64_t desc, avail, used;
};

struct virtio_chain {
    uint16_t head;
    unsigned readable_count, writable_count; /* iovecs: the readable ones come first */
    uint64_t readable_bytes, writable_bytes;
    unsigned iov_max; /* room in iov; the caller's */
    struct iovec *iov;
};

/* features: the negotiated bits; those of the ring are looked at. 0; -EINVAL: the size, an
 * alignment or an address is wrong, and the ring is as it was. */
int virtio_ring_start(struct virtio_ring *ring, const struct guest_memory *memory, uint16_t size,
                      const struct virtio_ring_place *place, uint64_t features);
/* Of a ring that is going on after another device had it: the entry to take next, which is also the
 * one to fill, since nothing is in flight. */
void virtio_ring_continue(struct virtio_ring *ring, uint16_t next);
void virtio_ring_stop(struct virtio_ring *ring);

/* 1: a chain; 0: there is none; -EINVAL: the ring is broken. */
int virtio_ring_pop(struct virtio_ring *ring, struct virtio_chain *chain);
/* The chain is the guest's again, and `written` bytes of it are new. It is not shown to the guest
 * before the next publish. */
void virtio_ring_push(struct virtio_ring *ring, uint16_t head, uint32_t written);
/* Shows the guest what was pushed. True: it wants to be notified of that. */
bool virtio_ring_publish(struct virtio_ring *ring);

/* While the device takes chains anyway it needs no kicks; the guest may send some nevertheless. */
void virtio_ring_kicks_off(struct virtio_ring *ring);
/* From now on the guest kicks for what it adds. True: something was added before it could know;
 * look again. */
bool virtio_ring_kicks_on(struct virtio_ring *ring);

/* For who finds a request in a chain that no status byte can answer. */
void virtio_ring_break(struct virtio_ring *ring, const char *why);

#endif
