/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/listener.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/loop.h"
#include "common/log.h"
#include "server/config.h"
#include "server/listen_socket.h"
#include "server/server.h"
#include "server/stream_socket.h"

#define ACCEPTS_A_TURN_MAX 16
/* After accept() failed for want of descriptors or memory, and no connection has ended since. */
/* A UNIX socket's own send buffer, 208 KiB, holds less than one large reply, and its writer is told
 * of space only when three quarters of it are free: server and client would take turns. TCP sizes
 * its buffers itself. The kernel doubles this for its own needs, and keeps to net.core.wmem_max.
 * (A socket on which files are sent gets more, server/stream_socket.c.) */
#define UNIX_SEND_BUFFER_BYTES (512 << 10)
#define RETRY_MS 1000

struct accept_socket {
    struct loop_watch watch;
    struct listener *listener;
};

struct listener {
    struct loop *loop; /* NULL: not started, or stopped */
    struct server *server;
    int fds[LISTEN_SOCKETS_MAX];
    struct accept_socket sockets[LISTEN_SOCKETS_MAX]; /* of the same index */
    int fd_count;
    bool exhausted; /* no descriptor or memory for another client */
    bool complained;
    struct loop_timer retry;
    uint64_t accepted_count;

    char *unix_path; /* NULL: TCP */
    dev_t unix_device;
    ino_t unix_inode;
};

/* --- accepting ----------------------------------------------------------------------------------
 */

static void update_watches(struct listener *listener)
{
    bool on = !listener->exhausted && server_has_room(listener->server);
    for (int i = 0; i < listener->fd_count; i++)
        loop_watch_set(listener->loop, &listener->sockets[i].watch, on ? LOOP_READABLE : 0);
}

