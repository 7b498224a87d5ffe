/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_stream.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/sim_poller.h"

#define ROOM_MAX ((size_t)512 << 10) /* bytes in a pipe */
#define SMALL_PIECES 1000            /* that may be cut off something larger, a stream */

static struct sim_stream *sim_stream_of(struct stream *stream)
{
    return container_of(stream, struct sim_stream, stream);
}

/* --- pipes ----------------------------------------------------------------------------------- */

/* How many of `length` bytes go in one piece. */
static size_t draw_piece(struct sim_stream *stream, size_t length)
{
    const struct sim_stream_nature *nature = &stream->nature;
    if (length <= 1 || stream->small_pieces_left == 0)
        return length;
    if (length > 16)
        stream->small_pieces_left--;
    if (nature->tiny_once_in && random_once_in(&stream->random, nature->tiny_once_in))
        return draw_between(&stream->random, 1, length < 16 ? length : 16);
    if (random_once_in(&stream->random, nature->whole_once_in))
        return length;
    return draw_scaled(&stream->random, length < 512 ? 1 : 512, length);
}

static uint64_t draw_latency_ns(struct sim_stream *stream)
{
    return random_below(&stream->random, stream->nature.latency_ns);
}

static size_t pipe_room(const struct sim_pipe *pipe)
{
    return pipe->is_stuck || pipe->bytes.length >= pipe->room ? 0 : pipe->room - pipe->bytes.length;
}

/* The reader sees the end. */
static bool pipe_is_at_end(const struct sim_pipe *pipe)
{
    return pipe->ended && pipe->bytes.length == 0;
}

/* Tells both sides what they can do now. */
static void tell(struct sim_stream *stream)
{
    unsigned ready = 0;
    bool is_broken = stream->is_reset;
    if (stream->to_server.arrived > 0 || pipe_is_at_end(&stream->to_server) || is_broken)
        ready |= LOOP_READABLE;
    if (pipe_room(&stream->to_client) > 0 || stream->client_closed)
        ready |= LOOP_WRITABLE;
    if (stream->loop && !stream->server_closed)
        sim_watch_set_ready(&stream->watch, ready);
    if (!stream->client_closed)
        event_set_no_later(stream->client, draw_latency_ns(stream));
}

static void pipe_arrive(struct sim_event *event)
{
    struct sim_pipe *pipe = container_of(event, struct sim_pipe, arrival);
    pipe->arrived += draw_piece(pipe->stream, pipe->bytes.length - pipe->arrived);
    if (pipe->arrived < pipe->bytes.length)
        event_set(event, draw_latency_ns(pipe->stream));
    tell(pipe->stream);
}

static void pipe_relieve(struct sim_event *event)
{
    struct sim_pipe *pipe = container_of(event, struct sim_pipe, relief);
    pipe->is_stuck = false;
    tell(pipe->stream);
}

static void pipe_init(struct sim_pipe *pipe, struct sim_stream *stream)
{
    pipe->stream = stream;
    pipe->room = draw_scaled(&stream->random, 64, ROOM_MAX);
    event_init(&pipe->arrival, stream->sim, pipe_arrive);
    event_init(&pipe->relief, stream->sim, pipe_relieve);
}

static void pipe_fini(struct sim_pipe *pipe)
{
    event_clear(&pipe->arrival);
    event_clear(&pipe->relief);
    bytes_free(&pipe->bytes);
}

/* How many of length bytes the pipe takes now; those are to be appended at once. */
static size_t pipe_accept(struct sim_pipe *pipe, size_t length)
{
    size_t room = pipe_room(pipe);
    size_t taken = draw_piece(pipe->stream, length < room ? length : room);
    if (length > room && pipe->stream->small_pieces_left > 0)
        pipe->stream->small_pieces_left--;
    if (taken < length && taken < room) { /* less than all: no more fits now */
        pipe->is_stuck = true;
        event_set(&pipe->relief, draw_latency_ns(pipe->stream));
    }
    if (taken > 0 && !event_is_set(&pipe->arrival))
        event_set(&pipe->arrival, draw_latency_ns(pipe->stream));
    return taken;
}

