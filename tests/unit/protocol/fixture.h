/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_PROTOCOL_FIXTURE_H
#define TESTS_UNIT_PROTOCOL_FIXTURE_H

/*
 * A client on paper: builds what a client would send, plays it to the handshake, and takes the
 * answers apart. talk_play() plays each script three times, whole, byte by byte and in random
 * pieces, and asserts that the answers and the outcome are the same.
 */

#include "protocol/handshake.h"
#include "protocol/reader.h"
#include "protocol/writer.h"

/* The exports that the fixture's handshakes serve. */
#define FIXTURE_SIZE UINT64_C(1000001) /* no multiple of 512, on purpose */
#define FIXTURE_FLAGS \
    (NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES)
extern const struct nbd_export_info fixture_default; /* "", with base:allocation */
extern const struct nbd_export_info fixture_disk;    /* "disk", with three contexts */
extern const struct nbd_export_info
    fixture_aligned; /* "aligned", minimum block 512, maximum payload 1 MiB */
extern const struct handshake_exports fixture_exports; /* these three, in this order */

struct talk {
    struct writer script; /* what the client sends */
    /* after talk_play() */
    struct writer answers; /* without the greeting */
    struct reader unread;  /* of the answers */
    struct handshake handshake;
    enum handshake_event event;
    size_t used; /* bytes of the script that were taken */
    const struct handshake_exports *exports;
    bool shutting_down;
};

/* A script that begins with these client flags. */
void talk_begin(struct talk *talk, uint32_t client_flags);
void talk_end(struct talk *talk);

void talk_option(struct talk *talk, uint32_t option, const void *data, size_t length);
void talk_empty(struct talk *talk, uint32_t option);
/* INFO or GO; infos may be NULL when info_count is 0. */
void talk_info(struct talk *talk, uint32_t option, const char *name, const uint16_t *infos,
               uint16_t info_count);
/* LIST_META_CONTEXT or SET_META_CONTEXT; queries is NULL-ended. */
void talk_meta(struct talk *talk, uint32_t option, const char *name, const char *const *queries);

void talk_play(struct talk *talk);

/* One answer. */
struct answer {
    uint32_t option, type, length;
    const uint8_t *data;
};

/* The next answer; fails the test when there is none whole. */
struct answer talk_answer(struct talk *talk);
/* The next answer is to this option and of this type; errors must have a text of 4096 bytes at
 * most, of printable ASCII. */
struct answer talk_expect(struct talk *talk, uint32_t option, uint32_t type);
void talk_expect_no_more(struct talk *talk);

/* The seed of this run: PLATTER_SEED, or a new one; printed once. */
uint64_t fixture_seed(void);

#endif
