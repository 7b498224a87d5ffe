/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_STRESS_SOCKET_STREAM_H
#define TESTS_STRESS_SOCKET_STREAM_H

#include "tests/harness/sim_stream.h"

/* The other end, for server_accept_stream(); once, before anything is done with the stream. */
struct stream *socket_stream_take_server(struct sim_stream *stream);
/* The client's descriptor, to wait for. */
int socket_stream_fd(const struct sim_stream *stream);

#endif
