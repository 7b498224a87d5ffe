/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/range_lock.h"

#include <assert.h>

#include "common/checked.h"

void range_lock_init(struct range_lock *lock)
{
    pthread_mutex_init(&lock->mutex, NULL);
    list_init(&lock->ranges);
}

void range_lock_fini(struct range_lock *lock)
{
    assert(list_is_empty(&lock->ranges));
    pthread_mutex_destroy(&lock->mutex);
}

/* An older one that range may not be inside with. */
static struct locked_range *find_older(struct range_lock *lock, const struct locked_range *range)
{
    list_for_each (link, &lock->ranges) {
        struct locked_range *other = container_of(link, struct locked_range, link);
        if (other == range)
            break;
        if ((other->alone || range->alone) &&
            ranges_overlap(other->offset, other->length, range->offset, range->length))
            return other;
    }
    return NULL;
}

void range_lock_co_take(struct range_lock *lock, struct locked_range *range, uint64_t offset,
                        uint64_t length, bool alone)
{
    struct locked_range *older;
    assert(length > 0 && offset <= UINT64_MAX - length);
    *range = (struct locked_range){.offset = offset, .length = length, .alone = alone};
    co_queue_init(&range->waiters);
    pthread_mutex_lock(&lock->mutex);
    list_append(&lock->ranges, &range->link);
    while ((older = find_older(lock, range)))
        co_queue_wait(&older->waiters, &lock->mutex);
    pthread_mutex_unlock(&lock->mutex);
}

void range_lock_release(struct range_lock *lock, struct locked_range *range)
{
    pthread_mutex_lock(&lock->mutex);
    list_remove(&range->link);
    co_queue_wake_all(&range->waiters);
    pthread_mutex_unlock(&lock->mutex);
}
