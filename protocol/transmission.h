/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_TRANSMISSION_H
#define PROTOCOL_TRANSMISSION_H

/*
 * The transmission phase's incoming half: requests out of a stream of bytes. Made to be called in a
 * tight loop over one large receive: it copies nothing, allocates nothing, and looks at each byte
 * once.
 *
 *     while (true) {
 *         switch (transmission_next(t, data, length, &used, &item)) { ... }
 *         data += used, length -= used;
 *     }
 *
 * The payload of a WRITE is not looked at: it begins at data + used, and is the caller's. The
 * caller takes it from there, or from the socket, as it comes, and says so with
 * transmission_payload_taken(). The payload of a refused request is thrown away here.
 */

#include "protocol/handshake.h"
#include "protocol/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A refused WRITE of more is not thrown away: the connection is broken instead ("Size constraints":
 * a payload may be deemed a denial of service). */
#define TRANSMISSION_DRAIN_MAX (UINT32_C(128) << 20)
/* With extended headers the specification draws the line at the advertised or the default maximum
 * payload, whichever is larger. */
#define TRANSMISSION_EXTENDED_DRAIN_MAX NBD_PAYLOAD_DEFAULT_MAX

enum transmission_event {
    /* Fewer bytes than a request's header are left (used is 0, keep them), or none are. */
    TRANSMISSION_NEED_MORE,
    /* item->request is good: carry it out. A WRITE's payload of request.length bytes follows. */
    TRANSMISSION_REQUEST,
    /* item->request is to be answered at once with item->verdict (see reply_answer.h): it was
     * refused, or is empty. Whatever payload it has is thrown away by the next calls. */
    TRANSMISSION_ANSWER,
    /* NBD_CMD_DISC: answer what is outstanding, then close. The rest of the bytes was taken too:
     * a client must send nothing after it. */
    TRANSMISSION_DISCONNECT,
    /* The stream makes no sense any more: close; item->reason says why. */
    TRANSMISSION_BROKEN,
};

struct transmission_item {
    struct request request;         /* REQUEST and ANSWER */
    struct request_verdict verdict; /* ANSWER */
    const char *reason;             /* BROKEN: a sentence for the log, static */
};

/* Lives in the caller's memory, owns nothing. */
struct transmission {
    struct request_limits limits;
    uint64_t context_mask; /* see metacontext.h */
    /* private */
    uint32_t header_size;
    uint32_t payload_left; /* of a good WRITE: the caller's to take */
    uint32_t drain_left;   /* of a refused request */
    bool ended;            /* DISC came or the stream broke */
    const char *reason;    /* why it broke, or NULL */
};

/* Copies what it needs out of the result. */
void transmission_init(struct transmission *transmission, const struct handshake_result *result);

/* The next thing in the stream. *ret_used bytes were taken and *ret_item is filled as the event
 * says. After DISCONNECT or BROKEN the same event comes again and takes everything. Must not be
 * called while transmission_payload_left() is not 0. */
enum transmission_event transmission_next(struct transmission *transmission, const uint8_t *data,
                                          size_t length, size_t *ret_used,
                                          struct transmission_item *ret_item);

/* Bytes of the last good WRITE's payload that the caller has not yet taken. */
static inline uint32_t transmission_payload_left(const struct transmission *transmission)
{
    return transmission->payload_left;
}

/* The caller took length bytes of the payload. */
void transmission_payload_taken(struct transmission *transmission, uint32_t length);

/*
 * The client closed its side with unread bytes of a header left over. NULL when it may leave here,
 * else a static sentence that says in the middle of what it left. Outstanding requests are answered
 * in either case: a half-closed socket can still be written.
 */
const char *transmission_eof(const struct transmission *transmission, size_t unread);

/* From now on every request is answered with NBD_ESHUTDOWN. */
void transmission_shut_down(struct transmission *transmission);

#endif
