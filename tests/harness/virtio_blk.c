/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/virtio_blk.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/coroutine.h"
#include "common/align.h"

/*
 * A broken device takes and answers nothing: it says DEVICE_NEEDS_RESET in its status, and what is
 * in flight ends unheard. One whose queue is ending (a reset, or the transport takes it away) takes
 * nothing and begins nothing, but answers.
 */

/* --- requests ----------------------------------------------------------------------------------
 */

void virtio_request_free(struct virtio_request *request)
{
    struct virtio_blk_queue *queue = request->queue;
    list_prepend(&queue->free, &request->link);
    queue->in_flight--;
    if (queue->in_flight == 0 && queue->waiter) {
        coroutine_wake(queue->waiter);
        queue->waiter = NULL;
    }
}

static void break_device(struct virtio_blk_queue *queue, const char *why)
{
    struct virtio_blk *device = queue->device;
    device->broken = why;
    device->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    if (device->on_broken)
        device->on_broken(device->arg, (unsigned)(queue - device->queues), why);
}

static bool takes_requests(const struct virtio_blk_queue *queue)
{
    const struct virtio_blk *device = queue->device;
    return !device->broken && !device->is_stopped && !queue->is_ending && queue->ring.size > 0;
}

static void refuse(struct virtio_request *request, uint8_t status)
{
    struct account *account = &request->queue->device->account;
    if (request->type == VIRTIO_BLK_T_IN)
        account_invalid(account, ACCOUNT_READ);
    else if (request->type == VIRTIO_BLK_T_OUT)
        account_invalid(account, ACCOUNT_WRITE);
    virtio_answer(request, status);
}

/* One request, if there is one. */
static bool take(struct virtio_blk_queue *queue, struct virtio_collection *collection)
{
    struct virtio_blk *device = queue->device;
    struct virtio_request *request;
    const char *why = NULL;
    int rc;
    /* There are as many as the queue has entries: pop would give no more either. */
    if (list_is_empty(&queue->free) || !takes_requests(queue))
        return false;
    request = container_of(list_first(&queue->free), struct virtio_request, link);
    rc = virtio_ring_pop(&queue->ring, &request->chain);
    if (rc < 0)
        break_device(queue, queue->ring.broken);
    if (rc <= 0)
        return false;
    list_remove(&request->link);
    queue->in_flight++;
    request->start = loop_moment();
    switch (virtio_request_parse(request, &device->shape, device->features, &why)) {
    case VIRTIO_CARRY_OUT:
        virtio_collect(device, collection, request);
        break;
    case VIRTIO_ANSWER_OK:
        virtio_answer(request, VIRTIO_BLK_S_OK);
        break;
    case VIRTIO_ANSWER_IOERR:
        refuse(request, VIRTIO_BLK_S_IOERR);
        break;
    case VIRTIO_ANSWER_UNSUPP:
        refuse(request, VIRTIO_BLK_S_UNSUPP);
        break;
    case VIRTIO_BROKEN:
        virtio_ring_break(&queue->ring, why);
        break_device(queue, why);
        virtio_request_free(request);
    }
    return true;
}

void virtio_look(struct virtio_blk_queue *queue)
{
    struct virtio_blk *device = queue->device;
    struct virtio_collection collection = {.reads.count = 0};
    bool has_found = false;
    if (!takes_requests(queue))
        return;
    block_plug(device->backend);
    do {
        virtio_ring_kicks_off(&queue->ring);
        while (take(queue, &collection))
            has_found = true;
    } while (takes_requests(queue) && virtio_ring_kicks_on(&queue->ring));
    virtio_collection_end(device, &collection);
    block_unplug(device->backend);
    device->counters.looks += has_found;
}

/* --- notifications -----------------------------------------------------------------------------
 */

static void kicked(struct loop_watch *watch, unsigned events)
{
    struct virtio_blk_queue *queue = container_of(watch, struct virtio_blk_queue, kick);
    uint64_t count;
    ssize_t got = read(watch->fd, &count, sizeof(count));
    (void)events;
    if (got > 0) {
        queue->device->counters.kicks++;
        virtio_look(queue);
    } else if (got == 0 || errno != EAGAIN) {
        loop_watch_set(queue->device->loop, watch, 0); /* nobody will kick any more */
    }
}

void virtio_blk_kick(struct virtio_blk *device, unsigned index)
{
    device->counters.kicks++;
    virtio_look(&device->queues[index]);
}

static void show_answers(struct loop_task *task)
{
    struct virtio_blk_queue *queue = container_of(task, struct virtio_blk_queue, answer);
    const uint64_t one = 1;
    if (!virtio_ring_publish(&queue->ring))
        return;
    queue->device->counters.calls++;
    /* If it fails, the guest has 2^64 - 1 calls before it already, or whoever gave us the
     * descriptor does not listen. */
    if (queue->call_fd >= 0 && write(queue->call_fd, &one, sizeof(one)) < 0)
        queue->device->counters.calls_lost++;
}

