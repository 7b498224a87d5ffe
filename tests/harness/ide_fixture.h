/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_IDE_FIXTURE_H
#define TESTS_HARNESS_IDE_FIXTURE_H

/* A machine with an IDE channel on the disk of the block fixture, and its driver. */

#include "tests/harness/atapi_driver.h"
#include "tests/unit/block/block_fixture.h"

struct ide_machine {
    struct fixture *fixture;
    struct block_backend *backend;
    struct ide_channel channel;
    struct ide_driver driver;
    struct guest_memory guest_memory;
    uint8_t memory[IDE_DRIVER_MEMORY_BYTES];
    uint8_t bytes[IDE_DRIVER_BYTES_MAX]; /* for the test's own use */
};

/* Opens "pass" above "file", unless a node is open, fills the disk, and starts the driver. */
struct ide_machine *ide_machine_co_new(struct fixture *fixture);
/* The same with a CD drive and the disk as its medium, not started. */
struct ide_machine *ide_machine_co_new_cd(struct fixture *fixture);
/* What is in flight is waited for. */
void ide_machine_co_free(struct ide_machine *machine);

/* The disk's bytes, as the medium holds them. */
uint8_t *ide_machine_sector(struct ide_machine *machine, uint64_t lba);

/* Ends when the line goes up; else fails the test. */
void ide_machine_co_wait(struct ide_machine *machine);
/* Lets all that can go on do so. */
void ide_machine_co_settle(void);
uint8_t ide_machine_status(struct ide_machine *machine); /* Alternate status */

#endif
