/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Not enforced, since nothing here depends on it: that a table and a region stay within 64 KiB. A
 * descriptor moves two bytes at least, so a table without an end, or one that leads back into
 * itself, is read no longer than the device has data.
 */
#include "tests/harness/ide_parts.h"

#include <assert.h>
#include <string.h>

#include "common/align.h"
#include "common/endian.h"

void ide_bus_master_reset(struct ide_channel *channel)
{
    channel->bus_master = (struct ide_bus_master){.command = 0};
}

static void stop_with_error(struct ide_bus_master *master)
{
    master->status |= IDE_BM_ERROR;
    master->status &= (uint8_t)~IDE_BM_ACTIVE;
}

/* The next region; false: there is none, and the transfer has stopped. */
static bool load_region(struct ide_channel *channel)
{
    struct ide_bus_master *master = &channel->bus_master;
    const uint8_t *descriptor =
        guest_memory_range(channel->config.memory, master->next, IDE_PRD_BYTES);
    if (!descriptor) {
        stop_with_error(master);
        return false;
    }
    uint32_t count = load_le16(descriptor + 4) & 0xfffe;
    master->region = load_le32(descriptor) & ~1u;
    master->region_left = count > 0 ? count : 65536;
    master->is_last = load_le16(descriptor + 6) & IDE_PRD_LAST;
    master->next += IDE_PRD_BYTES;
    return true;
}

/* Moves a piece that lies in one region. */
static void move_piece(struct ide_channel *channel)
{
    struct ide_bus_master *master = &channel->bus_master;
    uint8_t *device = channel->buffer + channel->data_at;
    uint32_t length = (uint32_t)smaller(master->region_left, channel->data_end - channel->data_at);
    uint8_t *host = guest_memory_range(channel->config.memory, master->region, length);
    if (!host) {
        stop_with_error(master);
        return;
    }
    if (channel->phase == IDE_DMA_IN)
        memcpy(host, device, length);
    else
        memcpy(device, host, length);
    master->region += length;
    master->region_left -= length;
    channel->data_at += length;
    if (master->region_left == 0 && master->is_last)
        master->status &= (uint8_t)~IDE_BM_ACTIVE;
}

/* The device asks for data to go the way that Start was told. */
static bool is_asked(const struct ide_channel *channel)
{
    bool to_memory = channel->bus_master.command & IDE_BM_TO_MEMORY;
    return channel->phase == (to_memory ? IDE_DMA_IN : IDE_DMA_OUT);
}

void ide_bus_master_run(struct ide_channel *channel)
{
    struct ide_bus_master *master = &channel->bus_master;
    while ((master->status & IDE_BM_ACTIVE) && is_asked(channel) &&
           channel->data_at < channel->data_end) {
        if (master->region_left > 0 || load_region(channel))
            move_piece(channel);
    }
    if (is_asked(channel))
        ide_data_check_end(channel); /* which may begin the next piece, and run this again */
}

/* --- the registers -----------------------------------------------------------------------------
 */

/* The direction is what it was at Start: another one is heard when it is stopped. */
static void write_command(struct ide_channel *channel, uint8_t value)
{
    struct ide_bus_master *master = &channel->bus_master;
    bool was_started = master->command & IDE_BM_START;
    if (!(value & IDE_BM_START)) {
        master->command = value & IDE_BM_TO_MEMORY;
        master->status &= (uint8_t)~IDE_BM_ACTIVE;
    } else if (!was_started) {
        master->command = value & (IDE_BM_START | IDE_BM_TO_MEMORY);
        master->status |= IDE_BM_ACTIVE;
        master->next = master->table;
        master->region_left = 0;
        master->is_last = false;
        ide_bus_master_run(channel);
    }
}

static void write_status(struct ide_bus_master *master, uint8_t value)
{
    master->status &= (uint8_t) ~(value & (IDE_BM_ERROR | IDE_BM_INTERRUPT));
    master->status = (uint8_t)((master->status & ~IDE_BM_CAPABLE) | (value & IDE_BM_CAPABLE));
}

static uint8_t read_byte(const struct ide_bus_master *master, unsigned offset)
{
    switch (offset) {
    case IDE_BM_COMMAND:
        return master->command;
    case IDE_BM_STATUS:
        return master->status;
    case 1:
    case 3:
        return 0;
    default:
        return (uint8_t)(master->table >> 8 * (offset - IDE_BM_TABLE));
    }
}

static void write_byte(struct ide_channel *channel, unsigned offset, uint8_t value)
{
    struct ide_bus_master *master = &channel->bus_master;
    unsigned shift = offset < IDE_BM_TABLE ? 0 : 8 * (offset - IDE_BM_TABLE);
    if (offset == IDE_BM_COMMAND)
        write_command(channel, value);
    else if (offset == IDE_BM_STATUS)
        write_status(master, value);
    else if (offset >= IDE_BM_TABLE) /* which is aligned to four bytes */
        master->table = ((master->table & ~(0xffu << shift)) | (uint32_t)value << shift) & ~3u;
}

uint32_t ide_bus_master_read(struct ide_channel *channel, unsigned offset, unsigned bytes)
{
    uint32_t value = 0;
    assert(bytes <= 4 && offset + bytes <= 8);
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint32_t)read_byte(&channel->bus_master, offset + i) << 8 * i;
    return value;
}

void ide_bus_master_write(struct ide_channel *channel, unsigned offset, uint32_t value,
                          unsigned bytes)
{
    assert(bytes <= 4 && offset + bytes <= 8);
    for (unsigned i = 0; i < bytes; i++)
        write_byte(channel, offset + i, (uint8_t)(value >> 8 * i));
}
