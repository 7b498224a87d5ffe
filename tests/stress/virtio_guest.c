/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest whose processors are threads: each has a queue of the virtio-blk device, which another
 * thread serves, and a part of the disk. They read, write, zero and flush at random, with as much
 * in flight as the queue holds, and know what each of their sectors must hold. The disk in memory
 * answers in any order. SEED makes a run again.
 */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "block/sleep.h"
#include "common/endian.h"
#include "tests/harness/virtio_driver_ring.h"
#include "tests/unit/harness/virtio_fixture.h"

#define QUEUES 4
#define QUEUE_SIZE 16
#define SLOTS 8
#define SECTORS 128 /* of each thread */
#define SECTORS_MAX 8
#define SLOT_BYTES 8192
#define REQUESTS 2000
#define MEMORY_BYTES (1 << 20) /* of each thread */
#define DISK_BYTES (QUEUES * SECTORS * 512)

struct slot {
    bool is_busy;
    uint32_t type;
    unsigned sector, count; /* of the thread's own */
    uint8_t value;
    uint64_t address;
    uint8_t *host;
};

struct processor {
    unsigned index;
    struct random random;
    struct virtio_driver_ring ring;
    int kick_fd, call_fd;
    struct slot slots[SLOTS];
    uint8_t values[SECTORS]; /* every byte of the sector has it */
    bool is_busy[SECTORS];
    unsigned sent, answered, wrong;
};

static struct processor processors[QUEUES];
static atomic_uint ended;

/* --- a guest's processor -----------------------------------------------------------------------
 */

static bool is_free(const struct processor *self, unsigned sector, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (self->is_busy[sector + i])
            return false;
    return true;
}

static void mark(struct processor *self, const struct slot *slot, bool is_busy)
{
    for (unsigned i = 0; i < slot->count; i++)
        self->is_busy[slot->sector + i] = is_busy;
}

/* header at 0, status at 64, data from 512 on */
static bool send_request(struct processor *self, struct slot *slot)
{
    static const uint32_t types[] = {VIRTIO_BLK_T_IN,           VIRTIO_BLK_T_IN,
                                     VIRTIO_BLK_T_OUT,          VIRTIO_BLK_T_OUT,
                                     VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_FLUSH};
    struct virtio_buffer buffers[3] = {{slot->address, 16}};
    unsigned count = 1;
    uint64_t first = self->index * SECTORS;
    slot->type = types[random_below(&self->random, 6)];
    slot->count = slot->type == VIRTIO_BLK_T_FLUSH
                      ? 0
                      : (unsigned)random_below(&self->random, SECTORS_MAX) + 1;
    slot->sector = (unsigned)random_below(&self->random, SECTORS - SECTORS_MAX);
    slot->value = (uint8_t)random_u64(&self->random);
    if (!is_free(self, slot->sector, slot->count))
        return false;
    store_le32(slot->host, slot->type);
    store_le64(slot->host + 8, first + slot->sector);
    slot->host[64] = NOT_ANSWERED;
    if (slot->count > 0)
        buffers[count++] = (struct virtio_buffer){slot->address + 512, slot->count * 512};
    if (slot->type == VIRTIO_BLK_T_OUT)
        memset(slot->host + 512, slot->value, slot->count * 512);
    if (slot->type == VIRTIO_BLK_T_WRITE_ZEROES) {
        buffers[1].length = 16;
        store_le64(slot->host + 512, first + slot->sector);
        store_le32(slot->host + 520, slot->count);
        store_le32(slot->host + 524, 0);
    }
    buffers[count++] = (struct virtio_buffer){slot->address + 64, 1};
    unsigned writable = slot->type == VIRTIO_BLK_T_IN ? 2 : 1;
    if (!virtio_driver_ring_add(&self->ring, buffers, count - writable, writable, slot))
        return false;
    slot->is_busy = true;
    mark(self, slot, true);
    self->sent++;
    return true;
}

static void take_answer(struct processor *self, struct slot *slot)
{
    self->wrong += slot->host[64] != VIRTIO_BLK_S_OK;
    for (unsigned i = 0; i < slot->count; i++) {
        uint8_t *value = &self->values[slot->sector + i];
        if (slot->type == VIRTIO_BLK_T_OUT)
            *value = slot->value;
        else if (slot->type == VIRTIO_BLK_T_WRITE_ZEROES)
            *value = 0;
        for (unsigned b = 0; slot->type == VIRTIO_BLK_T_IN && b < 512; b++)
            self->wrong += slot->host[512 + i * 512 + b] != *value;
    }
    mark(self, slot, false);
    slot->is_busy = false;
    self->answered++;
}

