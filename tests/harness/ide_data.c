/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data phase: the buffer goes to or comes from the guest, through the data port or by the bus
 * master. What comes next is the command's, in moved().
 */
#include "tests/harness/ide_parts.h"

#include <assert.h>
#include <string.h>

#include "common/align.h"
#include "common/endian.h"

static void begin(struct ide_channel *channel, enum ide_phase phase, uint32_t length,
                  void (*moved)(struct ide_channel *channel))
{
    assert(length > 0 && length <= IDE_BUFFER_BYTES);
    channel->phase = phase;
    channel->data_at = 0;
    channel->data_end = length;
    channel->moved = moved;
    if (phase == IDE_DMA_IN || phase == IDE_DMA_OUT)
        ide_bus_master_run(channel);
}

void ide_data_offer(struct ide_channel *channel, bool by_dma, uint32_t length,
                    void (*moved)(struct ide_channel *channel))
{
    begin(channel, by_dma ? IDE_DMA_IN : IDE_PIO_IN, length, moved);
}

void ide_data_ask(struct ide_channel *channel, bool by_dma, uint32_t length,
                  void (*moved)(struct ide_channel *channel))
{
    begin(channel, by_dma ? IDE_DMA_OUT : IDE_PIO_OUT, length, moved);
}

void ide_data_check_end(struct ide_channel *channel)
{
    if (channel->data_at < channel->data_end)
        return;
    channel->phase = IDE_WORKING;
    channel->moved(channel);
}

void ide_data_rewind(struct ide_channel *channel, void (*moved)(struct ide_channel *channel))
{
    channel->data_at = channel->data_end = 0;
    channel->moved = moved;
}

void ide_data_offer_more(struct ide_channel *channel, uint32_t length)
{
    assert(length > 0 && length <= IDE_BUFFER_BYTES - channel->data_end);
    channel->phase = IDE_PIO_IN;
    channel->data_end += length;
}

/* The port is two or four bytes wide, the data may end between: the rest of the last access is 0,
 * or lost. */
static uint32_t share(const struct ide_channel *channel, unsigned bytes)
{
    assert(bytes == 2 || bytes == 4);
    return (uint32_t)smaller(bytes, channel->data_end - channel->data_at);
}

uint32_t ide_data_read(struct ide_channel *channel, unsigned bytes)
{
    uint8_t value[4] = {0};
    if (channel->phase != IDE_PIO_IN || (channel->registers.device & IDE_DEVICE_1))
        return 0;
    uint32_t count = share(channel, bytes);
    memcpy(value, channel->buffer + channel->data_at, count);
    channel->data_at += count;
    ide_data_check_end(channel);
    return load_le32(value);
}

void ide_data_write(struct ide_channel *channel, uint32_t value, unsigned bytes)
{
    uint8_t from[4];
    if (channel->phase != IDE_PIO_OUT || (channel->registers.device & IDE_DEVICE_1))
        return;
    uint32_t count = share(channel, bytes);
    store_le32(from, value);
    memcpy(channel->buffer + channel->data_at, from, count);
    channel->data_at += count;
    ide_data_check_end(channel);
}
