/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening a file. Options:
 *
 *   filename      the path
 *   aio           io_uring, threads, native or sync; without it the first of env->engines
 *   cache.direct  on: past the page cache (O_DIRECT); off: through it (the default)
 *   cache.no-flush  on: a flush does nothing; what is not on the disk yet is lost in a power cut
 *   discard       ignore (the default) or unmap, also spelled off and on
 *   within        a directory that the file must be in; see posix_within.c
 *   allow-path    directories that it may be in as well, with a colon between them
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
#include "block/node.h"
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
        return posix_check_kind(path, HOST_FILE_REGULAR, HOST_FILE_DIRECTORY, err);
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
    case -EBUSY:
        return error_set(err, code,
                         "cannot open '%s': the system has it in use (it may be mounted, or belong "
                         "to LVM or RAID); end that first%s",
                         path, for_writing ? ", or serve it with --read-only" : "");
    case -ENXIO:
    case -ENODEV:
        return error_set(err, code,
                         "cannot open '%s': there is no such device, or no medium is in it", path);
    case -ENOMEDIUM:
        return error_set(err, code, "cannot open '%s': no medium is in the drive; put one in",
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

int posix_check_kind(const char *path, enum host_file_kind wanted, enum host_file_kind kind,
                     struct error *err)
{
    if (kind == wanted)
        return 0;
    if (wanted == HOST_FILE_BLOCK_DEVICE)
        return error_set(err, -ENOTBLK,
                         "cannot open '%s': it is not a block device; give the path of one, or say "
                         "driver=file for a regular file",
                         path);
    switch (kind) {
    case HOST_FILE_DIRECTORY:
        return error_set(err, -EISDIR,
                         "cannot open '%s': it is a directory; give the path of an image file",
                         path);
    case HOST_FILE_BLOCK_DEVICE:
        return error_set(err, -ENOTSUP,
                         "cannot open '%s': it is a block device, and the driver 'file' serves "
                         "regular files only; say driver=host_device, or its path without a driver",
                         path);
    case HOST_FILE_REGULAR:
    case HOST_FILE_OTHER:
        break;
    }
    return error_set(err, -EINVAL,
                     "cannot open '%s': it is not a regular file; give the path of an image file",
                     path);
}

/* --- options ------------------------------------------------------------------------------------
 */

static int take_engine(const struct block_env *env, struct node_options *options,
                       const struct engine_ops **ret_ops, struct error *err)
{
    const char *names[ENV_ENGINES_MAX + 1] = {NULL};
    unsigned index = 0;
    for (unsigned i = 0; env->engines[i]; i++) {
        assert(i < ENV_ENGINES_MAX);
        names[i] = env->engines[i]->name;
        if (env->engines[i] == *ret_ops)
            index = i;
    }
    int ret = node_options_take_choice(options, "aio", names, &index, err);
    if (ret == 0)
        *ret_ops = env->engines[index];
    return ret;
}

static int check_engine(const struct posix_options *taken, const struct node_options *options,
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
                                   "%s; it is the path of an image or a device",
                                   path ? "empty" : "missing");
    *ret_path = path;
    return 0;
}

int posix_take_modes(const struct block_env *env, struct node_options *options,
                     struct posix_options *taken, struct error *err)
{
    static const char *const discard_names[] = {"ignore", "unmap", "off", "on", NULL};
    static const char *const locking_names[] = {
        [POSIX_LOCKING_AUTO] = "auto",
        [POSIX_LOCKING_ON] = "on",
        [POSIX_LOCKING_OFF] = "off",
        NULL,
    };
    unsigned discard = taken->unmap, locking = taken->locking;
    int ret = take_engine(env, options, &taken->engine_ops, err);
    if (ret == 0)
        ret = node_options_take_bool(options, "cache.direct", &taken->direct, err);
    if (ret == 0)
        ret = check_engine(taken, options, err);
    if (ret == 0)
        ret = node_options_take_bool(options, "cache.no-flush", &taken->no_flush, err);
    if (ret == 0)
        ret = node_options_take_choice(options, "discard", discard_names, &discard, err);
    taken->unmap = discard % 2;
    if (ret == 0)
        ret = node_options_take_choice(options, "locking", locking_names, &locking, err);
    taken->locking = (enum posix_locking)locking;
    return ret;
}

