/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_HARNESS_VHOST_USER_FRONT_END_H
#define TESTS_UNIT_HARNESS_VHOST_USER_FRONT_END_H

/*
 * The front-end of a vhost-user disk on a disk in memory (block_fixture.h): a small virtual machine
 * without a processor. Its memory is two regions of one file that lie one behind the other in the
 * guest's view, and apart from each other in its own. Tests run as one coroutine on the device's
 * loop.
 */

#include "tests/harness/vhost_user_device.h"
#include "tests/harness/virtio_driver_ring.h"
#include "tests/unit/block/block_fixture.h"

#define FRONT_END_QUEUES 2
#define FRONT_END_RING 16
#define FRONT_END_SLOTS 4
#define FRONT_END_REGION_BYTES UINT64_C(0x100000)
#define FRONT_END_GUEST UINT64_C(0x100000)  /* where the guest has the first region */
#define FRONT_END_MIDDLE UINT64_C(0x200000) /* where the second one begins */
#define FRONT_END_USER_FIRST UINT64_C(0x7f0000000000)
#define FRONT_END_USER_SECOND UINT64_C(0x600000000000)

struct front_end {
    struct fixture *fixture;
    struct block_backend *backend;
    struct vhost_user_device device;
    int socket, device_socket; /* the two ends */
    int memory_fd;
    uint8_t *memory;           /* all of the file */
    struct guest_memory guest; /* the same, in one region */
    struct virtio_driver_ring rings[FRONT_END_QUEUES];
    unsigned sent[FRONT_END_QUEUES];
    int kick_fds[FRONT_END_QUEUES], call_fds[FRONT_END_QUEUES], err_fds[FRONT_END_QUEUES];
    bool has_ended; /* the device does not serve us any more, because: */
    int result;
    struct error err;
};

void front_end_co_init(struct front_end *front, struct fixture *fixture);
/* Leaves; the device must have nothing of ours then. */
void front_end_co_fini(struct front_end *front);

/* A message with its descriptors. */
void front_end_send(struct front_end *front, uint32_t type, uint32_t flags, const void *payload,
                    uint32_t bytes, const int *fds, unsigned fd_count);
void front_end_send_number(struct front_end *front, uint32_t type, uint64_t number, int fd);
void front_end_send_state(struct front_end *front, uint32_t type, uint32_t index, uint32_t value);
void front_end_send_memory(struct front_end *front);

/* The reply to a message of that type, of that many bytes. */
void front_end_co_receive(struct front_end *front, uint32_t type, void *payload, uint32_t bytes);
uint64_t front_end_co_ask(struct front_end *front, uint32_t type);
/* Whether it was acknowledged. */
bool front_end_co_acknowledged(struct front_end *front, uint32_t type);
/* Until the device has ended the connection; why. */
const char *front_end_co_refusal(struct front_end *front);

/* Features, memory, and the rings from their beginning. */
void front_end_co_start(struct front_end *front);
void front_end_send_ring(struct front_end *front, unsigned queue, uint32_t base);
/* Stops it. Returns the entry to go on with. */
uint32_t front_end_co_stop_ring(struct front_end *front, unsigned queue);

/* A read or write of `bytes` at `data`, a guest address, as far as the kick. A queue has room for
 * FRONT_END_SLOTS of them in flight. */
void front_end_submit(struct front_end *front, unsigned queue, uint32_t type, uint64_t sector,
                      uint64_t data, uint32_t bytes);
/* Waits for the call on that descriptor, and takes the answer: its status. */
uint8_t front_end_co_take(struct front_end *front, unsigned queue, int call_fd);
uint8_t front_end_co_do(struct front_end *front, unsigned queue, uint32_t type, uint64_t sector,
                        uint64_t data, uint32_t bytes);
uint8_t *front_end_at(const struct front_end *front, uint64_t address);

bool front_end_co_waits_for(int fd, unsigned wait_ms);

#endif