static void take_answers(struct processor *self)
{
    struct slot *slot;
    uint32_t written;
    uint64_t calls;
    if (read(self->call_fd, &calls, sizeof(calls)) != sizeof(calls))
        self->wrong++;
    do {
        virtio_driver_ring_calls_off(&self->ring);
        while ((slot = virtio_driver_ring_used(&self->ring, &written)))
            take_answer(self, slot);
    } while (virtio_driver_ring_calls_on(&self->ring));
}

static void *run_processor(void *arg)
{
    struct processor *self = arg;
    const uint64_t one = 1;
    while (self->answered < REQUESTS) {
        unsigned batch = 1 + (unsigned)random_below(&self->random, SLOTS);
        for (unsigned i = 0; i < SLOTS && batch > 0 && self->sent < REQUESTS; i++)
            if (!self->slots[i].is_busy)
                batch -= send_request(self, &self->slots[i]);
        if (virtio_driver_ring_kick_due(&self->ring) &&
            write(self->kick_fd, &one, sizeof(one)) != sizeof(one))
            self->wrong++;
        if (self->answered < self->sent)
            take_answers(self);
    }
    atomic_fetch_add(&ended, 1);
    return NULL;
}

/* --- the device --------------------------------------------------------------------------------
 */

static void init_processor(struct processor *self, unsigned index, uint64_t seed,
                           struct virtio_blk *device)
{
    const struct guest_memory *memory = device->memory;
    uint64_t address = memory->regions[0].address + (uint64_t)index * MEMORY_BYTES;
    uint64_t slots = address + MEMORY_BYTES / 2;
    memset(self, 0, sizeof(*self));
    self->index = index;
    random_seed(&self->random, seed + index);
    self->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    self->call_fd = eventfd(0, EFD_CLOEXEC);
    virtio_driver_ring_init(&self->ring, memory, address, QUEUE_SIZE, device->features);
    assert_true(virtio_driver_ring_bytes(QUEUE_SIZE) <= MEMORY_BYTES / 2);
    for (unsigned i = 0; i < SLOTS; i++) {
        self->slots[i].address = slots + i * SLOT_BYTES;
        self->slots[i].host = guest_memory_range(memory, self->slots[i].address, SLOT_BYTES);
        assert_non_null(self->slots[i].host);
    }
    assert_int_equal(virtio_blk_start_queue(device, index, QUEUE_SIZE, &self->ring.place, 0,
                                            self->kick_fd, self->call_fd),
                     0);
}

static void co_serve(struct fixture *fixture, void *arg)
{
    static const struct virtio_blk_options options = {.queue_count = QUEUES,
                                                      .queue_size = QUEUE_SIZE};
    uint64_t seed = fixture_seed("virtio_guest"), features = *(uint64_t *)arg;
    struct guest_memory memory = {.region_count = 1};
    struct block_backend *backend;
    struct virtio_blk *device;
    pthread_t threads[QUEUES];
    memory.regions[0] = (struct guest_region){
        .address = 0x100000, .length = QUEUES * MEMORY_BYTES, .host = calloc(QUEUES, MEMORY_BYTES)};
    assert_non_null(memory.regions[0].host);
    atomic_store(&ended, 0);
    fixture->disk.pauses_max = 3;
    fixture_co_open(fixture, "growing", true);
    assert_int_equal(block_backend_new(&backend, fixture->node, false, NULL), 0);
    assert_int_equal(virtio_blk_new(&device, backend, fixture->loop, &memory, &options, NULL), 0);
    virtio_blk_set_features(device, virtio_blk_offered(&device->shape) & ~features);
    virtio_blk_set_status(device, VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
    for (unsigned i = 0; i < QUEUES; i++)
        init_processor(&processors[i], i, seed, device);
    for (unsigned i = 0; i < QUEUES; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_processor, &processors[i]), 0);
    while (atomic_load(&ended) < QUEUES) {
        assert_null(device->broken);
        sleep_co_ns(1000000);
    }
    virtio_blk_co_reset(device);
    for (unsigned i = 0; i < QUEUES; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(processors[i].answered, REQUESTS);
        assert_int_equal(processors[i].wrong, 0);
        for (unsigned s = 0; s < SECTORS; s++)
            assert_int_equal(fixture->disk.data[(i * SECTORS + s) * 512], processors[i].values[s]);
        close(processors[i].kick_fd);
        close(processors[i].call_fd);
    }
    virtio_blk_free(device);
    block_co_backend_free(backend);
    free(memory.regions[0].host);
}

static void run(uint64_t left_out)
{
    struct fixture fixture;
    fixture_init(&fixture, memory_drivers, DISK_BYTES, DISK_BYTES, 1);
    fixture_run(&fixture, co_serve, &left_out);
    fixture_fini(&fixture);
}

static void four_processors_agree_with_their_sectors(void **state)
{
    (void)state;
    run(0);
}

static void and_without_event_index_and_indirect_tables(void **state)
{
    (void)state;
    run(VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_processors_agree_with_their_sectors),
        cmocka_unit_test(and_without_event_index_and_indirect_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
