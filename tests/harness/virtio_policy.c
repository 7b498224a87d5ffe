/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/virtio_blk.h"

#include <errno.h>

/*
 * Report: the guest gets IOERR. Ignore: it gets OK, and zeroes for a read. Stop: the request is
 * held, and the device takes nothing until virtio_blk_resume(); then all that is held is tried
 * again, collected and merged as if it had just come. What was in flight at the stop ends, or is
 * held too.
 */

static enum error_action action_for(const struct virtio_request *request, int result)
{
    const struct virtio_blk *device = request->queue->device;
    enum error_action action = virtio_request_is_read(request) ? device->on_read : device->on_write;
    if (action == ERROR_ENOSPC)
        action = result == -ENOSPC ? ERROR_STOP : ERROR_REPORT;
    /* Whom nobody will resume is not held. */
    return action == ERROR_STOP && request->queue->is_ending ? ERROR_REPORT : action;
}

static void hold(struct virtio_blk *device, struct virtio_request *request)
{
    list_append(&device->held, &request->link);
    device->counters.held++;
    if (!device->is_stopped) {
        device->is_stopped = true;
        device->counters.stops++;
    }
}

void virtio_judge(struct virtio_request *request, int result)
{
    switch (action_for(request, result)) {
    case ERROR_STOP:
        hold(request->queue->device, request);
        break;
    case ERROR_IGNORE:
        if (virtio_request_is_read(request))
            vec_fill(&request->data, 0);
        virtio_request_done(request);
        break;
    default:
        virtio_request_fail(request, result);
    }
}

void virtio_fail_held(struct virtio_blk_queue *queue)
{
    list_for_each (link, &queue->device->held) {
        struct virtio_request *request = container_of(link, struct virtio_request, link);
        if (request->queue != queue)
            continue;
        list_remove(link);
        virtio_request_fail(request, -ECANCELED);
    }
}

void virtio_blk_resume(struct virtio_blk *device)
{
    struct virtio_collection collection = {.reads.count = 0};
    struct list held;
    struct list_link *link;
    device->is_stopped = false;
    list_init(&held);
    list_move_all(&held, &device->held);
    block_plug(device->backend);
    while ((link = list_pop(&held))) {
        struct virtio_request *request = container_of(link, struct virtio_request, link);
        virtio_collect(device, &collection, request);
    }
    virtio_collection_end(device, &collection);
    block_unplug(device->backend);
    for (unsigned i = 0; i < device->queue_count; i++)
        virtio_look(&device->queues[i]);
}
