/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_BACKEND_H
#define BLOCK_BACKEND_H

/* What block/backend, block/drain and block/aio share. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "block/coroutine_lock.h"
#include "block/loop.h"
#include "common/list.h"

enum backend_counter {
    BACKEND_READS,
    BACKEND_WRITES,
    BACKEND_ZEROES,
    BACKEND_DISCARDS,
    BACKEND_FLUSHES,
    BACKEND_STATUSES,
    BACKEND_CACHES,
    BACKEND_READ_BYTES,
    BACKEND_WRITTEN_BYTES,
    BACKEND_FAILED,
    BACKEND_COUNTER_COUNT,
};

/* One loop's callback requests; see aio.c. */
struct aio_lane {
    unsigned plug_depth;
    struct list plugged; /* struct block_aio.link, in the order they came */
    struct list ended;   /* the same, in the order they ended: their callbacks are due */
    struct loop_task answer;
};

/* One loop's share: written by that loop alone, so plain stores do. */
struct backend_lane {
    _Atomic uint32_t in_flight; /* requests that a drain must wait for */
    _Atomic uint32_t touching;  /* requests that may still touch the backend's memory */
    _Atomic uint64_t counters[BACKEND_COUNTER_COUNT];
    unsigned reads_not_at_once; /* so many more; see block_may_read_at_once() */
    struct aio_lane aio;
} __attribute__((aligned(64)));

struct block_backend {
    struct block_node *node;
    _Atomic bool read_only;   /* changed while drained */
    _Atomic bool is_inactive; /* the same; see activity.h */
    bool hurries;             /* block_backend_hurry() was called */
    unsigned lane_count;
    struct backend_lane *lanes;

    _Atomic uint32_t drain_depth;  /* drains that hold the door; changed under the mutex */
    pthread_mutex_t mutex;         /* guards the queues */
    struct co_queue door;          /* requests that wait for the last resume */
    struct co_queue drain_waiters; /* drains that wait for the last request */
};

void drain_init(struct block_backend *backend);
void drain_fini(struct block_backend *backend);

/* Around every request; the same lane, the caller's loop's, both times. */
void drain_co_enter(struct block_backend *backend, struct backend_lane *lane);
/* False while a drain holds the door; the request is then not in. */
bool drain_try_enter(struct block_backend *backend, struct backend_lane *lane);
/* The last touch: the backend may be gone afterwards. */
void drain_leave(struct block_backend *backend, struct backend_lane *lane);
/* After a drain: returns when nobody is inside drain_leave() any more. */
void drain_settle(struct block_backend *backend);

/* --- backend.c ---------------------------------------------------------------------------------
 */

/* The one of this thread's loop. */
struct backend_lane *backend_lane(struct block_backend *backend);

/* The block_co_ calls without the door: between drain_co_enter() and drain_leave() on the lane. */
int backend_co_read(struct block_backend *backend, struct backend_lane *lane, uint64_t offset,
                    const struct block_vec *vec);
int backend_co_write(struct block_backend *backend, struct backend_lane *lane, uint64_t offset,
                     const struct block_vec *vec, unsigned flags);
int backend_co_zero(struct block_backend *backend, struct backend_lane *lane, uint64_t offset,
                    uint64_t length, unsigned flags);
int backend_co_discard(struct block_backend *backend, struct backend_lane *lane, uint64_t offset,
                       uint64_t length, unsigned flags);
int backend_co_flush(struct block_backend *backend, struct backend_lane *lane);

/* --- aio.c -------------------------------------------------------------------------------------
 */

void aio_lane_init(struct aio_lane *aio);
/* No request is in flight, none is held by a plug. */
void aio_lane_fini(struct aio_lane *aio);

#endif
