/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/virtio_blk.h"

#include <errno.h>
#include <stdlib.h>

#include "common/align.h"

/*
 * Requests on their way down and up. A *group* is what was merged: its first request has the
 * block_aio, and next_merged leads through the others.
 *
 * A group that fails is carried out again, each request alone: the error belongs to the one that
 * has the bad sector, and its neighbours would not have failed without us.
 */

static void group_done(struct block_aio *aio, int result);
static void request_done(struct block_aio *aio, int result);

static enum account_kind kind_of(const struct virtio_request *request)
{
    switch (request->type) {
    case VIRTIO_BLK_T_IN:
        return ACCOUNT_READ;
    case VIRTIO_BLK_T_OUT:
        return ACCOUNT_WRITE;
    case VIRTIO_BLK_T_DISCARD:
        return ACCOUNT_DISCARD;
    case VIRTIO_BLK_T_WRITE_ZEROES:
        return ACCOUNT_ZERO;
    default:
        return ACCOUNT_FLUSH;
    }
}

/* --- down --------------------------------------------------------------------------------------
 */

static unsigned write_flags(const struct virtio_blk *device)
{
    return device->write_cache ? 0 : BLOCK_FUA;
}

/* A read or a write of the view, at the place of `request`. */
static int begin_transfer(struct virtio_request *request, const struct block_vec *view)
{
    struct virtio_blk *device = request->queue->device;
    uint64_t offset = virtio_request_offset(request);
    device->counters.submitted++;
    if (virtio_request_is_read(request))
        return block_aio_readv(&request->aio, device->backend, offset, view);
    return block_aio_writev(&request->aio, device->backend, offset, view, write_flags(device));
}

static int begin_segment(struct virtio_request *request)
{
    struct virtio_blk *device = request->queue->device;
    const struct virtio_segment *segment = &request->segments[request->segment_next];
    uint64_t offset = segment->sector * VIRTIO_SECTOR;
    uint64_t length = (uint64_t)segment->sector_count * VIRTIO_SECTOR;
    unsigned flags = write_flags(device) | (segment->may_unmap ? 0 : BLOCK_NO_UNMAP);
    device->counters.submitted++;
    if (request->type == VIRTIO_BLK_T_DISCARD)
        return block_aio_discard(&request->aio, device->backend, offset, length, 0);
    return block_aio_zero(&request->aio, device->backend, offset, length, flags);
}

static int begin(struct virtio_request *request)
{
    struct virtio_blk *device = request->queue->device;
    switch (request->type) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT:
        return begin_transfer(request, &request->data);
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        return begin_segment(request);
    default:
        device->counters.submitted++;
        return block_aio_flush(&request->aio, device->backend);
    }
}

static void submit(struct virtio_request *request)
{
    int rc = -ECANCELED;
    request->aio.done = request_done;
    if (!request->queue->is_ending)
        rc = begin(request);
    if (rc < 0)
        virtio_judge(request, rc);
}

static unsigned group_length(const struct virtio_request *first)
{
    unsigned length = 0;
    for (; first; first = first->next_merged)
        length++;
    return length;
}

/* Each alone; the group is no more. */
static void submit_apart(struct virtio_request *first)
{
    while (first) {
        struct virtio_request *next = first->next_merged;
        first->next_merged = NULL;
        submit(first);
        first = next;
    }
}

static void submit_group(struct virtio_request *first)
{
    struct block_vec view;
    if (!first->next_merged) {
        submit(first);
        return;
    }
    first->aio.done = group_done;
    if (virtio_group_view(first, &view)) {
        if (begin_transfer(first, &view) == 0)
            return;
        free(first->merged_iov);
        first->merged_iov = NULL;
    }
    submit_apart(first);
}

static void submit_batch(struct virtio_blk *device, struct virtio_batch *batch)
{
    virtio_batch_merge(batch, &device->merge_limits);
    for (unsigned i = 0; i < batch->count; i++)
        submit_group(batch->requests[i]);
    batch->count = 0;
}

