/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_IDE_DMA_H
#define TESTS_HARNESS_IDE_DMA_H

/*
 * The bus master (SFF-8038i): it moves the device's buffer to or from the guest's memory, as a
 * table of physical region descriptors (PRD) says.
 *
 * Interrupt and Active say how a transfer ended: 1 and 0, as the table was long; 1 and 1, the table
 * was longer; 0 and 0, it was shorter, or Error says that it leads out of memory. In the last case
 * the device goes on waiting, BSY, for another Start or a reset.
 */

#include <stdbool.h>
#include <stdint.h>

enum ide_bus_master_offset {
    IDE_BM_COMMAND = 0,
    IDE_BM_STATUS = 2,
    IDE_BM_TABLE = 4,
};

enum ide_bus_master_command {
    IDE_BM_START = 0x01,
    IDE_BM_TO_MEMORY = 0x08, /* the device is read */
};

enum ide_bus_master_status {
    IDE_BM_ACTIVE = 0x01,
    IDE_BM_ERROR = 0x02,     /* cleared by writing it */
    IDE_BM_INTERRUPT = 0x04, /* the line went up; cleared by writing it */
    IDE_BM_CAPABLE = 0x60,   /* for the guest's own use */
};

#define IDE_PRD_BYTES 8     /* address, count of 16 bits (0 is 65536), flags */
#define IDE_PRD_LAST 0x8000 /* in the flags */

struct ide_bus_master {
    uint8_t command, status;
    uint32_t table; /* the register */
    uint32_t next;  /* the descriptor behind the one in use */
    uint32_t region, region_left;
    bool is_last;
};

#endif