/* --- queues ------------------------------------------------------------------------------------
 */

static int make_requests(struct virtio_blk_queue *queue)
{
    size_t bytes = sizeof(struct virtio_request) + queue->ring.size * sizeof(struct iovec);
    bytes = align_up(bytes, _Alignof(struct virtio_request));
    queue->request_memory = calloc(queue->ring.size, bytes);
    if (!queue->request_memory)
        return -ENOMEM;
    list_init(&queue->free);
    for (unsigned i = 0; i < queue->ring.size; i++) {
        struct virtio_request *request = (void *)(queue->request_memory + i * bytes);
        request->queue = queue;
        request->chain.iov = request->iov;
        request->chain.iov_max = queue->ring.size;
        list_append(&queue->free, &request->link);
    }
    return 0;
}

int virtio_blk_start_queue(struct virtio_blk *device, unsigned index, uint16_t size,
                           const struct virtio_ring_place *place, uint16_t next, int kick_fd,
                           int call_fd)
{
    struct virtio_blk_queue *queue = &device->queues[index];
    int rc;
    if (index >= device->queue_count || queue->ring.size > 0)
        return -EINVAL;
    rc = virtio_ring_start(&queue->ring, device->memory, size, place, device->features);
    if (rc < 0)
        return rc;
    rc = make_requests(queue);
    if (rc < 0) {
        virtio_ring_stop(&queue->ring);
        return rc;
    }
    virtio_ring_continue(&queue->ring, next);
    queue->call_fd = call_fd;
    loop_watch_init(&queue->kick, kick_fd, kicked);
    if (kick_fd >= 0)
        loop_watch_set(device->loop, &queue->kick, LOOP_READABLE);
    return 0;
}

void virtio_blk_set_call_fd(struct virtio_blk *device, unsigned index, int call_fd)
{
    assert(index < device->queue_count && device->queues[index].ring.size > 0);
    device->queues[index].call_fd = call_fd;
}

uint16_t virtio_blk_co_stop_queue(struct virtio_blk *device, unsigned index)
{
    struct virtio_blk_queue *queue = &device->queues[index];
    uint16_t next = queue->ring.next_avail;
    if (queue->ring.size == 0)
        return 0;
    queue->is_ending = true;
    virtio_fail_held(queue);
    if (queue->in_flight > 0) {
        queue->waiter = coroutine_self();
        coroutine_yield();
    }
    loop_task_cancel(&queue->answer);
    show_answers(&queue->answer);
    if (queue->kick.fd >= 0)
        loop_watch_set(device->loop, &queue->kick, 0);
    virtio_ring_stop(&queue->ring);
    free(queue->request_memory);
    queue->request_memory = NULL;
    list_init(&queue->free);
    queue->is_ending = false;
    return next;
}

/* --- features, status, configuration space -----------------------------------------------------
 */

void virtio_blk_set_features(struct virtio_blk *device, uint64_t features)
{
    if (!(device->status & VIRTIO_CONFIG_S_FEATURES_OK))
        device->features = features & virtio_blk_offered(&device->shape);
}

static bool has_feature(const struct virtio_blk *device, unsigned bit)
{
    return device->features & VIRTIO_FEATURE(bit);
}

void virtio_blk_set_status(struct virtio_blk *device, uint8_t status)
{
    bool begins = status & ~device->status & VIRTIO_CONFIG_S_DRIVER_OK;
    assert(status != 0);
    if (!has_feature(device, VIRTIO_F_VERSION_1))
        status &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
    device->status = status | (device->status & VIRTIO_CONFIG_S_NEEDS_RESET);
    /* 5.2.5.2: a driver that can neither flush nor switch the cache relies on there being none. */
    if (begins && !has_feature(device, VIRTIO_BLK_F_CONFIG_WCE) &&
        !has_feature(device, VIRTIO_BLK_F_FLUSH))
        device->write_cache = false;
}

void virtio_blk_co_reset(struct virtio_blk *device)
{
    for (unsigned i = 0; i < device->queue_count; i++)
        device->queues[i].is_ending = true;
    for (unsigned i = 0; i < device->queue_count; i++)
        virtio_blk_co_stop_queue(device, i);
    for (unsigned i = 0; i < device->queue_count; i++)
        device->queues[i].is_ending = false;
    device->features = 0;
    device->status = 0;
    device->broken = NULL;
    device->is_stopped = false;
    device->write_cache = device->initial_write_cache;
}

