/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands that move sectors, chunk by chunk. A chunk is what an interrupt tells of in PIO (one
 * sector, or a block of MULTIPLE), and what fits into the buffer else. The next one begins when the
 * last one is moved and done.
 *
 * A chunk whose read fails is read again sector by sector, so that the registers name the first bad
 * one. A write that fails is told for the chunk: ABRT, since the standard has no bit for a medium
 * that cannot be written (ATA/ATAPI-6, 8.55.6: "not able to complete the action").
 */
#include "tests/harness/ide_parts.h"

#include <string.h>

#include "common/align.h"
#include "common/checked.h"

static void read_chunk(struct ide_channel *channel);
static void ask_for_chunk(struct ide_channel *channel);

static void fail_at(struct ide_channel *channel, uint8_t error, uint64_t lba)
{
    ide_address_encode(&channel->registers, &channel->settings.geometry,
                       channel->transfer.flags & IDE_EXT, lba);
    ide_command_fail(channel, error);
}

static bool by_dma(const struct ide_channel *channel)
{
    return channel->transfer.flags & IDE_BY_DMA;
}

static uint32_t chunk_max(const struct ide_channel *channel)
{
    if (channel->transfer.flags & (IDE_BY_DMA | IDE_VERIFY))
        return IDE_BUFFER_BYTES / IDE_SECTOR;
    return channel->transfer.flags & IDE_MULTIPLE ? channel->settings.multiple : 1;
}

static void next_chunk(struct ide_transfer *transfer)
{
    transfer->lba += transfer->chunk;
    transfer->left -= transfer->chunk;
}

/* --- reads -------------------------------------------------------------------------------------
 */

static void chunk_is_moved_in(struct ide_channel *channel)
{
    struct ide_transfer *transfer = &channel->transfer;
    next_chunk(transfer);
    if (transfer->left > 0)
        read_chunk(channel);
    else if (transfer->flags & (IDE_BY_DMA | IDE_VERIFY))
        ide_command_done(channel);
    else
        ide_command_end(channel);
}

static void chunk_is_read(struct ide_channel *channel)
{
    uint32_t length = channel->transfer.chunk * IDE_SECTOR;
    if (channel->transfer.flags & IDE_VERIFY) {
        chunk_is_moved_in(channel);
        return;
    }
    ide_data_offer(channel, by_dma(channel), length, chunk_is_moved_in);
    if (!by_dma(channel))
        ide_interrupt_set(channel);
}

static void probe_next(struct ide_channel *channel);

static void probe_done(struct ide_channel *channel, const struct ide_request *request, int result)
{
    struct ide_transfer *transfer = &channel->transfer;
    if (result < 0) {
        fail_at(channel, IDE_UNC, transfer->lba + transfer->probed);
        return;
    }
    memcpy(channel->buffer + transfer->probed * IDE_SECTOR, request->bounce, IDE_SECTOR);
    if (++transfer->probed < transfer->chunk)
        probe_next(channel);
    else
        chunk_is_read(channel);
}

static void probe_next(struct ide_channel *channel)
{
    uint64_t lba = channel->transfer.lba + channel->transfer.probed;
    if (ide_io_read(channel, lba * IDE_SECTOR, IDE_SECTOR, probe_done) < 0)
        ide_command_fail(channel, IDE_ABRT);
}

static void read_done(struct ide_channel *channel, const struct ide_request *request, int result)
{
    struct ide_transfer *transfer = &channel->transfer;
    if (result == 0) {
        memcpy(channel->buffer, request->bounce, request->length);
        chunk_is_read(channel);
    } else if (transfer->chunk == 1) {
        fail_at(channel, IDE_UNC, transfer->lba);
    } else {
        transfer->probed = 0;
        probe_next(channel);
    }
}

static void read_chunk(struct ide_channel *channel)
{
    struct ide_transfer *transfer = &channel->transfer;
    transfer->chunk = (uint32_t)smaller(transfer->left, chunk_max(channel));
    if (ide_io_read(channel, transfer->lba * IDE_SECTOR, transfer->chunk * IDE_SECTOR, read_done) <
        0)
        ide_command_fail(channel, IDE_ABRT);
}

/* --- writes ------------------------------------------------------------------------------------
 */

static void write_done(struct ide_channel *channel, const struct ide_request *request, int result)
{
    struct ide_transfer *transfer = &channel->transfer;
    (void)request;
    if (result < 0) {
        fail_at(channel, IDE_ABRT, transfer->lba);
        return;
    }
    next_chunk(transfer);
    if (transfer->left == 0) {
        ide_command_done(channel);
        return;
    }
    ask_for_chunk(channel);
    if (!by_dma(channel))
        ide_interrupt_set(channel);
}

static void chunk_is_moved_out(struct ide_channel *channel)
{
    struct ide_transfer *transfer = &channel->transfer;
    unsigned flags = transfer->flags & IDE_FUA ? BLOCK_FUA : ide_durable_flags(channel);
    if (ide_io_write(channel, transfer->lba * IDE_SECTOR, channel->buffer,
                     transfer->chunk * IDE_SECTOR, flags, write_done) < 0)
        ide_command_fail(channel, IDE_ABRT);
}

static void ask_for_chunk(struct ide_channel *channel)
{
    struct ide_transfer *transfer = &channel->transfer;
    transfer->chunk = (uint32_t)smaller(transfer->left, chunk_max(channel));
    ide_data_ask(channel, by_dma(channel), transfer->chunk * IDE_SECTOR, chunk_is_moved_out);
}

/* --- the beginning -----------------------------------------------------------------------------
 */

void ide_transfer_start(struct ide_channel *channel, unsigned flags)
{
    struct ide_range range;
    uint64_t size = ide_channel_sectors(channel);
    channel->transfer = (struct ide_transfer){.flags = flags};
    if ((flags & IDE_MULTIPLE) && channel->settings.multiple == 0) {
        ide_command_fail(channel, IDE_ABRT);
        return;
    }
    if (!ide_address_decode(&channel->registers, &channel->settings.geometry, flags & IDE_EXT,
                            &range)) {
        ide_command_fail(channel, IDE_IDNF); /* and the registers say what was not found */
        return;
    }
    if (!range_is_inside(range.lba, range.count, size)) {
        fail_at(channel, IDE_IDNF, range.lba < size ? size : range.lba);
        return;
    }
    channel->transfer.lba = range.lba;
    channel->transfer.left = range.count;
    if (flags & IDE_WRITE)
        ask_for_chunk(channel); /* the first time without an interrupt */
    else
        read_chunk(channel);
}