static void name_peer(struct listener *listener, const struct sockaddr_storage *address,
                      socklen_t length, char *peer, size_t size)
{
    char host[64], port[8];
    if (address->ss_family != AF_UNIX &&
        getnameinfo((const struct sockaddr *)address, length, host, sizeof(host), port,
                    sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(peer, size, address->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    else
        snprintf(peer, size, "unix client #%" PRIu64, listener->accepted_count);
}

static void take_client(struct listener *listener, int fd, const struct sockaddr_storage *address,
                        socklen_t length)
{
    char peer[STREAM_PEER_MAX];
    const int on = 1, send_buffer_bytes = UNIX_SEND_BUFFER_BYTES;
    listener->accepted_count++;
    name_peer(listener, address, length, peer, sizeof(peer));
    if (address->ss_family == AF_INET || address->ss_family == AF_INET6) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    if (address->ss_family == AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer_bytes, sizeof(send_buffer_bytes));
    struct stream *stream = stream_socket_new(fd, peer);
    if (!stream) {
        log_warning("%s: no memory for another client", peer);
        close(fd);
        return;
    }
    server_accept_stream(listener->server, stream);
}

/* accept() failed for want of something: asking again at once would only spin. */
static void pause_accepting(struct listener *listener, int code)
{
    if (!listener->complained)
        log_warning("cannot accept another client: %s; trying again when one has left or in %d ms",
                    error_text(code), RETRY_MS);
    listener->complained = true;
    listener->exhausted = true;
    loop_timer_set(listener->loop, &listener->retry,
                   loop_now_ns(listener->loop) + RETRY_MS * NS_PER_MS);
}

static void retry_expired(struct loop_timer *timer)
{
    struct listener *listener = container_of(timer, struct listener, retry);
    listener->exhausted = false;
    update_watches(listener);
}

static void accept_from(struct listener *listener, int listen_fd)
{
    for (int i = 0; i < ACCEPTS_A_TURN_MAX && server_has_room(listener->server); i++) {
        struct sockaddr_storage address = {0};
        socklen_t length = sizeof(address);
        int fd =
            accept4(listen_fd, (struct sockaddr *)&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            int code = errno;
            if (code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM)
                pause_accepting(listener, code);
            if (code == EAGAIN || listener->exhausted)
                break;
            continue; /* the client has left already, or the like */
        }
        listener->complained = false;
        take_client(listener, fd, &address, length);
    }
    update_watches(listener);
}

static void listen_ready(struct loop_watch *watch, unsigned events)
{
    (void)events;
    accept_from(container_of(watch, struct accept_socket, watch)->listener, watch->fd);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static int open_unix(struct listener *listener, const char *path, struct error *err)
{
    struct stat status;
    int fd = listen_socket_unix(path, err);
    if (fd < 0)
        return fd;
    listener->fds[0] = fd;
    listener->fd_count = 1;
    listener->unix_path = strdup(path);
    if (!listener->unix_path || lstat(path, &status) < 0) {
        unlink(path);
        return error_set(err, -EIO, "the socket '%s' vanished while it was made", path);
    }
    listener->unix_device = status.st_dev;
    listener->unix_inode = status.st_ino;
    return 0;
}

static struct listener *listener_alloc(struct error *err)
{
    struct listener *listener = calloc(1, sizeof(*listener));
    if (!listener) {
        error_set(err, -ENOMEM, "no memory for the listener");
        return NULL;
    }
    link_init(&listener->retry.link);
    listener->retry.expired = retry_expired;
    return listener;
}

int listener_new(struct listener **ret_listener, const struct config *config, struct error *err)
{
    struct listener *listener = listener_alloc(err);
    if (!listener)
        return -ENOMEM;
    int code;
    if (config->socket_path) {
        code = open_unix(listener, config->socket_path, err);
    } else {
        code = listen_socket_tcp(config->bind, config->port, listener->fds, err);
        listener->fd_count = code < 0 ? 0 : code;
    }
    if (code < 0) {
        listener_free(listener);
        return code;
    }
    *ret_listener = listener;
    return 0;
}

int listener_new_on(struct listener **ret_listener, const int *fds, int fd_count, struct error *err)
{
    assert(fd_count <= LISTEN_SOCKETS_MAX);
    struct listener *listener = listener_alloc(err);
    for (int i = 0; i < fd_count && !listener; i++)
        close(fds[i]);
    if (!listener)
        return -ENOMEM;
    memcpy(listener->fds, fds, (size_t)fd_count * sizeof(*fds));
    listener->fd_count = fd_count;
    *ret_listener = listener;
    return 0;
}

/* Somebody may have replaced the path by a socket of his own. */
static void remove_path(struct listener *listener)
{
    struct stat status;
    if (!listener->unix_path || lstat(listener->unix_path, &status) < 0)
        return;
    if (status.st_dev == listener->unix_device && status.st_ino == listener->unix_inode)
        unlink(listener->unix_path);
}

void listener_free(struct listener *listener)
{
    if (!listener)
        return;
    remove_path(listener);
    for (int i = 0; i < listener->fd_count; i++)
        close(listener->fds[i]);
    free(listener->unix_path);
    free(listener);
}

unsigned listener_port(const struct listener *listener)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    if (getsockname(listener->fds[0], (struct sockaddr *)&address, &length) < 0)
        return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)&address)->sin_port);
    if (address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)&address)->sin6_port);
    return 0;
}

void listener_start(struct listener *listener, struct loop *loop, struct server *server)
{
    listener->loop = loop;
    listener->server = server;
    for (int i = 0; i < listener->fd_count; i++) {
        listener->sockets[i].listener = listener;
        loop_watch_init(&listener->sockets[i].watch, listener->fds[i], listen_ready);
    }
    update_watches(listener);
}

void listener_room(struct listener *listener)
{
    if (!listener->loop)
        return;
    loop_timer_clear(&listener->retry);
    listener->exhausted = false;
    update_watches(listener);
}

void listener_stop(struct listener *listener)
{
    if (!listener->loop)
        return;
    loop_timer_clear(&listener->retry);
    for (int i = 0; i < listener->fd_count; i++)
        loop_watch_set(listener->loop, &listener->sockets[i].watch, 0);
    listener->loop = NULL;
}
