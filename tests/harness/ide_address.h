/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_IDE_ADDRESS_H
#define TESTS_HARNESS_IDE_ADDRESS_H

/*
 * The task file, and the sectors that it names: by cylinder, head and sector, by 28 bits of LBA, or
 * by 48 in two writes of each register. Pure.
 */

#include <stdbool.h>
#include <stdint.h>

/* [0] is what was written last, [1] what was there before: the high order byte (HOB). */
struct ide_registers {
    uint8_t features[2], count[2], lba_low[2], lba_mid[2], lba_high[2];
    uint8_t device, status, error, control;
};

#define IDE_DEVICE_LBA 0x40 /* not cylinder, head and sector */
#define IDE_DEVICE_1 0x10

struct ide_geometry {
    uint16_t cylinders;
    uint8_t heads, sectors; /* 1 to 16, 1 to 255 */
};

/* What a disk of that size says of itself; 16383 x 16 x 63 for all that are larger. */
struct ide_geometry ide_geometry_default(uint64_t sector_count);
/* The same disk with other heads and sectors: INITIALIZE DEVICE PARAMETERS. Both at least 1. */
struct ide_geometry ide_geometry_translate(uint64_t sector_count, unsigned heads, unsigned sectors);

struct ide_range {
    uint64_t lba;
    uint32_t count; /* of sectors; 0 in the register was 256, or 65536 */
};

/* is_ext: an EXT command, with 48 bits. False: no sector has that cylinder, head and sector. */
bool ide_address_decode(const struct ide_registers *registers, const struct ide_geometry *geometry,
                        bool is_ext, struct ide_range *ret_range);
/* Where an error is: the same way round. */
void ide_address_encode(struct ide_registers *registers, const struct ide_geometry *geometry,
                        bool is_ext, uint64_t lba);

#endif
