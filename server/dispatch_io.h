/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_DISPATCH_IO_H
#define SERVER_DISPATCH_IO_H

/*
 * A request's calls of the block layer, under the error policy of its export, and its place in the
 * export's account.
 */

#include "block/account.h"
#include "server/dispatch.h"

/* As block_co_read(); a failure that is ignored gives zeroes. */
int dispatch_co_read(struct server_request *request, uint64_t offset, const struct block_vec *vec);
/* Whatever changes or flushes: once() tries it, maybe several times. */
int dispatch_co_change(struct server_request *request, int (*once)(struct server_request *request));
/* Waits while the export is stopped. 0, or the negative errno to answer with. */
int dispatch_co_enter(struct server_request *request);

/* The request ends with this code. */
void dispatch_account(struct server_request *request, int code);
/* It was answered without work. */
void dispatch_account_answer(struct server_request *request, const struct request_verdict *verdict);
/* A READ that was counted as done could not be sent. */
void dispatch_account_unsent(struct server_request *request);

#endif
