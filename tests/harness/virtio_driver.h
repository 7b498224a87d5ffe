/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_VIRTIO_DRIVER_H
#define TESTS_HARNESS_VIRTIO_DRIVER_H

/*
 * A guest with a virtio-blk disk: guest memory, the driver's half of every queue, and the kick and
 * call eventfds between it and the device. It does what a Linux guest does: negotiates, lays out
 * its rings, spreads requests over the queues, and kicks once for what was submitted together.
 *
 * It is a struct guest_device, so a trace can be replayed against it. For what no block layer would
 * ask, tests fill a slot by hand.
 *
 * On the device's loop. Only functions with _co_ wait.
 */

#include <stdbool.h>
#include <stdint.h>

#include "tests/harness/guest_device.h"
#include "tests/harness/guest_memory.h"
#include "tests/harness/virtio_blk.h"
#include "tests/harness/virtio_driver_ring.h"

#define VIRTIO_DRIVER_BYTES_MAX (256 << 10) /* of one request's data */

struct virtio_driver_options {
    uint64_t features;      /* what the driver knows; 0: all that is offered */
    uint32_t segment_bytes; /* data is cut into buffers of so many; 0: 64 KiB */
    bool kicks_early;       /* before DRIVER_OK, as some drivers do */
};

struct virtio_driver_queue;

/* One request on its way, with its place in guest memory. */
struct virtio_driver_slot {
    struct virtio_driver_queue *queue;
    struct list_link link; /* free */
    uint64_t address;      /* header, status, then data on the next page */
    uint8_t *header, *status, *data;
    struct guest_request *request; /* NULL: by hand */
    /* By hand: called at the end with the status byte, and how many bytes the device says it wrote.
     * The slot is free when it returns. */
    void (*done)(struct virtio_driver_slot *slot, uint8_t status, uint32_t written);
    void *arg;
};

struct virtio_driver_queue {
    struct virtio_driver *driver;
    unsigned index;
    struct virtio_driver_ring ring;
    int kick_fd;
    struct loop_watch call;
    struct list free;
    struct virtio_driver_slot *slots;
};

struct virtio_driver {
    struct guest_device guest;
    struct virtio_blk *device;
    struct loop *loop;
    struct guest_memory *memory; /* the device's too: one plain buffer */
    uint64_t memory_bytes;
    struct virtio_driver_options options;
    uint64_t features;
    unsigned queue_count, next_queue;
    uint16_t queue_size;
    struct list waiting;   /* guest requests that have no slot yet */
    struct loop_task kick; /* at the round's end, for what was submitted in it */
    uint64_t kicks, calls;
    struct virtio_driver_queue queues[VIRTIO_BLK_QUEUES_MAX];
};

/* Guest memory for such a driver: a plain buffer, at a guest address that is not 0. */
int virtio_driver_memory_new(struct guest_memory *memory, unsigned queue_count,
                             uint16_t queue_size);
void virtio_driver_memory_free(struct guest_memory *memory);

/* The device was made with that memory. Negotiates and starts it. */
void virtio_driver_init(struct virtio_driver *driver, struct virtio_blk *device,
                        struct guest_memory *memory, const struct virtio_driver_options *options);
/* Resets the device. Requests in flight are answered before. */
void virtio_driver_co_fini(struct virtio_driver *driver);
/* Sets a device that was reset up again: what init does first. */
void virtio_driver_start(struct virtio_driver *driver);

/* --- by hand ----------------------------------------------------------------------------------
 */

/* A free slot of that queue; NULL: all are in flight. */
struct virtio_driver_slot *virtio_driver_slot(struct virtio_driver *driver, unsigned queue);
void virtio_driver_fill_header(struct virtio_driver_slot *slot, uint32_t type, uint64_t sector);
/* The buffers of a request as Linux lays them out: the header, `out` bytes of the slot's data, or
 * `in` of them, the status; cut by segment_bytes. */
void virtio_driver_send(struct virtio_driver_slot *slot, uint32_t out, uint32_t in);
/* Or as the caller lays them out. */
void virtio_driver_send_buffers(struct virtio_driver_slot *slot,
                                const struct virtio_buffer *buffers, unsigned readable,
                                unsigned writable);
/* Kicks now instead of at the round's end. */
void virtio_driver_kick(struct virtio_driver *driver);

#endif
