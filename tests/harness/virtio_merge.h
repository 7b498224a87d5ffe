/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_VIRTIO_MERGE_H
#define TESTS_HARNESS_VIRTIO_MERGE_H

/*
 * A batch of reads, or of writes, that one look at a queue has found. Requests that are neighbours
 * on the disk become one request to the block layer: sorted by sector, joined within limits. None
 * of it changes what the guest may see, since requests in flight together have no order.
 */

#include <stdbool.h>

#include "tests/harness/virtio_request.h"

#define VIRTIO_BATCH_MAX 32

struct virtio_batch {
    unsigned count;
    struct virtio_request *requests[VIRTIO_BATCH_MAX];
};

struct virtio_merge_limits {
    bool merges; /* else every request stays alone */
    unsigned iov_max;
    uint64_t bytes_max;
};

/* Sorts the batch and joins neighbours: afterwards `requests` has the first of each group, which
 * its next_merged leads through. */
void virtio_batch_merge(struct virtio_batch *batch, const struct virtio_merge_limits *limits);

/* The data of the group that begins with `first`, in one view. One of several requests owns a new
 * array, first->merged_iov. False: there was no memory for it. */
bool virtio_group_view(struct virtio_request *first, struct block_vec *ret_view);

#endif
