/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * New files and new sizes. Options of a new file:
 *
 *   filename       the path; a file that is there loses its content
 *   size           in bytes
 *   preallocation  off: a sparse file; falloc: the space is reserved; full: zeroes are written
 *
 * A new file that could not be made whole is removed again; one that was there before is not ours
 * to remove.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "block/env.h"
#include "block/node_options.h"
#include "block/posix.h"
#include "block/workers.h"

#define FILL_BYTES (1u << 20) /* written at a time with preallocation=full */

enum preallocation {
    PREALLOCATION_OFF,
    PREALLOCATION_FALLOC,
    PREALLOCATION_FULL,
};

struct create_job {
    struct host_files *files;
    const char *path;
    uint64_t size_bytes;
    enum preallocation preallocation;
    struct error *err;
};

static int create_failed(const struct create_job *job, const char *what, int code)
{
    const char *remedy =
        code == -ENOSPC || code == -EDQUOT ? "; make room, or use preallocation=off"
        : code == -EFBIG                   ? "; the file system takes no file this large"
        : code == -EOPNOTSUPP ? "; this file system cannot do that, use preallocation=full or off"
                              : "";
    return error_set(job->err, code, "cannot %s '%s' (%llu bytes): %s%s", what, job->path,
                     (unsigned long long)job->size_bytes, error_text(code), remedy);
}

static int open_new(const struct create_job *job, int flags)
{
    int fd;
    do {
        fd = job->files->open(job->files, job->path, flags, 0644);
    } while (fd == -EINTR);
    return fd;
}

/* A descriptor of the file; *ret_made says whether it was not there before. */
static int open_file(const struct create_job *job, bool *ret_made)
{
    struct host_file_info info;
    int fd = open_new(job, O_RDWR | O_CREAT | O_EXCL);
    *ret_made = fd >= 0;
    if (fd == -EEXIST) {
        fd = open_new(job, O_PATH);
        int ret = fd < 0 ? fd : job->files->info(job->files, fd, &info);
        if (fd >= 0)
            job->files->close(job->files, fd);
        if (ret < 0)
            return posix_open_failed(job->path, ret, true, job->err);
        ret = posix_check_kind(job->path, HOST_FILE_REGULAR, info.kind, job->err);
        if (ret < 0)
            return ret;
        fd = open_new(job, O_RDWR);
    }
    if (fd < 0)
        return error_set(
            job->err, fd,
            "cannot make '%s': %s; check the path and the permissions of its directory", job->path,
            error_text(fd));
    return fd;
}

static int fill(const struct create_job *job, int fd)
{
    void *zeroes = calloc(1, FILL_BYTES);
    if (!zeroes)
        return -ENOMEM;
    uint64_t done = 0;
    int ret = 0;
    while (done < job->size_bytes && ret == 0) {
        uint64_t left = job->size_bytes - done;
        struct iovec iov = {
            .iov_base = zeroes,
            .iov_len = left < FILL_BYTES ? (size_t)left : FILL_BYTES,
        };
        ssize_t count = job->files->pwritev(job->files, fd, &iov, 1, done);
        if (count > 0)
            done += (uint64_t)count;
        else if (count != -EINTR)
            ret = count < 0 ? (int)count : -EIO;
    }
    free(zeroes);
    return ret;
}

static int truncate_again(struct host_files *files, int fd, uint64_t size_bytes)
{
    int ret;
    do {
        ret = files->truncate(files, fd, size_bytes);
    } while (ret == -EINTR);
    return ret;
}

/* The old content goes first, or it would show in the new file. */
static int make_size(const struct create_job *job, int fd)
{
    int ret = truncate_again(job->files, fd, 0);
    if (ret == 0)
        ret = truncate_again(job->files, fd, job->size_bytes);
    if (ret < 0)
        return create_failed(job, "set the size of", ret);
    if (job->preallocation == PREALLOCATION_OFF || job->size_bytes == 0)
        return 0;
    if (job->preallocation == PREALLOCATION_FULL) {
        ret = fill(job, fd);
    } else {
        do {
            ret = job->files->fallocate(job->files, fd, 0, 0, job->size_bytes);
        } while (ret == -EINTR);
    }
    return ret < 0 ? create_failed(job, "reserve the space of", ret) : 0;
}

