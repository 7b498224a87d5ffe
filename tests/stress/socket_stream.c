/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The streams of the simulation's clients (sim_stream.h), over real sockets: linked in the place of
 * sim_stream.c. The server's end is its own stream on a socket; the client's end never blocks.
 */
#include "tests/stress/socket_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/list.h"
#include "server/stream_socket.h"
#include "tests/stress/stress.h"

#define PIECE_BYTES 65536

struct socket_stream {
    struct sim_stream stream;
    struct stream *server; /* until it was taken */
    int fd;
};

static struct socket_stream *socket_of(const struct sim_stream *stream)
{
    return container_of(stream, struct socket_stream, stream);
}

struct sim_stream *sim_stream_new(struct sim *sim, unsigned number, struct sim_event *client)
{
    int fds[2];
    char peer[32];
    struct socket_stream *socket = calloc(1, sizeof(*socket));
    check(socket);
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    snprintf(peer, sizeof(peer), "client %u", number);
    socket->stream = (struct sim_stream){.sim = sim, .number = number, .client = client};
    socket->fd = fds[0];
    socket->server = stream_socket_new(fds[1], peer);
    check(socket->server);
    return &socket->stream;
}

struct stream *socket_stream_take_server(struct sim_stream *stream)
{
    struct stream *server = socket_of(stream)->server;
    socket_of(stream)->server = NULL;
    return server;
}

int socket_stream_fd(const struct sim_stream *stream)
{
    return socket_of(stream)->fd;
}

size_t sim_stream_receive(struct sim_stream *stream, struct sim_bytes *to, size_t length_max)
{
    size_t total = 0;
    while (total < length_max && !stream->to_client.ended) {
        size_t length = length_max - total < PIECE_BYTES ? length_max - total : PIECE_BYTES;
        uint8_t piece[PIECE_BYTES];
        ssize_t got = recv(socket_of(stream)->fd, piece, length, 0);
        if (got < 0 && errno == EAGAIN)
            break;
        /* A server that stops may leave bytes unread, which resets the socket. */
        check(got >= 0 || errno == ECONNRESET);
        stream->to_client.ended = got <= 0;
        if (got > 0) {
            bytes_append_copy(to, piece, (size_t)got);
            total += (size_t)got;
        }
    }
    return total;
}

size_t sim_stream_send(struct sim_stream *stream, struct sim_bytes *from)
{
    if (from->length == 0)
        return 0;
    ssize_t put = send(socket_of(stream)->fd, bytes_begin(from), from->length, MSG_NOSIGNAL);
    if (put < 0) {
        check(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
        return 0;
    }
    bytes_drop(from, (size_t)put);
    return (size_t)put;
}

bool sim_stream_has_ended(const struct sim_stream *stream)
{
    return stream->to_client.ended;
}

void sim_stream_half_close(struct sim_stream *stream)
{
    stream->to_server.ended = true;
    check(shutdown(socket_of(stream)->fd, SHUT_WR) == 0 || errno == ENOTCONN);
}

/* On a UNIX socket, an end with bytes that were not read is a reset anyway. */
void sim_stream_client_close(struct sim_stream *stream, bool is_reset)
{
    (void)is_reset;
    check(!socket_of(stream)->server);
    close(socket_of(stream)->fd);
    free(socket_of(stream));
}
