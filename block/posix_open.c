/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening a file. Options:
 *
 *   filename      the path
 *   aio           io_uring, threads, native or sync; without it the first of env->engines
 *   cache.direct  on: past the page cache (O_DIRECT); off: through it (the default)
 *   cache.no-flush  on: a flush does nothing; what is not on the disk yet is lost in a power cut
 *   discard       ignore (the default) or unmap, also spelled off and on
 *   locking       auto (the default: where the file system can), on or off; see posix_lock.c
 *
 * All calls to the host are made in one job of the workers: a path may lead to a sleeping disk or a
 * server that is away. What a person can get wrong ends in one sentence with the path and the
 * remedy.
 */
#include "block/posix.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "block/env.h"
#include "block/node_options.h"
#include "block/workers.h"
#include "common/align.h"

/* --- sentences ----------------------------------------------------------------------------------
 */

int posix_open_failed(const char *path, int code, bool for_writing, struct error *err)
{
    switch (code) {
    case -ENOENT:
        return error_set(err, code, "cannot open '%s': there is no such file; check the path",
                         path);
    case -ENOTDIR:
        return error_set(err, code,
                         "cannot open '%s': a part of the path is not a directory; check the path",
                         path);
    case -EISDIR:
        return posix_check_kind(path, HOST_FILE_DIRECTORY, err);
    case -EACCES:
    case -EPERM:
    case -EROFS:
        if (for_writing)
            return error_set(err, code,
                             "cannot open '%s' for writing: %s; serve it with --read-only, or "
                             "change its permissions or the user",
                             path, error_text(code));
        return error_set(err, code, "cannot open '%s': %s; change its permissions or the user",
                         path, error_text(code));
    case -ETXTBSY:
        return error_set(err, code,
                         "cannot open '%s' for writing: it is a program that runs, or swap space; "
                         "stop its use, or serve it with --read-only",
                         path);
    case -EMFILE:
    case -ENFILE:
        return error_set(err, code,
                         "cannot open '%s': too many files are open; raise the limit (ulimit -n)",
                         path);
    default:
        return error_set(err, code, "cannot open '%s': %s", path, error_text(code));
    }
}

int posix_check_kind(const char *path, enum host_file_kind kind, struct error *err)
{
    switch (kind) {
    case HOST_FILE_REGULAR:
        return 0;
    case HOST_FILE_DIRECTORY:
        return error_set(err, -EISDIR,
                         "cannot open '%s': it is a directory; give the path of an image file",
                         path);
    case HOST_FILE_BLOCK_DEVICE:
        return error_set(err, -ENOTSUP,
                         "cannot open '%s': it is a block device, and the driver 'file' of this "
                         "version serves regular files only; give the path of an image file",
                         path);
    case HOST_FILE_OTHER:
        break;
    }
    return error_set(err, -EINVAL,
                     "cannot open '%s': it is not a regular file; give the path of an image file",
                     path);
}

/* --- options ------------------------------------------------------------------------------------
 */

struct open_options {
    const char *path;
    const struct engine_ops *engine_ops;
    enum posix_locking locking;
    bool direct;
    bool no_flush;
    bool unmap;
};

static int take_engine(const struct block_env *env, struct node_options *options,
                       const struct engine_ops **ret_ops, struct error *err)
{
    const char *names[ENV_ENGINES_MAX + 1] = {NULL};
    for (unsigned i = 0; env->engines[i]; i++) {
        assert(i < ENV_ENGINES_MAX);
        names[i] = env->engines[i]->name;
    }
    unsigned index = 0;
    int ret = node_options_take_choice(options, "aio", names, &index, err);
    if (ret == 0)
        *ret_ops = env->engines[index];
    return ret;
}

