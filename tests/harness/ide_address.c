/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/ide_address.h"

#include <assert.h>

#include "common/align.h"

#define CYLINDERS_MAX 16383 /* ATA-6, 6.2.1: of a default translation */

struct ide_geometry ide_geometry_translate(uint64_t sector_count, unsigned heads, unsigned sectors)
{
    assert(heads >= 1 && heads <= 16 && sectors >= 1 && sectors <= 255);
    return (struct ide_geometry){
        .cylinders = (uint16_t)smaller(sector_count / (heads * sectors), CYLINDERS_MAX),
        .heads = (uint8_t)heads,
        .sectors = (uint8_t)sectors,
    };
}

struct ide_geometry ide_geometry_default(uint64_t sector_count)
{
    return ide_geometry_translate(sector_count, 16, 63);
}

static uint64_t lba_of_bytes(const struct ide_registers *registers, unsigned age)
{
    return registers->lba_low[age] | (uint64_t)registers->lba_mid[age] << 8 |
           (uint64_t)registers->lba_high[age] << 16;
}

static bool decode_chs(const struct ide_registers *registers, const struct ide_geometry *geometry,
                       uint64_t *ret_lba)
{
    unsigned cylinder = registers->lba_mid[0] | registers->lba_high[0] << 8;
    unsigned head = registers->device & 0xf, sector = registers->lba_low[0];
    if (sector == 0 || sector > geometry->sectors || head >= geometry->heads ||
        cylinder >= geometry->cylinders)
        return false;
    *ret_lba = ((uint64_t)cylinder * geometry->heads + head) * geometry->sectors + sector - 1;
    return true;
}

bool ide_address_decode(const struct ide_registers *registers, const struct ide_geometry *geometry,
                        bool is_ext, struct ide_range *ret_range)
{
    struct ide_range range;
    if (is_ext) {
        range.lba = lba_of_bytes(registers, 0) | lba_of_bytes(registers, 1) << 24;
        range.count = registers->count[0] | (uint32_t)registers->count[1] << 8;
        range.count = range.count > 0 ? range.count : 65536;
    } else {
        range.lba = lba_of_bytes(registers, 0) | (uint64_t)(registers->device & 0xf) << 24;
        range.count = registers->count[0] > 0 ? registers->count[0] : 256;
        if (!(registers->device & IDE_DEVICE_LBA) && !decode_chs(registers, geometry, &range.lba))
            return false;
    }
    *ret_range = range;
    return true;
}

static void encode_bytes(struct ide_registers *registers, unsigned age, uint64_t lba)
{
    registers->lba_low[age] = (uint8_t)lba;
    registers->lba_mid[age] = (uint8_t)(lba >> 8);
    registers->lba_high[age] = (uint8_t)(lba >> 16);
}

static void encode_chs(struct ide_registers *registers, const struct ide_geometry *geometry,
                       uint64_t lba)
{
    uint64_t track = lba / geometry->sectors, cylinder = track / geometry->heads;
    registers->lba_low[0] = (uint8_t)(lba % geometry->sectors + 1);
    registers->lba_mid[0] = (uint8_t)cylinder;
    registers->lba_high[0] = (uint8_t)(cylinder >> 8);
    registers->device = (uint8_t)((registers->device & 0xf0) | track % geometry->heads);
}

void ide_address_encode(struct ide_registers *registers, const struct ide_geometry *geometry,
                        bool is_ext, uint64_t lba)
{
    if (is_ext) {
        encode_bytes(registers, 0, lba);
        encode_bytes(registers, 1, lba >> 24);
    } else if (registers->device & IDE_DEVICE_LBA) {
        encode_bytes(registers, 0, lba);
        registers->device = (uint8_t)((registers->device & 0xf0) | (lba >> 24 & 0xf));
    } else {
        encode_chs(registers, geometry, lba);
    }
}
