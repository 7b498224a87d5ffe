/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DATA SET MANAGEMENT with TRIM (ACS-2, 7.10): 64 ranges a block, each 48 bits of LBA and 16 bits
 * of length; one of length 0 is skipped. All are looked at before the first one is discarded. They
 * go down some at a time, plugged, so that they reach the image together.
 */
#include "tests/harness/ide_parts.h"

#include <string.h>

#include "common/checked.h"
#include "common/endian.h"

#define FEATURE_TRIM 0x01
#define RANGE_BYTES 8
#define IN_FLIGHT_MAX 32

static struct ide_range range_at(const struct ide_channel *channel, uint32_t index)
{
    uint64_t word = load_le64(channel->buffer + index * RANGE_BYTES);
    return (struct ide_range){.lba = word & 0xffffffffffff, .count = (uint32_t)(word >> 48)};
}

static bool all_are_inside(const struct ide_channel *channel)
{
    for (uint32_t i = 0; i < channel->trim.ranges; i++) {
        struct ide_range range = range_at(channel, i);
        if (range.count > 0 &&
            !range_is_inside(range.lba, range.count, ide_channel_sectors(channel)))
            return false;
    }
    return true;
}

static void go_on(struct ide_channel *channel);

static void note_failure(struct ide_trim *trim, int result)
{
    if (result < 0 && trim->result == 0)
        trim->result = result;
}

static void discard_done(struct ide_channel *channel, const struct ide_request *request, int result)
{
    (void)request;
    note_failure(&channel->trim, result);
    if (--channel->trim.in_flight == 0)
        go_on(channel);
}

static void discard(struct ide_channel *channel, struct ide_range range)
{
    int rc = ide_io_discard(channel, range.lba * IDE_SECTOR, (uint64_t)range.count * IDE_SECTOR,
                            ide_durable_flags(channel), discard_done);
    note_failure(&channel->trim, rc);
    channel->trim.in_flight += rc == 0;
}

/* The next batch, or the end. */
static void go_on(struct ide_channel *channel)
{
    struct ide_trim *trim = &channel->trim;
    block_plug(channel->config.backend);
    while (trim->result == 0 && trim->at < trim->ranges && trim->in_flight < IN_FLIGHT_MAX) {
        struct ide_range range = range_at(channel, trim->at++);
        if (range.count > 0)
            discard(channel, range);
    }
    block_unplug(channel->config.backend);
    if (trim->in_flight > 0)
        return;
    if (trim->result < 0)
        ide_command_fail(channel, IDE_ABRT);
    else
        ide_command_done(channel);
}

static void list_is_moved(struct ide_channel *channel)
{
    if (all_are_inside(channel))
        go_on(channel);
    else
        ide_command_fail(channel, IDE_IDNF);
}

void ide_trim_start(struct ide_channel *channel, unsigned flags)
{
    const struct ide_registers *registers = &channel->registers;
    uint32_t blocks = registers->count[0] | (uint32_t)registers->count[1] << 8;
    if (!(registers->features[0] & FEATURE_TRIM) || blocks == 0 || blocks > IDE_TRIM_BLOCKS_MAX) {
        ide_command_fail(channel, IDE_ABRT);
        return;
    }
    channel->trim = (struct ide_trim){.ranges = blocks * (IDE_SECTOR / RANGE_BYTES)};
    ide_data_ask(channel, flags & IDE_BY_DMA, blocks * IDE_SECTOR, list_is_moved);
}
