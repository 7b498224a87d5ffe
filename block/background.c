/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/background.h"

#include "block/coroutine.h"

static void run(void *arg)
{
    struct background *work = arg;
    work->co_run(work);
}

static void start_here(struct background *work)
{
    if (coroutine_start(loop_current(), run, work) < 0)
        work->refused(work);
}

static void posted(struct loop_job *job)
{
    start_here(container_of(job, struct background, job));
}

void background_start(struct background *work)
{
    struct loop *loop = work->env->background_loop;
    if (!loop || loop == loop_current()) {
        start_here(work);
        return;
    }
    work->job.run = posted;
    loop_post(loop, &work->job);
}
