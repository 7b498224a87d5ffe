/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_DISPATCH_READ_H
#define SERVER_DISPATCH_READ_H

/*
 * READs: what of one is data and what is a hole, the bytes, and the reply in the form that the
 * client has negotiated. Three ways to the bytes: small ones that are in memory are copied at once;
 * large ones that are in memory are lent (dispatch_lend.h); all others are read by the block layer,
 * and the request's coroutine waits.
 */

#include "block/block.h"
#include "server/dispatch.h"
#include "server/dispatch_lend.h"

/* Smaller ones may be answered at once: no status is asked for them that would have to wait. */
#define DISPATCH_READ_AT_ONCE_BYTES DISPATCH_STATUS_BYTES_MIN
_Static_assert(DISPATCH_READ_AT_ONCE_BYTES <= DISPATCH_LEND_BYTES_MIN &&
                   DISPATCH_READ_AT_ONCE_BYTES <= BLOCK_READ_AT_ONCE_MAX,
               "none of them is lent, and the block layer takes all of them");

/* Answers it without waiting and without a coroutine: the reply is filled. False: it is as it was,
 * and has to take the usual way. */
bool dispatch_answer_read_at_once(struct server_request *request);

/* In the request's coroutine: reads, and fills the reply. A negative errno: the reply is not. */
int dispatch_co_answer_read(struct server_request *request);

#endif
