/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

void daemon_init(struct daemon *daemon)
{
    *daemon = (struct daemon){.parent_fd = -1, .pid_file_fd = -1};
}

/* One byte from the child means that it serves; the end of the pipe, that it does not. */
static int wait_for_child(int fd)
{
    char byte;
    ssize_t got;
    do {
        got = read(fd, &byte, 1);
    } while (got < 0 && errno == EINTR);
    return got == 1 ? 0 : 1;
}

int daemon_fork(struct daemon *daemon, struct error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set(err, -errno, "cannot make a pipe for --fork: %s", error_text(errno));
    pid_t child = fork();
    if (child < 0) {
        int code = -errno;
        close(ends[0]);
        close(ends[1]);
        return error_set(err, code, "cannot fork: %s", error_text(code));
    }
    if (child > 0) {
        close(ends[1]);
        _exit(wait_for_child(ends[0]));
    }
    close(ends[0]);
    daemon->parent_fd = ends[1];
    setsid();
    return 0;
}

int daemon_write_pid_file(struct daemon *daemon, const char *path, struct error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return error_set(err, -errno, "cannot open pid file '%s': %s; choose another path", path,
                         error_text(errno));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_SETLK, &lock) < 0) {
        int code = -errno;
        close(fd);
        return error_set(err, code, "pid file '%s' is held by another process; choose another path",
                         path);
    }
    char text[32];
    int length = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) < 0 || write(fd, text, (size_t)length) != length) {
        int code = errno ? -errno : -EIO;
        close(fd);
        return error_set(err, code, "cannot write pid file '%s': %s", path, error_text(code));
    }
    daemon->pid_file_fd = fd;
    return 0;
}

static int leave_terminal(bool keep_stderr, struct error *err)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return error_set(err, -errno, "cannot open /dev/null: %s", error_text(errno));
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    if (!keep_stderr)
        dup2(null, STDERR_FILENO);
    close(null);
    return 0;
}

int daemon_ready(struct daemon *daemon, bool keep_stderr, struct error *err)
{
    /* A server that runs for months must not keep a file system from being unmounted. */
    if (chdir("/") < 0)
        return error_set(err, -errno, "cannot change to the root directory: %s", error_text(errno));
    if (daemon->parent_fd < 0)
        return 0;
    int code = leave_terminal(keep_stderr, err);
    if (code < 0)
        return code;
    const char byte = 0;
    ssize_t put = write(daemon->parent_fd, &byte, 1);
    (void)put; /* a parent that was killed meanwhile is no reason to end */
    close(daemon->parent_fd);
    daemon->parent_fd = -1;
    return 0;
}
