/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/virtio_driver.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/align.h"
#include "common/endian.h"

#define PAGE 4096
#define MEMORY_ADDRESS UINT64_C(0x40000000)
/* A slot: a page with the header and, in a cache line of its own, the status; then the data. */
#define SLOT_BYTES (PAGE + (uint64_t)VIRTIO_DRIVER_BYTES_MAX)
#define STATUS_OFFSET 64
#define BUFFERS_MAX (VIRTIO_DRIVER_BYTES_MAX / VIRTIO_SECTOR + 2)

static uint64_t queue_bytes(uint16_t size)
{
    return virtio_driver_ring_bytes(size) + size * SLOT_BYTES;
}

int virtio_driver_memory_new(struct guest_memory *memory, unsigned queue_count, uint16_t queue_size)
{
    uint64_t bytes = queue_count * queue_bytes(queue_size);
    void *host = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (host == MAP_FAILED)
        return -errno;
    *memory = (struct guest_memory){
        .region_count = 1,
        .regions[0] = {.address = MEMORY_ADDRESS, .length = bytes, .host = host},
    };
    return 0;
}

void virtio_driver_memory_free(struct guest_memory *memory)
{
    munmap(memory->regions[0].host, memory->regions[0].length);
    memory->region_count = 0;
}

/* --- what comes back --------------------------------------------------------------------------
 */

static void submit(struct guest_device *guest, struct guest_request *request);

static int result_of(uint8_t status)
{
    if (status == VIRTIO_BLK_S_OK)
        return 0;
    return status == VIRTIO_BLK_S_UNSUPP ? -ENOTSUP : -EIO;
}

static void give_back(struct virtio_driver_slot *slot)
{
    list_append(&slot->queue->free, &slot->link);
}

static void complete(struct virtio_driver_slot *slot, uint32_t written)
{
    struct virtio_driver *driver = slot->queue->driver;
    struct guest_request *request = slot->request;
    uint8_t status = __atomic_load_n(slot->status, __ATOMIC_RELAXED);
    struct list_link *waiting;
    if (!request) {
        slot->done(slot, status, written);
        give_back(slot);
        return;
    }
    if (request->op == GUEST_READ && status == VIRTIO_BLK_S_OK) {
        assert(written == request->bytes + 1);
        memcpy(request->buffer, slot->data, request->bytes);
    }
    give_back(slot);
    waiting = list_pop(&driver->waiting);
    if (waiting)
        submit(&driver->guest, container_of(waiting, struct guest_request, link));
    request->done(request, result_of(status));
}

static void called(struct loop_watch *watch, unsigned events)
{
    struct virtio_driver_queue *queue = container_of(watch, struct virtio_driver_queue, call);
    struct virtio_driver_slot *slot;
    uint64_t count;
    uint32_t written;
    (void)events;
    if (read(watch->fd, &count, sizeof(count)) != sizeof(count))
        return;
    queue->driver->calls++;
    do {
        virtio_driver_ring_calls_off(&queue->ring);
        while ((slot = virtio_driver_ring_used(&queue->ring, &written)))
            complete(slot, written);
    } while (virtio_driver_ring_calls_on(&queue->ring));
}

/* --- sending -----------------------------------------------------------------------------------
 */

static void kick_all(struct virtio_driver *driver)
{
    const uint64_t one = 1;
    for (unsigned i = 0; i < driver->queue_count; i++) {
        struct virtio_driver_queue *queue = &driver->queues[i];
        if (!virtio_driver_ring_kick_due(&queue->ring))
            continue;
        driver->kicks++;
        if (write(queue->kick_fd, &one, sizeof(one)) < 0)
            abort();
    }
}

static void kick_at_round_end(struct loop_task *task)
{
    kick_all(container_of(task, struct virtio_driver, kick));
}

void virtio_driver_kick(struct virtio_driver *driver)
{
    loop_task_cancel(&driver->kick);
    kick_all(driver);
}

struct virtio_driver_slot *virtio_driver_slot(struct virtio_driver *driver, unsigned queue)
{
    struct list_link *link = list_pop(&driver->queues[queue].free);
    struct virtio_driver_slot *slot;
    if (!link)
        return NULL;
    slot = container_of(link, struct virtio_driver_slot, link);
    slot->request = NULL;
    __atomic_store_n(slot->status, 0xff, __ATOMIC_RELAXED);
    return slot;
}

void virtio_driver_fill_header(struct virtio_driver_slot *slot, uint32_t type, uint64_t sector)
{
    store_le32(slot->header, type);
    store_le32(slot->header + 4, 0);
    store_le64(slot->header + 8, sector);
}