static int check_engine(const struct open_options *taken, const struct node_options *options,
                        struct error *err)
{
    if (!taken->engine_ops->needs_direct || taken->direct)
        return 0;
    return node_options_refuse(options, "aio", -EINVAL, err,
                               "cannot open '%.200s': aio=%s was specified, but it requires "
                               "cache.direct=on; say --cache=none or --cache=directsync, or "
                               "another --aio",
                               taken->path, taken->engine_ops->name);
}

static int take_path(struct node_options *options, const char **ret_path, struct error *err)
{
    const char *path = NULL;
    int ret = node_options_take_string(options, "filename", &path, err);
    if (ret < 0)
        return ret;
    if (!path || !*path)
        return node_options_refuse(options, "filename", -EINVAL, err,
                                   "%s; the driver file needs the path of an image",
                                   path ? "empty" : "missing");
    *ret_path = path;
    return 0;
}

static int take_options(const struct block_env *env, struct node_options *options,
                        struct open_options *ret_options, struct error *err)
{
    static const char *const discard_names[] = {"ignore", "unmap", "off", "on", NULL};
    static const char *const locking_names[] = {
        [POSIX_LOCKING_AUTO] = "auto",
        [POSIX_LOCKING_ON] = "on",
        [POSIX_LOCKING_OFF] = "off",
        NULL,
    };
    unsigned discard = 0, locking = POSIX_LOCKING_AUTO;
    struct open_options taken = {.path = NULL};
    int ret = take_path(options, &taken.path, err);
    if (ret == 0)
        ret = take_engine(env, options, &taken.engine_ops, err);
    if (ret == 0)
        ret = node_options_take_bool(options, "cache.direct", &taken.direct, err);
    if (ret == 0)
        ret = check_engine(&taken, options, err);
    if (ret == 0)
        ret = node_options_take_bool(options, "cache.no-flush", &taken.no_flush, err);
    if (ret == 0)
        ret = node_options_take_choice(options, "discard", discard_names, &discard, err);
    taken.unmap = discard % 2;
    if (ret == 0)
        ret = node_options_take_choice(options, "locking", locking_names, &locking, err);
    taken.locking = (enum posix_locking)locking;
    if (ret == 0)
        *ret_options = taken;
    return ret;
}

/* --- on a worker --------------------------------------------------------------------------------
 */

struct open_job {
    struct host_files *files;
    struct open_options options;
    bool read_only;
    struct error *err;
    /* results; -1: not open */
    int fd, buffered_fd;
    struct host_file_info info;
    struct block_limits limits;
    struct host_pages pages;
};

static int open_again(struct host_files *files, const char *path, int flags)
{
    int fd;
    do {
        fd = files->open(files, path, flags, 0);
    } while (fd == -EINTR);
    return fd;
}

/* The kind is looked at before the file is really opened: opening a pipe would wait for its other
 * end, and opening a device can do things. (O_NONBLOCK would help too, but it stays with the
 * descriptor, and io_uring then fails where it should wait.) */
static int look_at_kind(const struct open_job *job)
{
    const char *path = job->options.path;
    struct host_file_info info;
    int fd = open_again(job->files, path, O_PATH);
    if (fd < 0)
        return posix_open_failed(path, fd, false, job->err);
    int ret = job->files->info(job->files, fd, &info);
    job->files->close(job->files, fd);
    if (ret < 0)
        return posix_open_failed(path, ret, false, job->err);
    return posix_check_kind(path, info.kind, job->err);
}

static int open_main(struct open_job *job)
{
    const char *path = job->options.path;
    int flags = (job->read_only ? O_RDONLY : O_RDWR) | (job->options.direct ? O_DIRECT : 0);
    int fd = open_again(job->files, path, flags);
    if (fd == -EINVAL && job->options.direct)
        return error_set(job->err, fd,
                         "cannot open '%s' with cache=none: its file system does not support "
                         "O_DIRECT; use --cache=writeback",
                         path);
    if (fd < 0)
        return posix_open_failed(path, fd, !job->read_only, job->err);
    job->fd = job->buffered_fd = fd;

    int ret = job->files->info(job->files, fd, &job->info);
    if (ret < 0)
        return posix_open_failed(path, ret, false, job->err);
    ret = posix_check_kind(path, job->info.kind, job->err); /* it may be another one by now */
    if (ret == 0)
        ret =
            posix_lock_file(job->files, fd, job->options.locking, !job->read_only, path, job->err);
    return ret;
}

