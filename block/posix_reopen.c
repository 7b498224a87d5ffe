/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A file opened again with other rights or another cache mode, and what can be changed without. The
 * new descriptors are opened beside the old ones, with the locks of what they are to be; the old
 * ones, and what only they were locked for, go when the whole graph has agreed. Nothing is in
 * flight meanwhile, and all that was written has been flushed, so no error of the old descriptors
 * is lost with them.
 */
#include "block/posix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/env.h"
#include "block/node_options.h"
#include "block/workers.h"

/* reopen->state. */
struct posix_reopening {
    struct posix_opening opening; /* fd -1: the old descriptors stay */
};

static int close_work(void *arg)
{
    posix_opening_close(arg);
    return 0;
}

/* What stays as it is may be said again. */
static int refuse_other_file(const struct posix_opening *opening, struct node_options *options,
                             struct error *err)
{
    const char *path = opening->options.path;
    int ret = node_options_take_string(options, "filename", &path, err);
    if (ret == 0 && strcmp(path, opening->options.path) != 0)
        ret = node_options_refuse(options, "filename", -ENOTSUP, err,
                                  "cannot be changed while the image is open");
    return ret;
}

static int take_changes(struct block_node *node, struct block_reopen *reopen,
                        struct posix_opening *opening, struct error *err)
{
    const struct posix_file *file = posix_of(node);
    *opening = (struct posix_opening){
        .files = file->files,
        .kind = HOST_FILE_REGULAR,
        .options =
            {
                .path = node->name,
                .engine_ops = file->engine_ops,
                .locking = file->locking,
                .direct = file->direct,
                .no_flush = file->no_flush,
                .unmap = file->unmap,
            },
        .read_only = reopen->read_only,
        .err = err,
        .fd = -1,
        .buffered_fd = -1,
        .replaced_fd = file->fd,
        .replaces_writer = !node->read_only,
    };
    int ret = refuse_other_file(opening, reopen->options, err);
    if (ret == 0)
        ret = posix_take_modes(node->env, reopen->options, &opening->options, err);
    if (ret == 0 && opening->options.locking != file->locking)
        ret = node_options_refuse(reopen->options, "locking", -ENOTSUP, err,
                                  "cannot be changed while the image is open");
    return ret;
}

int posix_co_reopen_prepare(struct block_node *node, struct block_reopen *reopen, struct error *err)
{
    struct posix_opening opening;
    int ret = take_changes(node, reopen, &opening, err);
    if (ret < 0)
        return ret;
    struct posix_reopening *reopening = malloc(sizeof(*reopening));
    if (!reopening)
        return error_set(err, -ENOMEM, "no memory to open '%.200s' again", node->name);
    bool is_same =
        reopen->read_only == node->read_only && opening.options.direct == posix_of(node)->direct;
    ret = is_same ? 0 : workers_co_run(node->env->workers, posix_opening_work, &opening);
    if (ret < 0) {
        free(reopening);
        return ret;
    }
    block_env_engine(node->env,
                     opening.options.engine_ops); /* if it is refused, that is said now */
    reopening->opening = opening;
    reopen->state = reopening;
    return 0;
}

/* The new descriptors are the file's, the old ones the opening's. */
static void exchange(struct posix_file *file, struct posix_opening *opening)
{
    struct posix_opening old = *opening;
    old.fd = file->fd;
    old.buffered_fd = file->buffered_fd;
    old.pages = file->pages;
    file->fd = opening->fd;
    file->buffered_fd = opening->buffered_fd;
    file->pages = opening->pages;
    *opening = old;
}

void posix_co_reopen_commit(struct block_node *node, struct block_reopen *reopen)
{
    struct posix_file *file = posix_of(node);
    struct posix_reopening *reopening = reopen->state;
    struct posix_opening *opening = &reopening->opening;
    file->engine_ops = opening->options.engine_ops;
    file->no_flush = opening->options.no_flush;
    file->unmap = opening->options.unmap;
    if (opening->fd >= 0) {
        file->direct = opening->options.direct;
        node->limits.request_alignment = opening->limits.request_alignment;
        node->limits.memory_alignment = opening->limits.memory_alignment;
        exchange(file, opening);
        workers_co_run(node->env->workers, close_work, opening);
    }
    free(reopening);
}

void posix_co_reopen_abort(struct block_node *node, struct block_reopen *reopen)
{
    struct posix_reopening *reopening = reopen->state;
    if (reopening->opening.fd >= 0)
        workers_co_run(node->env->workers, close_work, &reopening->opening);
    free(reopening);
}

/* --- the size ----------------------------------------------------------------------------------
 */

struct size_job {
    const struct posix_file *file;
    uint64_t size_bytes;
};

static int size_work(void *arg)
{
    struct size_job *job = arg;
    struct host_file_info info;
    int ret = job->file->files->info(job->file->files, job->file->fd, &info);
    if (ret == 0)
        job->size_bytes = info.size_bytes;
    return ret;
}

int posix_co_stored_size(struct block_node *node, uint64_t *ret_size_bytes)
{
    struct size_job job = {.file = posix_of(node)};
    int ret = workers_co_run(node->env->workers, size_work, &job);
    if (ret == 0)
        *ret_size_bytes = job.size_bytes;
    return ret;
}
