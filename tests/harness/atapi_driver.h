/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_ATAPI_DRIVER_H
#define TESTS_HARNESS_ATAPI_DRIVER_H

/* The guest's side of a CD drive: packets, by the ports of ide_driver.h, whose errors these calls
 * have. -EIO: the sense key is in driver->error, shifted by 4. */

#include "tests/harness/ide_driver.h"

struct atapi_command {
    uint8_t packet[ATAPI_PACKET_BYTES];
    uint8_t *bytes;  /* what comes; NULL: nothing is to */
    uint32_t length; /* of them at most; by DMA exactly */
    uint16_t limit;  /* the byte count of one interrupt */
    bool by_dma;
};

/* Soft reset, signature, IDENTIFY PACKET DEVICE, transfer mode. */
int atapi_driver_co_start(struct ide_driver *driver);
/* ret_length: what came; unless NULL. */
int atapi_driver_co_run(struct ide_driver *driver, const struct atapi_command *command,
                        uint32_t *ret_length);

int atapi_driver_co_test_ready(struct ide_driver *driver);
int atapi_driver_co_sense(struct ide_driver *driver, uint8_t sense[ATAPI_SENSE_BYTES]);
int atapi_driver_co_capacity(struct ide_driver *driver, uint32_t *ret_blocks);
/* READ(10). */
int atapi_driver_co_read(struct ide_driver *driver, bool by_dma, uint16_t limit, uint32_t lba,
                         uint8_t *bytes, uint16_t blocks);

#endif
