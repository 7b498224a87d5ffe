/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_DISK_H
#define TESTS_CRASH_DISK_H

/*
 * A disk in memory, and the protocol driver "crash" on it. What is changed through the driver goes
 * on the tape: that it began, when it took effect, that it has ended. Between these, others run:
 * how long is drawn from a generator, so a seed makes the same run again.
 *
 * A disk knows which pages were changed since it was equal to another one, so that going back costs
 * only these.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/driver.h"
#include "common/random.h"
#include "tests/crash/tape.h"

#define CRASH_SECTOR 512 /* a disk writes one of these whole, or not at all */
#define CRASH_PAGE 4096

struct crash_faults;
struct crash_kept;
struct late_discard;

struct crash_disk {
    uint8_t *bytes; /* zeroes past the size */
    uint64_t size_bytes, room_bytes;

    /* For the driver; all NULL or 0: nothing of it. */
    struct crash_tape *tape;
    unsigned number;       /* on the tape */
    struct random *random; /* of the pauses */
    unsigned pauses_max;
    unsigned slow_once_in; /* one pause in so many is a long one */
    bool reads_slowly;     /* all are, of reads */
    struct crash_faults *faults;
    struct crash_kept *kept; /* memory that outlives a kill; NULL: none */
    unsigned discards_late;  /* a planted bug: see plants.h */
    struct late_discard *late;

    uint8_t *is_touched; /* by page */
    uint32_t *touched;
    uint32_t touched_count;
};

/* Room for a file of that size; memory is taken when it is used. */
void crash_disk_init(struct crash_disk *disk, uint64_t room_bytes);
void crash_disk_fini(struct crash_disk *disk);

/* Makes it equal to another one of the same room, whatever it was. */
void crash_disk_copy(struct crash_disk *disk, const struct crash_disk *from);
/* The same where both were equal before what was changed here since, and there what was told by
 * crash_disk_touch() here. */
void crash_disk_revert(struct crash_disk *disk, const struct crash_disk *to);
void crash_disk_touch(struct crash_disk *disk, uint64_t offset, uint64_t length);

/* bytes NULL: zeroes. Makes it longer where needed. */
void crash_disk_store(struct crash_disk *disk, uint64_t offset, const uint8_t *bytes,
                      uint64_t length);
void crash_disk_set_size(struct crash_disk *disk, uint64_t size_bytes);

/* The oldest of the late ones never takes effect. */
void crash_disk_forget_late(struct crash_disk *disk);

/* Sets PREFIXdriver and PREFIXdisk. */
void crash_disk_set_options(struct crash_disk *disk, struct node_options *options,
                            const char *prefix);

extern const struct block_driver crash_disk_driver;

/* --- what goes wrong ----------------------------------------------------------------------------
 */

enum crash_call {
    CRASH_CALL_READ,
    CRASH_CALL_WRITE,
    CRASH_CALL_ZERO,
    CRASH_CALL_DISCARD,
    CRASH_CALL_FLUSH,
    CRASH_CALL_SIZE
};

/* The call with this number fails, shared by the disks of an image. */
struct crash_faults {
    uint64_t calls;        /* so many were made */
    uint64_t fail_at;      /* this one fails, counted from 1; 0: none */
    bool is_sticky;        /* and all after it */
    int code;              /* how: -EIO */
    unsigned failed;       /* how many did */
    unsigned failed_calls; /* which kinds of calls did: 1 << enum crash_call */
    struct random random;  /* how much of a write was done before it failed */
};

#endif
