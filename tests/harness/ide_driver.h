/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_IDE_DRIVER_H
#define TESTS_HARNESS_IDE_DRIVER_H

/*
 * A guest's driver of an IDE channel: it knows the ports, the interrupt line and its own memory,
 * and nothing of the model. It works as Linux's libata does, in the order of its accesses, and, by
 * polling with interrupts off, as a PC's BIOS.
 *
 * The calls with _co_ wait, for the interrupt or for BSY, at most timeout_ns. They return 0; -EIO
 * when the device said ERR (`status` and `error` are what it showed); -ETIMEDOUT; -EPROTO when it
 * asked for data, or had some, where none was due.
 */

#include "block/coroutine.h"
#include "block/loop.h"
#include "tests/harness/ide_channel.h"

#define IDE_DRIVER_TIMEOUT_NS (UINT64_C(20) * 1000 * 1000 * 1000)
#define IDE_DRIVER_BYTES_MAX (256u << 10) /* of one transfer */
#define IDE_DRIVER_TABLE 0x1000           /* where the PRD table lies in the guest's memory */
#define IDE_DRIVER_DATA 0x10000           /* and the data */
#define IDE_DRIVER_MEMORY_BYTES (IDE_DRIVER_DATA + IDE_DRIVER_BYTES_MAX)

/* What is written to the command block. */
struct ide_taskfile {
    uint8_t command;
    bool is_ext; /* 48 bits: each register is written twice */
    bool is_chs; /* lba is not a number, but the registers' bytes and the head */
    uint16_t features, count;
    uint64_t lba;
};

enum ide_way {
    IDE_WAY_PIO,
    IDE_WAY_MULTIPLE,
    IDE_WAY_DMA,
};

struct ide_driver {
    struct ide_channel *channel;
    struct loop *loop;
    uint8_t *memory; /* IDE_DRIVER_MEMORY_BYTES of the guest */
    uint64_t timeout_ns;
    uint32_t region_bytes; /* the longest a PRD is made; even, at most 65536 */

    /* what ide_driver_co_start() found, and set */
    uint8_t identity[IDE_SECTOR];
    uint64_t sector_count;
    bool has_lba48, has_trim;
    unsigned multiple; /* sectors; 0: not set */

    bool is_raised;
    unsigned interrupts; /* how often the line went up */
    uint8_t status, error;
    struct coroutine *waiter;
    struct loop_timer timer;
    bool is_late;
};

/* Before the channel's own: its config is made here. `memory` is set up to be those bytes, from
 * guest address 0 on; all of it is the caller's and stays. */
struct ide_config ide_driver_init(struct ide_driver *driver, struct ide_channel *channel,
                                  struct loop *loop, struct guest_memory *memory,
                                  uint8_t bytes[IDE_DRIVER_MEMORY_BYTES],
                                  struct block_backend *backend);

/* Soft reset, IDENTIFY, transfer mode, MULTIPLE. */
int ide_driver_co_start(struct ide_driver *driver);
/* SRST, and what the ATA standard has a host wait for. */
int ide_driver_co_soft_reset(struct ide_driver *driver);

/* Writes the registers, with the command last. */
void ide_driver_issue(struct ide_driver *driver, const struct ide_taskfile *taskfile);
/* One command, to its end. block_bytes: what comes with one interrupt. */
int ide_driver_co_no_data(struct ide_driver *driver, const struct ide_taskfile *taskfile);
int ide_driver_co_pio_in(struct ide_driver *driver, const struct ide_taskfile *taskfile,
                         uint8_t *bytes, uint32_t length, uint32_t block_bytes);
int ide_driver_co_pio_out(struct ide_driver *driver, const struct ide_taskfile *taskfile,
                          const uint8_t *bytes, uint32_t length, uint32_t block_bytes);
int ide_driver_co_dma_in(struct ide_driver *driver, const struct ide_taskfile *taskfile,
                         uint8_t *bytes, uint32_t length);
int ide_driver_co_dma_out(struct ide_driver *driver, const struct ide_taskfile *taskfile,
                          const uint8_t *bytes, uint32_t length);

/* Sectors, by the command that fits: with 28 bits where they do, unless is_ext. */
int ide_driver_co_read(struct ide_driver *driver, enum ide_way way, bool is_ext, uint64_t lba,
                       uint8_t *bytes, uint32_t sectors);
int ide_driver_co_write(struct ide_driver *driver, enum ide_way way, bool is_ext, uint64_t lba,
                        const uint8_t *bytes, uint32_t sectors);
int ide_driver_co_flush(struct ide_driver *driver);
int ide_driver_co_set_feature(struct ide_driver *driver, uint8_t feature, uint8_t count);
/* One range. */
int ide_driver_co_trim(struct ide_driver *driver, uint64_t lba, uint32_t sectors);

/* As a BIOS: READ SECTORS with interrupts off. */
int ide_driver_co_poll_read(struct ide_driver *driver, uint64_t lba, uint8_t *bytes,
                            uint32_t sectors);

/* --- parts, for drivers of other commands ------------------------------------------------------
 */

/* Waits for the interrupt, and reads Status: 0 or -ETIMEDOUT. */
int ide_driver_co_interrupt(struct ide_driver *driver);
/* Until BSY is clear; Status is not read, so an interrupt stays. */
int ide_driver_co_not_busy(struct ide_driver *driver);
/* 0, or -EIO and driver->error. */
int ide_driver_verdict(struct ide_driver *driver);
void ide_driver_data_in(struct ide_driver *driver, uint8_t *bytes, uint32_t length);
void ide_driver_data_out(struct ide_driver *driver, const uint8_t *bytes, uint32_t length);
/* A table of the data's whole area, as far as length: the registers are ready for Start. */
void ide_driver_make_table(struct ide_driver *driver, uint32_t length, bool to_memory);
void ide_driver_start_dma(struct ide_driver *driver, bool to_memory);
/* Waits for the interrupt and stops. */
int ide_driver_co_end_dma(struct ide_driver *driver);
/* A word of the identity. */
unsigned ide_driver_word(const struct ide_driver *driver, unsigned word);

#endif
