/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_REPLY_ANSWER_H
#define PROTOCOL_REPLY_ANSWER_H

/*
 * The whole reply to a request without data in it: success of anything but a READ of some bytes
 * or a BLOCK_STATUS, or the failure of anything. It chooses the kind of reply, which is where
 * servers go wrong:
 * - without structured replies: simple;
 * - an error, with structured replies: an error chunk with its text, always for READ and
 *   BLOCK_STATUS, and for the others too, as the specification prefers;
 * - success, with structured replies: NBD_REPLY_TYPE_NONE for READ, else the shorter simple reply;
 * - with extended headers: a chunk, always.
 */

#include "protocol/reply_chunk.h"
#include "protocol/request.h"

#define REPLY_ANSWER_MAX REPLY_CHUNK_ERROR_MAX

/* Fills to[REPLY_ANSWER_MAX] and returns the bytes filled. text may be NULL. */
size_t reply_answer(uint8_t *to, const struct request *request, uint32_t error, const char *text);

#endif
