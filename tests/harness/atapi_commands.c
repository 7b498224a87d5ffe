/* SPDX-License-Identifier: BSD-3-Clause */
/* What the packets ask for: one table by operation code. */
#include "tests/harness/ide_parts.h"

#include <string.h>

#include "common/align.h"
#include "common/checked.h"
#include "common/endian.h"

#define INQUIRY_BYTES 36

static const struct atapi_sense no_sense = {.key = ATAPI_NO_SENSE};
static const struct atapi_sense invalid_code = {.key = ATAPI_ILLEGAL_REQUEST, .asc = 0x20};
static const struct atapi_sense invalid_field = {.key = ATAPI_ILLEGAL_REQUEST, .asc = 0x24};
static const struct atapi_sense out_of_range = {.key = ATAPI_ILLEGAL_REQUEST, .asc = 0x21};
static const struct atapi_sense removal_prevented = {
    .key = ATAPI_ILLEGAL_REQUEST, .asc = 0x53, .ascq = 0x02};
static const struct atapi_sense no_medium = {.key = ATAPI_NOT_READY, .asc = 0x3a};

static bool has_medium(const struct ide_channel *channel)
{
    return channel->config.backend && !channel->drive.is_open;
}

static uint64_t block_count(const struct ide_channel *channel)
{
    return block_backend_size_bytes(channel->config.backend) / ATAPI_BLOCK;
}

/* `length` bytes, or as many as the host has room for. */
static void answer(struct ide_channel *channel, const uint8_t *bytes, uint32_t length,
                   uint32_t room)
{
    memcpy(channel->buffer, bytes, length);
    atapi_offer(channel, (uint32_t)smaller(length, room));
}

static void test_unit_ready(struct ide_channel *channel, const uint8_t *packet)
{
    (void)packet;
    atapi_done(channel);
}

/* Of the command before, or else what waits for the next one. */
static void request_sense(struct ide_channel *channel, const uint8_t *packet)
{
    struct atapi_drive *drive = &channel->drive;
    uint8_t bytes[ATAPI_SENSE_BYTES];
    if (drive->sense.key == ATAPI_NO_SENSE) {
        drive->sense = drive->attention;
        drive->attention = no_sense;
    }
    atapi_sense_encode(&drive->sense, bytes);
    drive->sense = no_sense;
    answer(channel, bytes, sizeof(bytes), packet[4]);
}

static void inquiry(struct ide_channel *channel, const uint8_t *packet)
{
    uint8_t bytes[INQUIRY_BYTES] = {
        0x05, 0x80, 0x00, 0x21, INQUIRY_BYTES - 5, /* CD, removable; ATAPI's format */
    };
    if ((packet[1] & 1) || packet[2] != 0) {
        atapi_fail(channel, invalid_field);
        return;
    }
    memcpy(bytes + 8, "PLATTER TEST CD         1.0 ", INQUIRY_BYTES - 8);
    answer(channel, bytes, sizeof(bytes), packet[4]);
}

static void start_stop(struct ide_channel *channel, const uint8_t *packet)
{
    struct atapi_drive *drive = &channel->drive;
    bool start = packet[4] & 1, moves_tray = packet[4] & 2;
    if (moves_tray && !start && drive->is_locked) {
        atapi_fail(channel, removal_prevented);
        return;
    }
    if (moves_tray && start && drive->is_open)
        drive->attention = (struct atapi_sense){.key = ATAPI_UNIT_ATTENTION, .asc = 0x28};
    if (moves_tray)
        drive->is_open = !start;
    atapi_done(channel);
}

static void prevent_removal(struct ide_channel *channel, const uint8_t *packet)
{
    channel->drive.is_locked = packet[4] & 1;
    atapi_done(channel);
}

static void read_capacity(struct ide_channel *channel, const uint8_t *packet)
{
    uint8_t bytes[8];
    uint64_t blocks = block_count(channel);
    (void)packet;
    if (blocks == 0) {
        atapi_fail(channel, no_medium);
        return;
    }
    store_be32(bytes, (uint32_t)smaller(blocks - 1, UINT32_MAX));
    store_be32(bytes + 4, ATAPI_BLOCK);
    answer(channel, bytes, sizeof(bytes), sizeof(bytes));
}

static void read_blocks(struct ide_channel *channel, uint32_t lba, uint32_t count)
{
    if (range_is_inside(lba, count, block_count(channel)))
        atapi_read(channel, lba, count);
    else
        atapi_fail(channel, out_of_range);
}

static void read_10(struct ide_channel *channel, const uint8_t *packet)
{
    read_blocks(channel, load_be32(packet + 2), load_be16(packet + 7));
}

static void read_12(struct ide_channel *channel, const uint8_t *packet)
{
    read_blocks(channel, load_be32(packet + 2), load_be32(packet + 6));
}

/* --- dispatch ----------------------------------------------------------------------------------
 */

struct command {
    void (*run)(struct ide_channel *channel, const uint8_t *packet);
    bool needs_medium;
    bool ignores_attention;
};

static const struct command commands[256] = {
    [0x00] = {test_unit_ready, .needs_medium = true},
    [0x03] = {request_sense, .ignores_attention = true},
    [0x12] = {inquiry, .ignores_attention = true},
    [0x1b] = {start_stop, .needs_medium = false},
    [0x1e] = {prevent_removal, .needs_medium = false},
    [0x25] = {read_capacity, .needs_medium = true},
    [0x28] = {read_10, .needs_medium = true},
    [0xa8] = {read_12, .needs_medium = true},
};

void atapi_execute(struct ide_channel *channel, const uint8_t *packet)
{
    struct atapi_drive *drive = &channel->drive;
    const struct command *command = &commands[packet[0]];
    if (command->run != request_sense)
        drive->sense = no_sense;
    if (!command->ignores_attention && drive->attention.key != ATAPI_NO_SENSE) {
        struct atapi_sense attention = drive->attention;
        drive->attention = no_sense;
        atapi_fail(channel, attention);
    } else if (!command->run) {
        atapi_fail(channel, invalid_code);
    } else if (command->needs_medium && !has_medium(channel)) {
        atapi_fail(channel, no_medium);
    } else {
        command->run(channel, packet);
    }
}
