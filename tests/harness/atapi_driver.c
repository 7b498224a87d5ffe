/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/atapi_driver.h"

#include <errno.h>
#include <string.h>

#include "common/endian.h"

#define PACKET 0xa0
#define MODE_UDMA5 0x45
#define CAPACITY_BYTES 8

/* Up to the twelve bytes, which the drive asks for without an interrupt. */
static int co_send_packet(struct ide_driver *driver, const struct atapi_command *command)
{
    struct ide_taskfile taskfile = {
        .command = PACKET,
        .is_chs = true, /* the registers as they are: the byte count */
        .features = command->by_dma,
        .lba = (uint64_t)command->limit << 8,
    };
    ide_driver_issue(driver, &taskfile);
    int rc = ide_driver_co_not_busy(driver);
    if (rc < 0)
        return rc;
    driver->status = ide_port_read(driver->channel, IDE_ALTERNATE_STATUS);
    if (!(driver->status & IDE_DRQ) || ide_port_read(driver->channel, IDE_COUNT) != ATAPI_COD)
        return -EPROTO;
    ide_driver_data_out(driver, command->packet, ATAPI_PACKET_BYTES);
    return 0;
}

/* One interrupt: some data, or the end (1). */
static int co_take_piece(struct ide_driver *driver, const struct atapi_command *command,
                         uint32_t *length)
{
    int rc = ide_driver_co_interrupt(driver);
    if (rc < 0)
        return rc;
    uint8_t reason = ide_port_read(driver->channel, IDE_COUNT);
    uint32_t piece = ide_port_read(driver->channel, IDE_LBA_MID) |
                     (uint32_t)ide_port_read(driver->channel, IDE_LBA_HIGH) << 8;
    if (!(driver->status & IDE_DRQ)) {
        rc = ide_driver_verdict(driver);
        return rc < 0 ? rc : reason == (ATAPI_COD | ATAPI_IO) ? 1 : -EPROTO;
    }
    if (reason != ATAPI_IO || piece == 0 || piece > command->limit ||
        piece > command->length - *length)
        return -EPROTO;
    ide_driver_data_in(driver, command->bytes + *length, piece);
    *length += piece;
    return 0;
}

static int co_run_pio(struct ide_driver *driver, const struct atapi_command *command,
                      uint32_t *length)
{
    int rc = co_send_packet(driver, command);
    while (rc == 0)
        rc = co_take_piece(driver, command, length);
    return rc < 0 ? rc : 0;
}

static int co_run_dma(struct ide_driver *driver, const struct atapi_command *command)
{
    ide_driver_make_table(driver, command->length, true);
    int rc = co_send_packet(driver, command);
    if (rc < 0)
        return rc;
    ide_driver_start_dma(driver, true);
    rc = ide_driver_co_end_dma(driver);
    if (rc == 0)
        memcpy(command->bytes, driver->memory + IDE_DRIVER_DATA, command->length);
    return rc;
}

int atapi_driver_co_run(struct ide_driver *driver, const struct atapi_command *command,
                        uint32_t *ret_length)
{
    uint32_t length = 0;
    int rc;
    if (command->by_dma) {
        rc = co_run_dma(driver, command);
        length = command->length;
    } else {
        rc = co_run_pio(driver, command, &length);
    }
    if (rc == 0 && ret_length)
        *ret_length = length;
    return rc;
}

int atapi_driver_co_test_ready(struct ide_driver *driver)
{
    struct atapi_command command = {.packet = {0x00}};
    return atapi_driver_co_run(driver, &command, NULL);
}

int atapi_driver_co_sense(struct ide_driver *driver, uint8_t sense[ATAPI_SENSE_BYTES])
{
    struct atapi_command command = {
        .packet = {0x03, [4] = ATAPI_SENSE_BYTES},
        .bytes = sense,
        .length = ATAPI_SENSE_BYTES,
        .limit = ATAPI_SENSE_BYTES,
    };
    uint32_t length;
    int rc = atapi_driver_co_run(driver, &command, &length);
    return rc == 0 && length != ATAPI_SENSE_BYTES ? -EPROTO : rc;
}

int atapi_driver_co_capacity(struct ide_driver *driver, uint32_t *ret_blocks)
{
    uint8_t bytes[CAPACITY_BYTES];
    struct atapi_command command = {
        .packet = {0x25}, .bytes = bytes, .length = CAPACITY_BYTES, .limit = CAPACITY_BYTES};
    uint32_t length;
    int rc = atapi_driver_co_run(driver, &command, &length);
    if (rc < 0)
        return rc;
    if (length != CAPACITY_BYTES || load_be32(bytes + 4) != ATAPI_BLOCK)
        return -EPROTO;
    *ret_blocks = load_be32(bytes) + 1;
    return 0;
}

int atapi_driver_co_read(struct ide_driver *driver, bool by_dma, uint16_t limit, uint32_t lba,
                         uint8_t *bytes, uint16_t blocks)
{
    struct atapi_command command = {
        .packet = {0x28},
        .bytes = bytes,
        .length = blocks * (uint32_t)ATAPI_BLOCK,
        .limit = limit,
        .by_dma = by_dma,
    };
    uint32_t length;
    store_be32(command.packet + 2, lba);
    store_be16(command.packet + 7, blocks);
    int rc = atapi_driver_co_run(driver, &command, &length);
    return rc == 0 && length != command.length ? -EPROTO : rc;
}

int atapi_driver_co_start(struct ide_driver *driver)
{
    struct ide_taskfile identify = {.command = 0xa1};
    int rc = ide_driver_co_soft_reset(driver);
    if (rc < 0)
        return rc;
    if (ide_port_read(driver->channel, IDE_LBA_MID) != 0x14 ||
        ide_port_read(driver->channel, IDE_LBA_HIGH) != 0xeb)
        return -EPROTO;
    rc = ide_driver_co_pio_in(driver, &identify, driver->identity, IDE_SECTOR, IDE_SECTOR);
    return rc < 0 ? rc : ide_driver_co_set_feature(driver, 0x03, MODE_UDMA5);
}
