/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_LISTEN_SOCKET_H
#define SERVER_LISTEN_SOCKET_H

/* Opening listening sockets: addresses, stale UNIX sockets, and sentences for what can go wrong. */

#include "common/error.h"

#define LISTEN_SOCKETS_MAX 8

/* A UNIX socket at an absolute path. One that nobody listens on any more is replaced; any other
 * file at the path is refused. Returns the descriptor, non-blocking and listening. */
int listen_socket_unix(const char *path, struct error *err);

/* TCP on every address that `host` stands for. Fills fds[LISTEN_SOCKETS_MAX], returns how many. May
 * block for a name look-up. */
int listen_socket_tcp(const char *host, const char *port, int *fds, struct error *err);

#endif
