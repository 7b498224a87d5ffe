/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_DISPATCH_LEND_H
#define SERVER_DISPATCH_LEND_H

/*
 * READs whose data nobody copies: the block layer lends it, the stream takes it.
 */

#include "server/dispatch.h"

/* Below this the copy costs less than what it takes to do without. */
#define DISPATCH_LEND_BYTES_MIN (64u << 10)
/* So long after it was found in memory it is taken to be there still. */
#define DISPATCH_LEND_FRESH_NS (5 * NS_PER_MS)

bool dispatch_try_lend(struct server_request *request);

/* Whether this READ's data, all of it, is to be lent when the reply is sent; then the reply has a
 * buffer without memory, of wire.length bytes. Does not wait. */
static inline bool dispatch_may_lend(struct server_request *request)
{
    return request->wire.length >= DISPATCH_LEND_BYTES_MIN && request->may_lend &&
           dispatch_try_lend(request);
}

/* How many bytes of such a reply are to be fetched, after its send_lent returned -ENODATA. */
size_t dispatch_unfetched_bytes(const struct server_request *request);

/* Reads so many of them into a buffer; then request->fetched() is called, from inside this or
 * later. On failure the reply is as it was, and of the buffer nothing is known. */
void dispatch_fetch(struct server_request *request, size_t length);

#endif
