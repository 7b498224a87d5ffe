/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that stays when the process is killed: a file on the tmpfs at /dev/shm, mapped. Everybody
 * may put files there, so what is found is taken only where it is a file that nobody but this user
 * can have made or can write: not followed if it is a link, not waited for if it is a pipe. It must
 * lie on tmpfs, since a file on a disk would also outlive a reboot, which it must not.
 *
 * A lock of its open file description says that a process has it. It goes when the process does;
 * one that is dying still has it for a moment, as with the locks of images (posix_lock.c), and is
 * waited for.
 *
 * Who closes it for good unlinks it, with the lock held. Who has opened it meanwhile then finds
 * that his file has no name any more, and opens it again.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "block/host_files.h"

#define OPENS_MAX 100 /* who unlinks it each time we come */
#define DEAD_HOLDER_TRIES 2000
#define DEAD_HOLDER_PAUSE_NS 1000000

static int refuse(const struct host_kept *kept, int code, const char *why, struct error *err)
{
    return error_set(err, code, "'%s' cannot be used: %s", kept->name, why);
}

/* --- is it ours? --------------------------------------------------------------------------------
 */

static int check_file(const struct host_kept *kept, const struct stat *stat, struct error *err)
{
    struct statfs system;
    if (!S_ISREG(stat->st_mode))
        return refuse(kept, -EINVAL, "it is not a regular file", err);
    if (stat->st_uid != geteuid())
        return refuse(kept, -EPERM, "it belongs to another user", err);
    if (stat->st_mode & (S_IRWXG | S_IRWXO))
        return refuse(kept, -EPERM, "others may open it", err);
    if (fstatfs(kept->fd, &system) < 0)
        return refuse(kept, -errno, error_text(-errno), err);
    if (system.f_type != TMPFS_MAGIC)
        return refuse(kept, -ENOTSUP, "/dev/shm is not a tmpfs, so it would outlive a reboot", err);
    return 0;
}

static int try_lock(const struct host_kept *kept, bool only_look)
{
    struct flock lock = {.l_type = only_look ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    if (fcntl(kept->fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

static int lock_file(struct host_files *files, const struct host_kept *kept, bool only_look,
                     struct error *err)
{
    const struct timespec pause = {.tv_nsec = DEAD_HOLDER_PAUSE_NS};
    char holder[80];
    int ret = try_lock(kept, only_look);
    if (ret == -EAGAIN && linux_lock_holder(files, kept->fd, 0, holder, sizeof(holder)))
        return error_set(err, -EBUSY, "'%s' is in use, %s has it", kept->name, holder);
    for (unsigned i = 0; i < DEAD_HOLDER_TRIES && ret == -EAGAIN; i++) {
        nanosleep(&pause, NULL);
        ret = try_lock(kept, only_look);
    }
    if (ret == -EAGAIN)
        return refuse(kept, -EBUSY, "another process has it", err);
    return ret < 0 ? refuse(kept, ret, error_text(ret), err) : 0;
}

/* --- opening ------------------------------------------------------------------------------------
 */

/* 1: with the lock; 0: its name was taken away before the lock was ours. */
static int open_once(struct host_files *files, struct host_kept *kept, bool only_look,
                     struct stat *ret_stat, struct error *err)
{
    int flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (only_look ? O_RDONLY : O_RDWR | O_CREAT);
    kept->fd = open(kept->name, flags, S_IRUSR | S_IWUSR);
    if (kept->fd < 0)
        return refuse(kept, -errno, error_text(-errno), err);
    int ret = fstat(kept->fd, ret_stat) < 0 ? refuse(kept, -errno, error_text(-errno), err)
                                            : check_file(kept, ret_stat, err);
    if (ret == 0)
        ret = lock_file(files, kept, only_look, err);
    if (ret == 0 && fstat(kept->fd, ret_stat) < 0)
        ret = refuse(kept, -errno, error_text(-errno), err);
    if (ret == 0 && ret_stat->st_nlink == 1)
        return 1;
    if (ret == 0 && ret_stat->st_nlink > 1)
        ret = refuse(kept, -EPERM, "it has another name too", err);
    close(kept->fd);
    kept->fd = -1;
    return ret;
}

/* All of its memory is taken now, so that no page of it is missing later, which would end the
 * process. What has another length was left by another version of this program. */
static int make_room(struct host_kept *kept, const struct stat *stat, bool only_look,
                     struct error *err)
{
    kept->is_found = (uint64_t)stat->st_size == kept->length;
    if (only_look)
        return kept->is_found ? 0 : refuse(kept, -ENOENT, "its length is another one", err);
    if (!kept->is_found && ftruncate(kept->fd, 0) < 0)
        return refuse(kept, -errno, error_text(-errno), err);
    int ret;
    do {
        ret = fallocate(kept->fd, 0, 0, (off_t)kept->length);
    } while (ret < 0 && errno == EINTR);
    if (ret < 0)
        return error_set(err, -errno, "cannot make '%s', of %zu bytes: %s", kept->name,
                         kept->length, error_text(-errno));
    return 0;
}

static int map(struct host_kept *kept, bool only_look, struct error *err)
{
    int protection = only_look ? PROT_READ : PROT_READ | PROT_WRITE;
    kept->base = mmap(NULL, kept->length, protection, MAP_SHARED, kept->fd, 0);
    return kept->base == MAP_FAILED ? refuse(kept, -errno, error_text(-errno), err) : 0;
}

int linux_kept_open(struct host_files *files, const char *name, size_t length, bool only_look,
                    struct host_kept *ret_kept, struct error *err)
{
    struct host_kept kept = {.fd = -1, .length = length};
    struct stat stat;
    int ret = 0;
    assert(length > 0 && length % 4096 == 0);
    int written =
        snprintf(kept.name, sizeof(kept.name), "/dev/shm/platter-%u-%s", (unsigned)geteuid(), name);
    assert(written > 0 && (size_t)written < sizeof(kept.name));
    (void)written;
    for (unsigned i = 0; i < OPENS_MAX && ret == 0; i++)
        ret = open_once(files, &kept, only_look, &stat, err);
    if (ret <= 0)
        return ret < 0 ? ret : refuse(&kept, -EBUSY, "others come and go", err);
    ret = make_room(&kept, &stat, only_look, err);
    if (ret == 0)
        ret = map(&kept, only_look, err);
    if (ret < 0) {
        if (!only_look && !kept.is_found)
            unlink(kept.name); /* nothing is in it */
        close(kept.fd);
        return ret;
    }
    *ret_kept = kept;
    return 0;
}

void linux_kept_close(struct host_files *files, struct host_kept *kept, bool is_done)
{
    (void)files;
    if (is_done)
        unlink(kept->name);
    munmap(kept->base, kept->length);
    close(kept->fd);
    kept->fd = -1;
    kept->base = NULL;
}
