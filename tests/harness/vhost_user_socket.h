/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_VHOST_USER_SOCKET_H
#define TESTS_HARNESS_VHOST_USER_SOCKET_H

/*
 * The way of vhost-user messages: a UNIX stream socket that carries descriptors too. One coroutine
 * of the loop uses it.
 */

#include "block/loop.h"
#include "common/error.h"
#include "tests/harness/vhost_user_message.h"

struct vhost_user_socket {
    struct loop *loop;
    struct loop_watch watch;
    struct coroutine *waiter;
    int fds[VHOST_USER_FDS_MAX]; /* what the message received last has brought */
    unsigned fd_count;
};

/* fd is non-blocking, and the caller's. */
void vhost_user_socket_init(struct vhost_user_socket *socket, struct loop *loop, int fd);
/* Closes the descriptors that nobody took. */
void vhost_user_socket_fini(struct vhost_user_socket *socket);

/* The next message. 1: it is there; its descriptors are in fds until the next call, and whoever
 * takes one leaves -1. 0: the other side has left. A negative errno: it makes no sense, or the
 * socket fails; the socket is of no use any more. */
int vhost_user_co_receive(struct vhost_user_socket *socket, struct vhost_user_message *ret_message,
                          struct error *err);

/* A reply to the message of that type. payload: VHOST_USER_PAYLOAD_MAX bytes at most. */
int vhost_user_co_send(struct vhost_user_socket *socket, uint32_t type, const void *payload,
                       uint32_t payload_bytes, struct error *err);

#endif
