/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_DISPATCH_ROOM_H
#define SERVER_DISPATCH_ROOM_H

/*
 * WRITEs whose data nobody copies but the kernel, into the page cache: the block layer lends room
 * in the file, and a pipe is emptied into it (server/payload_pipe.h). See dispatch_room.c.
 */

#include "server/dispatch.h"

struct payload_pipe;

/* Below this the copy costs less than what it takes to do without. */
#define DISPATCH_ROOM_BYTES_MIN (64u << 10)

/* Whether this WRITE may go by a pipe, as far as is known now. Does not wait. */
bool dispatch_may_take_room(const struct server_request *request);

/* Writes what the pipe holds, the next of the payload after request->written, which it raises. What
 * is no whole page stays in the pipe, unless it is the payload's end. False: the rest of this WRITE
 * must be carried out as ever, what the pipe still holds first. Does not wait. */
bool dispatch_take_room(struct server_request *request, struct payload_pipe *pipe);

/* All of the payload was written so: accounts for the request and answers it, as dispatch_start()
 * does. */
void dispatch_all_written(struct server_request *request);

#endif
