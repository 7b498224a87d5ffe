/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A file that is left to another server, and taken back: its locks go and come, its descriptors
 * stay. What was remembered of it is forgotten then, also by the kernel's page cache: on a file
 * system that hosts share without keeping their caches in step, reads would show the old bytes.
 */
#include "block/posix.h"

#include <inttypes.h>

#include "block/env.h"
#include "block/workers.h"

struct activity_job {
    const struct posix_file *file;
    const char *path;
    bool for_writing;
    struct error *err;
};

static int unlock_work(void *arg)
{
    const struct activity_job *job = arg;
    posix_unlock_file(job->file->files, job->file->fd, job->file->locking, job->for_writing);
    return 0;
}

int posix_co_inactivate(struct block_node *node, struct error *err)
{
    struct activity_job job = {posix_of(node), node->name, !node->read_only, err};
    return workers_co_run(node->env->workers, unlock_work, &job);
}

static int lock_work(void *arg)
{
    const struct activity_job *job = arg;
    const struct posix_file *file = job->file;
    int ret = posix_lock_file(file->files, file->fd, file->locking, job->for_writing, job->path,
                              job->err);
    if (ret < 0)
        posix_unlock_file(file->files, file->fd, file->locking, job->for_writing);
    else if (!file->direct && file->files->forget_pages)
        file->files->forget_pages(file->files, file->fd);
    return ret;
}

int posix_co_invalidate(struct block_node *node, struct error *err)
{
    struct posix_file *file = posix_of(node);
    struct activity_job job = {file, node->name, !node->read_only, err};
    int ret = workers_co_run(node->env->workers, lock_work, &job);
    if (ret == 0)
        posix_extents_forget(&file->data, 0, UINT64_MAX);
    return ret;
}
