/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_PRIVATE_SOCKET_H
#define SERVER_PRIVATE_SOCKET_H

/* A folder that only this user can enter, for a socket that only one command is told of. */

#include <sys/un.h>

#include "common/error.h"

struct private_socket {
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "": there is none */
    char
        path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* of the socket; nothing is there yet */
};

/* Makes the folder, in $TMPDIR where its path is short enough, and else in /tmp. */
int private_socket_init(struct private_socket *place, struct error *err);
/* Removes the folder; the socket was removed by its listener. Harmless when there is none. */
void private_socket_fini(struct private_socket *place);

#endif
