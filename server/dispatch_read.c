/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/dispatch_read.h"

#include <errno.h>

#include "block/block.h"
#include "protocol/reply_chunk.h"
#include "protocol/reply_simple.h"
#include "protocol/wire.h"
#include "server/dispatch_io.h"
#include "server/dispatch_lend.h"
#include "server/export.h"

/* One piece of a structured READ's answer. */
struct read_piece {
    uint32_t length;
    bool is_hole;
};

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
    dispatch_set_reply(request, iov_count);
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
    if (!all_hole && !dispatch_get_buffer(request, request->wire.length))
        return -ENOMEM;
    int code = read_pieces(request, pieces, count);
    if (code == 0)
        reply_with_pieces(request, pieces, count);
    return code;
}

/* Without a buffer it is lent. */
static void reply_with_data(struct server_request *request)
{
    const struct request *wire = &request->wire;
    size_t size = reply_simple(request->head, wire->cookie, NBD_SUCCESS);
    request->iov[0] = (struct iovec){.iov_base = request->head, .iov_len = size};
    request->iov[1] = data_at(request, 0, (uint32_t)wire->length);
    dispatch_set_reply(request, 2);
}

static int co_read_simple(struct server_request *request)
{
    const struct request *wire = &request->wire;
    if (!dispatch_may_lend(request)) {
        struct iovec iov;
        if (!dispatch_get_buffer(request, wire->length))
            return -ENOMEM;
        struct block_vec vec = vec_of_buffer(&iov, request->buffer, wire->length);
        int code = dispatch_co_read(request, wire->offset, &vec);
        if (code < 0)
            return code;
    }
    reply_with_data(request);
    return 0;
}

int dispatch_co_answer_read(struct server_request *request)
{
    return request->wire.headers == NBD_HEADERS_SIMPLE ? co_read_simple(request)
                                                       : co_read_structured(request);
}

/* --- at once ------------------------------------------------------------------------------------
 */

static bool read_at_once(struct server_request *request)
{
    const struct request *wire = &request->wire;
    if (dispatch_get_buffer(request, wire->length) &&
        block_read_at_once(request->export->backend, wire->offset, request->buffer,
                           (uint32_t)wire->length) == 0)
        return true;
    dispatch_release(request);
    return false;
}

static bool answer_at_once_structured(struct server_request *request)
{
    struct read_piece pieces[DISPATCH_READ_PIECES_MAX] = {
        {.length = (uint32_t)request->wire.length}};
    if (!(request->wire.flags & NBD_CMD_FLAG_DF) && plan_pieces(request, pieces) > 1)
        return false;
    if (!pieces[0].is_hole && !read_at_once(request))
        return false;
    reply_with_pieces(request, pieces, 1);
    return true;
}

bool dispatch_answer_read_at_once(struct server_request *request)
{
    const struct request *wire = &request->wire;
    if (wire->length >= DISPATCH_READ_AT_ONCE_BYTES ||
        error_policy_is_stopped(&request->export->error_policy) ||
        !block_may_read_at_once(request->export->backend))
        return false;
    if (wire->headers != NBD_HEADERS_SIMPLE)
        return answer_at_once_structured(request);
    if (!read_at_once(request))
        return false;
    reply_with_data(request);
    return true;
}
