/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory of a file that stays when the process is killed. Its name on the host is made of what
 * names the file there, so whoever opens the same file finds it, by whatever path.
 */
#include "block/posix.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/env.h"
#include "block/kept.h"
#include "block/workers.h"
#include "common/clock.h"

struct posix_kept {
    struct kept_memory kept;
    struct host_files *files;
    struct workers *workers;
    struct host_kept host;
};

/* --- the end ------------------------------------------------------------------------------------
 */

struct close_job {
    struct posix_kept *kept;
    bool is_done;
};

static int close_work(void *arg)
{
    const struct close_job *job = arg;
    job->kept->files->kept_close(job->kept->files, &job->kept->host, job->is_done);
    return 0;
}

static void posix_kept_co_close(struct kept_memory *memory, bool is_done)
{
    struct posix_kept *kept = container_of(memory, struct posix_kept, kept);
    workers_co_run(kept->workers, close_work, &(struct close_job){kept, is_done});
    free(kept);
}

/* --- the beginning ------------------------------------------------------------------------------
 */

struct keep_job {
    struct posix_kept *kept;
    const struct block_node *node;
    size_t length;
    bool only_look;
    struct error *err;
};

static int keep_work(void *arg)
{
    const struct keep_job *job = arg;
    struct posix_kept *kept = job->kept;
    struct host_file_info info;
    char name[48];
    snprintf(name, sizeof(name), "%" PRIx64 "-%" PRIx64, job->node->file_device,
             job->node->file_inode);
    int ret = kept->files->kept_open(kept->files, name, job->length, job->only_look, &kept->host,
                                     job->err);
    if (ret < 0)
        return ret;
    ret = kept->files->info(kept->files, posix_of(job->node)->fd, &info);
    if (ret < 0) {
        kept->files->kept_close(kept->files, &kept->host, false);
        return error_set(job->err, ret, "cannot look at '%s': %s", job->node->name,
                         error_text(ret));
    }
    kept->kept = (struct kept_memory){
        .base = kept->host.base,
        .length = kept->host.length,
        .is_found = kept->host.is_found,
        .file_changed_ns = info.changed_ns,
        .clock = &clock_of_files,
        .co_close = posix_kept_co_close,
    };
    return 0;
}

int posix_co_keep(struct block_node *node, size_t length, bool only_look,
                  struct kept_memory **ret_kept, struct error *err)
{
    struct host_files *files = posix_of(node)->files;
    if (!files->kept_open)
        return error_set(err, -ENOTSUP, "the host of '%s' has no memory that stays", node->name);
    struct posix_kept *kept = calloc(1, sizeof(*kept));
    if (!kept)
        return error_set(err, -ENOMEM, "no memory for what is kept of '%s'", node->name);
    kept->files = files;
    kept->workers = node->env->workers;
    struct keep_job job = {kept, node, length, only_look, err};
    int ret = workers_co_run(kept->workers, keep_work, &job);
    if (ret < 0)
        free(kept);
    else
        *ret_kept = &kept->kept;
    return ret;
}
