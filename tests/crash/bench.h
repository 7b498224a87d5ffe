/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_BENCH_H
#define TESTS_CRASH_BENCH_H

/*
 * What the runs of one shape stand on: one loop, a block layer whose workers need no thread, the
 * image as it is at the beginning, and the disks.
 */

#include "block/block.h"
#include "block/env.h"
#include "block/workers.h"
#include "tests/crash/crash.h"
#include "tests/crash/disk.h"
#include "tests/crash/host.h"

struct crash_bench {
    const struct crash_format *format;
    const struct crash_shape *shape;
    struct loop *loop;
    struct workers workers;
    struct block_env env;
    struct crash_host host; /* of what is opened as files */
    const struct block_driver *drivers[7];
    unsigned disk_count;                    /* that are written: 1, or 2 with a data file */
    struct crash_disk start[CRASH_WRITTEN]; /* as make() made them */
    struct crash_disk backing;
    bool has_backing;
    uint8_t *still; /* what the image shows under shape->still; NULL: nothing */
    uint64_t still_bytes;
    uint8_t *first; /* what it shows at the beginning, where shape->bitmap is asked; or NULL */
    uint64_t first_bytes;
};

#define CRASH_ROOM_BYTES (UINT64_C(48) << 20) /* of each disk */

void crash_bench_init(struct crash_bench *bench, const struct crash_format *format,
                      const struct crash_shape *shape);
void crash_bench_fini(struct crash_bench *bench);

/* Runs entry(arg) as a coroutine, to its end. */
void crash_bench_run(struct crash_bench *bench, void (*entry)(void *arg), void *arg);

/* The image on these disks (disk_count of them). alignment: of requests to the disks. more: options
 * besides the shape's, or NULL. */
struct crash_open {
    struct crash_disk *disks;
    uint32_t alignment;
    bool by_host; /* as files, by bench->host */
    bool read_only;
    const char *more;
};
int crash_bench_co_open(struct crash_bench *bench, const struct crash_open *how,
                        struct block_node **ret_node, struct error *err);
/* All that the node shows, into memory that is the caller's. */
int crash_co_read_all(struct block_node *node, uint8_t **ret_bytes, uint64_t *ret_length);

/* The line that log_error() had last, since it was forgotten; empty: none. Warnings are dropped.
 * (log.c) */
const char *crash_logged_error(void);
void crash_forget_logged(void);

#endif