void virtio_driver_send_buffers(struct virtio_driver_slot *slot,
                                const struct virtio_buffer *buffers, unsigned readable,
                                unsigned writable)
{
    struct virtio_driver_queue *queue = slot->queue;
    bool has_room = virtio_driver_ring_add(&queue->ring, buffers, readable, writable, slot);
    assert(has_room);
    loop_at_round_end(queue->driver->loop, &queue->driver->kick);
}

/* How many descriptors of the queue's table it would take at most. */
static unsigned buffers_of(const struct virtio_driver *driver, const struct guest_request *request)
{
    uint32_t piece = driver->options.segment_bytes;
    switch (request->op) {
    case GUEST_READ:
    case GUEST_WRITE:
        return 2 + (request->bytes + piece - 1) / piece;
    default: /* a flush has none, and a range is one */
        return 3;
    }
}

void virtio_driver_send(struct virtio_driver_slot *slot, uint32_t out, uint32_t in)
{
    const struct virtio_driver *driver = slot->queue->driver;
    struct virtio_buffer buffers[BUFFERS_MAX];
    unsigned count = 0, readable;
    uint64_t data = slot->address + PAGE;
    assert(out + in <= VIRTIO_DRIVER_BYTES_MAX);
    buffers[count++] = (struct virtio_buffer){slot->address, sizeof(struct virtio_blk_outhdr)};
    for (uint32_t at = 0; at < out + in; at += driver->options.segment_bytes) {
        uint32_t length = (uint32_t)smaller(driver->options.segment_bytes, out + in - at);
        buffers[count++] = (struct virtio_buffer){data + at, length};
    }
    readable = out > 0 ? count : 1;
    buffers[count++] = (struct virtio_buffer){slot->address + STATUS_OFFSET, 1};
    virtio_driver_send_buffers(slot, buffers, readable, count - readable);
}

/* --- the guest's block layer ------------------------------------------------------------------
 */

static void fill_segment(struct virtio_driver_slot *slot, const struct guest_request *request)
{
    store_le64(slot->data, request->sector);
    store_le32(slot->data + 8, request->bytes / GUEST_SECTOR);
    store_le32(slot->data + 12, request->op == GUEST_ZERO ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0);
}

static void send_request(struct virtio_driver_slot *slot, struct guest_request *request)
{
    slot->request = request;
    switch (request->op) {
    case GUEST_READ:
        virtio_driver_fill_header(slot, VIRTIO_BLK_T_IN, request->sector);
        virtio_driver_send(slot, 0, request->bytes);
        break;
    case GUEST_WRITE:
        virtio_driver_fill_header(slot, VIRTIO_BLK_T_OUT, request->sector);
        memcpy(slot->data, request->buffer, request->bytes);
        virtio_driver_send(slot, request->bytes, 0);
        break;
    case GUEST_FLUSH:
        virtio_driver_fill_header(slot, VIRTIO_BLK_T_FLUSH, 0);
        virtio_driver_send(slot, 0, 0);
        break;
    case GUEST_DISCARD:
    case GUEST_ZERO:
        virtio_driver_fill_header(
            slot, request->op == GUEST_ZERO ? VIRTIO_BLK_T_WRITE_ZEROES : VIRTIO_BLK_T_DISCARD, 0);
        fill_segment(slot, request);
        virtio_driver_send(slot, sizeof(struct virtio_blk_discard_write_zeroes), 0);
        break;
    }
}

/* The queues in turn, as the processors of a guest would use them. */
static void submit(struct guest_device *guest, struct guest_request *request)
{
    struct virtio_driver *driver = container_of(guest, struct virtio_driver, guest);
    for (unsigned i = 0; i < driver->queue_count; i++) {
        unsigned index = driver->next_queue++ % driver->queue_count;
        struct virtio_driver_queue *queue = &driver->queues[index];
        if (list_is_empty(&queue->free) || queue->ring.free_count < buffers_of(driver, request))
            continue;
        send_request(virtio_driver_slot(driver, index), request);
        return;
    }
    list_append(&driver->waiting, &request->link);
}

static int co_set_write_cache(struct guest_device *guest, bool on)
{
    struct virtio_driver *driver = container_of(guest, struct virtio_driver, guest);
    uint8_t wce = on;
    if (!(driver->features & VIRTIO_FEATURE(VIRTIO_BLK_F_CONFIG_WCE)))
        return -ENOTSUP;
    virtio_blk_write_config(driver->device, offsetof(struct virtio_blk_config, wce), &wce, 1);
    return 0;
}

static void co_reset(struct guest_device *guest)
{
    struct virtio_driver *driver = container_of(guest, struct virtio_driver, guest);
    virtio_blk_co_reset(driver->device);
    virtio_driver_start(driver);
}

