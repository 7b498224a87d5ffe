/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which driver a path is for when nobody says: each protocol driver looks at it, and the surest has
 * it. What is no device, and what cannot be looked at, is for "file", which then says what is wrong
 * with it. It is a path of the host, so all of it is done on a worker.
 */
#include <string.h>

#include "block/env.h"
#include "block/graph.h"
#include "block/workers.h"

struct protocol_job {
    const struct block_env *env;
    const char *path;
    const char *name; /* the result */
};

static int protocol_work(void *arg)
{
    struct protocol_job *job = arg;
    int best_score = 0;
    for (unsigned i = 0; job->env->drivers[i]; i++) {
        const struct block_driver *driver = job->env->drivers[i];
        int score = driver->probe_path ? driver->probe_path(job->env->files, job->path) : 0;
        if (score > best_score) {
            best_score = score;
            job->name = driver->name;
        }
    }
    return 0;
}

const char *graph_co_protocol_of(const struct block_env *env, const char *path)
{
    struct protocol_job job = {.env = env, .path = path, .name = "file"};
    workers_co_run(env->workers, protocol_work, &job);
    return job.name;
}
