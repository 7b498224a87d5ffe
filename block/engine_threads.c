/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each operation is a blocking call on one of block/workers' threads. Works on every kernel and
 * file system, at the price of two hand-overs between threads an operation.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/engine.h"
#include "block/engine_call.h"
#include "block/workers.h"

struct threads_engine {
    struct engine engine;
    struct engine_context context;
    unsigned in_flight;
};

static_assert(sizeof(struct worker_job) <= sizeof(((struct engine_op *)NULL)->engine_space),
              "a job lies in the operation's own space");

static struct worker_job *job_of_op(struct engine_op *op)
{
    return (struct worker_job *)op->engine_space;
}

static struct engine_op *op_of_job(struct worker_job *job)
{
    return container_of((void *)job, struct engine_op, engine_space);
}

static struct threads_engine *threads_of_op(const struct engine_op *op)
{
    return container_of(op->engine, struct threads_engine, engine);
}

static void op_work(struct worker_job *job)
{
    struct engine_op *op = op_of_job(job);
    op->result = engine_call(threads_of_op(op)->context.files, op);
}

static void op_done(struct worker_job *job)
{
    struct engine_op *op = op_of_job(job);
    threads_of_op(op)->in_flight--;
    op->done(op);
}

static int threads_open(const struct engine_context *context, struct engine **ret_engine,
                        struct error *err)
{
    struct threads_engine *threads = calloc(1, sizeof(*threads));
    if (!threads)
        return error_set(err, -ENOMEM, "no memory for the AIO engine 'threads'");
    threads->engine.ops = &engine_threads;
    threads->context = *context;
    *ret_engine = &threads->engine;
    return 0;
}

static void threads_close(struct engine *engine)
{
    struct threads_engine *threads = container_of(engine, struct threads_engine, engine);
    assert(threads->in_flight == 0);
    free(threads);
}

static void threads_queue(struct engine *engine, struct engine_op *op)
{
    struct threads_engine *threads = container_of(engine, struct threads_engine, engine);
    struct worker_job *job = job_of_op(op);
    *job = (struct worker_job){.work = op_work, .done = op_done};
    threads->in_flight++;
    workers_submit(threads->context.workers, threads->context.loop, job);
}

const struct engine_ops engine_threads = {
    .name = "threads",
    .open = threads_open,
    .close = threads_close,
    .queue = threads_queue,
    .inline_writes_pay = true,
};
