/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>
#include <sched.h>

#include "block/backend.h"
#include "block/node.h"

/*
 * The door of a backend: requests come in and go out, a drain closes it and waits until the last is
 * out.
 *
 * A request costs four stores to its own loop's cache line. Each loop counts its requests in flight
 * alone; a drain adds the counts up.
 *
 * Invariants:
 * 1. A request raises its lane's count, then reads drain_depth; a drain raises drain_depth, then
 *    reads the counts; all four sequentially consistent. So of a request and a drain that race, at
 *    least one sees the other: the request steps back and waits at the door, or the drain waits
 *    for it, or both, and then the one that steps back wakes the drain.
 * 2. Who lowers a count reads drain_depth after it, and wakes the drains when there are any, under
 *    the mutex, under which a drain looks at the counts before it waits. So no wake-up is lost.
 * 3. Drains nest: the door opens when as many resumes as drains were made.
 * 4. A drain may be over while the last request, on another thread, is still between lowering its
 *    count and looking at drain_depth. So a second count, lowered as the very last touch, says when
 *    the backend's memory may go. Who frees it spins on that one, for a few instructions of another
 *    thread; requests that start on a backend while it is freed are the caller's mistake.
 *
 * 5. What waits in the graph for time alone goes on at once while a drain holds the door: the nodes
 *    are told after the door is closed and before it is opened again.
 *
 * A coroutine with a request of its own in flight must not drain: it would wait for itself.
 */

void drain_init(struct block_backend *backend)
{
    pthread_mutex_init(&backend->mutex, NULL);
    co_queue_init(&backend->door);
    co_queue_init(&backend->drain_waiters);
}

void drain_fini(struct block_backend *backend)
{
    assert(co_queue_is_empty(&backend->door));
    assert(co_queue_is_empty(&backend->drain_waiters));
    pthread_mutex_destroy(&backend->mutex);
}

static void add(_Atomic uint32_t *lane_count, uint32_t change, memory_order order)
{
    uint32_t value = atomic_load_explicit(lane_count, memory_order_relaxed);
    atomic_store_explicit(lane_count, value + change, order);
}

static bool is_drained(const struct block_backend *backend)
{
    for (unsigned i = 0; i < backend->lane_count; i++) {
        if (atomic_load(&backend->lanes[i].in_flight) > 0)
            return false;
    }
    return true;
}

static void lower_in_flight(struct block_backend *backend, struct backend_lane *lane)
{
    assert(atomic_load_explicit(&lane->in_flight, memory_order_relaxed) > 0);
    add(&lane->in_flight, (uint32_t)-1, memory_order_seq_cst);
    if (atomic_load(&backend->drain_depth) > 0) {
        pthread_mutex_lock(&backend->mutex);
        co_queue_wake_all(&backend->drain_waiters);
        pthread_mutex_unlock(&backend->mutex);
    }
}

static void co_wait_at_door(struct block_backend *backend, struct backend_lane *lane)
{
    do {
        lower_in_flight(backend, lane);
        pthread_mutex_lock(&backend->mutex);
        while (atomic_load(&backend->drain_depth) > 0)
            co_queue_wait(&backend->door, &backend->mutex);
        pthread_mutex_unlock(&backend->mutex);
        add(&lane->in_flight, 1, memory_order_seq_cst);
    } while (atomic_load(&backend->drain_depth) > 0);
}

void drain_co_enter(struct block_backend *backend, struct backend_lane *lane)
{
    add(&lane->touching, 1, memory_order_relaxed);
    add(&lane->in_flight, 1, memory_order_seq_cst);
    if (atomic_load(&backend->drain_depth) > 0)
        co_wait_at_door(backend, lane);
}

bool drain_try_enter(struct block_backend *backend, struct backend_lane *lane)
{
    add(&lane->touching, 1, memory_order_relaxed);
    add(&lane->in_flight, 1, memory_order_seq_cst);
    if (atomic_load(&backend->drain_depth) == 0)
        return true;
    drain_leave(backend, lane);
    return false;
}

void drain_leave(struct block_backend *backend, struct backend_lane *lane)
{
    lower_in_flight(backend, lane);
    add(&lane->touching, (uint32_t)-1, memory_order_release);
}

void drain_settle(struct block_backend *backend)
{
    for (unsigned i = 0; i < backend->lane_count; i++) {
        while (atomic_load_explicit(&backend->lanes[i].touching, memory_order_acquire) > 0)
            sched_yield();
    }
}

void block_co_backend_drain(struct block_backend *backend)
{
    pthread_mutex_lock(&backend->mutex);
    atomic_fetch_add(&backend->drain_depth, 1);
    pthread_mutex_unlock(&backend->mutex);
    node_hurry_begin(backend->node);
    pthread_mutex_lock(&backend->mutex);
    while (!is_drained(backend))
        co_queue_wait(&backend->drain_waiters, &backend->mutex);
    pthread_mutex_unlock(&backend->mutex);
}

void block_backend_resume(struct block_backend *backend)
{
    node_hurry_end(backend->node);
    pthread_mutex_lock(&backend->mutex);
    uint32_t before = atomic_fetch_sub(&backend->drain_depth, 1);
    assert(before > 0);
    if (before == 1)
        co_queue_wake_all(&backend->door);
    pthread_mutex_unlock(&backend->mutex);
}
