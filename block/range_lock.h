/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_RANGE_LOCK_H
#define BLOCK_RANGE_LOCK_H

/*
 * For a driver that must keep requests apart where they overlap, across their waits: who takes a
 * range alone is never inside together with another that overlaps it; who shares it may be with
 * others that share. First come, first served, so nobody starves; whoever waits holds a place in
 * that order and nothing else, so those inside go on.
 *
 * Not recursive: a coroutine takes one range at a time of one lock.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/coroutine_lock.h"
#include "common/list.h"

struct range_lock {
    pthread_mutex_t mutex;
    struct list ranges; /* those inside and those that wait, oldest first */
};

/* Lives on the stack of the coroutine that takes it. */
struct locked_range {
    struct list_link link;
    uint64_t offset, length;
    bool alone;
    struct co_queue waiters;
};

void range_lock_init(struct range_lock *lock);
/* Nobody is inside. */
void range_lock_fini(struct range_lock *lock);

/* length is at least 1, and offset + length does not wrap. */
void range_lock_co_take(struct range_lock *lock, struct locked_range *range, uint64_t offset,
                        uint64_t length, bool alone);
void range_lock_release(struct range_lock *lock, struct locked_range *range);

#endif
