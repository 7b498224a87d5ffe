/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Large READs without a copy. The way of one:
 *
 *   try_lend    in the request's coroutine: is all of it in memory, and can it be lent? Else it is
 *               read as ever: by the engine, while other replies overtake it.
 *   send_lent   at the end of the round, or when the stream can be written again: the block layer
 *               lends the bytes for the time of one sendfile(2); what the stream does not take is
 *               lent again the next time.
 *   fetch       the bytes were in memory when the READ came, and are not any more, or a drain or a
 *               serialising request has the range: what is left is read into a buffer, as ever,
 *               piece by piece, and sent from there. Only then do the replies behind it wait for
 *               the disk.
 *
 * Nothing is lent between two sends. So a client that does not read costs no memory, and holds up
 * no drain, no resize and no write; a lock or a pin that he keeps would need a time limit and a
 * copy behind it. The price is that a READ is carried out in parts, each at its own moment while
 * the READ is outstanding; NBD allows that (block/posix_lend.c has the rules). A part may also be
 * of a moment after a resize: what is cut off then reads as an error, and since its header may be
 * out, the connection ends.
 *
 * Replies with nothing lent go before those, and in the same call (server/sendq.h).
 */
#include "server/dispatch_lend.h"

#include <errno.h>
#include <string.h>

#include "block/block.h"
#include "block/buffer.h"
#include "block/coroutine.h"
#include "block/loop.h"
#include "server/dispatch_io.h"
#include "server/export.h"
#include "server/stream.h"

/* --- is it there --------------------------------------------------------------------------------
 */

struct look {
    struct block_loan loan;
    size_t seen;
};

static size_t only_look(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    (void)fd;
    (void)host_offset;
    container_of(loan, struct look, loan)->seen = length;
    return 0;
}

static sendq_send_lent send_lent;

bool dispatch_try_lend(struct server_request *request)
{
    const struct request *wire = &request->wire;
    for (uint64_t done = 0; done < wire->length;) {
        struct look look = {.loan = {.use = only_look, .only_asks = true}};
        int code = block_lend(request->export->backend, wire->offset + done, wire->length - done,
                              &look.loan);
        if (code < 0)
            return false;
        done += look.seen;
    }
    request->found_in_memory_ns = loop_now_ns(request->loop);
    request->reply.send_lent = send_lent;
    return true;
}

/* Buffers that a fetched piece goes out with. */
#define BEFORE_FETCHED_MAX 8

/* --- sending ------------------------------------------------------------------------------------
 */

struct sending {
    struct block_loan loan;
    struct stream *stream;
    const struct iovec *before;
    unsigned before_count;
    size_t before_bytes;
    ssize_t written;
    bool full;
};

static size_t hand_to_stream(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    struct sending *sending = container_of(loan, struct sending, loan);
    struct stream_file file = {.fd = fd, .offset = host_offset, .length = length};
    sending->written = sending->stream->ops->write_file(sending->stream, sending->before,
                                                        sending->before_count, &file);
    if (sending->written <= (ssize_t)sending->before_bytes) {
        sending->full = true;
        return 0;
    }
    size_t taken = (size_t)sending->written - sending->before_bytes;
    sending->full = taken < length;
    return taken;
}

/* What was fetched of it, in one call with what is before; but for very much of that, which then
 * goes alone. */
static ssize_t send_fetched(const struct server_request *request, size_t skip,
                            const struct sending *sending, bool *ret_full)
{
    struct iovec iov[BEFORE_FETCHED_MAX + 1];
    unsigned count = sending->before_count;
    size_t bytes = sending->before_bytes;
    const struct iovec *all = sending->before;
    if (count <= BEFORE_FETCHED_MAX) {
        size_t at = skip - request->fetched_from;
        memcpy(iov, sending->before, count * sizeof(*iov));
        iov[count] = (struct iovec){.iov_base = (char *)request->buffer + at,
                                    .iov_len = request->buffer_length - at};
        bytes += iov[count++].iov_len;
        all = iov;
    }
    ssize_t written = sending->stream->ops->writev(sending->stream, all, count);
    *ret_full = written < (ssize_t)bytes;
    return written;
}

static bool is_fetched(const struct server_request *request, size_t skip)
{
    return request->buffer && skip < request->fetched_from + request->buffer_length;
}

static ssize_t send_lent(struct sendq_item *item, size_t skip, struct stream *stream,
                         const struct iovec *before, unsigned before_count, bool *ret_full)
{
    struct server_request *request = container_of(item, struct server_request, reply);
    uint64_t age_ns = loop_now_ns(request->loop) - request->found_in_memory_ns;
    struct sending sending = {
        .loan = {.use = hand_to_stream,
                 .known_in_memory = age_ns <= DISPATCH_LEND_FRESH_NS,
                 .begins = skip == 0},
        .stream = stream,
        .before = before,
        .before_count = before_count,
    };
    for (unsigned i = 0; i < before_count; i++)
        sending.before_bytes += before[i].iov_len;
    if (is_fetched(request, skip))
        return send_fetched(request, skip, &sending, ret_full);
    int code = block_lend(request->export->backend, request->wire.offset + skip,
                          request->wire.length - skip, &sending.loan);
    ssize_t written = code < 0 ? -ENODATA : sending.written;
    if (written == -ENODATA)
        request->fetched_from = skip;
    *ret_full = sending.full;
    return written;
}

/* --- when it is not there any more --------------------------------------------------------------
 */

size_t dispatch_unfetched_bytes(const struct server_request *request)
{
    return request->wire.length - request->fetched_from;
}

static void fetch_entry(void *arg)
{
    struct server_request *request = arg;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, request->buffer, request->buffer_length);
    int code = dispatch_co_read(request, request->wire.offset + request->fetched_from, &vec);
    if (code < 0)
        dispatch_account_unsent(request);
    request->fetched(request, code);
}

void dispatch_fetch(struct server_request *request, size_t length)
{
    dispatch_release(request); /* the piece before is out */
    int code = dispatch_get_buffer(request, length)
                   ? coroutine_start(request->loop, fetch_entry, request)
                   : -ENOMEM;
    if (code < 0) {
        dispatch_account_unsent(request);
        request->fetched(request, code);
    }
}
