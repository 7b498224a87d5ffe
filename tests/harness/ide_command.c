/* SPDX-License-Identifier: BSD-3-Clause */
/* Command dispatch: one table by code, and how a command ends. */
#include "tests/harness/ide_parts.h"

#include <assert.h>

#define DIAGNOSTIC 0x90
#define POWER_ACTIVE 0xff /* CHECK POWER MODE: active or idle */

/* --- the end -----------------------------------------------------------------------------------
 */

void ide_command_end(struct ide_channel *channel)
{
    assert(list_is_empty(&channel->requests));
    channel->phase = IDE_IDLE;
    channel->moved = NULL;
}

void ide_command_done(struct ide_channel *channel)
{
    ide_command_end(channel);
    ide_interrupt_set(channel);
}

void ide_command_fail(struct ide_channel *channel, uint8_t error)
{
    ide_command_end(channel);
    channel->registers.error = error;
    channel->registers.status |= IDE_ERR;
    ide_interrupt_set(channel);
}

/* --- commands of a line ------------------------------------------------------------------------
 */

static void run_nothing(struct ide_channel *channel, unsigned flags)
{
    (void)flags;
    ide_command_done(channel);
}

static void check_power(struct ide_channel *channel, unsigned flags)
{
    (void)flags;
    channel->registers.count[0] = POWER_ACTIVE;
    ide_command_done(channel);
}

/* Both devices are asked, and device 0 answers. */
static void diagnose(struct ide_channel *channel, unsigned flags)
{
    (void)flags;
    ide_signature(channel);
    channel->registers.error = 0x01; /* device 0 is well, and device 1 is not there */
    ide_command_done(channel);
}

/* --- dispatch ----------------------------------------------------------------------------------
 */

struct command {
    ide_command_run *run;
    unsigned flags;
};

static const struct command disk_commands[256] = {
    [0x06] = {ide_trim_start, IDE_EXT | IDE_BY_DMA}, /* DATA SET MANAGEMENT */
    [0x10] = {run_nothing, 0},                       /* RECALIBRATE, of old drivers */
    [0x20] = {ide_transfer_start, 0},                /* READ SECTORS */
    [0x21] = {ide_transfer_start, 0},
    [0x24] = {ide_transfer_start, IDE_EXT},
    [0x25] = {ide_transfer_start, IDE_BY_DMA | IDE_EXT},
    [0x29] = {ide_transfer_start, IDE_MULTIPLE | IDE_EXT},
    [0x30] = {ide_transfer_start, IDE_WRITE}, /* WRITE SECTORS */
    [0x31] = {ide_transfer_start, IDE_WRITE},
    [0x34] = {ide_transfer_start, IDE_WRITE | IDE_EXT},
    [0x35] = {ide_transfer_start, IDE_WRITE | IDE_BY_DMA | IDE_EXT},
    [0x39] = {ide_transfer_start, IDE_WRITE | IDE_MULTIPLE | IDE_EXT},
    [0x3d] = {ide_transfer_start, IDE_WRITE | IDE_BY_DMA | IDE_EXT | IDE_FUA},
    [0x40] = {ide_transfer_start, IDE_VERIFY}, /* READ VERIFY SECTORS */
    [0x41] = {ide_transfer_start, IDE_VERIFY},
    [0x42] = {ide_transfer_start, IDE_VERIFY | IDE_EXT},
    [DIAGNOSTIC] = {diagnose, 0},
    [0x91] = {ide_set_geometry, 0}, /* INITIALIZE DEVICE PARAMETERS */
    [0xc4] = {ide_transfer_start, IDE_MULTIPLE},
    [0xc5] = {ide_transfer_start, IDE_WRITE | IDE_MULTIPLE},
    [0xc6] = {ide_set_multiple, 0},
    [0xc8] = {ide_transfer_start, IDE_BY_DMA}, /* READ DMA */
    [0xc9] = {ide_transfer_start, IDE_BY_DMA},
    [0xca] = {ide_transfer_start, IDE_WRITE | IDE_BY_DMA}, /* WRITE DMA */
    [0xcb] = {ide_transfer_start, IDE_WRITE | IDE_BY_DMA},
    [0xce] = {ide_transfer_start, IDE_WRITE | IDE_MULTIPLE | IDE_EXT | IDE_FUA},
    [0xe0] = {ide_flush_start, 0}, /* STANDBY IMMEDIATE: the cache is written before */
    [0xe1] = {run_nothing, 0},     /* IDLE IMMEDIATE */
    [0xe2] = {ide_flush_start, 0}, /* STANDBY */
    [0xe3] = {run_nothing, 0},     /* IDLE */
    [0xe5] = {check_power, 0},
    [0xe6] = {ide_flush_start, 0}, /* SLEEP: but a command wakes this device */
    [0xe7] = {ide_flush_start, 0}, /* FLUSH CACHE */
    [0xea] = {ide_flush_start, IDE_EXT},
    [0xec] = {ide_identify_start, 0},
    [0xef] = {ide_set_features, 0},
};

static void run_device_reset(struct ide_channel *channel, unsigned flags)
{
    (void)flags;
    ide_device_reset(channel);
}

/* The host looks for a disk, and learns what it has found (ATA/ATAPI-6, 9.12). */
static void show_signature(struct ide_channel *channel, unsigned flags)
{
    (void)flags;
    ide_signature(channel);
    channel->registers.status = IDE_DRDY | IDE_DSC;
    ide_command_fail(channel, IDE_ABRT);
}

static const struct command cd_commands[256] = {
    [IDE_DEVICE_RESET] = {run_device_reset, 0},
    [0x20] = {show_signature, 0},
    [DIAGNOSTIC] = {diagnose, 0},
    [0xa0] = {atapi_packet_start, 0},
    [0xa1] = {ide_identify_start, 0},
    [0xe0] = {run_nothing, 0}, /* STANDBY IMMEDIATE and its kin: there is nothing to write */
    [0xe1] = {run_nothing, 0},
    [0xe5] = {check_power, 0},
    [0xe6] = {run_nothing, 0},
    [0xec] = {show_signature, 0},
    [0xef] = {ide_set_features, 0},
};

void ide_command_start(struct ide_channel *channel, uint8_t code)
{
    const struct command *command =
        channel->config.is_cd ? &cd_commands[code] : &disk_commands[code];
    if ((channel->registers.device & IDE_DEVICE_1) && code != DIAGNOSTIC)
        return; /* it is for the one that is not there */
    ide_interrupt_clear(channel);
    channel->registers.error = 0;
    channel->registers.status = IDE_DRDY | IDE_DSC;
    channel->phase = IDE_WORKING;
    if (command->run)
        command->run(channel, command->flags);
    else
        ide_command_fail(channel, IDE_ABRT);
}
