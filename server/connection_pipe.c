/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The payload of a large WRITE on its way from the socket into a pipe, and from there into the file
 * (dispatch_room.c), while the client sends the next part. It needs a socket in which the payload
 * is the first to come, so once there was such a WRITE, requests are received header by header,
 * until one is none: a call more for 64 KiB and more that nobody copies. The first of a row is
 * received as any request, since its header is not known before.
 *
 * What is in the pipe between two receives is less than a page, and keeps at most a few of the
 * socket's own buffers from being freed; so intake.h need not count it. Whatever comes between
 * sends the payload back to the usual way, at any byte: connection_leave_pipe().
 */
#include "server/connection_private.h"

#include <assert.h>
#include <errno.h>

#include "block/buffer.h"
#include "block/loop_room.h"
#include "server/dispatch.h"
#include "server/dispatch_room.h"
#include "server/lane.h"
#include "server/stream.h"

void connection_drop_pipe(struct connection *connection)
{
    if (connection->pipe)
        payload_pipe_put(&connection->lane->pipes, connection->pipe);
    connection->pipe = NULL;
}

bool connection_begin_pipe(struct connection *connection, struct server_request *request,
                           size_t here_bytes)
{
    connection->expects_large = connection->stream->ops->read_to_pipe && !connection->stopping &&
                                dispatch_may_take_room(request);
    if (!connection->expects_large || here_bytes > 0)
        return false;
    connection->pipe = payload_pipe_get(&connection->lane->pipes);
    if (!connection->pipe)
        return false;
    connection->receiving = request;
    return true;
}

size_t connection_request_space(const struct connection *connection, size_t space)
{
    size_t header = request_header_size(connection->transmission.limits.headers);
    if (!connection->expects_large || connection->head_length >= header)
        return space;
    return header - connection->head_length;
}

void connection_leave_pipe(struct connection *connection)
{
    struct server_request *request = connection->receiving;
    size_t held = connection->pipe->held;
    size_t rest = (size_t)(request->wire.length - request->written);
    request->buffer = buffer_get(request->buffers, rest);
    request->buffer_length = rest;
    if (!request->buffer) {
        connection_lose(connection, "no memory for a write's data");
        return;
    }
    int code = payload_pipe_read(connection->pipe, request->buffer);
    connection_drop_pipe(connection);
    if (code < 0) {
        connection_lose_by(connection, "a write's data cannot be had from its pipe", code);
        return;
    }
    request->payload[0] = (struct iovec){.iov_base = request->buffer, .iov_len = rest};
    connection->receiving_filled = held;
    if (transmission_payload_left(&connection->transmission) > 0) {
        intake_begin(connection, rest, held);
        return;
    }
    connection->receiving = NULL;
    dispatch_start(request);
}

/* The payload is in the file. */
static void finish(struct connection *connection)
{
    struct server_request *request = connection->receiving;
    connection->receiving = NULL;
    connection_drop_pipe(connection);
    dispatch_all_written(request);
}

ssize_t connection_receive_by_pipe(struct connection *connection)
{
    struct payload_pipe *pipe = connection->pipe;
    struct stream *stream = connection->stream;
    size_t left = transmission_payload_left(&connection->transmission);
    size_t part = left < PAYLOAD_PIPE_BYTES ? left : PAYLOAD_PIPE_BYTES;
    ssize_t got = stream->ops->read_to_pipe(stream, pipe->write_fd, part);
    if (got == 0)
        return 0;
    if (got < 0) {
        /* Nothing is there; or the pipe is full of crumbs; or it cannot be done so. */
        if (got != -EAGAIN || pipe->held > 0)
            connection_leave_pipe(connection);
        return -EAGAIN;
    }
    pipe->held += (size_t)got;
    connection->received_ns = loop_now_ns(connection->lane->loop);
    loop_client_came(connection->lane->loop, connection);
    transmission_payload_taken(&connection->transmission, (uint32_t)got);
    if (!dispatch_take_room(connection->receiving, pipe))
        connection_leave_pipe(connection);
    else if (transmission_payload_left(&connection->transmission) == 0)
        finish(connection);
    return got;
}
