/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_FILE_H
#define TESTS_HARNESS_SIM_FILE_H

/*
 * One file of the simulated disk. It is there twice: the *cached* bytes, which reads see (through
 * the folios of the page cache, where O_DIRECT and buffered access meet: sim_folios.h), and the
 * *durable* bytes, which a power cut would leave. What changed since the last sync is kept in order
 * in the journal, with its data; a sync plays the journal onto the durable bytes. So a power cut at
 * any moment leaves the durable bytes and any part of the journal, in any order, torn at
 * SIM_FILE_SECTOR.
 *
 * A sync that fails does what Linux does: some of it is written, the rest never will be, the page
 * cache goes on showing all of it, and the next sync says that all is well.
 */

#include <stdbool.h>
#include <stdint.h>

#include "tests/harness/sim_folios.h"

#define SIM_FILE_BLOCK 4096 /* holes are kept in these */
#define SIM_FILE_SECTOR 512 /* a disk writes one of these whole, or not at all */

enum sim_block {
    SIM_BLOCK_HOLE,
    SIM_BLOCK_UNWRITTEN, /* takes space, reads as zeroes */
    SIM_BLOCK_DATA,
};

struct random;
struct sim_change; /* an entry of the journal */

struct sim_file {
    char *path;
    unsigned number;
    uint8_t *cached, *durable;
    uint8_t *blocks; /* enum sim_block, one a SIM_FILE_BLOCK */
    uint64_t size_bytes, durable_size_bytes;
    uint64_t room_bytes;      /* of each of the arrays; zero past the size */
    struct sim_folios folios; /* in use only while direct_count is not 0 */
    unsigned direct_count;    /* descriptors with O_DIRECT */
    struct sim_change *journal_first, **journal_end;
    struct sim_file *next;
};

/* All of it a hole. */
struct sim_file *sim_file_new(const char *path, unsigned number, uint64_t size_bytes,
                              uint32_t folio_bytes);
void sim_file_free(struct sim_file *file);
/* What it holds before anything happens: durable. */
void sim_file_fill(struct sim_file *file, uint64_t offset, const void *bytes, uint64_t length);

/* Reads and writes, which may make the file longer; is_direct: past the page cache. */
void sim_file_load(struct sim_file *file, uint64_t offset, void *to, uint64_t length,
                   bool is_direct);
void sim_file_store(struct sim_file *file, uint64_t offset, const void *from, uint64_t length,
                    bool is_direct, uint64_t now_ns);
/* Zeroes the range; whole blocks of it become what `state` says. Never makes the file longer. */
void sim_file_zero(struct sim_file *file, uint64_t offset, uint64_t length, enum sim_block state);
/* Gives holes in the range space, without changing what is read. */
void sim_file_allocate(struct sim_file *file, uint64_t offset, uint64_t length);
void sim_file_set_size(struct sim_file *file, uint64_t size_bytes);
/* Writes back dirty folios of the range that were not written after until_ns. */
void sim_file_write_back(struct sim_file *file, uint64_t offset, uint64_t length,
                         uint64_t until_ns);
void sim_file_sync(struct sim_file *file);
void sim_file_fail_sync(struct sim_file *file, struct random *random);
/* The power is cut: nobody has it open, and what only the page cache knew is in the journal. */
void sim_file_cut(struct sim_file *file);
/* What the disk may show after that, into image, which has room for room_bytes. Returns its size:
 * the file system keeps the order of truncations and may stop at any of them, and a write that
 * survives takes the size along. */
uint64_t sim_file_survivor(const struct sim_file *file, struct random *random, uint8_t *image);
/* The power is back, and the disk shows this; at most room_bytes. */
void sim_file_go_on_with(struct sim_file *file, const uint8_t *image, uint64_t size_bytes);
uint64_t sim_file_allocated_bytes(const struct sim_file *file);

#endif
