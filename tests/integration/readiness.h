/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_INTEGRATION_READINESS_H
#define TESTS_INTEGRATION_READINESS_H

#include <sys/types.h>

/*
 * How the tests wait for a server: by asking it, and by watching its process, never by sleeping for
 * a guessed time.
 */

/*
 * Waits until the server at `address` (as raw_connect) greets; leaves by OPT_ABORT, which must not
 * end a server that ends with its last client. 0, -ETIMEDOUT, or -ECHILD as soon as process `pid`
 * is gone.
 */
int wait_until_ready(const char *address, pid_t pid, int timeout_ms);

/* Waits until a process is gone (a zombie is gone): 0 or -ETIMEDOUT. */
int wait_until_gone(pid_t pid, int timeout_ms);

#endif
