/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_IDE_CHANNEL_H
#define TESTS_HARNESS_IDE_CHANNEL_H

/*
 * An IDE channel with one device, a disk or a CD drive, as a guest's ports see it, on the callback
 * requests of block/aio.h. Written after ATA/ATAPI-6 to -8 and "Programming Interface for Bus
 * Master IDE Controller" (SFF-8038i); their words are used.
 *
 * The ports: eight of the command block, one of the control block, eight of the bus master. They
 * are read and written on the loop, inside a coroutine or outside. Nothing but a call with _co_
 * waits: a command that needs the backend leaves BSY set, and its end is seen in the status and by
 * the interrupt.
 *
 * Device 1 is not there: device 0 answers for it with a status of 0, and its commands are ignored.
 *
 * Whatever a guest writes, memory stays bounded: one buffer a channel, one request's bounce buffer
 * for the command under way, and IDE_LEFT_BEHIND_MAX more.
 *
 * What is not there and is refused with ABRT: overlap and queueing, HPA, security, SMART.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "common/list.h"
#include "tests/harness/atapi.h"
#include "tests/harness/guest_memory.h"
#include "tests/harness/ide_address.h"
#include "tests/harness/ide_dma.h"

#define IDE_SECTOR 512
#define IDE_MULTIPLE_MAX 16 /* sectors in a block of READ and WRITE MULTIPLE */
#define IDE_BUFFER_BYTES (128u << 10)
#define IDE_LEFT_BEHIND_MAX 8 /* reads of before a reset; one more and the reset waits */
#define IDE_TRIM_BLOCKS_MAX 8 /* of 64 ranges, in one DATA SET MANAGEMENT */

enum ide_port {
    IDE_DATA,
    IDE_ERROR, /* written: Features */
    IDE_FEATURES = 1,
    IDE_COUNT, /* of a PACKET command: Interrupt reason */
    IDE_LBA_LOW,
    IDE_LBA_MID, /* of a PACKET command: byte count */
    IDE_LBA_HIGH,
    IDE_DEVICE,
    IDE_STATUS, /* written: Command */
    IDE_COMMAND = 7,
    IDE_ALTERNATE_STATUS, /* of the control block; written: Device control */
    IDE_CONTROL = 8,
};

enum ide_status {
    IDE_ERR = 0x01, /* of a PACKET command: CHK */
    IDE_DRQ = 0x08,
    IDE_DSC = 0x10,
    IDE_DRDY = 0x40,
    IDE_BSY = 0x80,
};

enum ide_error {
    IDE_ABRT = 0x04,
    IDE_IDNF = 0x10,
    IDE_UNC = 0x40,
};

enum ide_control {
    IDE_NIEN = 0x02,
    IDE_SRST = 0x04,
    IDE_HOB = 0x80,
};

/* What the device does; Status shows it. */
enum ide_phase {
    IDE_IDLE,      /* waits for a command */
    IDE_WORKING,   /* BSY: waits for the backend */
    IDE_PIO_IN,    /* DRQ: the guest reads the buffer by the data port */
    IDE_PIO_OUT,   /* DRQ: and fills it */
    IDE_DMA_IN,    /* BSY: the bus master takes the buffer */
    IDE_DMA_OUT,   /* BSY: and fills it */
    IDE_RESETTING, /* BSY: SRST is set, or a change of before the reset is not over */
};

/* What SET FEATURES, SET MULTIPLE MODE and INITIALIZE DEVICE PARAMETERS have set. */
struct ide_settings {
    bool write_cache, look_ahead;
    bool outlive_reset;                 /* SET FEATURES 66h: a soft reset leaves the others */
    uint8_t multiple;                   /* sectors; 0: off */
    uint8_t dma_modes, ultra_dma_modes; /* the selected one's bit, in one of them */
    struct ide_geometry geometry;
};

/* A command that moves sectors; see ide_transfer.c. */
struct ide_transfer {
    unsigned flags;  /* enum ide_command_flag */
    uint64_t lba;    /* the first sector of the chunk */
    uint32_t left;   /* sectors, with the chunk's */
    uint32_t chunk;  /* sectors on their way */
    uint32_t probed; /* of a chunk that failed, read one by one: so many are good */
};

/* DATA SET MANAGEMENT; see ide_trim.c. */
struct ide_trim {
    uint32_t ranges, at; /* in the buffer; the next one */
    unsigned in_flight;
    int result; /* the first failure */
};

struct ide_channel;

struct ide_config {
    bool is_cd;
    struct block_backend *backend; /* NULL: a CD drive without a medium */
    const struct guest_memory *memory;
    /* The line has changed. On the loop, also inside of a port access. */
    void (*interrupt)(void *arg, bool is_raised);
    void *interrupt_arg;
};

struct ide_channel {
    struct ide_config config;
    struct ide_registers registers;
    struct ide_settings settings;
    enum ide_phase phase;
    bool is_pending; /* an interrupt, until Status is read */
    bool is_raised;  /* the line: pending, not masked by nIEN, and device 0 is selected */

    /* the data phase; see ide_data.c */
    uint32_t data_at, data_end;
    void (*moved)(struct ide_channel *channel); /* all of it was */
    uint8_t buffer[IDE_BUFFER_BYTES];

    struct ide_transfer transfer;
    struct ide_bus_master bus_master;
    struct ide_trim trim;
    struct atapi_drive drive;

    struct list requests;    /* struct ide_request.link: of the command under way */
    struct list left_behind; /* and of those that a reset has ended */
};

/* The backend, the memory and the channel's own stay where they are until the end. */
void ide_channel_init(struct ide_channel *channel, const struct ide_config *config);
/* What is in flight is left behind, and waited for. */
void ide_channel_co_fini(struct ide_channel *channel);
/* The RESET- line: everything is as after power on. What is in flight is left behind. */
void ide_channel_hard_reset(struct ide_channel *channel);

uint64_t ide_channel_sectors(const struct ide_channel *channel);

/* All but the data port; port accesses of a byte. */
uint8_t ide_port_read(struct ide_channel *channel, enum ide_port port);
void ide_port_write(struct ide_channel *channel, enum ide_port port, uint8_t value);
/* The data port: bytes is 2 or 4. Without DRQ: reads 0, and writes are ignored. */
uint32_t ide_data_read(struct ide_channel *channel, unsigned bytes);
void ide_data_write(struct ide_channel *channel, uint32_t value, unsigned bytes);
/* The bus master's eight bytes: offset + bytes is at most 8, bytes 1, 2 or 4. */
uint32_t ide_bus_master_read(struct ide_channel *channel, unsigned offset, unsigned bytes);
void ide_bus_master_write(struct ide_channel *channel, unsigned offset, uint32_t value,
                          unsigned bytes);

#endif
