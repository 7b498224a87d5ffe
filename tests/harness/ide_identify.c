/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/ide_identify.h"

#include <string.h>

#include "common/align.h"
#include "common/endian.h"

#define WORDS 256
#define LBA28_SECTORS_MAX 0x0fffffff

static void put(uint8_t *bytes, unsigned word, unsigned value)
{
    store_le16(bytes + 2 * word, (uint16_t)value);
}

static void put32(uint8_t *bytes, unsigned word, uint32_t value)
{
    store_le32(bytes + 2 * word, value);
}

/* The first character of two is the word's high byte; spaces behind. */
static void put_text(uint8_t *bytes, unsigned word, unsigned length, const char *text)
{
    size_t given = strlen(text);
    for (unsigned i = 0; i < length; i++)
        bytes[2 * word + (i ^ 1)] = i < given ? (uint8_t)text[i] : ' ';
}

/* The sum of all bytes is 0. */
static void put_checksum(uint8_t *bytes)
{
    uint8_t sum = 0xa5;
    bytes[510] = 0xa5;
    for (unsigned i = 0; i < 510; i++)
        sum = (uint8_t)(sum + bytes[i]);
    bytes[511] = (uint8_t)-sum;
}

static void put_names(uint8_t *bytes, const struct ide_identity *identity)
{
    put_text(bytes, 10, 20, identity->serial);
    put_text(bytes, 23, 8, identity->firmware);
    put_text(bytes, 27, 40, identity->model);
}

static void put_geometry(uint8_t *bytes, const struct ide_identity *identity)
{
    struct ide_geometry fixed = ide_geometry_default(identity->sector_count);
    const struct ide_geometry *current = &identity->settings->geometry;
    put(bytes, 1, fixed.cylinders);
    put(bytes, 3, fixed.heads);
    put(bytes, 6, fixed.sectors);
    put(bytes, 54, current->cylinders);
    put(bytes, 55, current->heads);
    put(bytes, 56, current->sectors);
    put32(bytes, 57, (uint32_t)current->cylinders * current->heads * current->sectors);
}

static void put_transfer_modes(uint8_t *bytes, const struct ide_settings *settings)
{
    put(bytes, 51, 0x0200); /* PIO mode 2, for those who know no word 64 */
    put(bytes, 53, 0x0007); /* words 54 to 58, 64 to 70, 88 count */
    put(bytes, 63, 0x0007u | (unsigned)settings->dma_modes << 8);
    put(bytes, 64, 0x0003); /* PIO modes 3 and 4 */
    for (unsigned word = 65; word <= 68; word++)
        put(bytes, word, 120); /* cycle times, in ns */
    put(bytes, 88, 0x003fu | (unsigned)settings->ultra_dma_modes << 8);
    put(bytes, 93, 0x600b); /* a cable of 80 wires; device 0, by its jumper, is well */
}

/* Words 82 to 84 say what there is, 85 to 87 what is on. */
static void put_features(uint8_t *bytes, const struct ide_settings *settings)
{
    const unsigned always = 1 << 14 | 1 << 3;              /* NOP; power management */
    put(bytes, 82, always | 1 << 6 | 1 << 5);              /* look-ahead, write cache */
    put(bytes, 83, 1 << 14 | 1 << 13 | 1 << 12 | 1 << 10); /* FLUSH CACHE (EXT), 48 bits */
    put(bytes, 84, 1 << 14 | 1 << 6);                      /* FUA */
    put(bytes, 85,
        always | (unsigned)settings->look_ahead << 6 | (unsigned)settings->write_cache << 5);
    put(bytes, 86, 1 << 13 | 1 << 12 | 1 << 10);
    put(bytes, 87, 1 << 14 | 1 << 6);
}

void ide_identify_disk(const struct ide_identity *identity, uint8_t *bytes)
{
    const struct ide_settings *settings = identity->settings;
    uint64_t sectors = identity->sector_count;
    memset(bytes, 0, 2 * WORDS);
    put(bytes, 0, 0x0040);
    put(bytes, 2, 0xc837); /* nothing has to be switched on first */
    put_geometry(bytes, identity);
    put_names(bytes, identity);
    put(bytes, 47, 0x8000 | IDE_MULTIPLE_MAX);
    put(bytes, 48, 0x4000);
    put(bytes, 49, 0x0f00); /* LBA, DMA, IORDY that can be switched off */
    put(bytes, 50, 0x4000);
    put(bytes, 59, settings->multiple > 0 ? 0x0100u | settings->multiple : 0);
    put32(bytes, 60, (uint32_t)smaller(sectors, LBA28_SECTORS_MAX));
    put_transfer_modes(bytes, settings);
    put(bytes, 80, 0x01f0); /* ATA-4 to ATA8-ACS */
    put_features(bytes, settings);
    store_le64(bytes + 200, sectors);
    put(bytes, 105, IDE_TRIM_BLOCKS_MAX);
    put(bytes, 106, 0x4000);
    put(bytes, 169, 0x0001); /* TRIM; what was trimmed may read as anything (word 69) */
    put(bytes, 217, 0x0001); /* nothing turns */
    put_checksum(bytes);
}

void ide_identify_cd(const struct ide_identity *identity, uint8_t *bytes)
{
    const unsigned always =
        1 << 14 | 1 << 9 | 1 << 4 | 1 << 3; /* NOP, DEVICE RESET, PACKET, power */
    memset(bytes, 0, 2 * WORDS);
    put(bytes, 0, 0x85c0); /* a CD drive, removable; takes its 12 bytes within 50 us */
    put_names(bytes, identity);
    put(bytes, 49, 0x0f00);
    put(bytes, 50, 0x4000);
    put_transfer_modes(bytes, identity->settings);
    put(bytes, 53, 0x0006);
    put(bytes, 80, 0x01f0);
    put(bytes, 82, always);
    put(bytes, 83, 1 << 14);
    put(bytes, 84, 1 << 14);
    put(bytes, 85, always);
    put(bytes, 87, 1 << 14);
    put(bytes, 125, 0); /* no byte count limit: a command with data is aborted */
    put_checksum(bytes);
}
