/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/env.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/loop.h"
#include "common/log.h"

static struct engine_context context_of(const struct block_env *env, const struct env_local *local)
{
    return (struct engine_context){
        .loop = local->loop,
        .workers = env->workers,
        .files = env->files,
    };
}

static void remember_engine(struct env_local *local, const struct engine_ops *wanted,
                            struct engine *engine)
{
    assert(local->engine_count < ENV_ENGINES_MAX);
    local->engines[local->engine_count++] = (struct env_engine){
        .wanted = wanted,
        .engine = engine,
    };
}

static struct engine *find_engine(const struct env_local *local, const struct engine_ops *wanted)
{
    for (unsigned i = 0; i < local->engine_count; i++) {
        if (local->engines[i].wanted == wanted)
            return local->engines[i].engine;
    }
    return NULL;
}

static void local_fini(struct env_local *local)
{
    /* Last opened first closed: a slot that borrows the threads comes after theirs. */
    while (local->engine_count > 0) {
        const struct env_engine *slot = &local->engines[--local->engine_count];
        if (slot->engine->ops == slot->wanted)
            slot->engine->ops->close(slot->engine);
    }
    account_batch_fini(&local->accounts);
    buffer_pool_fini(&local->buffers);
}

/* The threads are what everyone falls back on, so they are opened here, where failing is still
 * allowed. They have no share in the loop's turns: any thread may open them. */
static int local_init(struct block_env *env, struct env_local *local, struct loop *loop,
                      struct error *err)
{
    *local = (struct env_local){.loop = loop};
    buffer_pool_init(&local->buffers);
    account_batch_init(&local->accounts, loop);
    struct engine_context context = context_of(env, local);
    struct engine *threads;
    int ret = engine_threads.open(&context, &threads, err);
    if (ret < 0)
        return ret;
    remember_engine(local, &engine_threads, threads);
    return 0;
}

int block_env_init(struct block_env *env, struct loop *const *loops, unsigned loop_count,
                   struct workers *workers, struct host_files *files,
                   const struct block_driver *const *drivers, struct error *err)
{
    assert(loop_count > 0 && loop_count <= LOOP_COUNT_MAX);
    *env = (struct block_env){
        .workers = workers,
        .files = files,
        .drivers = drivers,
        .engines = engines_by_preference,
    };
    env->locals = aligned_alloc(_Alignof(struct env_local), loop_count * sizeof(*env->locals));
    if (!env->locals)
        return error_set(err, -ENOMEM, "no memory for %u loops", loop_count);
    throttle_groups_init(&env->throttle_groups);
    node_names_init(&env->node_names);
    for (unsigned i = 0; i < loop_count; i++) {
        assert(loop_index(loops[i]) == i);
        int ret = local_init(env, &env->locals[i], loops[i], err);
        if (ret < 0) {
            block_env_fini(env);
            return ret;
        }
        env->loop_count++;
    }
    return 0;
}

void block_env_fini(struct block_env *env)
{
    for (unsigned i = 0; i < env->loop_count; i++)
        local_fini(&env->locals[i]);
    throttle_groups_fini(&env->throttle_groups);
    node_names_fini(&env->node_names);
    free(env->locals);
    *env = (struct block_env){0};
}

struct env_local *block_env_local(struct block_env *env)
{
    struct loop *loop = loop_current();
    assert(loop);
    unsigned index = loop_index(loop);
    assert(index < env->loop_count && env->locals[index].loop == loop);
    return &env->locals[index];
}

struct engine *block_env_engine(struct block_env *env, const struct engine_ops *ops)
{
    struct env_local *local = block_env_local(env);
    struct engine *engine = find_engine(local, ops);
    if (engine)
        return engine;

    struct engine_context context = context_of(env, local);
    struct error err;
    if (ops->open(&context, &engine, &err) < 0) {
        engine = find_engine(local, &engine_threads);
        if (!atomic_exchange(&env->engine_refusal_said, true))
            log_warning("%s; using the AIO engine '%s' instead", err.message, engine->ops->name);
    }
    remember_engine(local, ops, engine);
    return engine;
}
