/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_STREAM_SOCKET_H
#define SERVER_STREAM_SOCKET_H

#include "server/stream.h"

/* A stream over a connected, non-blocking socket; peer is copied. NULL when there is no memory: the
 * descriptor is then still the caller's. */
struct stream *stream_socket_new(int fd, const char *peer);

#endif
