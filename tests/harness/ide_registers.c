/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ports of the command and the control block, and the interrupt line. A register that is
 * written while the device is busy or waits for data keeps its value: what the standard leaves open
 * then is here that nothing happens.
 */
#include "tests/harness/ide_parts.h"

#include <assert.h>

#define DEVICE_OBSOLETE 0xa0 /* two bits that have always been read as ones */

/* --- the interrupt -----------------------------------------------------------------------------
 */

static bool is_selected(const struct ide_channel *channel)
{
    return !(channel->registers.device & IDE_DEVICE_1);
}

static void update_line(struct ide_channel *channel)
{
    bool is_raised =
        channel->is_pending && is_selected(channel) && !(channel->registers.control & IDE_NIEN);
    if (is_raised == channel->is_raised)
        return;
    channel->is_raised = is_raised;
    if (is_raised)
        channel->bus_master.status |= IDE_BM_INTERRUPT;
    channel->config.interrupt(channel->config.interrupt_arg, is_raised);
}

void ide_interrupt_set(struct ide_channel *channel)
{
    channel->is_pending = true;
    update_line(channel);
}

void ide_interrupt_clear(struct ide_channel *channel)
{
    channel->is_pending = false;
    update_line(channel);
}

/* --- reading -----------------------------------------------------------------------------------
 */

static uint8_t status(const struct ide_channel *channel)
{
    switch (channel->phase) {
    case IDE_IDLE:
        return channel->registers.status;
    case IDE_PIO_IN:
    case IDE_PIO_OUT:
        return channel->registers.status | IDE_DRQ;
    case IDE_WORKING:
    case IDE_DMA_IN:
    case IDE_DMA_OUT:
    case IDE_RESETTING:
        break;
    }
    return IDE_BSY;
}

/* Device 0 answers for the one that is not there: with no status, and else with its own registers
 * (ATA/ATAPI-6, 9.16.1). */
static uint8_t visible_status(const struct ide_channel *channel)
{
    return is_selected(channel) ? status(channel) : 0;
}

uint8_t ide_port_read(struct ide_channel *channel, enum ide_port port)
{
    const struct ide_registers *registers = &channel->registers;
    unsigned age = registers->control & IDE_HOB ? 1 : 0;
    uint8_t value;
    switch (port) {
    case IDE_ERROR:
        return registers->error;
    case IDE_COUNT:
        return registers->count[age];
    case IDE_LBA_LOW:
        return registers->lba_low[age];
    case IDE_LBA_MID:
        return registers->lba_mid[age];
    case IDE_LBA_HIGH:
        return registers->lba_high[age];
    case IDE_DEVICE:
        return registers->device | DEVICE_OBSOLETE;
    case IDE_STATUS:
        value = visible_status(channel);
        if (is_selected(channel))
            ide_interrupt_clear(channel);
        return value;
    case IDE_ALTERNATE_STATUS:
        return visible_status(channel);
    case IDE_DATA:
        break;
    }
    assert(!"the data port has a call of its own");
    return 0;
}

/* --- writing -----------------------------------------------------------------------------------
 */

static void push(uint8_t pair[2], uint8_t value)
{
    pair[1] = pair[0];
    pair[0] = value;
}

static void write_control(struct ide_channel *channel, uint8_t value)
{
    uint8_t before = channel->registers.control;
    channel->registers.control = value;
    update_line(channel);
    if (!(before & IDE_SRST) && (value & IDE_SRST)) {
        ide_settings_soft_reset(channel);
        ide_reset_begin(channel);
    } else if ((before & IDE_SRST) && !(value & IDE_SRST)) {
        ide_reset_try_end(channel);
    }
}

static void write_idle(struct ide_channel *channel, enum ide_port port, uint8_t value)
{
    struct ide_registers *registers = &channel->registers;
    switch (port) {
    case IDE_FEATURES:
        push(registers->features, value);
        break;
    case IDE_COUNT:
        push(registers->count, value);
        break;
    case IDE_LBA_LOW:
        push(registers->lba_low, value);
        break;
    case IDE_LBA_MID:
        push(registers->lba_mid, value);
        break;
    case IDE_LBA_HIGH:
        push(registers->lba_high, value);
        break;
    case IDE_DEVICE:
        registers->device = value;
        update_line(channel);
        break;
    case IDE_COMMAND:
        ide_command_start(channel, value);
        break;
    default:
        assert(!"the data port has a call of its own");
    }
}

void ide_port_write(struct ide_channel *channel, enum ide_port port, uint8_t value)
{
    if (port == IDE_CONTROL) {
        write_control(channel, value);
        return;
    }
    channel->registers.control &= (uint8_t)~IDE_HOB;
    if (channel->phase == IDE_IDLE)
        write_idle(channel, port, value);
    else if (port == IDE_COMMAND && value == IDE_DEVICE_RESET)
        ide_device_reset(channel);
}

void ide_signature(struct ide_channel *channel)
{
    struct ide_registers *registers = &channel->registers;
    bool is_cd = channel->config.is_cd;
    registers->count[0] = 1;
    registers->lba_low[0] = 1;
    registers->lba_mid[0] = is_cd ? 0x14 : 0;
    registers->lba_high[0] = is_cd ? 0xeb : 0;
    registers->device = 0;
    registers->status = is_cd ? 0 : IDE_DRDY | IDE_DSC; /* not ready before its first command */
}
