/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/coroutine_lock.h"

#include <assert.h>

#include "block/coroutine.h"

/* On the waiter's stack; whoever takes it off the queue wakes its coroutine, and does not touch it
 * afterwards. */
struct waiter {
    struct coroutine *co;
    struct list_link link;
};

void co_queue_init(struct co_queue *queue)
{
    list_init(&queue->waiters);
}

void co_queue_wait(struct co_queue *queue, pthread_mutex_t *mutex)
{
    struct waiter waiter = {.co = coroutine_self()};
    assert(waiter.co);
    list_append(&queue->waiters, &waiter.link);
    pthread_mutex_unlock(mutex);
    /* A wake-up from another thread may come right here: it is posted, so it finds us waiting. */
    coroutine_yield();
    pthread_mutex_lock(mutex);
}

bool co_queue_wake_one(struct co_queue *queue)
{
    struct list_link *link = list_pop(&queue->waiters);
    if (!link)
        return false;
    coroutine_wake(container_of(link, struct waiter, link)->co);
    return true;
}

void co_queue_wake_all(struct co_queue *queue)
{
    while (co_queue_wake_one(queue))
        ;
}