/* A full disk may show only now. */
static int sync_new(const struct create_job *job, int fd)
{
    int ret;
    do {
        ret = job->files->sync(job->files, fd);
    } while (ret == -EINTR);
    return ret < 0 ? create_failed(job, "write", ret) : 0;
}

static int create_work(void *arg)
{
    struct create_job *job = arg;
    bool made;
    int fd = open_file(job, &made);
    if (fd < 0)
        return fd;
    /* Before a byte of it is lost: it may be an image in use. */
    int ret = posix_lock_file(job->files, fd, POSIX_LOCKING_AUTO, true, job->path, job->err);
    if (ret == 0)
        ret = make_size(job, fd);
    if (ret == 0)
        ret = sync_new(job, fd);
    int closed = job->files->close(job->files, fd);
    if (ret == 0 && closed < 0 && closed != -EINTR)
        ret = create_failed(job, "write", closed);
    if (ret < 0 && made)
        job->files->unlink(job->files, job->path);
    return ret;
}

static int posix_co_create(struct block_env *env, struct node_options *options, struct error *err)
{
    static const char *const preallocation_names[] = {"off", "falloc", "full", NULL};
    unsigned preallocation = PREALLOCATION_OFF;
    struct create_job job = {
        .files = env->files,
        .path = node_options_take(options, "filename"),
        .size_bytes = UINT64_MAX,
        .err = err,
    };
    if (!job.path || !*job.path)
        return error_set(err, -EINVAL, "a new file needs the option 'filename': its path");
    int ret = node_options_take_size(options, "size", &job.size_bytes, err);
    if (ret == 0)
        ret = node_options_take_choice(options, "preallocation", preallocation_names,
                                       &preallocation, err);
    if (ret == 0)
        ret = node_options_check_all_taken(options, "the driver file", err);
    if (ret < 0)
        return ret;
    if (job.size_bytes == UINT64_MAX)
        return error_set(err, -EINVAL, "the new file '%s' needs the option 'size'", job.path);
    if (job.size_bytes > INT64_MAX)
        return error_set(err, -EFBIG,
                         "the new file '%s' cannot have %llu bytes; say less than 2^63", job.path,
                         (unsigned long long)job.size_bytes);
    job.preallocation = (enum preallocation)preallocation;
    return workers_co_run(env->workers, create_work, &job);
}

struct resize_job {
    struct posix_file *file;
    uint64_t size_bytes;
};

static int resize_work(void *arg)
{
    const struct resize_job *job = arg;
    return truncate_again(job->file->files, job->file->fd, job->size_bytes);
}

static int posix_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    struct resize_job job = {.file = posix_of(node), .size_bytes = size_bytes};
    if (node->read_only)
        return error_set(err, -EPERM, "cannot resize '%s': it is open read-only", node->name);
    int ret =
        size_bytes > INT64_MAX ? -EFBIG : workers_co_run(node->env->workers, resize_work, &job);
    if (ret < 0)
        return error_set(err, ret, "cannot resize '%s' to %llu bytes: %s", node->name,
                         (unsigned long long)size_bytes, error_text(ret));
    posix_extents_forget(&job.file->data, size_bytes, UINT64_MAX);
    atomic_store(&node->size_bytes, size_bytes);
    return 0;
}

static bool posix_has_zero_init(struct block_node *node)
{
    (void)node;
    return true; /* a regular file is made of holes until it is written */
}

const struct block_driver_admin posix_admin = {
    .co_stored_size = posix_co_stored_size,
    .co_inactivate = posix_co_inactivate,
    .co_invalidate = posix_co_invalidate,
    .co_keep = posix_co_keep,
    .co_reopen_prepare = posix_co_reopen_prepare,
    .co_reopen_commit = posix_co_reopen_commit,
    .co_reopen_abort = posix_co_reopen_abort,
    .co_create = posix_co_create,
    .co_resize = posix_co_resize,
    .has_zero_init = posix_has_zero_init,
};
