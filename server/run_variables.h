/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_RUN_VARIABLES_H
#define SERVER_RUN_VARIABLES_H

/*
 * What the command of --run is told of the server, in its environment, under nbdkit's names:
 *
 *   uri          the NBD URI, as nbdinfo and qemu-img take it
 *   nbd          the same in qemu's older way, nbd:unix:... or nbd:host:port
 *   unixsocket   the socket's path; empty for TCP
 *   port         the TCP port; empty for a UNIX socket
 *   exportname   the export's name
 *
 * All of them are always set.
 */

/* unix_path NULL: TCP at host and port. The result ends with NULL, and has all of the environment
 * `from` but those names. NULL when there is no memory. */
char **run_variables_new(char *const *from, const char *unix_path, const char *host, unsigned port,
                         const char *export_name);
/* Takes NULL. */
void run_variables_free(char **variables);

#endif