static void pipe_take(struct sim_pipe *pipe, size_t length)
{
    bytes_drop(&pipe->bytes, length);
    pipe->arrived -= length;
    pipe->taken += length;
}

/* --- the server's end ------------------------------------------------------------------------ */

static void watch_is_ready(struct loop_watch *watch, unsigned events)
{
    struct sim_stream *stream = container_of(watch, struct sim_stream, watch);
    stream->stream.ready(&stream->stream, events);
}

static void stream_attach(struct stream *base, struct loop *loop)
{
    struct sim_stream *stream = sim_stream_of(base);
    assert(!stream->loop);
    stream->loop = loop;
    loop_watch_init(&stream->watch, -1, watch_is_ready);
    sim_note(stream->sim, "attach", stream->number, loop_index(loop), 0);
    tell(stream);
}

static ssize_t stream_readv(struct stream *base, const struct iovec *iov, unsigned iov_count)
{
    struct sim_stream *stream = sim_stream_of(base);
    struct sim_pipe *pipe = &stream->to_server;
    assert(stream->loop && !stream->server_closed);
    if (stream->is_reset)
        return -ECONNRESET;
    if (pipe->arrived == 0)
        return pipe_is_at_end(pipe) ? 0 : -EAGAIN;
    size_t room = 0;
    for (unsigned i = 0; i < iov_count; i++)
        room += iov[i].iov_len;
    assert(room > 0); /* a read of nothing would look like the end */
    size_t length = draw_piece(stream, pipe->arrived < room ? pipe->arrived : room);
    const uint8_t *from = bytes_begin(&pipe->bytes);
    size_t done = 0;
    for (unsigned i = 0; done < length; i++) {
        size_t part = length - done < iov[i].iov_len ? length - done : iov[i].iov_len;
        memcpy(iov[i].iov_base, from + done, part);
        done += part;
    }
    sim_note_bytes(stream->sim, "server reads", stream->number, from, length);
    pipe_take(pipe, length);
    tell(stream);
    return (ssize_t)length;
}

/* The planted bug: one byte of what the server sends is not there. */
static void lose_byte(struct sim_stream *stream, size_t appended)
{
    struct sim_pipe *pipe = &stream->to_client;
    uint64_t begin = pipe->taken + pipe->bytes.length - appended;
    if (stream->lose_byte_at <= begin || stream->lose_byte_at > begin + appended || appended < 2)
        return;
    uint8_t *bytes = bytes_begin(&pipe->bytes);
    size_t at = pipe->bytes.length - appended + (size_t)(stream->lose_byte_at - begin - 1);
    memmove(bytes + at, bytes + at + 1, pipe->bytes.length - at - 1);
    pipe->bytes.length--;
    stream->lose_byte_at = 0;
}

static ssize_t stream_writev(struct stream *base, const struct iovec *iov, unsigned iov_count)
{
    struct sim_stream *stream = sim_stream_of(base);
    struct sim_pipe *pipe = &stream->to_client;
    assert(stream->loop && !stream->server_closed && !pipe->ended);
    if (stream->client_closed)
        return -EPIPE;
    size_t length = 0;
    for (unsigned i = 0; i < iov_count; i++)
        length += iov[i].iov_len;
    assert(length > 0);
    if (pipe_room(pipe) == 0)
        return -EAGAIN;
    size_t taken = pipe_accept(pipe, length), done = 0;
    for (unsigned i = 0; done < taken; i++) {
        size_t part = taken - done < iov[i].iov_len ? taken - done : iov[i].iov_len;
        bytes_append_copy(&pipe->bytes, iov[i].iov_base, part);
        done += part;
    }
    sim_note_bytes(stream->sim, "server writes", stream->number,
                   bytes_begin(&pipe->bytes) + pipe->bytes.length - taken, taken);
    if (stream->lose_byte_at)
        lose_byte(stream, taken);
    tell(stream);
    return (ssize_t)taken;
}

static void stream_want(struct stream *base, unsigned events)
{
    struct sim_stream *stream = sim_stream_of(base);
    assert(stream->loop && !stream->server_closed);
    loop_watch_set(stream->loop, &stream->watch, events);
}

