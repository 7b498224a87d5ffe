/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/private_socket.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Whether folder/platter-XXXXXX/socket fits a socket's address. */
static bool set_paths(struct private_socket *place, const char *folder)
{
    int length = snprintf(place->path, sizeof(place->path), "%s/platter-XXXXXX/socket", folder);
    if (length < 0 || (size_t)length >= sizeof(place->path))
        return false;
    snprintf(place->folder, sizeof(place->folder), "%s/platter-XXXXXX", folder);
    return true;
}

int private_socket_init(struct private_socket *place, struct error *err)
{
    const char *wanted = getenv("TMPDIR");
    if (!wanted || wanted[0] != '/' || !set_paths(place, wanted))
        set_paths(place, "/tmp");
    if (!mkdtemp(place->folder)) {
        int code = -errno;
        error_set(err, code, "cannot make the folder '%s' for a socket: %s; check TMPDIR",
                  place->folder, error_text(code));
        place->folder[0] = '\0';
        return code;
    }
    snprintf(place->path, sizeof(place->path), "%.*s/socket", (int)sizeof(place->folder) - 8,
             place->folder);
    return 0;
}

void private_socket_fini(struct private_socket *place)
{
    if (place->folder[0] != '\0')
        rmdir(place->folder);
    place->folder[0] = '\0';
}
