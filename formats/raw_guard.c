/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/raw_guard.h"

#include <errno.h>
#include <string.h>

#include "block/env.h"
#include "block/probe.h"
#include "common/log.h"

void raw_guard_init(struct raw_guard *guard)
{
    pthread_mutex_init(&guard->mutex, NULL);
    co_queue_init(&guard->waiters);
    guard->is_busy = guard->refused = false;
}

void raw_guard_fini(struct raw_guard *guard)
{
    pthread_mutex_destroy(&guard->mutex);
}

static void co_enter(struct raw_guard *guard)
{
    pthread_mutex_lock(&guard->mutex);
    while (guard->is_busy)
        co_queue_wait(&guard->waiters, &guard->mutex);
    guard->is_busy = true;
    pthread_mutex_unlock(&guard->mutex);
}

static void leave(struct raw_guard *guard)
{
    pthread_mutex_lock(&guard->mutex);
    guard->is_busy = false;
    co_queue_wake_one(&guard->waiters);
    pthread_mutex_unlock(&guard->mutex);
}

/* Called while the guard is busy. */
static int refuse(struct raw_guard *guard, const struct block_node *node, const char *format)
{
    if (!guard->refused)
        log_warning("'%s': a client's write that would make it look like a %s image is refused, "
                    "because no format was given; say -f raw to allow it",
                    node->name, format);
    guard->refused = true;
    return -EPERM;
}

/* Whether the head may become what it is with vec, or zeroes where it is NULL, at offset. */
static int co_check(struct raw_guard *guard, struct block_node *node, uint64_t offset,
                    uint64_t length, const struct block_vec *vec)
{
    uint8_t head[BLOCK_PROBE_BYTES];
    uint64_t file_bytes = atomic_load(&node->file->size_bytes);
    size_t head_bytes = file_bytes < sizeof(head) ? (size_t)file_bytes : sizeof(head);
    struct probe_found found;
    if (offset >= head_bytes)
        return 0;
    size_t changed = length < head_bytes - offset ? (size_t)length : head_bytes - (size_t)offset;
    if (changed < head_bytes) {
        struct iovec iov;
        struct block_vec whole = vec_of_buffer(&iov, head, head_bytes);
        int ret = node_co_read(node->file, 0, &whole);
        if (ret < 0)
            return ret;
    }
    if (vec) {
        struct block_vec begin = vec_slice(vec, 0, changed);
        vec_copy_to(&begin, head + offset);
    } else {
        memset(head + offset, 0, changed);
    }
    if (probe_head(node->env->drivers, head, head_bytes, &found))
        return refuse(guard, node, found.name);
    return 0;
}

int raw_guard_co_write(struct raw_guard *guard, struct block_node *node, uint64_t offset,
                       const struct block_vec *vec, unsigned flags)
{
    co_enter(guard);
    int ret = co_check(guard, node, offset, vec->length, vec);
    if (ret == 0)
        ret = node_co_write(node->file, offset, vec, flags);
    leave(guard);
    return ret;
}

int raw_guard_co_zero(struct raw_guard *guard, struct block_node *node, uint64_t offset,
                      uint64_t length, unsigned flags)
{
    co_enter(guard);
    int ret = co_check(guard, node, offset, length, NULL);
    if (ret == 0)
        ret = node_co_zero(node->file, offset, length, flags);
    leave(guard);
    return ret;
}

int raw_guard_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    uint64_t skipped = BLOCK_PROBE_BYTES - offset;
    if (length <= skipped)
        return 0;
    return node_co_discard(node->file, BLOCK_PROBE_BYTES, length - skipped, 0);
}
