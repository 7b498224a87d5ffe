/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_REQUEST_H
#define PROTOCOL_REQUEST_H

/*
 * One request of the transmission phase ("Request message"): its fields, and what is wrong with it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/wire.h"

/* Room for a request's header of either kind. */
#define REQUEST_HEADER_MAX NBD_EXTENDED_REQUEST_SIZE

/* What decides whether a request is good. */
struct request_limits {
    uint64_t size_bytes;
    uint16_t transmission_flags; /* as the client was told */
    enum nbd_headers headers;
    bool has_contexts;      /* at least one was selected, for this export */
    bool shutting_down;     /* everything is answered with NBD_ESHUTDOWN */
    uint32_t block_minimum; /* offset and length must be multiples of it */
    uint32_t payload_max;
};

struct request {
    uint64_t cookie;
    uint64_t offset;  /* bytes into the export */
    uint64_t length;  /* bytes of the export, or of the payload where it has one */
    uint16_t command; /* NBD_CMD_... */
    uint16_t flags;   /* NBD_CMD_FLAG_... */
    /* How it came, and so how it is answered. */
    enum nbd_headers headers;
};

/* A request that is answered at once, without work. */
struct request_verdict {
    uint32_t error;   /* NBD_SUCCESS or NBD_E... */
    const char *text; /* a sentence for a person, static; NULL with NBD_SUCCESS */
};

/* Bytes of a request's header. */
static inline size_t request_header_size(enum nbd_headers headers)
{
    return headers == NBD_HEADERS_EXTENDED ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE;
}

/* Reads a header of request_header_size() bytes; false when the magic is wrong. */
bool request_parse(const uint8_t *header, enum nbd_headers headers, struct request *ret_request);

/* Whether `length` bytes of payload follow the header, be the request good or not: a WRITE's, and
 * with extended headers those of whatever has NBD_CMD_FLAG_PAYLOAD_LEN. */
static inline bool request_has_payload(const struct request *request)
{
    if (request->headers == NBD_HEADERS_EXTENDED)
        return request->flags & NBD_CMD_FLAG_PAYLOAD_LEN;
    return request->command == NBD_CMD_WRITE;
}

/*
 * Whether the request is to be carried out (true), or answered at once with *ret_verdict (false):
 * it breaks a rule, or it is good and empty (length 0), where there is nothing to do. Not for
 * NBD_CMD_DISC.
 */
bool request_check(const struct request *request, const struct request_limits *limits,
                   struct request_verdict *ret_verdict);

#endif
