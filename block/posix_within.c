/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files that an image names, and not a person: opened if they lie inside the image's directory, or
 * in one that a person allowed (--allow-path). What counts is where the file really is, not how the
 * name is spelled: links and ".." may lead anywhere, as long as they lead back. The file is then
 * opened by that real place, below its directory and without a link, so that nobody can put
 * something else in its way between the look and the open.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "block/posix.h"

static int open_plain(struct host_files *files, const char *path, int flags)
{
    int fd;
    do {
        fd = files->open(files, path, flags, 0);
    } while (fd == -EINTR);
    return fd;
}

static int real_path(struct host_files *files, const char *path, int flags, char real[PATH_MAX])
{
    int fd = open_plain(files, path, flags | O_PATH);
    if (fd < 0)
        return fd;
    int ret = files->real_path(files, fd, real, PATH_MAX);
    files->close(files, fd);
    return ret;
}

/* The part of `real` below the directory; NULL: it is not inside. */
static const char *part_below(const char *real, const char *directory)
{
    size_t length = strlen(directory);
    if (length > 0 && directory[length - 1] == '/') /* the root */
        length--;
    if (strncmp(real, directory, length) != 0 || real[length] != '/')
        return NULL;
    return real + length + 1;
}

/* Opens `real` if it lies inside the directory; -EXDEV if not. */
static int open_inside(struct host_files *files, const char *directory, const char *real, int flags)
{
    char real_directory[PATH_MAX];
    int directory_fd = open_plain(files, directory, O_PATH | O_DIRECTORY);
    if (directory_fd < 0)
        return directory_fd == -ENOENT || directory_fd == -ENOTDIR ? -EXDEV : directory_fd;
    int ret = files->real_path(files, directory_fd, real_directory, sizeof(real_directory));
    const char *below = ret == 0 ? part_below(real, real_directory) : NULL;
    if (ret == 0 && !below)
        ret = -EXDEV;
    if (ret == 0) {
        do {
            ret = files->open_beneath(files, directory_fd, below, flags);
        } while (ret == -EINTR || ret == -EAGAIN); /* EAGAIN: something was renamed meanwhile */
    }
    files->close(files, directory_fd);
    return ret;
}

int posix_open_within(struct host_files *files, const char *path, const char *within,
                      const char *allowed, int flags)
{
    char real[PATH_MAX], directory[PATH_MAX];
    if (!within)
        return open_plain(files, path, flags);
    if (!files->real_path || !files->open_beneath)
        return -ENOSYS;
    int ret = real_path(files, path, 0, real);
    if (ret < 0)
        return ret;
    ret = open_inside(files, within, real, flags);
    for (const char *next = allowed; ret == -EXDEV && next && *next;) {
        size_t length = strcspn(next, ":");
        if (length > 0 && length < sizeof(directory)) {
            memcpy(directory, next, length);
            directory[length] = '\0';
            ret = open_inside(files, directory, real, flags);
        }
        next += length + (next[length] == ':');
    }
    return ret;
}

int posix_refuse_outside(struct host_files *files, const char *path, const char *within,
                         struct error *err)
{
    char real[PATH_MAX];
    if (real_path(files, path, 0, real) < 0)
        snprintf(real, sizeof(real), "%s", path);
    char *slash = strrchr(real, '/');
    size_t directory_length = slash && slash > real ? (size_t)(slash - real) : 1;
    return error_set(
        err, -EPERM,
        "cannot open '%s', which an image names: it lies outside of '%s', that image's "
        "directory; say --allow-path=%.*s to allow it",
        path, within, (int)directory_length, real);
}
