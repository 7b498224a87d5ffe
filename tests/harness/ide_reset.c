/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Begin, end and reset of the device.
 *
 * A reset does not wait for reads: their memory is their own, and what they bring is thrown away.
 * It does wait for changes of the disk, with BSY set as the standard allows for 31 seconds: one
 * that went down before the reset must not come after a write that the guest makes when it is over.
 */
#include "tests/harness/ide_parts.h"

#include <assert.h>
#include <string.h>

#include "block/coroutine.h"

#define DIAGNOSTIC_PASSED 0x01

void ide_reset_begin(struct ide_channel *channel)
{
    ide_io_leave_behind(channel);
    channel->phase = IDE_RESETTING;
    channel->data_at = channel->data_end = 0;
    channel->moved = NULL;
    ide_interrupt_clear(channel);
}

void ide_reset_try_end(struct ide_channel *channel)
{
    if (channel->phase != IDE_RESETTING || (channel->registers.control & IDE_SRST) ||
        !ide_io_is_settled(channel))
        return;
    channel->phase = IDE_IDLE;
    channel->registers.error = DIAGNOSTIC_PASSED;
    ide_signature(channel);
}

void ide_device_reset(struct ide_channel *channel)
{
    if (!channel->config.is_cd || channel->phase == IDE_RESETTING)
        return;
    ide_reset_begin(channel);
    ide_reset_try_end(channel);
}

void ide_channel_hard_reset(struct ide_channel *channel)
{
    memset(&channel->registers, 0, sizeof(channel->registers));
    ide_reset_begin(channel);
    ide_settings_init(channel);
    ide_bus_master_reset(channel);
    atapi_reset(channel);
    ide_reset_try_end(channel);
}

void ide_channel_init(struct ide_channel *channel, const struct ide_config *config)
{
    assert(config->interrupt && config->memory && (config->backend || config->is_cd));
    memset(channel, 0, sizeof(*channel));
    channel->config = *config;
    list_init(&channel->requests);
    list_init(&channel->left_behind);
    ide_channel_hard_reset(channel);
}

/* A drain would not do: what came during the one before is not waited for. */
void ide_channel_co_fini(struct ide_channel *channel)
{
    ide_io_leave_behind(channel);
    while (!list_is_empty(&channel->left_behind))
        coroutine_co_pause();
}

uint64_t ide_channel_sectors(const struct ide_channel *channel)
{
    struct block_backend *backend = channel->config.backend;
    return backend ? block_backend_size_bytes(backend) / IDE_SECTOR : 0;
}
