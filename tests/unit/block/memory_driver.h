/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_BLOCK_MEMORY_DRIVER_H
#define TESTS_UNIT_BLOCK_MEMORY_DRIVER_H

/*
 * Drivers for tests of the block layer. The disk is memory that the test owns and configures before
 * the node is opened, and looks at afterwards: limits, delays, errors, a log of the driver's calls.
 *
 *     "file"    a protocol driver; the option "disk" names the disk (memory_disk_name())
 *     "growing" the same with BLOCK_DRIVER_GROWS and BLOCK_DRIVER_FUA
 *     "pass"    a format that hands everything to its child "file", as raw does, of any alignment
 *     "bare"    as "file", but with no call but co_read and co_write
 */

#include <pthread.h>
#include <stdatomic.h>

#include "block/driver.h"
#include "block/node_options.h"
#include "common/random.h"
#include "tests/unit/block/memory_kept.h"

enum memory_op {
    MEMORY_OPEN,
    MEMORY_READ,
    MEMORY_WRITE,
    MEMORY_ZERO,
    MEMORY_DISCARD,
    MEMORY_FLUSH,
    MEMORY_STATUS,
    MEMORY_CACHE,
    MEMORY_RESIZE, /* of a growing one; the offset is the new size */
    MEMORY_CLOSE,
    MEMORY_OP_COUNT,
};

#define MEMORY_LOG_MAX 4096

struct memory_call {
    enum memory_op op;
    uint64_t offset, length;
    unsigned flags;
    struct coroutine *co; /* which coroutine made it */
};

struct memory_disk {
    /* set by the test before the node is opened */
    uint64_t size_bytes;
    uint64_t capacity_bytes; /* up to where a growing one may grow */
    struct block_limits limits;
    bool refuses_zero;     /* co_zero answers -ENOTSUP */
    bool refuses_cache;    /* and co_cache */
    int lend_fd;           /* what lend() lends, at the same offsets; 0: it lends nothing */
    bool lends_copies;     /* and data, where it is to be copied: */
    size_t lend_bytes_max; /* of it so many bytes at once; 0: any */
    bool remembers_holes;  /* of 4096 bytes: they are known without asking */
    unsigned pauses_max;   /* every call lets others run 0 to this many times, before and after */

    /* guards all below; the loops of a stress test share a disk */
    pthread_mutex_t mutex;
    uint8_t *data;
    struct random random;
    unsigned counts[MEMORY_OP_COUNT];
    struct memory_call log[MEMORY_LOG_MAX]; /* the first ones */
    unsigned log_count;
    unsigned call_count;
    unsigned active_count;       /* calls that have begun and not ended */
    unsigned active_flush_count; /* flushes among them */

    uint64_t fail_at_call;   /* the call with this number, from 0, fails with fail_code */
    unsigned fail_ops;       /* or every call of these kinds (1 << enum memory_op) does */
    uint64_t fail_from_call; /* or every call from this one on */
    int fail_code;           /* 0: nothing fails */

    /* Called when the call has begun that fail_at_call names. Does not wait.
     */
    void (*at_call)(struct memory_disk *disk);
    void *at_call_arg; /* its own */

    void (*at_copy)(struct memory_disk *disk); /* before each that lend() makes; or NULL */

    unsigned lends_refused_from; /* so many loans are given, then -EAGAIN; UINT_MAX at first */
    unsigned lend_count;

    struct memory_kept kept; /* of "file" and "growing" */

    unsigned hold_ops; /* calls of these kinds wait for memory_disk_release() */
    unsigned held_count;
    struct co_queue held;
};

void memory_disk_init(struct memory_disk *disk, uint64_t size_bytes, uint64_t capacity_bytes,
                      uint64_t seed);
void memory_disk_fini(struct memory_disk *disk);

/* Forgets the log and the counts. */
void memory_disk_forget_calls(struct memory_disk *disk);
void memory_disk_hold(struct memory_disk *disk, unsigned ops);
void memory_disk_release(struct memory_disk *disk);
/* Returns when this many calls are held. */
void memory_disk_co_wait_held(struct memory_disk *disk, unsigned count);

/* Sets "<prefix>driver" and "<prefix>disk". */
void memory_disk_options(struct memory_disk *disk, struct node_options *options, const char *prefix,
                         const char *driver);

/* The four of them, NULL-ended. */
extern const struct block_driver *const memory_drivers[];

#endif
