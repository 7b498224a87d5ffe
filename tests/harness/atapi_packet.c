/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The PACKET command: twelve bytes come, data goes, and a last interrupt says how it was. By PIO
 * the data goes in pieces that the host has set a limit to, by DMA as the buffer has it.
 */
#include "tests/harness/ide_parts.h"

#include <string.h>

#include "common/align.h"

#define FEATURE_DMA 0x01

static void set_reason(struct ide_channel *channel, unsigned reason)
{
    channel->registers.count[0] = (uint8_t)reason;
}

/* --- the end -----------------------------------------------------------------------------------
 */

void atapi_done(struct ide_channel *channel)
{
    set_reason(channel, ATAPI_IO | ATAPI_COD);
    ide_command_done(channel);
}

void atapi_fail(struct ide_channel *channel, struct atapi_sense sense)
{
    channel->drive.sense = sense;
    set_reason(channel, ATAPI_IO | ATAPI_COD);
    ide_command_fail(channel, (uint8_t)(sense.key << 4 | IDE_ABRT));
}

void atapi_reset(struct ide_channel *channel)
{
    channel->drive = (struct atapi_drive){
        .is_open = channel->drive.is_open,
        .attention = {.key = ATAPI_UNIT_ATTENTION, .asc = 0x29}, /* power on or reset */
    };
}

/* --- data --------------------------------------------------------------------------------------
 */

static void read_chunk(struct ide_channel *channel);

static void all_is_moved(struct ide_channel *channel)
{
    if (channel->drive.left > 0)
        read_chunk(channel);
    else
        atapi_done(channel);
}

static void offer_piece(struct ide_channel *channel)
{
    struct atapi_drive *drive = &channel->drive;
    uint32_t length = drive->ready;
    if (length == 0) {
        all_is_moved(channel);
        return;
    }
    if (length > drive->limit) /* the port is two bytes wide */
        length = drive->limit & ~1u;
    drive->ready -= length;
    set_reason(channel, ATAPI_IO);
    channel->registers.lba_mid[0] = (uint8_t)length;
    channel->registers.lba_high[0] = (uint8_t)(length >> 8);
    ide_data_offer_more(channel, length);
    ide_interrupt_set(channel);
}

void atapi_offer(struct ide_channel *channel, uint32_t length)
{
    struct atapi_drive *drive = &channel->drive;
    if (length == 0) {
        all_is_moved(channel);
    } else if (drive->by_dma) {
        ide_data_offer(channel, true, length, all_is_moved);
    } else if (drive->limit < smaller(length, 2)) { /* none, as word 125 of IDENTIFY says */
        atapi_fail(channel, (struct atapi_sense){.key = ATAPI_ABORTED_COMMAND});
    } else {
        drive->ready = length;
        ide_data_rewind(channel, offer_piece);
        offer_piece(channel);
    }
}

static void chunk_is_read(struct ide_channel *channel, const struct ide_request *request,
                          int result)
{
    struct atapi_drive *drive = &channel->drive;
    if (result < 0 && drive->chunk > 1) { /* by blocks, so that the bad one has a name */
        drive->chunk_max = 1;
        read_chunk(channel);
    } else if (result < 0) {
        atapi_fail(channel, (struct atapi_sense){.key = ATAPI_MEDIUM_ERROR,
                                                 .asc = 0x11, /* unrecovered read error */
                                                 .has_lba = true,
                                                 .lba = drive->lba});
    } else {
        memcpy(channel->buffer, request->bounce, request->length);
        drive->lba += drive->chunk;
        drive->left -= drive->chunk;
        atapi_offer(channel, request->length);
    }
}

static void read_chunk(struct ide_channel *channel)
{
    struct atapi_drive *drive = &channel->drive;
    drive->chunk = (uint32_t)smaller(drive->left, drive->chunk_max);
    if (ide_io_read(channel, (uint64_t)drive->lba * ATAPI_BLOCK, drive->chunk * ATAPI_BLOCK,
                    chunk_is_read) < 0)
        atapi_fail(channel, (struct atapi_sense){.key = ATAPI_ABORTED_COMMAND});
}

void atapi_read(struct ide_channel *channel, uint32_t lba, uint32_t count)
{
    channel->drive.lba = lba;
    channel->drive.left = count;
    channel->drive.chunk_max = IDE_BUFFER_BYTES / ATAPI_BLOCK;
    all_is_moved(channel);
}

/* --- the beginning -----------------------------------------------------------------------------
 */

static void packet_is_here(struct ide_channel *channel)
{
    uint8_t packet[ATAPI_PACKET_BYTES];
    memcpy(packet, channel->buffer, sizeof(packet));
    atapi_execute(channel, packet);
}

void atapi_packet_start(struct ide_channel *channel, unsigned flags)
{
    struct atapi_drive *drive = &channel->drive;
    (void)flags;
    drive->by_dma = channel->registers.features[0] & FEATURE_DMA;
    drive->limit = channel->registers.lba_mid[0] | (uint32_t)channel->registers.lba_high[0] << 8;
    drive->ready = drive->left = 0;
    set_reason(channel, ATAPI_COD);
    ide_data_ask(channel, false, ATAPI_PACKET_BYTES, packet_is_here);
}

void atapi_change_medium(struct ide_channel *channel, struct block_backend *backend)
{
    struct atapi_drive *drive = &channel->drive;
    const struct atapi_sense changed = {.key = ATAPI_UNIT_ATTENTION, .asc = 0x28};
    ide_io_leave_behind(channel);
    channel->config.backend = backend;
    drive->is_open = false;
    if (backend)
        drive->attention = changed;
    if (channel->phase != IDE_IDLE && channel->phase != IDE_RESETTING)
        atapi_fail(channel, (struct atapi_sense){.key = ATAPI_NOT_READY, .asc = 0x3a});
}
