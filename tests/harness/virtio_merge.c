/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/virtio_merge.h"

#include <stdlib.h>

static unsigned iov_count(const struct virtio_request *request)
{
    const struct virtio_chain *chain = &request->chain;
    return virtio_request_is_read(request) ? chain->writable_count : chain->readable_count;
}

/* By insertion: a batch is small, mostly sorted, and requests for one sector keep their order. */
static void sort(struct virtio_batch *batch)
{
    struct virtio_request **requests = batch->requests;
    for (unsigned i = 1; i < batch->count; i++) {
        struct virtio_request *request = requests[i];
        unsigned to = i;
        for (; to > 0 && requests[to - 1]->sector > request->sector; to--)
            requests[to] = requests[to - 1];
        requests[to] = request;
    }
}

void virtio_batch_merge(struct virtio_batch *batch, const struct virtio_merge_limits *limits)
{
    struct virtio_request *last = NULL;
    unsigned groups = 0, iovs = 0;
    uint64_t bytes = 0;
    if (!limits->merges)
        return;
    sort(batch);
    for (unsigned i = 0; i < batch->count; i++) {
        struct virtio_request *request = batch->requests[i];
        unsigned more = iov_count(request);
        uint64_t length = request->data.length;
        if (last &&
            virtio_request_offset(last) + last->data.length == virtio_request_offset(request) &&
            iovs + more <= limits->iov_max && bytes + length <= limits->bytes_max) {
            last->next_merged = request;
            iovs += more;
            bytes += length;
        } else {
            batch->requests[groups++] = request;
            iovs = more;
            bytes = length;
        }
        last = request;
    }
    batch->count = groups;
}

bool virtio_group_view(struct virtio_request *first, struct block_vec *ret_view)
{
    unsigned room = 0, used = 0;
    size_t bytes = 0;
    if (!first->next_merged) {
        *ret_view = first->data;
        return true;
    }
    for (struct virtio_request *each = first; each; each = each->next_merged)
        room += iov_count(each);
    first->merged_iov = malloc(room * sizeof(*first->merged_iov));
    if (!first->merged_iov)
        return false;
    for (struct virtio_request *each = first; each; each = each->next_merged) {
        size_t taken;
        used += vec_to_iovec(&each->data, first->merged_iov + used, room - used, &taken);
        bytes += taken;
    }
    *ret_view = (struct block_vec){.iov = first->merged_iov, .length = bytes};
    return true;
}
