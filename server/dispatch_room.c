/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Large WRITEs with one copy, the counterpart of dispatch_lend.c. The way of one:
 *
 *   may_take_room   when its header came: does the export, the graph and the file allow it?
 *   take_room       whenever a part of the payload came: from the socket into a pipe, by reference
 *                   (server/connection_pipe.c), and at once from the pipe into the page cache, as
 *                   a write in flight that begins and ends in that call.
 *   all_written     the last part is there: the reply.
 *
 * Whatever does not go (a drain, a serialising request, a file that has become slow, a full disk, a
 * stopped export, no such splice in this file system) sends the rest of the payload the usual way:
 * what is in the pipe is read into a buffer, what is still to come is received behind it, and then
 * it is a WRITE of the rest. So no error is handled here: the same bytes meet it there, with the
 * error policy, and what was written before stays written, as of any WRITE that failed half way.
 *
 * Between two parts nothing is in flight and nothing is held but a piece of a page in the pipe, so
 * a client that stops in the middle holds up nobody. The price is that a WRITE is carried out in
 * parts, each at its own moment before it is answered; NBD gives no promise that one is whole
 * before another. Of one that never comes to its end, because the client hangs up, the part that
 * came may be in the image, as it may of any WRITE that was not answered.
 *
 * The socket's memory is ours alone once a client has sent it. What he has not copied into it but
 * lent to it himself (sendfile, vmsplice, MSG_ZEROCOPY) he can change until it is written: then
 * what is written is what was there at that moment.
 *
 * WRITEs with FUA, and all of a write-through export, are copied: they wait for the disk anyhow.
 */
#include "server/dispatch_room.h"

#include <assert.h>

#include "block/block.h"
#include "common/align.h"
#include "protocol/wire.h"
#include "server/export.h"
#include "server/payload_pipe.h"

/* A block of the file that is written in part may have to be read first, from the disk. So all
 * parts but the last end where pages of this size end in the file. */
#define PAGE_BYTES 4096u

static size_t only_look(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    (void)loan;
    (void)fd;
    (void)host_offset;
    (void)length;
    return 0;
}

bool dispatch_may_take_room(const struct server_request *request)
{
    const struct request *wire = &request->wire;
    struct export *export = request->export;
    struct block_loan look = {.use = only_look};
    return wire->length >= DISPATCH_ROOM_BYTES_MIN && !(wire->flags & NBD_CMD_FLAG_FUA) &&
           !export->rules.write_through && !error_policy_is_stopped(&export->error_policy) &&
           block_lend_room(export->backend, wire->offset, wire->length, &look) == 0;
}

struct filling {
    struct block_loan loan;
    struct payload_pipe *pipe;
    bool more_to_come;
};

static size_t fill_from_pipe(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    struct filling *filling = container_of(loan, struct filling, loan);
    if (filling->more_to_come) {
        uint64_t end = align_down(host_offset + length, PAGE_BYTES);
        if (end <= host_offset)
            return 0;
        length = (size_t)(end - host_offset);
    }
    ssize_t put = payload_pipe_to_file(filling->pipe, fd, host_offset, length);
    return put > 0 ? (size_t)put : 0;
}

bool dispatch_take_room(struct server_request *request, struct payload_pipe *pipe)
{
    const struct request *wire = &request->wire;
    struct export *export = request->export;
    for (;;) {
        size_t left = (size_t)(wire->length - request->written);
        bool more_to_come = pipe->held < left;
        if (pipe->held == 0 || (more_to_come && pipe->held < PAGE_BYTES))
            return true;
        struct filling filling = {.loan = {.use = fill_from_pipe, .begins = request->written == 0},
                                  .pipe = pipe,
                                  .more_to_come = more_to_come};
        size_t held = pipe->held;
        if (error_policy_is_stopped(&export->error_policy) ||
            block_lend_room(export->backend, wire->offset + request->written, held, &filling.loan) <
                0 ||
            pipe->held == held)
            return false;
        request->written += held - pipe->held;
    }
}

void dispatch_all_written(struct server_request *request)
{
    assert(request->written == request->wire.length);
    request->reply.iov_count = 0;
    request->start = loop_moment();
    dispatch_finish(request, 0);
}
