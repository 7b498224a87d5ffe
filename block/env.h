/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_ENV_H
#define BLOCK_ENV_H

/*
 * What a block graph stands on: the loops, the workers, the host's files, the drivers there are.
 * One a process; the simulation and the tests make their own. Nothing in block/ is global but
 * constant tables.
 */

#include <stdatomic.h>
#include <stdbool.h>

#include "block/account.h"
#include "block/buffer.h"
#include "block/engine.h"
#include "block/node_names.h"
#include "block/throttle_group.h"
#include "common/error.h"

struct loop;
struct workers;
struct host_files;
struct block_driver;

#define ENV_ENGINES_MAX 8

/* Which engine serves those who ask for `wanted`: one of that kind, or the threads instead. */
struct env_engine {
    const struct engine_ops *wanted;
    struct engine *engine;
};

/* What belongs to one loop and is touched by it alone; a cache line of its own. */
struct env_local {
    struct loop *loop;
    struct buffer_pool buffers;
    struct account_batch accounts;
    struct env_engine engines[ENV_ENGINES_MAX]; /* by first use; the threads are there at once */
    unsigned engine_count;
} __attribute__((aligned(64)));

struct block_env {
    struct env_local *locals; /* by loop_index() */
    unsigned loop_count;
    struct workers *workers;
    struct host_files *files;
    const struct block_driver *const *drivers; /* NULL-ended: block never includes upward */
    /* NULL-ended, the default first: engines_by_preference, until a test puts others here. */
    const struct engine_ops *const *engines;
    /* Where work goes on behind a request (background.h): one that is turned as long as a node is
     * open. NULL, until set before a node is opened: on the request's own, as all are. */
    struct loop *background_loop;
    struct throttle_groups throttle_groups; /* by name; who makes one frees it */
    struct node_names node_names;           /* see graph_find_node() */
    _Atomic bool engine_refusal_said;       /* one log line, not one a loop */
};

/* loops[i] has index i. All that is handed in stays the caller's. */
int block_env_init(struct block_env *env, struct loop *const *loops, unsigned loop_count,
                   struct workers *workers, struct host_files *files,
                   const struct block_driver *const *drivers, struct error *err);
/* Every node is closed and no loop turns. Closes the engines. */
void block_env_fini(struct block_env *env);

/* This thread's loop's own part. */
struct env_local *block_env_local(struct block_env *env);

/* This thread's loop's engine of that kind, opened at first use. Where the kernel refuses it on
 * this loop, it is engine_threads, said in one log line; never NULL. */
struct engine *block_env_engine(struct block_env *env, const struct engine_ops *ops);

#endif
