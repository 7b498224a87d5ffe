/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each operation is a blocking call on one of block/workers' threads. Works on every kernel and
 * file system, at the price of two hand-overs between threads an operation.
 *
 * A read of what the page cache has is made in the loop, without waiting (preadv2(2) with
 * RWF_NOWAIT), a piece of them in a round: it needs no hand-over, and does not wait for a thread
 * behind the misses of others, which may have all of them. To try this with every read was slower:
 * the kernel then begins to read what it does not have, which takes the loop longer than to ask
 * first (mincore(2), the caller's: enum engine_memory) and leave that to a thread. What it does not
 * have goes to fewer threads where others wait for the loop (engine_misses.c).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/engine.h"
#include "block/engine_call.h"
#include "block/engine_misses.h"
#include "block/loop.h"
#include "block/loop_backlog.h"
#include "block/workers.h"

#define READS_AT_ONCE_PIECE 8 /* in a round; see URING_PIECE */

struct threads_engine {
    struct engine engine;
    struct engine_context context;
    struct loop_source source;
    struct list waiting; /* struct engine_op.link: reads that are made in the loop */
    struct engine_misses misses;
    unsigned in_flight; /* those that wait included */
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

static void end_op(struct engine_op *op)
{
    threads_of_op(op)->in_flight--;
    op->done(op);
}

static void op_done(struct worker_job *job)
{
    end_op(op_of_job(job));
}

static void hand_over(struct threads_engine *threads, struct engine_op *op)
{
    struct worker_job *job = job_of_op(op);
    *job = (struct worker_job){.work = op_work, .done = op_done};
    workers_submit(threads->context.workers, threads->context.loop, job);
}

/* --- reads in the loop --------------------------------------------------------------------------
 */

/* True: it is read, all of it. A part may be the file's end as well as the memory's: a thread finds
 * out. */
static bool read_at_once(struct host_files *files, struct engine_op *op)
{
    op->result = files->preadv_at_once(files, op->fd, op->iov, (int)op->iov_count, op->offset);
    return op->result > 0 && (size_t)op->result == engine_op_bytes(op);
}

static bool threads_turn(struct loop_source *source)
{
    struct threads_engine *threads = container_of(source, struct threads_engine, source);
    bool any_done = false;
    for (unsigned i = 0; i < READS_AT_ONCE_PIECE && !list_is_empty(&threads->waiting); i++) {
        struct engine_op *op = container_of(list_pop(&threads->waiting), struct engine_op, link);
        loop_backlog_fell(threads->context.loop, 1);
        if (read_at_once(threads->context.files, op)) {
            end_op(op);
            any_done = true;
        } else {
            hand_over(threads, op);
        }
    }
    engine_misses_hand_over(&threads->misses);
    return any_done || !list_is_empty(&threads->waiting);
}

/* --- the engine ---------------------------------------------------------------------------------
 */

static int threads_open(const struct engine_context *context, struct engine **ret_engine,
                        struct error *err)
{
    struct threads_engine *threads = calloc(1, sizeof(*threads));
    if (!threads)
        return error_set(err, -ENOMEM, "no memory for the AIO engine 'threads'");
    threads->engine.ops = &engine_threads;
    threads->context = *context;
    list_init(&threads->waiting);
    engine_misses_init(&threads->misses, context);
    threads->source.turn = threads_turn;
    link_init(&threads->source.link);
    loop_source_add(context->loop, &threads->source);
    *ret_engine = &threads->engine;
    return 0;
}

static void threads_close(struct engine *engine)
{
    struct threads_engine *threads = container_of(engine, struct threads_engine, engine);
    assert(threads->in_flight == 0);
    engine_misses_fini(&threads->misses);
    loop_source_remove(&threads->source);
    free(threads);
}

static void threads_queue(struct engine *engine, struct engine_op *op)
{
    struct threads_engine *threads = container_of(engine, struct threads_engine, engine);
    if (engine_misses_take(&threads->misses, op))
        return;
    threads->in_flight++;
    if (op->memory != ENGINE_MEMORY_HAS_IT || !threads->context.files->preadv_at_once) {
        hand_over(threads, op);
        return;
    }
    link_init(&op->link);
    list_append(&threads->waiting, &op->link);
    loop_backlog_grew(threads->context.loop);
}

static bool threads_asks_memory(const struct engine *engine)
{
    (void)engine;
    return true;
}

const struct engine_ops engine_threads = {
    .name = "threads",
    .open = threads_open,
    .close = threads_close,
    .queue = threads_queue,
    .inline_writes_pay = true,
    .asks_memory = threads_asks_memory,
};
