/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_DAEMON_H
#define SERVER_DAEMON_H

/*
 * --fork and --pid-file. The parent waits until the child serves, and ends with status 0; when the
 * child cannot, its sentence is already on the common stderr, and the parent ends with 1.
 */

#include <stdbool.h>

#include "common/error.h"

struct daemon {
    int parent_fd;   /* the parent waits at the other end; -1: there is none */
    int pid_file_fd; /* holds the lock until the process ends; -1: there is none */
};

/* Not forked, no pid file. */
void daemon_init(struct daemon *daemon);

/* Forks; returns in the child alone. Before any thread starts. */
int daemon_fork(struct daemon *daemon, struct error *err);

/* Writes the process id, and locks the file against another server with the same one. It is left
 * behind at the end, as qemu-nbd does. */
int daemon_write_pid_file(struct daemon *daemon, const char *path, struct error *err);

/* The server serves: leaves the working directory, and, forked, the terminal, and lets the parent
 * go. keep_stderr: for --verbose. */
int daemon_ready(struct daemon *daemon, bool keep_stderr, struct error *err);

#endif
