/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_REPLY_STATUS_H
#define PROTOCOL_REPLY_STATUS_H

/*
 * Collects extents into the descriptors of a NBD_REPLY_TYPE_BLOCK_STATUS chunk, or with extended
 * headers of a NBD_REPLY_TYPE_BLOCK_STATUS_EXT one, and keeps their rules:
 * - neighbours with the same flags become one descriptor;
 * - all descriptors but the last lie inside the request; the last may reach past its end, never
 *   past the export's, and never with NBD_CMD_FLAG_REQ_ONE, where there is exactly one;
 * - without extended headers a length fits 32 bits whatever the extent's;
 * - at most NBD_DESCRIPTORS_MAX descriptors, or fewer if the memory is smaller.
 *
 * The driver reports extents in order from the request's offset until reply_status_add() has
 * enough. One extent added is a good reply; stopping early is allowed at any time after that.
 */

#include "protocol/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/wire.h"

/* Lives in the caller's memory, owns nothing. */
struct reply_status {
    uint32_t count;   /* descriptors that are ready: reply_status_bytes() of them */
    uint64_t covered; /* bytes described so far, from the request's offset */
    /* private */
    uint8_t *descriptors;
    uint32_t count_max;
    uint64_t request_length;
    uint64_t export_left; /* from the request's offset to the export's end */
    bool extended;        /* descriptors of 64 bits */
    bool one;             /* NBD_CMD_FLAG_REQ_ONE */
    bool ended;           /* reply_status_add() said false */
    uint64_t last_length;
    uint32_t last_flags;
};

/* Bytes of one descriptor of the answer to this request. */
static inline size_t reply_status_descriptor_size(const struct request *request)
{
    return request->headers == NBD_HEADERS_EXTENDED ? NBD_EXTENDED_DESCRIPTOR_SIZE
                                                    : NBD_DESCRIPTOR_SIZE;
}

/* descriptors is the caller's memory for count_max (at least 1) times
 * reply_status_descriptor_size() bytes. The request was found good: it is not empty and ends inside
 * size_bytes. */
void reply_status_init(struct reply_status *status, const struct request *request,
                       uint64_t size_bytes, uint8_t *descriptors, uint32_t count_max);

/* The next extent: length_bytes (at least 1, may reach past the request and the export) with these
 * flags. True while another extent is of use; after false nothing is taken any more. */
bool reply_status_add(struct reply_status *status, uint64_t length_bytes, uint32_t flags);

/* Bytes of the descriptors that are ready. */
size_t reply_status_bytes(const struct reply_status *status);

#endif