static void end_to_client(struct sim_stream *stream)
{
    stream->to_client.ended = true;
    tell(stream);
}

static void stream_shut_down(struct stream *base)
{
    struct sim_stream *stream = sim_stream_of(base);
    sim_note(stream->sim, "server ends", stream->number, 0, 0);
    end_to_client(stream);
}

static void stream_free(struct sim_stream *stream)
{
    pipe_fini(&stream->to_server);
    pipe_fini(&stream->to_client);
    free(stream);
}

static void stream_close(struct stream *base)
{
    struct sim_stream *stream = sim_stream_of(base);
    assert(!stream->server_closed);
    sim_note(stream->sim, "server closes", stream->number, 0, 0);
    if (stream->loop)
        loop_watch_set(stream->loop, &stream->watch, 0);
    stream->server_closed = true;
    if (stream->client_closed)
        stream_free(stream);
    else
        end_to_client(stream);
}

static const struct stream_ops sim_stream_ops = {
    .attach = stream_attach,
    .readv = stream_readv,
    .writev = stream_writev,
    .want = stream_want,
    .shut_down = stream_shut_down,
    .close = stream_close,
};

/* --- the client's end ------------------------------------------------------------------------ */

static struct sim_stream_nature draw_nature(struct random *random)
{
    static const unsigned tiny_once_in[] = {0, 0, 2, 8, 64};
    return (struct sim_stream_nature){
        .latency_ns = draw_scaled(random, 1, 1000000),
        .tiny_once_in = tiny_once_in[random_below(random, 5)],
        .whole_once_in = (unsigned)draw_between(random, 1, 4),
    };
}

struct sim_stream *sim_stream_new(struct sim *sim, unsigned number, struct sim_event *client)
{
    struct sim_stream *stream = calloc(1, sizeof(*stream));
    assert(stream);
    stream->stream.ops = &sim_stream_ops;
    snprintf(stream->stream.peer, sizeof(stream->stream.peer), "simulated client %u", number);
    stream->sim = sim;
    stream->number = number;
    stream->client = client;
    stream->random = sim_random(sim, "stream", number);
    stream->nature = draw_nature(&stream->random);
    stream->small_pieces_left = SMALL_PIECES;
    pipe_init(&stream->to_server, stream);
    pipe_init(&stream->to_client, stream);
    return stream;
}

size_t sim_stream_receive(struct sim_stream *stream, struct sim_bytes *to, size_t length_max)
{
    struct sim_pipe *pipe = &stream->to_client;
    size_t length = pipe->arrived < length_max ? pipe->arrived : length_max;
    /* A byte that was lost on the way may have counted as arrived. */
    if (length > pipe->bytes.length)
        length = pipe->arrived = pipe->bytes.length;
    if (length == 0)
        return 0;
    bytes_append_copy(to, bytes_begin(&pipe->bytes), length);
    pipe_take(pipe, length);
    tell(stream);
    return length;
}

size_t sim_stream_send(struct sim_stream *stream, struct sim_bytes *from)
{
    struct sim_pipe *pipe = &stream->to_server;
    assert(!pipe->ended);
    if (stream->server_closed || from->length == 0 || pipe_room(pipe) == 0)
        return 0;
    size_t taken = pipe_accept(pipe, from->length);
    bytes_append_copy(&pipe->bytes, bytes_begin(from), taken);
    bytes_drop(from, taken);
    return taken;
}

bool sim_stream_has_ended(const struct sim_stream *stream)
{
    return pipe_is_at_end(&stream->to_client);
}

void sim_stream_half_close(struct sim_stream *stream)
{
    stream->to_server.ended = true;
    sim_note(stream->sim, "client ends", stream->number, 0, 0);
    tell(stream);
}

void sim_stream_client_close(struct sim_stream *stream, bool is_reset)
{
    assert(!stream->client_closed);
    sim_note(stream->sim, "client closes", stream->number, is_reset, 0);
    stream->client_closed = true;
    stream->is_reset = is_reset;
    stream->to_server.ended = true;
    if (stream->server_closed)
        stream_free(stream);
    else
        tell(stream);
}
