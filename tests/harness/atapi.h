/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_ATAPI_H
#define TESTS_HARNESS_ATAPI_H

/*
 * The CD drive of an IDE channel: commands of 12 bytes in a PACKET, as in ATA/ATAPI-6, SPC-3 and
 * MMC-4; enough to read a CD image of blocks of 2048 bytes.
 *
 * A command that fails leaves a *sense* that REQUEST SENSE tells. A *unit attention* is one that
 * waits for the next command and makes it fail: the drive was reset, or has another medium.
 */

#include <stdbool.h>
#include <stdint.h>

struct block_backend;
struct ide_channel;

#define ATAPI_BLOCK 2048
#define ATAPI_PACKET_BYTES 12
#define ATAPI_SENSE_BYTES 18

enum atapi_sense_key {
    ATAPI_NO_SENSE = 0x0,
    ATAPI_NOT_READY = 0x2,
    ATAPI_MEDIUM_ERROR = 0x3,
    ATAPI_ILLEGAL_REQUEST = 0x5,
    ATAPI_UNIT_ATTENTION = 0x6,
    ATAPI_ABORTED_COMMAND = 0xb,
};

/* In the Count register of a PACKET command: what the data is. */
enum atapi_interrupt_reason {
    ATAPI_COD = 0x01, /* a command, not data; with IO: the command is over */
    ATAPI_IO = 0x02,  /* to the host */
};

struct atapi_sense {
    uint8_t key;       /* enum atapi_sense_key */
    uint8_t asc, ascq; /* additional sense code and its qualifier */
    bool has_lba;
    uint32_t lba;
};

struct atapi_drive {
    struct atapi_sense sense;     /* of the last command */
    struct atapi_sense attention; /* ATAPI_NO_SENSE: none */
    bool is_open;                 /* the tray: the medium is not there */
    bool is_locked;               /* the guest keeps it shut */

    /* the command under way */
    bool by_dma;
    uint32_t limit;     /* bytes with one interrupt, by PIO; as the host wrote it */
    uint32_t ready;     /* bytes of the buffer that are not moved yet */
    uint32_t lba, left; /* of a read: the next block, and how many are not read yet */
    uint32_t chunk, chunk_max;
};

/* Somebody puts another disc in, or with NULL takes it out; a command under way fails. The old
 * backend may be freed afterwards, with the requests that were made to it. */
void atapi_change_medium(struct ide_channel *channel, struct block_backend *backend);

/* What REQUEST SENSE answers; pure. */
void atapi_sense_encode(const struct atapi_sense *sense, uint8_t bytes[ATAPI_SENSE_BYTES]);

#endif
