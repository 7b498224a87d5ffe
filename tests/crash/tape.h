/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_TAPE_H
#define TESTS_CRASH_TAPE_H

/*
 * What happened in a run, in one order: requests of the clients, and changes of the disks below the
 * format. It is recorded while the image is open, and played afterwards.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/crash/kept.h"
#include "tests/harness/oracle.h"

enum crash_event_kind {
    /* a change of a disk, by its number */
    CRASH_BEGAN,  /* the disk may have it from here on */
    CRASH_EFFECT, /* reads see it */
    CRASH_ENDED,
    /* a client; the number is the oracle's */
    CRASH_SENT,
    CRASH_ANSWERED,
    CRASH_FAILED,
    CRASH_FORCED,     /* answered, and it had FUA */
    CRASH_FLUSH_SENT, /* the number counts the flushes */
    CRASH_FLUSHED,
    CRASH_CLOSED,      /* and all is well */
    CRASH_RESIZE_SENT, /* `length` is the new size; of what is cut off, CRASH_SENT tells */
    CRASH_RESIZED,     /* well or not; `length` is the size that it has now */
};

enum crash_change_kind {
    CRASH_WRITE,
    CRASH_ZERO,
    CRASH_DISCARD, /* shows zeroes or what was there, sector by sector */
    CRASH_SIZE,    /* `length` is the new one */
    CRASH_FLUSH,
    CRASH_FLUSH_FAILED, /* what it was for will never be durable */
};

struct crash_change {
    enum crash_change_kind kind;
    unsigned disk;
    bool is_forced; /* FUA */
    uint64_t offset, length;
    size_t data;                   /* of a write: where its bytes are on the tape */
    uint64_t began, effect, ended; /* indices of events; UINT64_MAX: never */
};

struct crash_event {
    enum crash_event_kind kind;
    uint32_t number;
    /* of CRASH_SENT, CRASH_RESIZE_SENT: */
    enum oracle_kind request;
    unsigned client;
    uint64_t offset, length;
};

struct crash_tape {
    struct crash_event *events;
    size_t event_count, event_room;
    struct crash_change *changes;
    size_t change_count, change_room;
    uint8_t *data;
    size_t data_length, data_room;
    struct crash_kept_tape kept; /* what is kept of the first disk */
};

/* All zeroes is an empty one. */
void crash_tape_clear(struct crash_tape *tape);
void crash_tape_fini(struct crash_tape *tape);

/* Returns the change's number. data: of a write, `length` bytes to be filled in, until the next
 * call of this function. */
uint32_t crash_tape_begin(struct crash_tape *tape, struct crash_change change, uint8_t **ret_data);
void crash_tape_effect(struct crash_tape *tape, uint32_t change);
void crash_tape_end(struct crash_tape *tape, uint32_t change);
void crash_tape_note(struct crash_tape *tape, struct crash_event event);

/* The first so many events, one at least, after which nothing that was begun goes on by itself.
 * What was noted of kept memory up to the last of them, or with_next to the one behind it, is there
 * too; what is noted from then on is of `kept`. */
void crash_tape_copy(struct crash_tape *tape, const struct crash_tape *from, size_t event_count,
                     bool with_next, struct crash_kept *kept);

/* All of it, or up to that event, a line each. */
void crash_tape_print(const struct crash_tape *tape, uint64_t last);

static inline uint8_t *crash_tape_bytes(const struct crash_tape *tape,
                                        const struct crash_change *change)
{
    return tape->data + change->data;
}

#endif