static void collect(struct virtio_blk *device, struct virtio_batch *batch,
                    struct virtio_request *request)
{
    batch->requests[batch->count++] = request;
    if (batch->count == VIRTIO_BATCH_MAX)
        submit_batch(device, batch);
}

void virtio_collection_end(struct virtio_blk *device, struct virtio_collection *collection)
{
    submit_batch(device, &collection->reads);
    submit_batch(device, &collection->writes);
}

void virtio_collect(struct virtio_blk *device, struct virtio_collection *collection,
                    struct virtio_request *request)
{
    switch (request->type) {
    case VIRTIO_BLK_T_IN:
        collect(device, &collection->reads, request);
        break;
    case VIRTIO_BLK_T_OUT:
        collect(device, &collection->writes, request);
        break;
    case VIRTIO_BLK_T_FLUSH: /* what the guest sent before it goes down before it */
        virtio_collection_end(device, collection);
        submit(request);
        break;
    default:
        submit(request);
    }
}

/* --- up ----------------------------------------------------------------------------------------
 */

static uint64_t bytes_of(const struct virtio_request *request)
{
    uint64_t bytes = 0;
    if (request->type == VIRTIO_BLK_T_IN || request->type == VIRTIO_BLK_T_OUT)
        return request->data.length;
    for (unsigned i = 0; i < request->segment_count; i++)
        bytes += (uint64_t)request->segments[i].sector_count * VIRTIO_SECTOR;
    return bytes;
}

static void end(struct virtio_request *request, uint8_t status, int code)
{
    account_end(&request->queue->device->account, kind_of(request), request->start,
                bytes_of(request), code);
    virtio_answer(request, status);
}

void virtio_request_done(struct virtio_request *request)
{
    if (request->segment_count > 0 && ++request->segment_next < request->segment_count)
        submit(request);
    else
        end(request, VIRTIO_BLK_S_OK, 0);
}

void virtio_request_fail(struct virtio_request *request, int result)
{
    end(request, VIRTIO_BLK_S_IOERR, result);
}

static void request_done(struct block_aio *aio, int result)
{
    struct virtio_request *request = container_of(aio, struct virtio_request, aio);
    if (result < 0)
        virtio_judge(request, result);
    else
        virtio_request_done(request);
}

static void group_done(struct block_aio *aio, int result)
{
    struct virtio_request *first = container_of(aio, struct virtio_request, aio);
    struct virtio_blk *device = first->queue->device;
    free(first->merged_iov);
    first->merged_iov = NULL;
    if (result < 0) {
        submit_apart(first);
        return;
    }
    account_merged(&device->account, kind_of(first), group_length(first) - 1);
    while (first) {
        struct virtio_request *next = first->next_merged;
        end(first, VIRTIO_BLK_S_OK, 0);
        first = next;
    }
}

/* How many bytes of the chain are surely new, from its first writable one on (2.7.8.2): all that
 * were read and the status behind them; of what failed, none that the status does not follow at
 * once. */
static uint32_t written_bytes(const struct virtio_request *request, uint8_t status)
{
    uint64_t bytes = request->chain.writable_bytes;
    if (bytes == 1 || (status == VIRTIO_BLK_S_OK && virtio_request_is_read(request)))
        return (uint32_t)bytes;
    if (status == VIRTIO_BLK_S_OK && request->type == VIRTIO_BLK_T_GET_ID)
        return (uint32_t)smaller(bytes - 1, VIRTIO_BLK_ID_BYTES);
    return 0;
}

void virtio_answer(struct virtio_request *request, uint8_t status)
{
    struct virtio_blk_queue *queue = request->queue;
    if (!queue->device->broken) {
        __atomic_store_n(request->status, status, __ATOMIC_RELAXED);
        virtio_ring_push(&queue->ring, request->chain.head, written_bytes(request, status));
        loop_at_round_end(queue->device->loop, &queue->answer);
    }
    virtio_request_free(request);
}
