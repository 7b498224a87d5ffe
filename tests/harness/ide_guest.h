/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_IDE_GUEST_H
#define TESTS_HARNESS_IDE_GUEST_H

/* A guest with an IDE disk, its driver and its memory, as a trace is replayed against it: DMA, and
 * READ and WRITE SECTORS where PIO is asked for; one command at a time, in the order they came. */

#include "tests/harness/guest_device.h"
#include "tests/harness/ide_driver.h"

struct ide_guest {
    struct guest_device guest;
    struct ide_channel channel;
    struct ide_driver driver;
    struct guest_memory memory;
    struct list waiting; /* struct guest_request.link */
    bool is_working;
    uint8_t bytes[IDE_DRIVER_MEMORY_BYTES]; /* the memory */
};

/* Finds the disk and sets it up. 0, -ENOMEM, or what the driver met. */
int ide_guest_co_new(struct ide_guest **ret_guest, struct loop *loop,
                     struct block_backend *backend);
/* Every request is answered. The backend stays. Takes NULL. */
void ide_guest_co_free(struct ide_guest *guest);

#endif
