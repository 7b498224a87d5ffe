/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Operations are made at once, in the order they are queued, on the loop's own thread; their ends
 * are told in the engine's turn, in that order too. Nothing is left to chance, which is what a test
 * wants; a slow disk stops the loop, which is what a server does not want.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/engine.h"
#include "block/engine_call.h"
#include "block/loop.h"

struct sync_engine {
    struct engine engine;
    struct host_files *files;
    struct loop_source source;
    struct list ended; /* struct engine_op.link: result is set, done() is to be called */
};

static bool sync_turn(struct loop_source *source)
{
    struct sync_engine *sync = container_of(source, struct sync_engine, source);
    struct list ended;
    list_init(&ended);
    list_move_all(&ended, &sync->ended); /* what done() queues has its end told next time */

    bool any = false;
    struct list_link *link;
    while ((link = list_pop(&ended))) {
        struct engine_op *op = container_of(link, struct engine_op, link);
        op->done(op);
        any = true;
    }
    return any;
}

static int sync_open(const struct engine_context *context, struct engine **ret_engine,
                     struct error *err)
{
    struct sync_engine *sync = calloc(1, sizeof(*sync));
    if (!sync)
        return error_set(err, -ENOMEM, "no memory for the AIO engine 'sync'");
    sync->engine.ops = &engine_sync;
    sync->files = context->files;
    list_init(&sync->ended);
    sync->source.turn = sync_turn;
    link_init(&sync->source.link);
    loop_source_add(context->loop, &sync->source);
    *ret_engine = &sync->engine;
    return 0;
}

static void sync_close(struct engine *engine)
{
    struct sync_engine *sync = container_of(engine, struct sync_engine, engine);
    assert(list_is_empty(&sync->ended));
    loop_source_remove(&sync->source);
    free(sync);
}

static void sync_queue(struct engine *engine, struct engine_op *op)
{
    struct sync_engine *sync = container_of(engine, struct sync_engine, engine);
    op->result = engine_call(sync->files, op);
    link_init(&op->link);
    list_append(&sync->ended, &op->link);
}

const struct engine_ops engine_sync = {
    .name = "sync",
    .open = sync_open,
    .close = sync_close,
    .queue = sync_queue,
};