static int take_options(const struct block_env *env, struct node_options *options,
                        struct posix_options *ret_options, struct error *err)
{
    struct posix_options taken = {.path = NULL, .locking = POSIX_LOCKING_AUTO};
    int ret = take_path(options, &taken.path, err);
    taken.within = node_options_take(options, "within");
    taken.allowed = node_options_take(options, "allow-path");
    if (ret == 0)
        ret = posix_take_modes(env, options, &taken, err);
    if (ret == 0)
        *ret_options = taken;
    return ret;
}

/* --- on a worker --------------------------------------------------------------------------------
 */

static int open_again(const struct posix_opening *opening, int flags)
{
    return posix_open_within(opening->files, opening->options.path, opening->options.within,
                             opening->options.allowed, flags);
}

static int look_at(const struct posix_opening *opening, struct host_file_info *ret_info)
{
    int fd = open_again(opening, O_PATH);
    if (fd < 0)
        return fd;
    int ret = opening->files->info(opening->files, fd, ret_info);
    opening->files->close(opening->files, fd);
    return ret;
}

int posix_look_at(struct host_files *files, const char *path, struct host_file_info *ret_info)
{
    const struct posix_opening opening = {.files = files, .options = {.path = path}};
    return look_at(&opening, ret_info);
}

/* A reopen's path leads to the file that is open already, or it is not opened. */
static int check_same_file(const struct posix_opening *opening, const struct host_file_info *info)
{
    struct host_file_info old;
    if (opening->replaced_fd < 0)
        return 0;
    int ret = opening->files->info(opening->files, opening->replaced_fd, &old);
    if (ret < 0)
        return posix_open_failed(opening->options.path, ret, false, opening->err);
    if (old.device == info->device && old.inode == info->inode)
        return 0;
    return error_set(opening->err, -ESTALE,
                     "cannot open '%s' again: another file has its name now; restart the server to "
                     "serve that one",
                     opening->options.path);
}

/* The kind is looked at before the file is really opened: opening a pipe would wait for its other
 * end, and opening a device can do things. (O_NONBLOCK would help too, but it stays with the
 * descriptor, and io_uring then fails where it should wait.) */
static int check_kind_at(const struct posix_opening *opening)
{
    const char *path = opening->options.path;
    struct host_file_info info;
    int ret = look_at(opening, &info);
    if (ret == -EXDEV)
        return posix_refuse_outside(opening->files, path, opening->options.within, opening->err);
    if (ret < 0)
        return posix_open_failed(path, ret, false, opening->err);
    ret = posix_check_kind(path, opening->kind, info.kind, opening->err);
    return ret == 0 ? check_same_file(opening, &info) : ret;
}

static int lock_main(const struct posix_opening *opening)
{
    const struct posix_options *options = &opening->options;
    if (opening->replaced_fd < 0)
        return posix_lock_file(opening->files, opening->fd, options->locking, !opening->read_only,
                               options->path, opening->err);
    return posix_lock_again(opening->files, opening->fd, opening->replaced_fd,
                            opening->replaces_writer, options->locking, !opening->read_only,
                            options->path, opening->err);
}

static int open_main(struct posix_opening *opening)
{
    const struct posix_options *options = &opening->options;
    const char *path = options->path;
    int flags = (opening->read_only ? O_RDONLY : O_RDWR) | (options->direct ? O_DIRECT : 0);
    int fd = open_again(opening, flags | opening->more_flags);
    if (fd == -EINVAL && options->direct)
        return error_set(opening->err, fd,
                         "cannot open '%s' with cache=none: its file system does not support "
                         "O_DIRECT; use --cache=writeback",
                         path);
    if (fd < 0)
        return posix_open_failed(path, fd, !opening->read_only, opening->err);
    opening->fd = opening->buffered_fd = fd;

    int ret = opening->files->info(opening->files, fd, &opening->info);
    if (ret < 0)
        return posix_open_failed(path, ret, false, opening->err);
    /* it may be another one by now */
    ret = posix_check_kind(path, opening->kind, opening->info.kind, opening->err);
    if (ret == 0)
        ret = check_same_file(opening, &opening->info);
    if (ret == 0 && opening->node)
        ret = node_check_circle(opening->node, path, opening->info.device, opening->info.inode,
                                opening->err);
    return ret == 0 ? lock_main(opening) : ret;
}

