/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_HOST_DEVICE_H
#define BLOCK_HOST_DEVICE_H

/* Inside the driver "host_device"; host_device.c is the page to read first. */

#include "block/device_queue.h"
#include "block/posix.h"

struct host_device {
    struct posix_file file; /* first: see posix_of() */
    struct device_queue queue;
    /* What the device turned out not to have; never asked for again. */
    _Atomic bool no_discard, no_zero_out;
    _Atomic bool trouble_said; /* one log line, not one a request */
};

static inline struct host_device *host_device_of(const struct block_node *node)
{
    return container_of(posix_of(node), struct host_device, file);
}

/* A failure of the device on its way to the client: as it is, or as what it means. */
int host_device_co_failed(struct block_node *node, uint64_t end, int code);

/* --- host_device_zero.c ---------------------------------------------------------------------- */

int host_device_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags);
int host_device_co_discard(struct block_node *node, uint64_t offset, uint64_t length);

#endif