static int open_buffered(struct open_job *job)
{
    const char *path = job->options.path;
    struct host_file_info info;
    int fd = open_again(job->files, path, job->read_only ? O_RDONLY : O_RDWR);
    if (fd < 0)
        return posix_open_failed(path, fd, !job->read_only, job->err);
    job->buffered_fd = fd;
    int ret = job->files->info(job->files, fd, &info);
    if (ret < 0)
        return posix_open_failed(path, ret, false, job->err);
    if (info.device != job->info.device || info.inode != job->info.inode)
        return error_set(job->err, -EAGAIN,
                         "cannot open '%s': another file took its place meanwhile; try again",
                         path);
    return 0;
}

static void close_both(struct host_files *files, int fd, int buffered_fd)
{
    if (buffered_fd >= 0 && buffered_fd != fd)
        files->close(files, buffered_fd);
    if (fd >= 0)
        files->close(files, fd);
}

static int open_work(void *arg)
{
    struct open_job *job = arg;
    job->fd = job->buffered_fd = -1;
    job->limits = (struct block_limits){.request_alignment = 1, .memory_alignment = 1};
    int ret = look_at_kind(job);
    if (ret == 0)
        ret = open_main(job);
    if (ret == 0 && job->options.direct) {
        ret = posix_probe_direct(job->files, job->fd, &job->info, job->options.path, &job->limits,
                                 job->err);
        if (ret == 0)
            ret = open_buffered(job);
    }
    if (ret < 0)
        close_both(job->files, job->fd, job->buffered_fd);
    else if (!job->options.direct)
        posix_lend_open(job->files, job->fd, job->info.size_bytes, &job->pages);
    return ret;
}

/* --- the driver's calls -------------------------------------------------------------------------
 */

int posix_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    struct open_job job = {
        .files = node->env->files,
        .read_only = node->read_only,
        .err = err,
    };
    int ret = take_options(node->env, options, &job.options, err);
    if (ret < 0)
        return ret;
    struct posix_file *file = calloc(1, sizeof(*file));
    if (!file)
        return error_set(err, -ENOMEM, "no memory to open '%s'", job.options.path);
    ret = workers_co_run(node->env->workers, open_work, &job);
    if (ret < 0) {
        free(file);
        return ret;
    }
    file->files = job.files;
    file->engine_ops = job.options.engine_ops;
    file->fd = job.fd;
    file->buffered_fd = job.buffered_fd;
    file->direct = job.options.direct;
    file->no_flush = job.options.no_flush;
    file->unmap = job.options.unmap;
    file->pages = job.pages;
    posix_tail_init(&file->tail);
    posix_extents_init(&file->data);

    node->state = file;
    node->limits = job.limits;
    /* A block below the file system's makes it read the rest of the block first. */
    if (is_power_of_two(job.info.io_size_bytes))
        node->limits.preferred_bytes = job.info.io_size_bytes;
    atomic_store(&node->size_bytes, job.info.size_bytes);
    block_env_engine(node->env, file->engine_ops); /* a kernel that refuses it says so now */
    return 0;
}

static int close_work(void *arg)
{
    struct posix_file *file = arg;
    posix_lend_close(file); /* first: it holds the file, and its locks, open */
    close_both(file->files, file->fd, file->buffered_fd);
    return 0;
}

void posix_co_close(struct block_node *node)
{
    struct posix_file *file = posix_of(node);
    workers_co_run(node->env->workers, close_work,
                   file); /* the last close of a deleted file is slow */
    posix_extents_fini(&file->data);
    posix_tail_fini(&file->tail);
    free(file);
    node->state = NULL;
}
