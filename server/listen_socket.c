/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/listen_socket.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* --- UNIX ---------------------------------------------------------------------------------------
 */

static int unix_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

/* Something is at the path. Removes it when it is a socket that nobody listens on. */
static int remove_stale(const struct sockaddr_un *address, struct error *err)
{
    const char *path = address->sun_path;
    struct stat status;
    if (lstat(path, &status) < 0)
        return errno == ENOENT ? 0
                               : error_set(err, -errno, "cannot look at socket path '%s': %s", path,
                                           error_text(errno));
    if (!S_ISSOCK(status.st_mode))
        return error_set(err, -EEXIST,
                         "socket path '%s' is a file of another kind; choose another path or "
                         "remove it",
                         path);
    int fd = unix_socket();
    if (fd < 0)
        return error_set(err, fd, "cannot make a UNIX socket: %s", error_text(fd));
    int code = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
    close(fd);
    if (code != -ECONNREFUSED)
        return error_set(err, -EADDRINUSE,
                         "another server listens on socket '%s'; choose another path or stop it",
                         path);
    if (unlink(path) < 0 && errno != ENOENT)
        return error_set(err, -errno, "cannot replace the stale socket '%s': %s", path,
                         error_text(errno));
    return 0;
}

int listen_socket_unix(const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert(strlen(path) < sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = unix_socket();
    if (fd < 0)
        return error_set(err, fd, "cannot make a UNIX socket: %s", error_text(fd));
    int code = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    if (code == -EADDRINUSE) {
        code = remove_stale(&address, err);
        if (code < 0) {
            close(fd);
            return code;
        }
        code = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    }
    if (code == 0 && listen(fd, SOMAXCONN) < 0)
        code = -errno;
    if (code < 0) {
        close(fd);
        return error_set(err, code, "cannot listen on socket '%s': %s; check the folder", path,
                         error_text(code));
    }
    return fd;
}

/* --- TCP ----------------------------------------------------------------------------------------
 */

/* only_v6: leaves IPv4 to a socket of its own. */
static int listen_at(const struct addrinfo *at, bool only_v6)
{
    const int on = 1;
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* A server that is started again must not wait for its old connections to be forgotten. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (at->ai_family == AF_INET6) {
        const int value = only_v6;
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, sizeof(value));
    }
    if (bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0) {
        int code = -errno;
        close(fd);
        return code;
    }
    return fd;
}

static int refuse_address(const char *host, const char *port, int code, struct error *err)
{
    if (code == -EADDRINUSE)
        return error_set(err, code,
                         "port %s on address %s is in use; choose another with -p or stop its user",
                         port, host);
    if (code == -EACCES)
        return error_set(err, code,
                         "no permission for port %s on address %s; choose a port from 1024 on",
                         port, host);
    if (code == -EADDRNOTAVAIL)
        return error_set(err, code, "address %s is none of this machine's; choose another with -b",
                         host);
    return error_set(err, code, "cannot listen on port %s of address %s: %s", port, host,
                     error_text(code));
}

int listen_socket_tcp(const char *host, const char *port, int *fds, struct error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *all;
    int failure = getaddrinfo(host, port, &hints, &all);
    if (failure)
        return error_set(err, -EINVAL, "cannot find address '%s': %s; check -b", host,
                         gai_strerror(failure));
    int count = 0, code = 0;
    bool several = all->ai_next != NULL;
    for (struct addrinfo *at = all; at && count < LISTEN_SOCKETS_MAX; at = at->ai_next) {
        int fd = listen_at(at, several);
        if (fd == -EAFNOSUPPORT && several)
            continue; /* a name with an address of a kind that this machine does not have */
        if (fd < 0) {
            code = fd;
            break;
        }
        fds[count++] = fd;
    }
    freeaddrinfo(all);
    if (code == 0 && count == 0)
        code = -EAFNOSUPPORT;
    if (code < 0) {
        while (count > 0)
            close(fds[--count]);
        return refuse_address(host, port, code, err);
    }
    return count;
}
