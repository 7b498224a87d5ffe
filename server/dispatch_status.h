/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_DISPATCH_STATUS_H
#define SERVER_DISPATCH_STATUS_H

/*
 * BLOCK_STATUS: for each context that the client has selected, a chunk with its extents.
 */

#include <stddef.h>
#include <stdint.h>

#include "protocol/request.h"

struct server_request;

/* Bytes of memory that the chunks of so many contexts may take. */
size_t dispatch_status_bytes(const struct request *wire, unsigned context_count);

/* The reply is ready, in the request's buffer of dispatch_status_bytes(); or a negative errno. */
int dispatch_co_status(struct server_request *request);

#endif
