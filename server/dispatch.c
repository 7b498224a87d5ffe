/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/dispatch.h"

#include <assert.h>
#include <errno.h>

#include "block/block.h"
#include "block/buffer.h"
#include "block/coroutine.h"
#include "protocol/errno.h"
#include "protocol/reply_chunk.h"
#include "protocol/reply_simple.h"
#include "protocol/wire.h"
#include "server/dispatch_io.h"
#include "server/dispatch_lend.h"
#include "server/dispatch_status.h"
#include "server/export.h"
#include "server/receive.h"

_Static_assert(DISPATCH_HEAD_BYTES >= REPLY_ANSWER_MAX, "an error and its text fit");

/* One piece of a structured READ's answer. */
struct read_piece {
    uint32_t length;
    bool is_hole;
};

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

static bool get_buffer(struct server_request *request, size_t length)
{
    request->buffer = buffer_get(request->buffers, length);
    request->buffer_length = length;
    return request->buffer != NULL;
}

static void reply_set(struct server_request *request, unsigned iov_count)
{
    request->reply.iov = request->iov;
    request->reply.iov_count = iov_count;
}

/* --- READ ---------------------------------------------------------------------------------------
 */

/* What is known at this place, by the rule of DESIGN: small reads ask memory alone. */
static int read_extent(struct server_request *request, uint64_t offset, uint64_t length,
                       struct block_extent *ret_extent)
{
    if (request->wire.length >= DISPATCH_STATUS_BYTES_MIN)
        return block_co_status(request->export->backend, offset, length, ret_extent);
    block_status_remembered(request->export->backend, offset, length, ret_extent);
    return 0;
}

/* Cuts the READ into data and holes; returns how many pieces. After so many questions what is left
 * is data, and so is what a status fails on: the READ itself will tell. */
static unsigned plan_pieces(struct server_request *request, struct read_piece *pieces)
{
    const struct request *wire = &request->wire;
    uint32_t planned = 0;
    unsigned count = 0;
    for (unsigned asked = 0; planned < wire->length; asked++) {
        uint32_t left = (uint32_t)wire->length - planned; /* a READ's length was checked */
        struct block_extent extent;
        if (asked == DISPATCH_READ_PIECES_MAX - 1 ||
            read_extent(request, wire->offset + planned, left, &extent) < 0)
            extent = (struct block_extent){.length = left, .flags = BLOCK_EXTENT_ALLOCATED};
        uint32_t length = extent.length < left ? (uint32_t)extent.length : left;
        bool is_hole = (extent.flags & BLOCK_EXTENT_ZERO) != 0 &&
                       (length >= DISPATCH_HOLE_BYTES_MIN || length == wire->length);
        if (count > 0 && pieces[count - 1].is_hole == is_hole)
            pieces[count - 1].length += length;
        else
            pieces[count++] = (struct read_piece){.length = length, .is_hole = is_hole};
        planned += length;
    }
    return count;
}

/* Reads the data pieces to their places in the buffer. */
static int read_pieces(struct server_request *request, const struct read_piece *pieces,
                       unsigned count)
{
    uint32_t done = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!pieces[i].is_hole) {
            struct iovec iov;
            struct block_vec vec =
                vec_of_buffer(&iov, (char *)request->buffer + done, pieces[i].length);
            int code = dispatch_co_read(request, request->wire.offset + done, &vec);
            if (code < 0)
                return code;
        }
        done += pieces[i].length;
    }
    return 0;
}

/* Where a piece's data lies; with no buffer it is the one that is lent. */
static struct iovec data_at(const struct server_request *request, uint32_t done, uint32_t length)
{
    char *buffer = request->buffer;
    return (struct iovec){.iov_base = buffer ? buffer + done : NULL, .iov_len = length};
}

static void reply_with_pieces(struct server_request *request, const struct read_piece *pieces,
                              unsigned count)
{
    const struct request *wire = &request->wire;
    uint8_t *head = request->head;
    unsigned iov_count = 0;
    uint32_t done = 0;
    for (unsigned i = 0; i < count; i++) {
        bool last = i == count - 1;
        uint64_t offset = wire->offset + done;
        size_t size = pieces[i].is_hole
                          ? reply_chunk_offset_hole(head, wire, last, offset, pieces[i].length)
                          : reply_chunk_offset_data(head, wire, last, offset, pieces[i].length);
        request->iov[iov_count++] = (struct iovec){.iov_base = head, .iov_len = size};
        if (!pieces[i].is_hole)
            request->iov[iov_count++] = data_at(request, done, pieces[i].length);
        head += size;
        done += pieces[i].length;
    }
    reply_set(request, iov_count);
}

static int co_read_structured(struct server_request *request)
{
    struct read_piece pieces[DISPATCH_READ_PIECES_MAX] = {
        {.length = (uint32_t)request->wire.length}};
    unsigned count = 1;
    if (!(request->wire.flags & NBD_CMD_FLAG_DF))
        count = plan_pieces(request, pieces);
    bool is_one = count == 1;
    if (is_one && !pieces[0].is_hole && dispatch_may_lend(request)) {
        reply_with_pieces(request, pieces, 1);
        return 0;
    }
    bool all_hole = is_one && pieces[0].is_hole;
    if (!all_hole && !get_buffer(request, request->wire.length))
        return -ENOMEM;
    int code = read_pieces(request, pieces, count);
    if (code == 0)
        reply_with_pieces(request, pieces, count);
    return code;
}

static int co_read_simple(struct server_request *request)
{
    const struct request *wire = &request->wire;
    request->iov[1] = (struct iovec){.iov_base = NULL, .iov_len = wire->length};
    if (!dispatch_may_lend(request)) {
        if (!get_buffer(request, wire->length))
            return -ENOMEM;
        request->iov[1].iov_base = request->buffer;
        struct block_vec vec = {.iov = &request->iov[1], .length = wire->length};
        int code = dispatch_co_read(request, wire->offset, &vec);
        if (code < 0)
            return code;
    }
    size_t size = reply_simple(request->head, wire->cookie, NBD_SUCCESS);
    request->iov[0] = (struct iovec){.iov_base = request->head, .iov_len = size};
    reply_set(request, 2);
    return 0;
}

/* --- BLOCK_STATUS -------------------------------------------------------------------------------
 */

static int co_block_status(struct server_request *request)
{
    size_t length = dispatch_cost_bytes(&request->wire, request->context_mask);
    return get_buffer(request, length) ? dispatch_co_status(request) : -ENOMEM;
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
    struct block_vec vec = {.iov = request->payload,
                            .length = request->wire.length - request->written};
    return block_co_write(request->export->backend, request->wire.offset + request->written, &vec,
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
        return request->wire.headers == NBD_HEADERS_SIMPLE ? co_read_simple(request)
                                                           : co_read_structured(request);
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
    reply_set(request, 1);
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

void dispatch_finish(struct server_request *request, int code)
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
    dispatch_finish(request, code);
}

void dispatch_start(struct server_request *request)
{
    request->reply.iov_count = 0;
    request->start = loop_moment();
    int code = coroutine_start(request->loop, request_entry, request);
    if (code < 0)
        dispatch_finish(request, code);
}
