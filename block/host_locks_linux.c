/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Locks of open file descriptions, and who holds one.
 *
 * The kernel does not name the holder: F_OFD_GETLK and /proc/locks give -1 for a process. But the
 * fdinfo of each descriptor lists the locks of its file, so the holder is found by looking through
 * the processes that we may look into, which costs something and is done only where a lock is in
 * the way. What is found is read as text of another process: it is checked and cut.
 *
 * A process that was killed keeps its files until it has given its memory back, which takes a while
 * if that is much, and longer if it waits for a disk. It is no holder any more: it writes nothing.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/host_files.h"

static struct flock byte_lock(short type, uint64_t offset)
{
    return (struct flock){
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)offset,
        .l_len = 1,
        .l_pid = 0, /* the kernel insists */
    };
}

/* A file system that has no locks says so in many ways. */
static int lock_error(int code)
{
    switch (code) {
    case EINVAL:
    case ENOLCK:
    case ENOSYS:
    case ENOTTY:
    case EOPNOTSUPP:
        return -ENOTSUP;
    case EACCES:
        return -EAGAIN;
    default:
        return -code;
    }
}

int linux_lock(struct host_files *files, int fd, uint64_t offset)
{
    (void)files;
    struct flock lock = byte_lock(F_RDLCK, offset);
    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? lock_error(errno) : 0;
}

int linux_unlock(struct host_files *files, int fd, uint64_t offset)
{
    (void)files;
    struct flock lock = byte_lock(F_UNLCK, offset);
    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? lock_error(errno) : 0;
}

/* The lock that keeps us from an exclusive one, of our own or not; F_UNLCK when there is none. */
static int find_lock(int fd, uint64_t offset, struct flock *ret_lock)
{
    *ret_lock = byte_lock(F_WRLCK, offset);
    return fcntl(fd, F_OFD_GETLK, ret_lock) < 0 ? lock_error(errno) : 0;
}

int linux_lock_is_held(struct host_files *files, int fd, uint64_t offset)
{
    (void)files;
    struct flock lock;
    int ret = find_lock(fd, offset, &lock);
    return ret < 0 ? ret : lock.l_type != F_UNLCK;
}

/* --- who holds it -------------------------------------------------------------------------------
 */

struct wanted_lock {
    struct stat file;
    uint64_t offset;
    int own_fd; /* of this process; its locks are not asked for */
};

/* "lock:\t1: OFDLCK ADVISORY READ -1 fe:00:1234 100 101" */
static bool line_is_lock(const struct wanted_lock *wanted, const char *line)
{
    uint64_t inode, first, last;
    char last_text[32];
    if (sscanf(line, "lock: %*u: OFDLCK %*15s %*15s %*d %*x:%*x:%" SCNu64 " %" SCNu64 " %31s",
               &inode, &first, last_text) != 3)
        return false;
    last = strcmp(last_text, "EOF") == 0 ? UINT64_MAX : strtoull(last_text, NULL, 10);
    return inode == wanted->file.st_ino && first <= wanted->offset && wanted->offset <= last;
}

static bool info_has_lock(const struct wanted_lock *wanted, int folder, const char *name)
{
    char line[256];
    bool found = false;
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    FILE *info = fd < 0 ? NULL : fdopen(fd, "r");
    if (!info) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    while (!found && fgets(line, sizeof(line), info))
        found = line_is_lock(wanted, line);
    fclose(info);
    return found;
}

/* Looked at only when a lock with the right inode was seen: a stat of any other file of another
 * process may wait for a server that is away. */
static bool is_same_file(const struct wanted_lock *wanted, const char *pid, const char *fd)
{
    char path[600];
    struct stat stat_of_fd;
    snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid, fd);
    return stat(path, &stat_of_fd) == 0 && stat_of_fd.st_dev == wanted->file.st_dev &&
           stat_of_fd.st_ino == wanted->file.st_ino;
}

static bool process_has_lock(const struct wanted_lock *wanted, const char *pid)
{
    char path[300];
    bool found = false;
    bool is_own = strtol(pid, NULL, 10) == getpid();
    snprintf(path, sizeof(path), "/proc/%s/fdinfo", pid);
    DIR *folder = opendir(path);
    if (!folder)
        return false;
    const struct dirent *entry;
    while (!found && (entry = readdir(folder))) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        if (is_own && strtol(entry->d_name, NULL, 10) == wanted->own_fd)
            continue;
        found = info_has_lock(wanted, dirfd(folder), entry->d_name) &&
                is_same_file(wanted, pid, entry->d_name);
    }
    closedir(folder);
    return found;
}

static void describe_process(const char *pid, char *text, size_t text_size)
{
    char path[300], name[32] = "";
    snprintf(path, sizeof(path), "/proc/%s/comm", pid);
    FILE *comm = fopen(path, "re");
    if (comm) {
        if (!fgets(name, sizeof(name), comm))
            name[0] = '\0';
        fclose(comm);
    }
    name[strcspn(name, "\n")] = '\0';
    for (char *c = name; *c; c++) { /* a process names itself as it likes */
        if (!isprint((unsigned char)*c))
            *c = '?';
    }
    if (strtol(pid, NULL, 10) == getpid())
        snprintf(text, text_size, "another export of this server");
    else
        snprintf(text, text_size, "%s (process %s)", name[0] ? name : "a program", pid);
}

/* The kernel's PF_EXITING, as field 9 of /proc/PID/stat shows it; field 2 is in parentheses and may
 * hold anything. */
#define FLAG_EXITING 0x4u

static bool is_exiting(const char *pid)
{
    char path[300], text[512] = "";
    unsigned flags = 0;
    snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    FILE *stat = fopen(path, "re");
    if (!stat)
        return true; /* it has ended meanwhile */
    text[fread(text, 1, sizeof(text) - 1, stat)] = '\0';
    fclose(stat);
    const char *behind_name = strrchr(text, ')');
    return behind_name && sscanf(behind_name, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1 &&
           (flags & FLAG_EXITING);
}

/* SIGKILL is on its way to it. */
static bool is_killed(const char *pid)
{
    char path[300], line[256];
    uint64_t pending;
    bool found = false;
    snprintf(path, sizeof(path), "/proc/%s/status", pid);
    FILE *status = fopen(path, "re");
    while (status && !found && fgets(line, sizeof(line), status)) {
        if (sscanf(line, "SigPnd: %" SCNx64, &pending) == 1 ||
            sscanf(line, "ShdPnd: %" SCNx64, &pending) == 1)
            found = pending >> (SIGKILL - 1) & 1;
    }
    if (status)
        fclose(status);
    return found;
}

bool linux_lock_holder(struct host_files *files, int fd, uint64_t offset, char *text,
                       size_t text_size)
{
    (void)files;
    struct wanted_lock wanted = {.offset = offset, .own_fd = fd};
    struct flock lock;
    char pid[24];
    snprintf(text, text_size, "another process");
    if (find_lock(fd, offset, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0) {
        snprintf(pid, sizeof(pid), "%ld", (long)lock.l_pid); /* not of an open file description */
        describe_process(pid, text, text_size);
        return true;
    }
    DIR *processes = fstat(fd, &wanted.file) == 0 ? opendir("/proc") : NULL;
    if (!processes)
        return false;
    bool found = false;
    const struct dirent *entry;
    while (!found && (entry = readdir(processes))) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        if (!process_has_lock(&wanted, entry->d_name))
            continue;
        found = !is_killed(entry->d_name) && !is_exiting(entry->d_name);
        describe_process(entry->d_name, text, text_size);
    }
    closedir(processes);
    return found;
}
