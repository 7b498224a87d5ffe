/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_COROUTINE_LOCK_H
#define BLOCK_COROUTINE_LOCK_H

/*
 * A queue of coroutines that wait for a state on an object to change: loading, writing, allocating.
 * The object's plain mutex guards the state and the queue; it is never held across the wait.
 * Waiters may be of any loop. The pattern:
 *
 *     pthread_mutex_lock(&image->mutex);
 *     while (slot->state == SLOT_LOADING)
 *         co_queue_wait(&slot->waiters, &image->mutex);
 *     ...
 *     pthread_mutex_unlock(&image->mutex);
 *
 * Waiters leave in the order they came, and must look at the state again.
 */

#include <pthread.h>
#include <stdbool.h>

#include "common/list.h"

struct co_queue {
    struct list waiters;
};

void co_queue_init(struct co_queue *queue);
/* The mutex is held: gives it up, waits to be woken, takes it again. Only inside a coroutine. */
void co_queue_wait(struct co_queue *queue, pthread_mutex_t *mutex);
/* The mutex is held. False when nobody waits. */
bool co_queue_wake_one(struct co_queue *queue);
void co_queue_wake_all(struct co_queue *queue);
static inline bool co_queue_is_empty(const struct co_queue *queue)
{
    return list_is_empty(&queue->waiters);
}

#endif
