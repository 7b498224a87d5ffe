/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/stream_socket.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/loop.h"

struct stream_socket {
    struct stream stream;
    int fd;
    struct loop *loop; /* NULL: not attached */
    struct loop_watch watch;
};

static struct stream_socket *socket_of(struct stream *stream)
{
    return container_of(stream, struct stream_socket, stream);
}

static void socket_ready(struct loop_watch *watch, unsigned events)
{
    struct stream *stream = &container_of(watch, struct stream_socket, watch)->stream;
    stream->ready(stream, events);
}

static void socket_attach(struct stream *stream, struct loop *loop)
{
    struct stream_socket *sock = socket_of(stream);
    assert(!sock->loop);
    sock->loop = loop;
    loop_watch_init(&sock->watch, sock->fd, socket_ready);
}

static ssize_t socket_readv(struct stream *stream, const struct iovec *iov, unsigned iov_count)
{
    ssize_t got;
    do {
        got = iov_count == 1 ? recv(socket_of(stream)->fd, iov[0].iov_base, iov[0].iov_len, 0)
                             : readv(socket_of(stream)->fd, iov, (int)iov_count);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static ssize_t socket_read_to_pipe(struct stream *stream, int pipe_fd, size_t length)
{
    ssize_t got;
    do {
        got = splice(socket_of(stream)->fd, NULL, pipe_fd, NULL, length,
                     SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static ssize_t send_buffers(int fd, const struct iovec *iov, unsigned iov_count, int flags)
{
    struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = iov_count};
    ssize_t put;
    do {
        put = sendmsg(fd, &message, MSG_NOSIGNAL | flags);
    } while (put < 0 && errno == EINTR);
    return put < 0 ? -errno : put;
}

static ssize_t socket_writev(struct stream *stream, const struct iovec *iov, unsigned iov_count)
{
    return send_buffers(socket_of(stream)->fd, iov, iov_count, 0);
}

/* sendfile(2) has no MSG_NOSIGNAL: who calls it must not die of SIGPIPE (server/signals.c). What it
 * fails with may be the file's or the stream's; whoever then sends the bytes himself finds out. */
static ssize_t socket_write_file(struct stream *stream, const struct iovec *iov, unsigned iov_count,
                                 const struct stream_file *file)
{
    int fd = socket_of(stream)->fd;
    size_t buffers_length = 0;
    for (unsigned i = 0; i < iov_count; i++)
        buffers_length += iov[i].iov_len;
    if (iov_count > 0) {
        ssize_t put = send_buffers(fd, iov, iov_count, MSG_MORE);
        if (put < 0 || (size_t)put < buffers_length)
            return put;
    }
    off_t offset = (off_t)file->offset;
    ssize_t put;
    do {
        put = sendfile(fd, file->fd, &offset, file->length);
    } while (put < 0 && errno == EINTR);
    if (put > 0)
        return (ssize_t)buffers_length + put;
    if (iov_count > 0)
        return (ssize_t)buffers_length; /* the next call tells what is wrong */
    return put < 0 && errno == EAGAIN ? -EAGAIN : -ENODATA;
}

static void socket_want(struct stream *stream, unsigned events)
{
    struct stream_socket *sock = socket_of(stream);
    loop_watch_set(sock->loop, &sock->watch, events);
}

static void socket_shut_down(struct stream *stream)
{
    shutdown(socket_of(stream)->fd, SHUT_WR);
}

static void socket_close(struct stream *stream)
{
    struct stream_socket *sock = socket_of(stream);
    if (sock->loop)
        loop_watch_set(sock->loop, &sock->watch, 0);
    close(sock->fd);
    free(sock);
}

static const struct stream_ops socket_ops = {
    .attach = socket_attach,
    .readv = socket_readv,
    .read_to_pipe = socket_read_to_pipe,
    .writev = socket_writev,
    .write_file = socket_write_file,
    .want = socket_want,
    .shut_down = socket_shut_down,
    .close = socket_close,
};

struct stream *stream_socket_new(int fd, const char *peer)
{
    struct stream_socket *sock = calloc(1, sizeof(*sock));
    if (!sock)
        return NULL;
    sock->stream.ops = &socket_ops;
    snprintf(sock->stream.peer, sizeof(sock->stream.peer), "%s", peer);
    sock->fd = fd;
    return &sock->stream;
}
