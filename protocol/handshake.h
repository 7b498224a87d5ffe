/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_HANDSHAKE_H
#define PROTOCOL_HANDSHAKE_H

/*
 * The handshake phase, server side: fixed newstyle negotiation ("Newstyle negotiation" and
 * "Option types" of the specification). Bytes in; an event, and bytes out. It does not wait, knows
 * no socket, and gives the same bytes whatever pieces its input comes in.
 *
 *     FLAGS -> OPTION_HEADER -> PAYLOAD or DRAIN -> OPTION_HEADER ... -> ENDED
 *
 * FLAGS          waits for the client's flags
 * OPTION_HEADER  waits for the next option's 16 bytes
 * PAYLOAD        collects an option's data, in memory that grows with what arrived, not with what
 *                was promised
 * DRAIN          throws away the data of an option that will be refused (or of ABORT)
 * ENDED          READY or CLOSE was returned; nothing may be fed any more
 *
 * Bounds: an option's data 64 KiB, thrown away 4 MiB, options a connection 1000, answers not yet
 * sent 256 KiB before the next option is looked at, and one option's answers 4 MiB.
 *
 * The reply to an option with data that is thrown away comes after the data, so that a client that
 * writes before it reads cannot lock up.
 */

#include "protocol/writer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/wire.h"

#define HANDSHAKE_PAYLOAD_MAX ((size_t)64 << 10)
#define HANDSHAKE_DRAIN_MAX ((uint32_t)4 << 20)
#define HANDSHAKE_OPTIONS_MAX 1000
#define HANDSHAKE_OUTPUT_PAUSE ((size_t)256 << 10)
/* The bound to init the output writer with. */
#define HANDSHAKE_OUTPUT_MAX (HANDSHAKE_OUTPUT_PAUSE + ((size_t)4 << 20))
#define HANDSHAKE_REASON_MAX 256

/*
 * What an export looks like to a client. The server owns it; what lookup() or at() returned stays
 * valid and unchanged until handshake_fini().
 *
 * Promises, asserted: names and descriptions up to NBD_STRING_MAX bytes; size_bytes below 2^63;
 * block_minimum a power of two up to 64 KiB; block_preferred a power of two, at least block_minimum
 * and 512; payload_max at least block_preferred ("Size constraints").
 */
struct nbd_export_info {
    const char *name;        /* canonical; "" is the default export's */
    const char *description; /* NULL for none */
    uint64_t size_bytes;
    /* NBD_FLAG_... ; HAS_FLAGS is added here, and SEND_DF exactly when structured replies or
     * extended headers were negotiated, so the server sets neither. */
    uint16_t transmission_flags;
    uint32_t block_minimum; /* 1 unless requests must be aligned */
    uint32_t block_preferred;
    uint32_t payload_max; /* bytes of one READ or WRITE */
    /* NULL-ended list of the contexts a client may select, "base:allocation" and the like, at most
     * METACONTEXTS_MAX; NULL for none. A context's index in it is its name from then on. */
    const char *const *contexts;
};

/* The server's list of exports. Neither call may wait. */
struct handshake_exports {
    /* The export of that name (length bytes, no NUL, not ended by one), or NULL. */
    const struct nbd_export_info *(*lookup)(void *ctx, const char *name, size_t length);
    /* For NBD_OPT_LIST: the export at index, or NULL past the last one. */
    const struct nbd_export_info *(*at)(void *ctx, size_t index);
    void *ctx;
};

enum handshake_event {
    HANDSHAKE_MORE,  /* send the output; then feed what is left or comes next */
    HANDSHAKE_READY, /* send the output; transmission begins with the next byte: see result */
    HANDSHAKE_CLOSE, /* send the output, then close: see reason and is_ordinary */
};

/* What was negotiated. */
struct handshake_result {
    const struct nbd_export_info *export;
    uint16_t transmission_flags; /* as the client was told */
    enum nbd_headers headers;
    uint64_t context_mask; /* bit i: the export's context i was selected; see metacontext.h */
};

enum handshake_state {
    HANDSHAKE_STATE_FLAGS,
    HANDSHAKE_STATE_OPTION_HEADER,
    HANDSHAKE_STATE_PAYLOAD,
    HANDSHAKE_STATE_DRAIN,
    HANDSHAKE_STATE_ENDED,
};

/* Lives in the caller's memory; the fields up to `private` may be read. */
struct handshake {
    struct handshake_result result; /* valid after HANDSHAKE_READY */
    /* After HANDSHAKE_CLOSE: one sentence for the log, without newline, safe to print whatever the
     * client sent; and whether the client merely left as it may (ABORT, or the end of its stream
     * between two options), which is no news. */
    char reason[HANDSHAKE_REASON_MAX];
    bool is_ordinary;

    /* private to the handshake's files */
    const struct handshake_exports *exports;
    enum handshake_state state;
    bool fixed_newstyle, no_zeroes;
    bool shutting_down;
    enum nbd_headers headers;
    unsigned option_count;
    /* A fixed-size piece (client flags, option header) that came in parts. */
    uint8_t head[NBD_OPTION_HEADER_SIZE];
    size_t head_length;
    uint32_t option, option_length;
    uint32_t drain_left;
    struct writer payload; /* an option's data that came in parts */
    /* What SET_META_CONTEXT chose, and for which name; the name is compared at GO. */
    uint64_t context_mask;
    size_t context_name_length;
    char context_name[NBD_STRING_MAX];
};

/* exports is kept, not copied. Allocates nothing. */
void handshake_init(struct handshake *handshake, const struct handshake_exports *exports);
void handshake_fini(struct handshake *handshake);

/* Writes the greeting. Once, before the first feed. */
void handshake_start(struct handshake *handshake, struct writer *output);

/*
 * Takes bytes from the client. *ret_used says how many were taken: all of them, or fewer when the
 * output must be sent first (HANDSHAKE_MORE: send and consume it, then feed the rest) or when the
 * handshake ended (the rest is the transmission's). Not called again after READY or CLOSE.
 */
enum handshake_event handshake_feed(struct handshake *handshake, const void *bytes, size_t length,
                                    size_t *ret_used, struct writer *output);

/* The client closed its side: fills reason and is_ordinary. Always HANDSHAKE_CLOSE. */
enum handshake_event handshake_eof(struct handshake *handshake);

/* Whether the client has sent anything yet. */
bool handshake_is_silent(const struct handshake *handshake);

/* From now on every option but ABORT is answered with NBD_REP_ERR_SHUTDOWN. */
void handshake_shut_down(struct handshake *handshake);

#endif
