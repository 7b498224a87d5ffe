/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_GUEST_DEVICE_H
#define TESTS_HARNESS_GUEST_DEVICE_H

/*
 * A guest's disk as its kernel's block layer sees it, whichever device is behind it: what a trace
 * is replayed against. The driver of that device fills rings or writes ports; the caller only says
 * what is to be read and written.
 *
 * All of it happens on one loop, outside of coroutines or inside. Nothing here waits but the calls
 * with _co_ in their names.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"

#define GUEST_SECTOR 512

enum guest_op {
    GUEST_READ,
    GUEST_WRITE,
    GUEST_FLUSH,   /* sector and bytes are 0 */
    GUEST_DISCARD, /* no buffer */
    GUEST_ZERO,    /* no buffer */
};

/* One request; lives in its owner from submit() to done(), and its buffer with it. */
struct guest_request {
    enum guest_op op;
    bool by_pio; /* a device that has two ways to move data takes the programmed one */
    uint64_t sector;
    uint32_t bytes; /* whole sectors */
    void *buffer;   /* `bytes` of them, anywhere: the driver copies to and from guest memory */
    /* Once, later than submit(), on the loop: 0; -EIO: the device said that it failed; -ENOTSUP: it
     * said that it has no such command. The request is the owner's again. */
    void (*done)(struct guest_request *request, int result);
    struct list_link link; /* the device's own */
};

struct guest_device {
    const struct guest_device_ops *ops;
    uint64_t sector_count; /* what the guest was told */
    unsigned depth;        /* so many in flight at most; the caller sees to it */
    uint32_t bytes_max;    /* of a read or a write */
};

struct guest_device_ops {
    const char *name; /* as a trace spells it: "virtio-blk", "ide" */
    void (*submit)(struct guest_device *device, struct guest_request *request);
    /* The guest switches the write cache on or off. Nothing is in flight. 0 or -ENOTSUP. */
    int (*co_set_write_cache)(struct guest_device *device, bool on);
    /* The guest resets the device and sets it up again. Nothing is in flight. */
    void (*co_reset)(struct guest_device *device);
};

#endif
