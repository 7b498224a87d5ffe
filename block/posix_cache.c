/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * "This range will be read": the kernel is asked to read it into its page cache, by posix_fadvise()
 * on a worker, since it may wait for the disk's queue. It is cheaper than reading the range into
 * memory of ours: nothing is copied, and the answer need not wait for the disk.
 *
 * With O_DIRECT no read looks into the page cache, so there is nothing to be gained, and nothing is
 * done.
 */
#include <errno.h>

#include "block/env.h"
#include "block/posix.h"
#include "block/workers.h"

struct cache_job {
    struct posix_file *file;
    uint64_t offset, length;
};

static int cache_work(void *arg)
{
    struct cache_job *job = arg;
    struct host_files *files = job->file->files;
    return files->will_need(files, job->file->fd, job->offset, job->length);
}

int posix_co_cache(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct posix_file *file = posix_of(node);
    struct cache_job job = {.file = file, .offset = offset, .length = length};
    if (file->direct)
        return 0;
    if (!file->files->will_need)
        return -ENOTSUP;
    return workers_co_run(node->env->workers, cache_work, &job);
}
