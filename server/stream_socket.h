/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_STREAM_SOCKET_H
#define SERVER_STREAM_SOCKET_H

#include "server/stream.h"

/* A stream over a connected, non-blocking socket; peer is copied. NULL when there is no memory: the
 * descriptor is then still the caller's. The process ignores SIGPIPE, as signals_block() makes it:
 * sendfile(2) cannot be told not to raise it. */
struct stream *stream_socket_new(int fd, const char *peer);

#endif
