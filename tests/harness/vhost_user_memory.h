/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_VHOST_USER_MEMORY_H
#define TESTS_HARNESS_VHOST_USER_MEMORY_H

/*
 * The memory of a guest in another process, as its vhost-user front-end lends it: regions of files,
 * mapped here. What a device does with it goes by guest addresses (guest_memory.h); the front-end
 * names a queue's parts by its own addresses.
 *
 * A file that its owner makes shorter afterwards ends this process with SIGBUS, as with every
 * vhost-user device.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "tests/harness/guest_memory.h"
#include "tests/harness/vhost_user_message.h"

struct vhost_user_memory {
    struct guest_memory guest; /* regions in the order of the table */
    struct {
        uint64_t user_address;
        void *base; /* a whole number of pages */
        size_t bytes;
    } maps[VHOST_USER_REGIONS_MAX];
};

/* Maps a SET_MEM_TABLE with its descriptors, which stay the caller's. The memory was empty or
 * unmapped. A negative errno: nothing is mapped. */
int vhost_user_memory_map(struct vhost_user_memory *memory,
                          const struct vhost_user_message *message, const int *fds,
                          struct error *err);
/* Harmless when nothing is mapped. */
void vhost_user_memory_unmap(struct vhost_user_memory *memory);

/* The guest's address of what the front-end has at that address. False: it lies in no region. */
bool vhost_user_memory_guest_address(const struct vhost_user_memory *memory, uint64_t user_address,
                                     uint64_t *ret_guest_address);

#endif
