/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "tests/unit/harness/virtio_fixture.h"

#include "block/sleep.h"

#define WAIT_NS_MAX (UINT64_C(60) * 1000000000)

static unsigned answers; /* counts over all tests of the program */

void machine_co_init(struct machine *machine, struct fixture *fixture,
                     const struct virtio_blk_options *options,
                     const struct virtio_driver_options *driver_options)
{
    struct virtio_driver_options defaults = {.features = 0};
    struct error err = {.message = ""};
    machine->fixture = fixture;
    if (!fixture->node)
        fixture_co_open(fixture, "growing", true);
    assert_int_equal(block_backend_new(&machine->backend, fixture->node, false, NULL), 0);
    assert_int_equal(
        virtio_driver_memory_new(&machine->memory, options->queue_count, options->queue_size), 0);
    if (virtio_blk_new(&machine->device, machine->backend, fixture->loop, &machine->memory, options,
                       &err) < 0)
        fail_msg("%s", err.message);
    virtio_driver_init(&machine->driver, machine->device, &machine->memory,
                       driver_options ? driver_options : &defaults);
}

void machine_co_fini(struct machine *machine)
{
    virtio_driver_co_fini(&machine->driver);
    virtio_blk_free(machine->device);
    virtio_driver_memory_free(&machine->memory);
    block_co_backend_free(machine->backend);
}

static void answered(struct virtio_driver_slot *slot, uint8_t status, uint32_t written)
{
    struct answer *answer = slot->arg;
    assert_int_equal(answer->status, NOT_ANSWERED);
    answer->status = status;
    answer->written = written;
    answer->order = ++answers;
    memcpy(answer->data, slot->data, sizeof(answer->data));
}

static struct virtio_driver_slot *slot_on(struct machine *machine, unsigned queue,
                                          struct answer *answer)
{
    struct virtio_driver_slot *slot = virtio_driver_slot(&machine->driver, queue);
    assert_non_null(slot);
    *answer = (struct answer){.status = NOT_ANSWERED};
    slot->arg = answer;
    slot->done = answered;
    return slot;
}

struct virtio_driver_slot *machine_slot(struct machine *machine, struct answer *answer)
{
    return slot_on(machine, 0, answer);
}

void machine_send_on(struct machine *machine, unsigned queue, uint32_t type, uint64_t sector,
                     const void *data, uint32_t bytes, struct answer *answer)
{
    struct virtio_driver_slot *slot = slot_on(machine, queue, answer);
    assert_true(bytes <= sizeof(answer->data));
    virtio_driver_fill_header(slot, type, sector);
    if (data)
        memcpy(slot->data, data, bytes);
    virtio_driver_send(slot, data ? bytes : 0, data ? 0 : bytes);
}

void machine_send(struct machine *machine, uint32_t type, uint64_t sector, const void *data,
                  uint32_t bytes, struct answer *answer)
{
    machine_send_on(machine, 0, type, sector, data, bytes, answer);
}

uint8_t machine_co_wait(const struct answer *answer)
{
    uint64_t from = clock_monotonic.now_ns(&clock_monotonic);
    while (answer->status == NOT_ANSWERED) {
        assert_true(clock_monotonic.now_ns(&clock_monotonic) - from < WAIT_NS_MAX);
        sleep_co_ns(20000); /* a pause alone would keep the loop from looking at the eventfds */
    }
    return answer->status;
}

uint8_t machine_co_do(struct machine *machine, uint32_t type, uint64_t sector, const void *data,
                      uint32_t bytes, struct answer *answer)
{
    machine_send(machine, type, sector, data, bytes, answer);
    return machine_co_wait(answer);
}

void machine_co_settle(void)
{
    for (unsigned i = 0; i < 50; i++)
        sleep_co_ns(20000);
}

uint64_t machine_merged(const struct machine *machine, enum account_kind kind)
{
    struct account_counts counts;
    account_read_counts(&machine->device->account, kind, &counts);
    return counts.merged;
}
