/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/driver.h"
#include "cache/table.h"
#include "common/align.h"

/*
 * One round: what is dirty now, copied in one moment, written class by class.
 *
 *     take the copies | write class 0 | sync | write class 1 | sync | ... | write the last | sync
 *
 * - Everything in a table was changed after what it points to was, so a set of copies of one moment
 *   holds nothing that points to a later change: writing it in the order of the classes keeps the
 *   order whatever changes meanwhile.
 * - A sync comes only where it is owed: something was written in this round, or a table of the next
 *   class needs something of a node that no sync has covered yet.
 * - Where a write or a sync fails, nothing of a higher class is written; every copy that is not
 *   known to be durable goes back into its table's dirty range.
 * - All copies are in one piece of memory; there is enough of it for all, or no round.
 */

#define WRITES_AT_ONCE 16
#define GRANULE_MIN 512 /* smaller pieces of a table cost as much */
#define ARENA_ALIGNMENT 4096

struct copy {
    struct cache_table *table;
    uint64_t node_offset;
    uint32_t from, to; /* of the table */
    uint64_t needs[CACHE_NODES_MAX];
    uint8_t *data;
};

struct round {
    struct cache *cache;
    unsigned classes;
    struct copy *copies; /* by class, ascending */
    size_t count;
    uint8_t *arena;
    struct list after;
    size_t durable_count; /* of them are, from the first on */
    bool is_owed[CACHE_NODES_MAX];
};

/* --- copies -------------------------------------------------------------------------------------
 */

static uint32_t granule_of(const struct cache_kind *kind)
{
    const struct block_limits *limits = &kind->cache->nodes[kind->config.node_index].node->limits;
    uint32_t granule = GRANULE_MIN;
    if (limits->request_alignment > granule)
        granule = limits->request_alignment;
    if (limits->memory_alignment > granule)
        granule = limits->memory_alignment;
    return granule;
}

/* Whole blocks of the node around the dirty range, as far as the table reaches. */
static void widen(const struct cache_table *table, uint32_t *ret_from, uint32_t *ret_to)
{
    uint32_t granule = granule_of(table->kind);
    uint64_t start = cache_table_offset(table);
    uint64_t end = start + table_length(table);
    uint64_t from = align_down(start + table->dirty_from, granule);
    uint64_t to = align_up(start + table->dirty_to, granule);
    *ret_from = from > start ? (uint32_t)(from - start) : 0;
    *ret_to = (uint32_t)((to < end ? to : end) - start);
}

static size_t room_of(const struct cache_table *table)
{
    uint32_t from, to;
    widen(table, &from, &to);
    return align_up(to - from, granule_of(table->kind));
}

/* Monitor. How many copies, and how many bytes of them. */
static void measure(const struct round *round, size_t *ret_count, size_t *ret_bytes)
{
    size_t count = 0, bytes = 0;
    for (unsigned i = 0; i < CACHE_CLASSES_MAX; i++) {
        if (!(round->classes & (1u << i)))
            continue;
        list_for_each (link, &round->cache->dirty[i]) {
            count++;
            bytes += room_of(container_of(link, struct cache_table, link));
        }
    }
    *ret_count = count;
    *ret_bytes = bytes;
}

/* Monitor. */
static void take_copy(struct copy *copy, struct cache_table *table, uint8_t *memory)
{
    copy->table = table;
    widen(table, &copy->from, &copy->to);
    copy->node_offset = cache_table_offset(table) + copy->from;
    copy->data = memory;
    memcpy(copy->needs, table->needs, sizeof(copy->needs));
    memcpy(copy->data, table_data(table) + copy->from, copy->to - copy->from);
    dirty_unmark(table);
    table->state = TABLE_WRITING;
}

/* Monitor. There is memory for all. */
static void take_copies(struct round *round)
{
    struct cache *cache = round->cache;
    uint8_t *memory = round->arena;
    round->count = 0;
    for (unsigned i = 0; i < CACHE_CLASSES_MAX; i++) {
        if (!(round->classes & (1u << i)))
            continue;
        list_for_each (link, &cache->dirty[i]) {
            struct cache_table *table = container_of(link, struct cache_table, link);
            size_t room = room_of(table);
            take_copy(&round->copies[round->count++], table, memory);
            memory += room;
        }
    }
    list_move_all(&round->after, &cache->after_new);
    if (cache->redo)
        redo_round_begins(cache->redo);
}

/* Monitor; given up for the allocation. What became dirty meanwhile may need more: once again. */
static int prepare(struct round *round)
{
    size_t count_max = 0, bytes_max = 0;
    for (;;) {
        size_t count, bytes;
        measure(round, &count, &bytes);
        if (count <= count_max && bytes <= bytes_max) {
            take_copies(round);
            return 0;
        }
        pthread_mutex_unlock(round->cache->monitor);
        free(round->copies);
        free(round->arena);
        count_max = count + count / 8;
        bytes_max = align_up(bytes + bytes / 8, ARENA_ALIGNMENT);
        round->copies = calloc(count_max, sizeof(*round->copies));
        round->arena = aligned_alloc(ARENA_ALIGNMENT, bytes_max);
        pthread_mutex_lock(round->cache->monitor);
        if (!round->copies || !round->arena)
            return -ENOMEM;
    }
}

/* --- their ends ---------------------------------------------------------------------------------
 */

/* Monitor. Nothing of this copy is in the air any more. */
static void leave_writing(struct cache_table *table)
{
    struct cache_kind *kind = table->kind;
    assert(table->state == TABLE_WRITING);
    table->state = table->dirty_to > 0 ? TABLE_DIRTY : TABLE_CLEAN;
    co_queue_wake_all(&table->waiters);
    co_queue_wake_all(&kind->room);
}

