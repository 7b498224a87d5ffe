/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/engine_misses.h"

#include <assert.h>

#include "block/engine_call.h"
#include "block/host_files.h"
#include "block/loop.h"
#include "block/loop_room.h"
#include "block/workers.h"

/* What lies in an operation's own space. */
struct missing_op {
    struct engine_misses *misses;
    union {
        struct worker_job job;
        struct loop_job home; /* of one that another's job has made */
    };
    struct list before; /* struct engine_op.link: what the job makes before its own operation */
};

static_assert(sizeof(struct missing_op) <= sizeof(((struct engine_op *)NULL)->engine_space),
              "it fits");

void engine_misses_init(struct engine_misses *misses, const struct engine_context *context)
{
    *misses = (struct engine_misses){.context = *context};
    list_init(&misses->gathered);
}

void engine_misses_fini(struct engine_misses *misses)
{
    assert(list_is_empty(&misses->gathered) && misses->workers == 0);
    (void)misses;
}

static struct missing_op *space_of(struct engine_op *op)
{
    return (struct missing_op *)op->engine_space;
}

static struct engine_op *op_of(struct missing_op *space)
{
    return container_of((void *)space, struct engine_op, engine_space);
}

static struct engine_op *op_of_link(struct list_link *link)
{
    return container_of(link, struct engine_op, link);
}

/* --- home ---------------------------------------------------------------------------------------
 */

static void came_home(struct loop_job *home)
{
    struct engine_op *op = op_of(container_of(home, struct missing_op, home));
    op->done(op);
}

/* The last to come home of those that its worker had. */
static void job_done(struct worker_job *job)
{
    struct missing_op *last = container_of(job, struct missing_op, job);
    struct engine_op *op = op_of(last);
    last->misses->workers--;
    op->done(op);
}

/* --- on a worker --------------------------------------------------------------------------------
 */

static void tell_host(struct engine_misses *misses, const struct engine_op *op)
{
    struct host_files *files = misses->context.files;
    if (files->will_need(files, op->fd, op->offset, engine_op_bytes(op)) < 0)
        atomic_store_explicit(&misses->is_deaf, true, memory_order_relaxed);
}

static void job_work(struct worker_job *job)
{
    struct missing_op *last = container_of(job, struct missing_op, job);
    const struct engine_context *context = &last->misses->context;
    if (!list_is_empty(&last->before)) {
        list_for_each (link, &last->before)
            tell_host(last->misses, op_of_link(link));
        tell_host(last->misses, op_of(last));
    }
    struct list_link *link;
    while ((link = list_pop(&last->before))) {
        struct engine_op *op = op_of_link(link);
        op->result = engine_call(context->files, op);
        space_of(op)->home.run = came_home;
        loop_post(context->loop, &space_of(op)->home); /* and it is gone */
    }
    op_of(last)->result = engine_call(context->files, op_of(last));
}

/* --- the loop's ---------------------------------------------------------------------------------
 */

bool engine_misses_take(struct engine_misses *misses, struct engine_op *op)
{
    if (op->memory != ENGINE_MEMORY_LACKS_IT || !loop_is_shared(misses->context.loop))
        return false;
    space_of(op)->misses = misses;
    link_init(&op->link);
    list_append(&misses->gathered, &op->link);
    return true;
}

static bool takes_hints(const struct engine_misses *misses)
{
    return misses->context.files->will_need &&
           !atomic_load_explicit(&misses->is_deaf, memory_order_relaxed);
}

void engine_misses_hand_over(struct engine_misses *misses)
{
    if (list_is_empty(&misses->gathered))
        return;
    unsigned each = takes_hints(misses) ? ENGINE_MISSES_A_WORKER : 1;
    struct list_link *link;
    while (misses->workers < ENGINE_MISSES_WORKERS_MAX && (link = list_pop(&misses->gathered))) {
        struct list before;
        list_init(&before);
        for (unsigned i = 1; i < each && !list_is_empty(&misses->gathered); i++) {
            list_append(&before, link);
            link = list_pop(&misses->gathered);
        }
        struct missing_op *last = space_of(op_of_link(link));
        last->job = (struct worker_job){.work = job_work, .done = job_done};
        list_init(&last->before);
        list_move_all(&last->before, &before);
        misses->workers++;
        workers_submit(misses->context.workers, misses->context.loop, &last->job);
    }
}
