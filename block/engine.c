/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/engine.h"

#include <string.h>

#include "block/coroutine.h"

const struct engine_ops *const engines_by_preference[] = {
    &engine_uring, &engine_threads, &engine_native, &engine_sync, NULL,
};

const struct engine_ops *engine_find(const char *name)
{
    for (const struct engine_ops *const *ops = engines_by_preference; *ops; ops++) {
        if (strcmp((*ops)->name, name) == 0)
            return *ops;
    }
    return NULL;
}

/* The operation that a coroutine waits for; on its stack. */
struct waiting_op {
    struct engine_op op;
    struct coroutine *coroutine;
};

static void wake_waiter(struct engine_op *op)
{
    coroutine_wake(container_of(op, struct waiting_op, op)->coroutine);
}

int64_t engine_co_run(struct engine *engine, struct engine_op *op)
{
    struct waiting_op waiting = {.op = *op, .coroutine = coroutine_self()};
    waiting.op.done = wake_waiter;
    engine_queue(engine, &waiting.op);
    coroutine_yield();
    op->result = waiting.op.result;
    return op->result;
}