static const struct guest_device_ops virtio_driver_ops = {
    .name = "virtio-blk",
    .submit = submit,
    .co_set_write_cache = co_set_write_cache,
    .co_reset = co_reset,
};

/* --- life --------------------------------------------------------------------------------------
 */

static void init_slots(struct virtio_driver_queue *queue, uint64_t address)
{
    struct virtio_driver *driver = queue->driver;
    list_init(&queue->free);
    for (unsigned i = 0; i < driver->queue_size; i++) {
        struct virtio_driver_slot *slot = &queue->slots[i];
        uint8_t *host = guest_memory_range(driver->memory, address, SLOT_BYTES);
        *slot = (struct virtio_driver_slot){
            .queue = queue,
            .address = address,
            .header = host,
            .status = host + STATUS_OFFSET,
            .data = host + PAGE,
        };
        list_append(&queue->free, &slot->link);
        address += SLOT_BYTES;
    }
}

static void start_queue(struct virtio_driver_queue *queue)
{
    struct virtio_driver *driver = queue->driver;
    uint64_t ring_bytes = virtio_driver_ring_bytes(driver->queue_size);
    uint64_t address = MEMORY_ADDRESS + queue->index * queue_bytes(driver->queue_size);
    int rc;
    memset(guest_memory_range(driver->memory, address, ring_bytes), 0, ring_bytes);
    virtio_driver_ring_init(&queue->ring, driver->memory, address, driver->queue_size,
                            driver->features);
    init_slots(queue, address + ring_bytes);
    rc = virtio_blk_start_queue(driver->device, queue->index, driver->queue_size,
                                &queue->ring.place, 0, queue->kick_fd, queue->call.fd);
    assert(rc == 0);
}

/* 3.1.1, in its order. */
void virtio_driver_start(struct virtio_driver *driver)
{
    struct virtio_blk *device = driver->device;
    uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE;
    virtio_blk_set_status(device, status);
    virtio_blk_set_status(device, status |= VIRTIO_CONFIG_S_DRIVER);
    virtio_blk_set_features(device, driver->options.features ? driver->options.features
                                                             : virtio_blk_offered(&device->shape));
    virtio_blk_set_status(device, status |= VIRTIO_CONFIG_S_FEATURES_OK);
    driver->features = device->features;
    for (unsigned i = 0; i < driver->queue_count; i++)
        start_queue(&driver->queues[i]);
    if (!driver->options.kicks_early)
        virtio_blk_set_status(device, status | VIRTIO_CONFIG_S_DRIVER_OK);
}

void virtio_driver_init(struct virtio_driver *driver, struct virtio_blk *device,
                        struct guest_memory *memory, const struct virtio_driver_options *options)
{
    memset(driver, 0, sizeof(*driver));
    driver->device = device;
    driver->loop = device->loop;
    driver->memory = memory;
    driver->options = *options;
    if (driver->options.segment_bytes == 0)
        driver->options.segment_bytes = 64 << 10;
    driver->queue_count = device->queue_count;
    driver->queue_size = device->shape.queue_size;
    driver->guest.ops = &virtio_driver_ops;
    driver->guest.sector_count = device->shape.sector_count;
    driver->guest.depth = driver->queue_count * driver->queue_size;
    /* A chain has no more buffers than the queue has entries. */
    driver->guest.bytes_max =
        (uint32_t)smaller(VIRTIO_DRIVER_BYTES_MAX,
                          (driver->queue_size - 2u) * (uint64_t)driver->options.segment_bytes);
    driver->kick.run = kick_at_round_end;
    link_init(&driver->kick.link);
    list_init(&driver->waiting);
    for (unsigned i = 0; i < driver->queue_count; i++) {
        struct virtio_driver_queue *queue = &driver->queues[i];
        queue->driver = driver;
        queue->index = i;
        queue->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        loop_watch_init(&queue->call, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), called);
        assert(queue->kick_fd >= 0 && queue->call.fd >= 0);
        loop_watch_set(driver->loop, &queue->call, LOOP_READABLE);
        queue->slots = calloc(driver->queue_size, sizeof(*queue->slots));
        assert(queue->slots);
    }
    virtio_driver_start(driver);
}

void virtio_driver_co_fini(struct virtio_driver *driver)
{
    virtio_blk_co_reset(driver->device);
    loop_task_cancel(&driver->kick);
    for (unsigned i = 0; i < driver->queue_count; i++) {
        struct virtio_driver_queue *queue = &driver->queues[i];
        loop_watch_set(driver->loop, &queue->call, 0);
        close(queue->kick_fd);
        close(queue->call.fd);
        free(queue->slots);
    }
}
