/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_ORACLE_H
#define TESTS_HARNESS_ORACLE_H

/*
 * What an export may show: a flat model that knows for each byte which requests its value may come
 * from. It never guesses what the server did; it knows only what clients know: when a request was
 * sent and when its answer was read, counted in ticks.
 *
 * The rules:
 * 1. A request A is *over* for a reader when some write or zero B that covers the byte was sent
 *    after A was answered, and was answered before the reader's own request was sent.
 * 2. A read may show any write that covers the byte, was sent before the read's answer came, and is
 *    not over. So overlapping requests that were in flight together have no order.
 * 3. It may show zero where a zero or a trim takes the place of the write in rule 2. A trim ends
 *    nothing: the old bytes may stay.
 * 4. A request that was never answered may take effect at any time, or never. One that failed may
 *    have had an effect, in whole or in part, until its answer came, and none afterwards.
 * 5. Once a flush is answered, the durable bytes obey rule 2 as a reader would that was sent when
 *    the flush was sent. A request with FUA does that for itself.
 * 6. When a read has shown a write that was answered before the read was sent, all others that were
 *    answered by then are over: reads, one after the other, agree on the order. (Not where a trim
 *    leaves a choice.)
 * 7. When the server is thrown away, the requests without an answer had their effect by then, or
 *    never. What was answered waits for a flush of the next server as it did for one of this.
 * 8. After a power cut the bytes obey rule 5: each may be of any request that rule 1 does not end,
 *    counting those requests alone that were made durable. From then on the image is what survived.
 *
 * Each eight aligned bytes of a written pattern carry the request and the offset, mixed so that no
 * byte looks like another's: what is read says where it comes from, and a wrong byte says so too.
 */

#include <stdbool.h>
#include <stdint.h>

#include "tests/harness/sim.h"

enum oracle_kind {
    ORACLE_INITIAL, /* what the image held at start */
    ORACLE_WRITE,
    ORACLE_ZERO,
    ORACLE_TRIM,
};

struct oracle_op {
    enum oracle_kind kind;
    unsigned client;
    uint64_t offset, length;
    uint32_t sent;
    uint32_t answered; /* ORACLE_NEVER until then */
    bool is_durable;   /* its range was checked after a flush or FUA, or none is to be asked */
};

#define ORACLE_NEVER UINT32_MAX
#define ORACLE_INITIAL_UNIT 4096 /* the image at start is holes and data in these */

struct oracle {
    struct sim *sim;
    uint64_t size_bytes;
    uint32_t tick;
    struct oracle_op *ops; /* index 0 is not used, 1 is the initial image */
    uint32_t op_count, op_room;
    uint32_t first_live; /* ops before it are over: the base shows what is left of them */
    uint32_t life_from;  /* ops before it were another server's */
    /* By byte: */
    uint8_t *base;           /* the image at start, or what survived the last power cut */
    uint32_t *since;         /* rule 1: the latest `sent` of the answered writes and zeroes */
    uint32_t *holder;        /* rule 6: a write that is good however old it is; 0: none */
    uint32_t *zeroed;        /* the latest `answered` of zeroes and trims; 0: none */
    uint32_t *durable_since; /* as since, for the durable bytes */
    uint32_t *zeroing;       /* ops: zeroes and trims that were not answered */
    uint32_t zeroing_count, zeroing_room;
    uint32_t not_durable_from; /* ops before it are durable or never will be asked */
    uint64_t bytes_checked, reads_checked, statuses_checked, durables_checked, survivors_checked;
};

/* The initial image has runs of data and holes drawn from the seed. */
void oracle_init(struct oracle *oracle, struct sim *sim, uint64_t size_bytes);
void oracle_fini(struct oracle *oracle);

/* The initial bytes of the unit at offset; NULL: a hole. */
const uint8_t *oracle_initial(const struct oracle *oracle, uint64_t offset);

/* A request that changes the range is about to be sent. Returns its number. */
uint32_t oracle_send(struct oracle *oracle, unsigned client, enum oracle_kind kind, uint64_t offset,
                     uint64_t length);
/* What a write carries: its bytes from the beginning. */
void oracle_pattern(const struct oracle *oracle, uint32_t number, void *bytes);
/* It was answered with success. */
void oracle_answer(struct oracle *oracle, uint32_t number);
/* It was answered with an error. */
void oracle_fail(struct oracle *oracle, uint32_t number);

/* A request that looks at a range: a read, or a status. */
struct oracle_view {
    uint64_t offset, length;
    uint32_t sent;
    uint32_t *since, *holder; /* as they were when the request was sent */
};
void oracle_view_open(struct oracle *oracle, struct oracle_view *view, uint64_t offset,
                      uint64_t length);
void oracle_view_close(struct oracle_view *view);
/* The answer's bytes; a wrong one fails the run. `who` names the reader. */
void oracle_view_check(struct oracle *oracle, const struct oracle_view *view, const void *bytes,
                       const char *who);
/* A claim that part of the view, [offset, offset + length), reads as zeroes. */
void oracle_view_check_zero(struct oracle *oracle, const struct oracle_view *view, uint64_t offset,
                            uint64_t length, const char *who);

/* Whether nothing that may make holes was in flight together with the request, or came later. */
bool oracle_keeps_space(const struct oracle *oracle, uint32_t number);

/* A flush is about to be sent: a moment to give to oracle_flushed(). */
uint32_t oracle_flush_send(struct oracle *oracle);
/* The flush that was sent at that tick was answered; durable is the disk's image. NULL, here and
 * below: it cannot be seen now, but oracle_check_survivor() will be asked. */
void oracle_flushed(struct oracle *oracle, uint32_t sent, const uint8_t *durable, const char *who);
/* A request with FUA was answered (after oracle_answer()). */
void oracle_forced(struct oracle *oracle, uint32_t number, const uint8_t *durable, const char *who);

/* The server is gone, and with it all that was in flight. is_lost: what was not durable can not be
 * made so by a flush any more, since a sync has failed, or nobody was asked to. */
void oracle_server_gone(struct oracle *oracle, bool is_lost);
/* The server was closed and said that all is well: everything that it answered is durable. (What
 * one before it left when it was killed waits for a client's flush.) Before oracle_server_gone().
 */
void oracle_closed(struct oracle *oracle, const uint8_t *durable);
/* An image that a power cut may leave behind. */
void oracle_check_survivor(struct oracle *oracle, const uint8_t *image);
/* Power is back, and this is the image. */
void oracle_go_on_with(struct oracle *oracle, const uint8_t *image);

/* Nothing is in flight: what reads see, and stable storage, to the last byte. */
void oracle_check_end(struct oracle *oracle, const uint8_t *cached, const uint8_t *durable);

#endif
