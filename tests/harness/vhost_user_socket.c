/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/vhost_user_socket.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/coroutine.h"

static void ready(struct loop_watch *watch, unsigned events)
{
    struct vhost_user_socket *socket = container_of(watch, struct vhost_user_socket, watch);
    (void)events;
    loop_watch_set(socket->loop, watch, 0);
    coroutine_wake(socket->waiter);
}

static void co_wait(struct vhost_user_socket *socket, unsigned event)
{
    socket->waiter = coroutine_self();
    loop_watch_set(socket->loop, &socket->watch, event);
    coroutine_yield();
}

void vhost_user_socket_init(struct vhost_user_socket *socket, struct loop *loop, int fd)
{
    *socket = (struct vhost_user_socket){.loop = loop};
    loop_watch_init(&socket->watch, fd, ready);
}

static void close_fds(struct vhost_user_socket *socket)
{
    for (unsigned i = 0; i < socket->fd_count; i++)
        if (socket->fds[i] >= 0)
            close(socket->fds[i]);
    socket->fd_count = 0;
}

void vhost_user_socket_fini(struct vhost_user_socket *socket)
{
    close_fds(socket);
}

/* --- receiving ---------------------------------------------------------------------------------
 */

/* Descriptors beyond what any message has are closed at once: the count tells, and is refused. */
static void take_fds(struct vhost_user_socket *socket, struct msghdr *header, bool *ret_too_many)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            if (socket->fd_count < VHOST_USER_FDS_MAX) {
                socket->fds[socket->fd_count++] = fd;
            } else {
                close(fd);
                *ret_too_many = true;
            }
        }
    }
    *ret_too_many |= (header->msg_flags & MSG_CTRUNC) != 0;
}

/* All of `length` bytes. 1; 0: the other side left before the first one. */
static int co_receive_bytes(struct vhost_user_socket *socket, void *bytes, size_t length,
                            struct error *err)
{
    union {
        struct cmsghdr alignment;
        char bytes[CMSG_SPACE(sizeof(int) * VHOST_USER_FDS_MAX)];
    } control;
    size_t done = 0;
    while (done < length) {
        struct iovec iov = {.iov_base = (uint8_t *)bytes + done, .iov_len = length - done};
        struct msghdr header = {
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = control.bytes,
            .msg_controllen = sizeof(control),
        };
        bool too_many = false;
        ssize_t got = recvmsg(socket->watch.fd, &header, MSG_CMSG_CLOEXEC);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            co_wait(socket, LOOP_READABLE);
            continue;
        }
        if (got < 0)
            return error_set(err, -errno, "the socket cannot be read: %s", error_text(-errno));
        take_fds(socket, &header, &too_many);
        if (too_many)
            return error_set(err, -EPROTO, "a message came with more than %d descriptors",
                             VHOST_USER_FDS_MAX);
        if (got == 0 && done == 0)
            return 0;
        if (got == 0)
            return error_set(err, -EPROTO, "the connection ends in the middle of a message");
        done += (size_t)got;
    }
    return 1;
}

int vhost_user_co_receive(struct vhost_user_socket *socket, struct vhost_user_message *ret_message,
                          struct error *err)
{
    uint8_t bytes[VHOST_USER_HEADER_BYTES], payload[VHOST_USER_PAYLOAD_MAX];
    struct vhost_user_header header;
    int rc;
    close_fds(socket);
    rc = co_receive_bytes(socket, bytes, sizeof(bytes), err);
    if (rc <= 0)
        return rc;
    rc = vhost_user_parse_header(&header, bytes, err);
    if (rc < 0)
        return rc;
    if (header.payload_bytes > 0) {
        rc = co_receive_bytes(socket, payload, header.payload_bytes, err);
        if (rc == 0)
            return error_set(err, -EPROTO, "the connection ends in the middle of a message");
        if (rc < 0)
            return rc;
    }
    rc = vhost_user_parse(ret_message, &header, payload, socket->fd_count, err);
    return rc < 0 ? rc : 1;
}

/* --- sending -----------------------------------------------------------------------------------
 */

int vhost_user_co_send(struct vhost_user_socket *socket, uint32_t type, const void *payload,
                       uint32_t payload_bytes, struct error *err)
{
    uint8_t bytes[VHOST_USER_HEADER_BYTES + VHOST_USER_PAYLOAD_MAX];
    size_t length = VHOST_USER_HEADER_BYTES + payload_bytes, done = 0;
    assert(payload_bytes <= VHOST_USER_PAYLOAD_MAX);
    vhost_user_fill_reply(bytes, type, payload_bytes);
    memcpy(bytes + VHOST_USER_HEADER_BYTES, payload, payload_bytes);
    while (done < length) {
        ssize_t sent = send(socket->watch.fd, bytes + done, length - done, MSG_NOSIGNAL);
        if (sent >= 0)
            done += (size_t)sent;
        else if (errno == EAGAIN || errno == EINTR)
            co_wait(socket, LOOP_WRITABLE);
        else
            return error_set(err, -errno, "the socket cannot be written: %s", error_text(-errno));
    }
    return 0;
}