static int open_buffered(struct posix_opening *opening)
{
    const char *path = opening->options.path;
    struct host_file_info info;
    int fd = open_again(opening, opening->read_only ? O_RDONLY : O_RDWR);
    if (fd < 0)
        return posix_open_failed(path, fd, !opening->read_only, opening->err);
    opening->buffered_fd = fd;
    int ret = opening->files->info(opening->files, fd, &info);
    if (ret < 0)
        return posix_open_failed(path, ret, false, opening->err);
    if (info.device != opening->info.device || info.inode != opening->info.inode)
        return error_set(opening->err, -EAGAIN,
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

int posix_opening_open(struct posix_opening *opening)
{
    opening->fd = opening->buffered_fd = -1;
    opening->limits = (struct block_limits){.request_alignment = 1, .memory_alignment = 1};
    opening->pages = (struct host_pages){.base = NULL};
    int ret = check_kind_at(opening);
    if (ret == 0)
        ret = open_main(opening);
    if (ret < 0)
        posix_opening_close(opening);
    return ret;
}

void posix_opening_close(struct posix_opening *opening)
{
    if (opening->pages.base) /* first: it holds the file, and its locks, open */
        opening->files->pages_close(opening->files, &opening->pages);
    opening->pages.base = NULL;
    close_both(opening->files, opening->fd, opening->buffered_fd);
    opening->fd = opening->buffered_fd = -1;
}

int posix_opening_work(void *arg)
{
    struct posix_opening *opening = arg;
    int ret = posix_opening_open(opening);
    if (ret < 0)
        return ret;
    if (!opening->options.direct) {
        posix_lend_open(opening->files, opening->fd, opening->info.size_bytes, &opening->pages);
        return 0;
    }
    ret = posix_probe_direct(opening->files, opening->fd, &opening->info, opening->options.path,
                             &opening->limits, opening->err);
    if (ret == 0)
        ret = open_buffered(opening);
    if (ret < 0)
        posix_opening_close(opening);
    return ret;
}

/* --- the driver's calls -------------------------------------------------------------------------
 */

int posix_take_options(struct block_node *node, struct node_options *options,
                       enum host_file_kind kind, struct posix_opening *ret_opening,
                       struct error *err)
{
    struct posix_opening opening = {
        .node = node,
        .files = node->env->files,
        .kind = kind,
        .read_only = node->read_only,
        .err = err,
        .fd = -1,
        .buffered_fd = -1,
        .replaced_fd = -1,
    };
    int ret = take_options(node->env, options, &opening.options, err);
    if (ret == 0)
        *ret_opening = opening;
    return ret;
}

void posix_file_init(struct posix_file *file, const struct posix_opening *opening)
{
    file->files = opening->files;
    file->engine_ops = opening->options.engine_ops;
    file->fd = opening->fd;
    file->buffered_fd = opening->buffered_fd;
    file->locking = opening->options.locking;
    file->direct = opening->options.direct;
    file->no_flush = opening->options.no_flush;
    file->unmap = opening->options.unmap;
    file->pages = opening->pages;
    file->seeks.worker_due = POSIX_SEEKS_BEFORE_QUICK;
    posix_tail_init(&file->tail);
    posix_writer_init(&file->writer);
    posix_extents_init(&file->data);
}

void posix_file_fini(struct posix_file *file)
{
    posix_extents_fini(&file->data);
    posix_writer_fini(&file->writer);
    posix_tail_fini(&file->tail);
}

int posix_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    struct posix_opening opening;
    int ret = posix_take_options(node, options, HOST_FILE_REGULAR, &opening, err);
    if (ret < 0)
        return ret;
    struct posix_file *file = calloc(1, sizeof(*file));
    if (!file)
        return error_set(err, -ENOMEM, "no memory to open '%s'", opening.options.path);
    ret = workers_co_run(node->env->workers, posix_opening_work, &opening);
    if (ret < 0) {
        free(file);
        return ret;
    }
    posix_file_init(file, &opening);

    node->state = file;
    node->file_device = opening.info.device;
    node->file_inode = opening.info.inode;
    node->limits = opening.limits;
    /* A block below the file system's makes it read the rest of the block first. */
    if (is_power_of_two(opening.info.io_size_bytes))
        node->limits.preferred_bytes = opening.info.io_size_bytes;
    atomic_store(&node->size_bytes, opening.info.size_bytes);
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
    /* on a worker: the last close of a deleted file is slow, and a device is flushed by it */
    workers_co_run(node->env->workers, close_work, file);
    posix_file_fini(file);
    free(file);
    node->state = NULL;
}
