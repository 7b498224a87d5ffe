/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_ENGINE_MISSES_H
#define BLOCK_ENGINE_MISSES_H

/*
 * Small reads that miss the page cache, where several clients use the loop; for engines of which
 * each such read would cost the loop what the others wait for: to call a thread, or to have the
 * disk begin (memory for the page, and to ring the device).
 *
 * A worker makes a few of them: it tells the host of all (posix_fadvise(2)), so that the disk has
 * them together, and then reads one after the other. Each goes home when it is read. A client who
 * has the loop to himself is served by the engine: there are file systems that do nothing when they
 * are told, where four reads of one worker would take four times as long as one.
 *
 * Belongs to one engine, and is touched by its loop alone. Nothing here waits.
 */

#include <stdatomic.h>
#include <stdbool.h>

#include "block/engine.h"
#include "common/list.h"

#define ENGINE_MISSES_A_WORKER 4     /* 1 once the host took no hint */
#define ENGINE_MISSES_WORKERS_MAX 16 /* at a time: others have work for them, too */

struct engine_misses {
    struct engine_context context;
    struct list gathered; /* struct engine_op.link */
    unsigned workers;     /* that have some of them */
    atomic_bool is_deaf;  /* the host took no hint; workers note it */
};

void engine_misses_init(struct engine_misses *misses, const struct engine_context *context);
/* None is gathered, and no worker has any. */
void engine_misses_fini(struct engine_misses *misses);

/* From the engine's queue(). True: it is one, and is taken; its done() will be called. */
bool engine_misses_take(struct engine_misses *misses, struct engine_op *op);
/* From the engine's turn, once a round: calls workers for what was gathered. */
void engine_misses_hand_over(struct engine_misses *misses);

#endif
