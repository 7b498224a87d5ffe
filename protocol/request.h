/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_REQUEST_H
#define PROTOCOL_REQUEST_H

/*
 * One request of the transmission phase ("Request message"): its fields, and what is wrong with it.
 */

#include <stdbool.h>
#include <stdint.h>

/* What decides whether a request is good. */
struct request_limits {
    uint64_t size_bytes;
    uint16_t transmission_flags; /* as the client was told */
    bool structured_replies;
    bool has_contexts;      /* at least one was selected, for this export */
    bool shutting_down;     /* everything is answered with NBD_ESHUTDOWN */
    uint32_t block_minimum; /* offset and length must be multiples of it */
    uint32_t payload_max;
};

struct request {
    uint64_t cookie;
    uint64_t offset;  /* bytes into the export */
    uint32_t length;  /* bytes */
    uint16_t command; /* NBD_CMD_... */
    uint16_t flags;   /* NBD_CMD_FLAG_... */
};

/* A request that is answered at once, without work. */
struct request_verdict {
    uint32_t error;   /* NBD_SUCCESS or NBD_E... */
    const char *text; /* a sentence for a person, static; NULL with NBD_SUCCESS */
};

/* Reads the NBD_REQUEST_SIZE bytes of a header; false when the magic is wrong. */
bool request_parse(const uint8_t *header, struct request *ret_request);

/*
 * Whether the request is to be carried out (true), or answered at once with *ret_verdict (false):
 * it breaks a rule, or it is good and empty (length 0), where there is nothing to do. Not for
 * NBD_CMD_DISC.
 */
bool request_check(const struct request *request, const struct request_limits *limits,
                   struct request_verdict *ret_verdict);

#endif
