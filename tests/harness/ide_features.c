/* SPDX-License-Identifier: BSD-3-Clause */
/* What a guest sets and asks of the device: SET FEATURES and its kin, IDENTIFY, FLUSH CACHE. */
#include "tests/harness/ide_parts.h"

#include "common/align.h"
#include "tests/harness/ide_identify.h"

#define DMA_MODES 3
#define ULTRA_DMA_MODES 6
#define PIO_MODES 5
#define SET_TRANSFER_MODE 0x03

/* --- settings ----------------------------------------------------------------------------------
 */

static void settings_revert(struct ide_channel *channel)
{
    struct ide_settings *settings = &channel->settings;
    settings->write_cache = true;
    settings->look_ahead = true;
    settings->multiple = 0;
    settings->geometry = ide_geometry_default(ide_channel_sectors(channel));
}

void ide_settings_init(struct ide_channel *channel)
{
    channel->settings = (struct ide_settings){.multiple = 0};
    settings_revert(channel);
}

/* The transfer mode stays in any case. */
void ide_settings_soft_reset(struct ide_channel *channel)
{
    if (!channel->settings.outlive_reset)
        settings_revert(channel);
}

unsigned ide_durable_flags(const struct ide_channel *channel)
{
    return channel->settings.write_cache ? 0 : BLOCK_FUA;
}

/* --- flush -------------------------------------------------------------------------------------
 */

static void flush_done(struct ide_channel *channel, const struct ide_request *request, int result)
{
    (void)request;
    if (result < 0)
        ide_command_fail(channel, IDE_ABRT);
    else
        ide_command_done(channel);
}

void ide_flush_start(struct ide_channel *channel, unsigned flags)
{
    (void)flags;
    if (ide_io_flush(channel, flush_done) < 0)
        ide_command_fail(channel, IDE_ABRT);
}

/* --- SET FEATURES ------------------------------------------------------------------------------
 */

static void cache_is_written(struct ide_channel *channel, const struct ide_request *request,
                             int result)
{
    if (result == 0)
        channel->settings.write_cache = false;
    flush_done(channel, request, result);
}

static bool set_transfer_mode(struct ide_settings *settings, uint8_t mode)
{
    unsigned number = mode & 7;
    switch (mode >> 3) {
    case 0: /* PIO by default; 1: without IORDY */
        return number <= 1;
    case 1: /* PIO with flow control */
        return number < PIO_MODES;
    case 4:
        if (number >= DMA_MODES)
            return false;
        settings->dma_modes = (uint8_t)(1 << number);
        settings->ultra_dma_modes = 0;
        return true;
    case 8:
        if (number >= ULTRA_DMA_MODES)
            return false;
        settings->ultra_dma_modes = (uint8_t)(1 << number);
        settings->dma_modes = 0;
        return true;
    default:
        return false;
    }
}

/* False: there is no such feature. */
static bool set_feature(struct ide_channel *channel)
{
    struct ide_settings *settings = &channel->settings;
    switch (channel->registers.features[0]) {
    case 0x02:
        settings->write_cache = true;
        return true;
    case SET_TRANSFER_MODE:
        return set_transfer_mode(settings, channel->registers.count[0]);
    case 0x55:
        settings->look_ahead = false;
        return true;
    case 0xaa:
        settings->look_ahead = true;
        return true;
    case 0x66:
        settings->outlive_reset = true;
        return true;
    case 0xcc:
        settings->outlive_reset = false;
        return true;
    default:
        return false;
    }
}

void ide_set_features(struct ide_channel *channel, unsigned flags)
{
    (void)flags;
    if (channel->config.is_cd && channel->registers.features[0] != SET_TRANSFER_MODE) {
        ide_command_fail(channel, IDE_ABRT);
    } else if (channel->registers.features[0] ==
               0x82) { /* the write cache off: what is in it goes down */
        if (ide_io_flush(channel, cache_is_written) < 0)
            ide_command_fail(channel, IDE_ABRT);
    } else if (set_feature(channel)) {
        ide_command_done(channel);
    } else {
        ide_command_fail(channel, IDE_ABRT);
    }
}

/* --- the others --------------------------------------------------------------------------------
 */

void ide_set_multiple(struct ide_channel *channel, unsigned flags)
{
    uint8_t count = channel->registers.count[0];
    (void)flags;
    if (count > IDE_MULTIPLE_MAX || (count > 0 && !is_power_of_two(count))) {
        ide_command_fail(channel, IDE_ABRT);
        return;
    }
    channel->settings.multiple = count;
    ide_command_done(channel);
}

void ide_set_geometry(struct ide_channel *channel, unsigned flags)
{
    uint8_t sectors = channel->registers.count[0];
    (void)flags;
    if (sectors == 0) {
        ide_command_fail(channel, IDE_ABRT);
        return;
    }
    channel->settings.geometry = ide_geometry_translate(
        ide_channel_sectors(channel), (channel->registers.device & 0xfu) + 1, sectors);
    ide_command_done(channel);
}

void ide_identify_start(struct ide_channel *channel, unsigned flags)
{
    struct ide_identity identity = {
        .serial = "PLATTER0001",
        .firmware = "1.0",
        .model = channel->config.is_cd ? "PLATTER TEST CD" : "PLATTER TEST DISK",
        .sector_count = ide_channel_sectors(channel),
        .settings = &channel->settings,
    };
    (void)flags;
    if (channel->config.is_cd)
        ide_identify_cd(&identity, channel->buffer);
    else
        ide_identify_disk(&identity, channel->buffer);
    ide_data_offer(channel, false, IDE_SECTOR, ide_command_end);
    ide_interrupt_set(channel);
}
