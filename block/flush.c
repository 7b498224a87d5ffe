/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/flush.h"

#include <assert.h>

#include "block/coroutine.h"
#include "block/doorway.h"
#include "block/env.h"

/*
 * What a flush of a node costs: nothing when nothing was written since the last, and one call of
 * the driver for all that wait together. The first one after opening always calls the driver: a
 * server that was killed has left what it acknowledged in the page cache, and a client that comes
 * back asks this one to make it durable.
 *
 * The *generation* of a node is 1, for whatever was written before it was opened, and how many
 * changes (writes, zeroes, discards, failed ones too) have ended on it: the sum of its lanes'
 * counts, each raised after the change has ended and before it is answered. A flush *wants* the
 * generation it sees when it comes. Who comes while nobody leads becomes the *leader*: it lets
 * everything that is ready in this turn go first, so that those who came together wait together;
 * then it takes the generation, and calls the driver. All others wait until it has ended and look
 * again.
 *
 * Invariants:
 * 1. flushed_generation never goes back, but in flush_forget(): one leader at a time, and the sum
 * only grows.
 * 2. flushed_generation >= wanted means that all that was wanted is on stable storage. If the
 * leader took its sum after the other did, each lane's count in it is at least the other's. If it
 * took it before, each is at most the other's, so the sums can only be equal when every lane is:
 * then nothing ended in between.
 * 3. So nobody is served by a driver call that started before its own changes had ended: a flush
 *    that has started is not joined, it is waited out, and then the flush after it is.
 * 4. A flush that failed is never forgotten. The kernel reports a lost write once and then says
 *    success, so no later call can be believed: `failed` is set before anyone who waited looks
 * again, and stays until the node is opened anew. It is looked at before the generation is, so a
 * flush fails even when nothing was written since.
 *
 * Tried and rejected: two or four leaders at a time, so that the pages of one group are written
 * while the disk flushes for another. 16 clients that write 4 KiB and flush go in step with one
 * leader, 16 pairs a sync; with two it was 8.4, and on a quiet machine they had 0.71 times the
 * pairs a second over small folios and 0.95 over large ones, for 1.09 and 1.02 times the CPU (four:
 * 0.82 and 1.06, for 1.48 and 1.15). It would also cost certainty. The kernel tells an error of
 * write-back once for a descriptor, so of two syncs at a time one may take the other's, and a sync
 * that follows a failed one too closely to know of it is told that all is well.
 */

void flush_init(struct block_node *node)
{
    struct node_flush *flush = &node->flush;
    pthread_mutex_init(&flush->mutex, NULL);
    co_queue_init(&flush->waiters);
}

void flush_fini(struct block_node *node)
{
    assert(!node->flush.running);
    pthread_mutex_destroy(&node->flush.mutex);
}

/* Which of the account's counters. */
enum { COUNTER_GROUPED, COUNTER_SKIPPED };

void flush_init_counters(struct block_node *node)
{
    unsigned grouped = account_new_counter(&node->account, "flushes_grouped");
    unsigned skipped = account_new_counter(&node->account, "flushes_skipped");
    assert(grouped == COUNTER_GROUPED && skipped == COUNTER_SKIPPED);
    (void)grouped, (void)skipped;
}

uint64_t flush_grouped_count(const struct block_node *node)
{
    return account_counter(&node->account, COUNTER_GROUPED);
}

uint64_t flush_skipped_count(const struct block_node *node)
{
    return account_counter(&node->account, COUNTER_SKIPPED);
}

int flush_failed(const struct block_node *node)
{
    return atomic_load(&node->flush.failed);
}

#define GENERATION_AT_OPENING 1

static uint64_t generation(const struct block_node *node)
{
    uint64_t sum = GENERATION_AT_OPENING;
    for (unsigned i = 0; i < node->env->loop_count; i++)
        sum += atomic_load_explicit(&node->lanes[i].write_generation, memory_order_acquire);
    return sum;
}

/* The mutex is held, and given up meanwhile. */
static void co_lead(struct block_node *node)
{
    struct node_flush *flush = &node->flush;
    flush->running = true;
    pthread_mutex_unlock(&flush->mutex);

    coroutine_co_pause();
    uint64_t started_generation = generation(node);
    if (node->file) {
        node_co_event(node->file, "flush_to_os"); /* nothing of ours is on the way there */
        node_co_event(node->file, "flush_to_disk");
    }
    int rc = doorway_co_flush(node);

    pthread_mutex_lock(&flush->mutex);
    flush->running = false;
    if (rc < 0)
        atomic_store(&flush->failed, rc);
    else
        flush->flushed_generation = started_generation;
    co_queue_wake_all(&flush->waiters);
}

int flush_co_node(struct block_node *node)
{
    struct node_flush *flush = &node->flush;
    struct loop_moment start = loop_moment();
    bool has_waited = false, has_led = false;
    pthread_mutex_lock(&flush->mutex);
    uint64_t wanted_generation = generation(node);
    while (!flush_failed(node) && flush->flushed_generation < wanted_generation) {
        if (flush->running) {
            has_waited = true;
            co_queue_wait(&flush->waiters, &flush->mutex);
        } else {
            has_led = true;
            co_lead(node);
        }
    }
    int rc = flush_failed(node);
    pthread_mutex_unlock(&flush->mutex);
    account_end(&node->account, ACCOUNT_FLUSH, start, 0, rc);
    if (rc == 0 && !has_led)
        account_count(&node->account, has_waited ? COUNTER_GROUPED : COUNTER_SKIPPED, 1);
    return rc;
}

void flush_forget(struct block_node *node)
{
    struct node_flush *flush = &node->flush;
    pthread_mutex_lock(&flush->mutex);
    flush->flushed_generation = 0;
    pthread_mutex_unlock(&flush->mutex);
}

int flush_co_changes(struct block_node *node)
{
    if (generation(node) == GENERATION_AT_OPENING)
        return flush_failed(node);
    return flush_co_node(node);
}
