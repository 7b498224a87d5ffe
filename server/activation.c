/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_FD 3 /* by sd_listen_fds(3) */

/* False: it is no whole number. */
static bool parse_number(const char *text, long *ret_number)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno || end == text || *end)
        return false;
    *ret_number = number;
    return true;
}

static int prepare(int fd, struct error *err)
{
    int type = 0, listens = 0;
    socklen_t length = sizeof(type);
    bool is_stream =
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
    length = sizeof(listens);
    if (!is_stream || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) < 0 || !listens)
        return error_set(err, -EINVAL,
                         "the descriptor %d was handed over by LISTEN_FDS, and is no listening "
                         "stream socket; with systemd, say ListenStream= and Accept=no",
                         fd);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return error_set(err, -errno, "cannot use the descriptor %d of LISTEN_FDS: %s", fd,
                         error_text(errno));
    return 0;
}

int activation_take(int fds[LISTEN_SOCKETS_MAX], struct error *err)
{
    const char *pid_text = getenv("LISTEN_PID"), *count_text = getenv("LISTEN_FDS");
    long pid, count;
    if (!pid_text || !count_text || !parse_number(pid_text, &pid) || pid != (long)getpid())
        return 0;
    if (!parse_number(count_text, &count) || count < 0 || count > LISTEN_SOCKETS_MAX)
        return error_set(err, -EINVAL,
                         "LISTEN_FDS is '%.20s'; it must be a number of sockets from 0 to %d",
                         count_text, LISTEN_SOCKETS_MAX);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    for (int i = 0; i < (int)count; i++) {
        int code = prepare(FIRST_FD + i, err);
        if (code < 0)
            return code;
        fds[i] = FIRST_FD + i;
    }
    return (int)count;
}