/* Monitor. */
static void give_back(struct cache *cache, const struct copy *copy)
{
    struct cache_table *table = copy->table;
    dirty_mark(cache, table, copy->from, copy->to);
    for (unsigned i = 0; i < CACHE_NODES_MAX; i++) {
        if (copy->needs[i] > table->needs[i])
            table->needs[i] = copy->needs[i];
    }
}

static void settle(struct round *round, size_t durable_count)
{
    pthread_mutex_lock(round->cache->monitor);
    for (; round->durable_count < durable_count; round->durable_count++)
        leave_writing(round->copies[round->durable_count].table);
    pthread_mutex_unlock(round->cache->monitor);
}

/* --- writing a class ----------------------------------------------------------------------------
 */

struct class_write {
    struct round *round;
    size_t next, end; /* of the copies */
    int rc;
    unsigned running; /* helpers */
    struct coroutine *waiter;
};

static int co_write_copy(struct cache *cache, const struct copy *copy)
{
    struct iovec iov;
    struct cache_kind *kind = copy->table->kind;
    struct block_vec vec = vec_of_buffer(&iov, copy->data, copy->to - copy->from);
    struct block_node *node = cache->nodes[kind->config.node_index].node;
    if (kind->config.write_event)
        node_co_event(node, kind->config.write_event);
    pthread_mutex_lock(cache->monitor);
    int rc = cache->refused_rc;
    if (cache->redo)
        redo_beat_now(cache->redo);
    pthread_mutex_unlock(cache->monitor);
    if (rc == 0)
        rc = node_co_write(node, copy->node_offset, &vec, 0);
    pthread_mutex_lock(cache->monitor);
    kind->writes++;
    kind->writes_failed += rc < 0;
    pthread_mutex_unlock(cache->monitor);
    return rc;
}

static void co_write_some(struct class_write *write)
{
    while (write->next < write->end && write->rc == 0) {
        const struct copy *copy = &write->round->copies[write->next++];
        int rc = co_write_copy(write->round->cache, copy);
        if (rc < 0 && write->rc == 0)
            write->rc = rc;
    }
}

static void helper_main(void *arg)
{
    struct class_write *write = arg;
    co_write_some(write);
    write->running--;
    if (write->running == 0 && write->waiter)
        coroutine_wake(write->waiter);
}

/* All of it runs on this loop, so the shared counts need no lock. Where no helper can be had, the
 * leader writes alone. */
static int co_write_class(struct round *round, size_t begin, size_t end)
{
    struct class_write write = {.round = round, .next = begin, .end = end};
    struct loop *loop = coroutine_loop(coroutine_self());
    for (unsigned i = 1; i < WRITES_AT_ONCE && write.next + 1 < write.end; i++) {
        write.running++;
        if (coroutine_start(loop, helper_main, &write) < 0) {
            write.running--;
            break;
        }
    }
    co_write_some(&write);
    if (write.running > 0) {
        write.waiter = coroutine_self();
        coroutine_yield();
    }
    for (size_t i = begin; i < end; i++)
        round->is_owed[round->copies[i].table->kind->config.node_index] = true;
    return write.rc;
}

/* --- the order ----------------------------------------------------------------------------------
 */

/* Which nodes must be synced before copies [begin, end) are written. */
static void find_owed(struct round *round, size_t begin, size_t end, bool *is_owed)
{
    struct cache *cache = round->cache;
    pthread_mutex_lock(cache->monitor);
    for (unsigned n = 0; n < cache->node_count; n++) {
        is_owed[n] = round->is_owed[n];
        for (size_t i = begin; i < end && !is_owed[n]; i++)
            is_owed[n] = round->copies[i].needs[n] > cache->nodes[n].syncs_completed;
    }
    pthread_mutex_unlock(cache->monitor);
}

/* Afterwards all copies before `begin` are durable, and what those up to `end` need is. */
static int co_sync_between(struct round *round, size_t begin, size_t end)
{
    bool is_owed[CACHE_NODES_MAX] = {false};
    find_owed(round, begin, end, is_owed);
    for (unsigned n = 0; n < round->cache->node_count; n++) {
        int rc = is_owed[n] ? order_co_sync(round->cache, n) : 0;
        if (rc < 0)
            return rc;
        round->is_owed[n] = false;
    }
    settle(round, begin);
    return 0;
}

static size_t end_of_class(const struct round *round, size_t begin)
{
    unsigned class_index = round->copies[begin].table->kind->config.class_index;
    size_t end = begin + 1;
    while (end < round->count && round->copies[end].table->kind->config.class_index == class_index)
        end++;
    return end;
}

static int co_write_classes(struct round *round)
{
    int rc = 0;
    for (size_t begin = 0, end; begin < round->count && rc == 0; begin = end) {
        end = end_of_class(round, begin);
        rc = co_sync_between(round, begin, end);
        if (rc == 0)
            rc = co_write_class(round, begin, end);
    }
    return rc < 0 ? rc : co_sync_between(round, round->count, round->count);
}

int writeback_co_round(struct cache *cache, unsigned classes)
{
    struct round round = {.cache = cache, .classes = classes};
    list_init(&round.after);
    int rc = prepare(&round);
    if (rc == 0) {
        pthread_mutex_unlock(cache->monitor);
        rc = co_write_classes(&round);
        pthread_mutex_lock(cache->monitor);
        for (size_t i = round.durable_count; i < round.count; i++) {
            give_back(cache, &round.copies[i]);
            leave_writing(round.copies[i].table);
        }
        if (cache->redo) /* before what waits for the round runs */
            redo_round_ended(cache->redo, rc);
        after_round_ended(cache, &round.after, rc);
    }
    free(round.copies);
    free(round.arena);
    return rc;
}
