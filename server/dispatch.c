/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/dispatch.h"

#include <assert.h>
#include <errno.h>

#include "block/block.h"
#include "block/buffer.h"
#include "block/coroutine.h"
#include "protocol/errno.h"
#include "protocol/reply_simple.h"
#include "protocol/wire.h"
#include "server/dispatch_io.h"
#include "server/dispatch_read.h"
#include "server/dispatch_status.h"
#include "server/export.h"
#include "server/receive.h"

_Static_assert(DISPATCH_HEAD_BYTES >= REPLY_ANSWER_MAX, "an error and its text fit");

size_t dispatch_cost_bytes(const struct request *wire, uint64_t context_mask)
{
    switch (wire->command) {
    case NBD_CMD_READ:
    case NBD_CMD_WRITE:
        return wire->length;
    case NBD_CMD_BLOCK_STATUS:
        return dispatch_status_bytes(wire, (unsigned)__builtin_popcountll(context_mask));
    default:
        return 0;
    }
}

void dispatch_release(struct server_request *request)
{
    if (request->pinned)
        receive_unpin(request->pinned);
    request->pinned = NULL;
    if (request->buffer)
        buffer_put(request->buffers, request->buffer, request->buffer_length);
    request->buffer = NULL;
}

bool dispatch_get_buffer(struct server_request *request, size_t length)
{
    request->buffer = buffer_get(request->buffers, length);
    request->buffer_length = length;
    return request->buffer != NULL;
}

void dispatch_set_reply(struct server_request *request, unsigned iov_count)
{
    request->reply.iov = request->iov;
    request->reply.iov_count = iov_count;
}

/* --- BLOCK_STATUS -------------------------------------------------------------------------------
 */

static int co_block_status(struct server_request *request)
{
    size_t length = dispatch_cost_bytes(&request->wire, request->context_mask);
    return dispatch_get_buffer(request, length) ? dispatch_co_status(request) : -ENOMEM;
}

/* --- what changes the image ---------------------------------------------------------------------
 */

/* A trim writes nothing that a client could miss, so write-through is no matter of it. */
static unsigned durability(const struct server_request *request)
{
    bool is_written_through =
        request->export->rules.write_through && request->wire.command != NBD_CMD_TRIM;
    return is_written_through || (request->wire.flags & NBD_CMD_FLAG_FUA) ? BLOCK_FUA : 0;
}

static int co_write_once(struct server_request *request)
{
    struct block_vec vec = {.iov = request->payload, .length = request->wire.length};
    return block_co_write(request->export->backend, request->wire.offset, &vec,
                          durability(request));
}

static int co_write(struct server_request *request)
{
    int code = dispatch_co_change(request, co_write_once);
    /* The payload is of no use any more, whenever the client reads the reply. */
    dispatch_release(request);
    return code;
}

static int co_write_zeroes(struct server_request *request)
{
    const struct request *wire = &request->wire;
    unsigned flags = durability(request);
    if (wire->flags & NBD_CMD_FLAG_NO_HOLE)
        flags |= BLOCK_NO_UNMAP;
    if (wire->flags & NBD_CMD_FLAG_FAST_ZERO)
        flags |= BLOCK_FAST;
    return block_co_zero(request->export->backend, wire->offset, wire->length, flags);
}

static int co_trim(struct server_request *request)
{
    return block_co_discard(request->export->backend, request->wire.offset, request->wire.length,
                            durability(request));
}

static int co_flush(struct server_request *request)
{
    return block_co_flush(request->export->backend);
}

/* --- CACHE --------------------------------------------------------------------------------------
 */

/* A hint has no claim to all of the server's memory: a long one is followed for a part. */
static int co_cache(struct server_request *request)
{
    const struct request *wire = &request->wire;
    uint64_t length =
        wire->length < DISPATCH_CACHE_BYTES_MAX ? wire->length : DISPATCH_CACHE_BYTES_MAX;
    return block_co_cache(request->export->backend, wire->offset, length);
}

/* --- the coroutine ------------------------------------------------------------------------------
 */

static int co_carry_out(struct server_request *request)
{
    switch (request->wire.command) {
    case NBD_CMD_READ:
        return dispatch_co_answer_read(request);
    case NBD_CMD_WRITE:
        return co_write(request);
    case NBD_CMD_FLUSH:
        return dispatch_co_change(request, co_flush);
    case NBD_CMD_TRIM:
        return dispatch_co_change(request, co_trim);
    case NBD_CMD_WRITE_ZEROES:
        return dispatch_co_change(request, co_write_zeroes);
    case NBD_CMD_BLOCK_STATUS:
        return co_block_status(request);
    case NBD_CMD_CACHE:
        return co_cache(request);
    default:
        assert(!"request_check() lets no other command through");
        return -EINVAL;
    }
}

void dispatch_answer(struct server_request *request, const struct request_verdict *verdict)
{
    size_t size = reply_answer(request->head, &request->wire, verdict->error, verdict->text);
    request->iov[0] = (struct iovec){.iov_base = request->head, .iov_len = size};
    request->reply.send_lent = NULL; /* it may have been to be lent, in vain */
    dispatch_set_reply(request, 1);
}

void dispatch_fail(struct server_request *request, int code)
{
    struct request_verdict verdict = {
        .error = nbd_error_from_errno(code, request->wire.command, request->wire.flags),
        .text = error_text(code),
    };
    dispatch_release(request);
    dispatch_answer(request, &verdict);
}

static void finish(struct server_request *request, int code)
{
    dispatch_account(request, code);
    if (code < 0) {
        dispatch_fail(request, code);
    } else if (request->reply.iov_count == 0) {
        dispatch_release(request);
        dispatch_answer(request, &(struct request_verdict){.error = NBD_SUCCESS});
    }
    request->done(request);
}

static void request_entry(void *arg)
{
    struct server_request *request = arg;
    int code = dispatch_co_enter(request);
    if (code == 0)
        code = co_carry_out(request);
    finish(request, code);
}

void dispatch_start(struct server_request *request)
{
    request->reply.iov_count = 0;
    request->start = loop_moment();
    if (request->wire.command == NBD_CMD_READ && dispatch_answer_read_at_once(request)) {
        finish(request, 0);
        return;
    }
    int code = coroutine_start(request->loop, request_entry, request);
    if (code < 0)
        finish(request, code);
}
