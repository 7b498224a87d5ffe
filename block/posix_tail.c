/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Under O_DIRECT, the last bytes of a file whose size is no multiple of the alignment are written
 * through the page cache. posix.c says why such a write and a direct one must not be under way at
 * once. So direct writes share this lock, and the rare write of an odd end has it alone; it goes
 * before those that come after it, or a busy disk would never let it in.
 *
 * It is held while the holder waits for the disk, which no mutex may be: the mutex guards three
 * numbers, and the state is waited for in a queue.
 */
#include "block/posix.h"

#include <assert.h>

void posix_tail_init(struct posix_tail *tail)
{
    *tail = (struct posix_tail){.mutex = PTHREAD_MUTEX_INITIALIZER};
    co_queue_init(&tail->waiters);
}

void posix_tail_fini(struct posix_tail *tail)
{
    assert(tail->direct_writes == 0 && !tail->is_written);
    pthread_mutex_destroy(&tail->mutex);
}

void posix_tail_co_enter(struct posix_tail *tail, bool is_odd)
{
    pthread_mutex_lock(&tail->mutex);
    if (is_odd) {
        tail->odd_waiting++;
        while (tail->is_written || tail->direct_writes > 0)
            co_queue_wait(&tail->waiters, &tail->mutex);
        tail->odd_waiting--;
        tail->is_written = true;
    } else {
        while (tail->is_written || tail->odd_waiting > 0)
            co_queue_wait(&tail->waiters, &tail->mutex);
        tail->direct_writes++;
    }
    pthread_mutex_unlock(&tail->mutex);
}

void posix_tail_leave(struct posix_tail *tail, bool is_odd)
{
    pthread_mutex_lock(&tail->mutex);
    if (is_odd)
        tail->is_written = false;
    else
        tail->direct_writes--;
    if (tail->direct_writes == 0)
        co_queue_wake_all(&tail->waiters);
    pthread_mutex_unlock(&tail->mutex);
}
