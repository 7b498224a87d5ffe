/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_IDE_PARTS_H
#define TESTS_HARNESS_IDE_PARTS_H

/* What the files of the IDE model call of each other. A guest sees ide_channel.h. */

#include "block/aio.h"
#include "tests/harness/ide_channel.h"

/* --- ide_registers.c ---------------------------------------------------------------------------
 */

/* INTRQ. */
void ide_interrupt_set(struct ide_channel *channel);
void ide_interrupt_clear(struct ide_channel *channel);
/* What a device says of itself after a reset, and where it is taken for another kind. */
void ide_signature(struct ide_channel *channel);

/* --- ide_reset.c -------------------------------------------------------------------------------
 */

/* Ends what is under way and leaves it behind; BSY until ide_reset_try_end() finds that it can end.
 */
void ide_reset_begin(struct ide_channel *channel);
void ide_reset_try_end(struct ide_channel *channel);
/* The command of a CD drive that it takes at any time; a disk has none. */
#define IDE_DEVICE_RESET 0x08
void ide_device_reset(struct ide_channel *channel);

/* --- ide_command.c -----------------------------------------------------------------------------
 */

enum ide_command_flag {
    IDE_EXT = 1 << 0,
    IDE_WRITE = 1 << 1,
    IDE_BY_DMA = 1 << 2,
    IDE_MULTIPLE = 1 << 3, /* several sectors an interrupt */
    IDE_VERIFY = 1 << 4,   /* no data for the guest */
    IDE_FUA = 1 << 5,
};

/* The Command register was written; the device is not busy. */
void ide_command_start(struct ide_channel *channel, uint8_t code);
/* The end, with an interrupt. */
void ide_command_done(struct ide_channel *channel);
void ide_command_fail(struct ide_channel *channel, uint8_t error);
/* The device is idle again; what Status and the interrupt say is the caller's. All there is to the
 * end of a PIO data-in command: the guest knows, since it has read all of it. */
void ide_command_end(struct ide_channel *channel);

/* --- ide_data.c, ide_dma.c ---------------------------------------------------------------------
 */

/* The first `length` bytes of the buffer are for the guest, or from it; moved() comes when all of
 * them are moved, maybe in this call (by DMA). 1 to IDE_BUFFER_BYTES. */
void ide_data_offer(struct ide_channel *channel, bool by_dma, uint32_t length,
                    void (*moved)(struct ide_channel *channel));
void ide_data_ask(struct ide_channel *channel, bool by_dma, uint32_t length,
                  void (*moved)(struct ide_channel *channel));
/* More of the buffer, by PIO, from where the last piece ended: first rewind, then pieces. moved()
 * comes after each. */
void ide_data_rewind(struct ide_channel *channel, void (*moved)(struct ide_channel *channel));
void ide_data_offer_more(struct ide_channel *channel, uint32_t length);
/* After data_at was moved on. */
void ide_data_check_end(struct ide_channel *channel);
/* Moves what can be moved now. */
void ide_bus_master_run(struct ide_channel *channel);
void ide_bus_master_reset(struct ide_channel *channel);

/* --- ide_io.c ----------------------------------------------------------------------------------
 */

/* One request to the backend, with memory of its own, so that it can outlive the command. */
struct ide_request {
    struct block_aio aio;
    struct ide_channel *channel;
    bool changes; /* the disk */
    /* On the loop; the request is gone afterwards. Not called for what a reset left behind. */
    void (*done)(struct ide_channel *channel, const struct ide_request *request, int result);
    struct list_link link;
    struct iovec iov;
    uint32_t length;
    uint8_t bounce[];
};

typedef void ide_request_done(struct ide_channel *channel, const struct ide_request *request,
                              int result);

/* 0 or -ENOMEM. `bytes` are copied. */
int ide_io_read(struct ide_channel *channel, uint64_t offset, uint32_t length,
                ide_request_done *done);
int ide_io_write(struct ide_channel *channel, uint64_t offset, const void *bytes, uint32_t length,
                 unsigned flags, ide_request_done *done);
int ide_io_discard(struct ide_channel *channel, uint64_t offset, uint64_t length, unsigned flags,
                   ide_request_done *done);
int ide_io_flush(struct ide_channel *channel, ide_request_done *done);
/* The command is over: what is in flight is asked to end, and its end changes nothing. */
void ide_io_leave_behind(struct ide_channel *channel);
/* Nothing left behind can change the disk any more, and it is not too much. */
bool ide_io_is_settled(const struct ide_channel *channel);

/* --- commands ----------------------------------------------------------------------------------
 */

typedef void ide_command_run(struct ide_channel *channel, unsigned flags);
ide_command_run ide_transfer_start; /* ide_transfer.c */
ide_command_run ide_trim_start;     /* ide_trim.c */
ide_command_run ide_identify_start; /* ide_features.c, as all below */
ide_command_run ide_set_features, ide_set_multiple, ide_set_geometry, ide_flush_start;

/* --- the CD drive ------------------------------------------------------------------------------
 */

/* atapi_packet.c */
ide_command_run atapi_packet_start;
void atapi_done(struct ide_channel *channel);
void atapi_fail(struct ide_channel *channel, struct atapi_sense sense);
/* So much of the buffer goes to the host, then what is left of a read, then the command is done. */
void atapi_offer(struct ide_channel *channel, uint32_t length);
/* Blocks that the medium has; count may be 0. */
void atapi_read(struct ide_channel *channel, uint32_t lba, uint32_t count);
/* The power is on: a unit attention. */
void atapi_reset(struct ide_channel *channel);
/* atapi_commands.c */
void atapi_execute(struct ide_channel *channel, const uint8_t *packet);

/* --- ide_features.c ---------------------------------------------------------------------------
 */

/* SET FEATURES as after power on, and after a soft reset. */
void ide_settings_init(struct ide_channel *channel);
void ide_settings_soft_reset(struct ide_channel *channel);
/* With the write cache off every change is durable before it is told done. */
unsigned ide_durable_flags(const struct ide_channel *channel);

#endif