void virtio_blk_read_config(const struct virtio_blk *device, unsigned offset, void *bytes,
                            unsigned length)
{
    struct virtio_blk_config config = virtio_blk_config_of(&device->shape, device->write_cache);
    uint8_t *to = bytes;
    for (unsigned i = 0; i < length; i++) {
        bool is_inside = offset < sizeof(config) && i < sizeof(config) - offset;
        to[i] = is_inside ? ((const uint8_t *)&config)[offset + i] : 0;
    }
}

void virtio_blk_write_config(struct virtio_blk *device, unsigned offset, const void *bytes,
                             unsigned length)
{
    unsigned wce = offsetof(struct virtio_blk_config, wce);
    if (offset > wce || wce - offset >= length || !has_feature(device, VIRTIO_BLK_F_CONFIG_WCE))
        return;
    device->write_cache = ((const uint8_t *)bytes)[wce - offset] & 1;
}

/* --- life --------------------------------------------------------------------------------------
 */

static void take_shape(struct virtio_blk *device, const struct virtio_blk_options *options)
{
    struct virtio_blk_shape *shape = &device->shape;
    uint32_t block_bytes = options->block_bytes ? options->block_bytes : VIRTIO_SECTOR;
    uint64_t size = align_down(block_backend_size_bytes(device->backend), block_bytes);
    *shape = (struct virtio_blk_shape){
        .sector_count = size / VIRTIO_SECTOR,
        .block_bytes = block_bytes,
        .optimal_bytes = block_backend_preferred_bytes(device->backend, block_bytes, 1 << 20),
        .queue_count = (uint16_t)options->queue_count,
        .queue_size = options->queue_size,
        .is_read_only = block_backend_is_read_only(device->backend),
    };
    if (options->serial)
        memcpy(shape->serial, options->serial, strnlen(options->serial, sizeof(shape->serial)));
}

static int check_options(const struct virtio_blk_options *options, struct error *err)
{
    if (options->queue_count < 1 || options->queue_count > VIRTIO_BLK_QUEUES_MAX)
        return error_set(err, -EINVAL, "%u queues; it can have 1 to %d", options->queue_count,
                         VIRTIO_BLK_QUEUES_MAX);
    if (!is_power_of_two(options->queue_size) || options->queue_size < 4 ||
        options->queue_size > VIRTIO_RING_SIZE_MAX)
        return error_set(err, -EINVAL, "queues of %u entries; it can be a power of two, 4 to %d",
                         options->queue_size, VIRTIO_RING_SIZE_MAX);
    if (options->block_bytes != 0 &&
        (!is_power_of_two(options->block_bytes) || options->block_bytes < VIRTIO_SECTOR ||
         options->block_bytes > 1 << 20))
        return error_set(err, -EINVAL,
                         "blocks of %u bytes; it can be a power of two, 512 to 1048576",
                         options->block_bytes);
    return 0;
}

int virtio_blk_new(struct virtio_blk **ret_device, struct block_backend *backend, struct loop *loop,
                   const struct guest_memory *memory, const struct virtio_blk_options *options,
                   struct error *err)
{
    const struct block_limits *limits = block_backend_limits(backend);
    struct virtio_blk *device;
    int rc = check_options(options, err);
    if (rc < 0)
        return rc;
    device = calloc(1, sizeof(*device));
    if (!device)
        return error_set(err, -ENOMEM, "no memory for a virtio-blk device");
    rc = account_init(&device->account, block_node_env(block_backend_node(backend)));
    if (rc < 0) {
        free(device);
        return error_set(err, rc, "no memory for a virtio-blk device");
    }
    device->backend = backend;
    device->loop = loop;
    device->memory = memory;
    take_shape(device, options);
    device->merge_limits = (struct virtio_merge_limits){
        .merges = !options->no_merging,
        .iov_max = IOV_MAX,
        .bytes_max = limits->transfer_bytes_max
                         ? smaller(limits->transfer_bytes_max, VIRTIO_DATA_BYTES_MAX)
                         : VIRTIO_DATA_BYTES_MAX,
    };
    device->on_read = options->on_read;
    device->on_write = options->on_write;
    device->on_broken = options->on_broken;
    device->arg = options->arg;
    device->initial_write_cache = device->write_cache = !options->no_write_cache;
    device->queue_count = options->queue_count;
    list_init(&device->held);
    for (unsigned i = 0; i < VIRTIO_BLK_QUEUES_MAX; i++) {
        struct virtio_blk_queue *queue = &device->queues[i];
        queue->device = device;
        queue->answer.run = show_answers;
        link_init(&queue->answer.link);
        list_init(&queue->free);
    }
    *ret_device = device;
    return 0;
}

void virtio_blk_free(struct virtio_blk *device)
{
    if (!device)
        return;
    for (unsigned i = 0; i < device->queue_count; i++)
        assert(device->queues[i].ring.size == 0);
    account_fini(&device->account);
    free(device);
}
