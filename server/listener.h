/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_LISTENER_H
#define SERVER_LISTENER_H

/*
 * Accepts clients on loop 0 and hands them to the server. Who has no room yet (-e) is not accepted
 * and waits in the kernel's backlog without a greeting, as with qemu-nbd.
 */

#include "common/error.h"

struct config;
struct listener;
struct loop;
struct server;

/* Opens the sockets that the config names: from here on clients can connect, and wait. */
int listener_new(struct listener **ret_listener, const struct config *config, struct error *err);
/* Takes sockets that listen already, at most LISTEN_SOCKETS_MAX; closes them also on failure. */
int listener_new_on(struct listener **ret_listener, const int *fds, int fd_count,
                    struct error *err);
/* Closes the sockets and removes the UNIX socket's path, if it is still ours. Stopped, or never
 * started. Takes NULL. */
void listener_free(struct listener *listener);

/* The TCP port that it listens on, also where port 0 left the choice to the kernel. 0: none. */
unsigned listener_port(const struct listener *listener);

/* On the loop: accepts from now on. */
void listener_start(struct listener *listener, struct loop *loop, struct server *server);
/* On the loop: a connection has ended, there may be room again. */
void listener_room(struct listener *listener);
/* On the loop: accepts no more. */
void listener_stop(struct listener *listener);

#endif
