/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_HARNESS_VIRTIO_FIXTURE_H
#define TESTS_UNIT_HARNESS_VIRTIO_FIXTURE_H

/*
 * A guest with a virtio-blk disk on a disk in memory (block_fixture.h). Tests run as one coroutine
 * on the device's loop.
 */

#include "tests/harness/virtio_blk.h"
#include "tests/harness/virtio_driver.h"
#include "tests/unit/block/block_fixture.h"

#define MACHINE_DISK_BYTES (1 << 20)
#define NOT_ANSWERED 0xee

struct machine {
    struct fixture *fixture;
    struct block_backend *backend;
    struct guest_memory memory;
    struct virtio_blk *device;
    struct virtio_driver driver;
};

/* What became of a request that was sent by hand. */
struct answer {
    uint8_t status; /* NOT_ANSWERED at first */
    uint32_t written;
    unsigned order; /* of all answers, from 1 */
    uint8_t data[16384];
};

void machine_co_init(struct machine *machine, struct fixture *fixture,
                     const struct virtio_blk_options *options,
                     const struct virtio_driver_options *driver_options);
void machine_co_fini(struct machine *machine);

/* A slot of queue 0 to be sent by hand; its end is told to the answer. */
struct virtio_driver_slot *machine_slot(struct machine *machine, struct answer *answer);
/* Sends a request of Linux' layout on queue 0 and returns at once. data: what an OUT, DISCARD or
 * WRITE_ZEROES carries. What an IN or GET_ID brings is in the answer. */
void machine_send(struct machine *machine, uint32_t type, uint64_t sector, const void *data,
                  uint32_t bytes, struct answer *answer);
void machine_send_on(struct machine *machine, unsigned queue, uint32_t type, uint64_t sector,
                     const void *data, uint32_t bytes, struct answer *answer);
/* Waits for it, bounded by time. Returns its status. */
uint8_t machine_co_wait(const struct answer *answer);
/* Both. */
uint8_t machine_co_do(struct machine *machine, uint32_t type, uint64_t sector, const void *data,
                      uint32_t bytes, struct answer *answer);
/* Lets everything that can happen without the disk happen. */
void machine_co_settle(void);

/* How many requests of that kind became a part of another. */
uint64_t machine_merged(const struct machine *machine, enum account_kind kind);

#endif
