/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_ACTIVATION_H
#define SERVER_ACTIVATION_H

/*
 * Sockets that listen already when the process starts: whoever started it (systemd, libnbd) says
 * in LISTEN_PID and LISTEN_FDS that they are the descriptors from 3 on. See sd_listen_fds(3).
 */

#include "common/error.h"
#include "server/listen_socket.h"

/* Fills fds with them, made non-blocking and closed on exec, and returns how many: 0 where the
 * variables are not there or are another process's. Removes the variables, so that no child takes
 * them for its own. Called once, before the process forks. */
int activation_take(int fds[LISTEN_SOCKETS_MAX], struct error *err);

#endif
