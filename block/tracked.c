/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/tracked.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/env.h"
#include "block/loop.h"
#include "common/checked.h"

/*
 * Which requests are in flight on a node, and the one rule among them: a *serialising* request (a
 * read-modify-write, a resize) is never in flight together with another that overlaps it. *Plain*
 * requests, all others, have no order among themselves, even where they overlap.
 *
 * Every loop has a *lane* of the node: its in-flight list, under a mutex that only serialising
 * requests of other loops ever contend for. The node has one list of *registered* requests, oldest
 * first, and counts them. In the usual case that count is zero, and a plain request costs one lock
 * and unlock of its own lane to begin and one to end.
 *
 * States of a plain request: linked (on its lane) -> in flight -> gone; or, when it meets a
 * serialising one: linked -> registered -> in flight -> gone.
 * States of a serialising request: registered -> first in its range -> in flight -> gone.
 *
 * How it goes:
 * - Serialising: registers (list and count, under the node's mutex), waits for every older
 *   registered request that overlaps, then visits the lanes in order, and in each waits for every
 *   linked request that overlaps.
 * - Plain: links itself to its lane and reads the count, both under the lane's mutex. Zero: it goes
 *   on. Otherwise it looks for a serialising overlap under the node's mutex. None: it goes on. Else
 *   it leaves the lane (and wakes who waits for it there), registers behind that one, and waits for
 *   the older serialising ones that overlap.
 *
 * Invariants:
 * 1. A request is on exactly one list from the start of its begin to its end, and wakes its waiters
 *    when it leaves a list, under that list's mutex. So no wake-up is lost.
 * 2. The count is raised before any lane is visited, and lowered after the request has ended.
 * 3. Of a registered pair that overlaps and is not plain twice, the younger waits for the older.
 * 4. A request that is linked and has begun waits for nothing on this node any more: its coroutine
 *    begins nothing else here (tracked.h), the inner reads and writes of a read-modify-write are
 *    not tracked again, and drivers send requests down, never to their own node.
 * 5. The count is read with acquire. So who finds it zero sees all that a request which was alone
 * on the node has changed of the node in memory: its observers, its driver's state.
 * 6. Lock order: the node's mutex, then a lane's. No mutex is held across a wait.
 *
 * No overlap is lost. Serialising S, plain P linked to a lane. S takes that lane's mutex at its
 * visit, P took it when it linked. If P was first, S finds P linked (and waits), or P has left it:
 * P has ended, or has registered behind S, as it could only leave for a serialising request that it
 * met, and then waits for S by 3 if S was on the list (S registers before it visits, by 2). If S
 * was first, P reads a count that S raised (2, and the mutex orders the two), so P looks at the
 * list and finds S, unless S has ended. S against a registered request is invariant 3: whichever
 * registered later waits.
 *
 * No deadlock. Registered requests wait for older registered ones (3): no circle. Those who visit
 * lanes wait for linked ones, and these wait for nothing (4), or are still beginning and, without
 * waiting, either go on or leave the lane. Requests of different nodes wait downwards only, and
 * nodes form no circle.
 *
 * Nobody starves. A plain request that once met a serialising one is registered, and younger
 * serialising ones wait for it, so it does not have to begin again and again.
 *
 * Tried on paper and rejected: a plain request that waits unregistered and begins anew can be
 * overtaken for ever; a hash of ranges costs the usual case more than these lists cost the rare
 * one.
 */

struct node_lane *tracked_lane(struct block_node *node)
{
    unsigned index = loop_index(loop_current());
    assert(index < node->env->loop_count);
    return &node->lanes[index];
}

int tracked_init(struct block_node *node)
{
    pthread_mutex_init(&node->serialising.mutex, NULL);
    list_init(&node->serialising.requests);
    node->lanes =
        aligned_alloc(_Alignof(struct node_lane), node->env->loop_count * sizeof(struct node_lane));
    if (!node->lanes)
        return -ENOMEM;
    for (unsigned i = 0; i < node->env->loop_count; i++) {
        node->lanes[i] = (struct node_lane){.write_generation = 0};
        pthread_mutex_init(&node->lanes[i].mutex, NULL);
        list_init(&node->lanes[i].in_flight);
    }
    return 0;
}

void tracked_fini(struct block_node *node)
{
    assert(list_is_empty(&node->serialising.requests));
    pthread_mutex_destroy(&node->serialising.mutex);
    if (!node->lanes)
        return;
    for (unsigned i = 0; i < node->env->loop_count; i++) {
        assert(list_is_empty(&node->lanes[i].in_flight));
        pthread_mutex_destroy(&node->lanes[i].mutex);
    }
    free(node->lanes);
}

static bool overlap(const struct tracked_request *a, const struct tracked_request *b)
{
    return ranges_overlap(a->offset, a->length, b->offset, b->length);
}

/* The first on the list, before `end`, that overlaps request and may not be in flight with it. */
static struct tracked_request *find_conflict(struct list *list, const struct list_link *end,
                                             const struct tracked_request *request)
{
    for (struct list_link *link = list->head.next; link != end; link = link->next) {
        struct tracked_request *other = container_of(link, struct tracked_request, link);
        if ((other->serialising || request->serialising) && overlap(other, request))
            return other;
    }
    return NULL;
}

/* The node's mutex is held. */
static void register_last(struct node_serialising *serialising, struct tracked_request *request)
{
    list_append(&serialising->requests, &request->link);
    request->registered = true;
    atomic_fetch_add(&serialising->count, 1);
}

/* The node's mutex is held, and given up meanwhile. */
static void co_wait_for_older(struct node_serialising *serialising, struct tracked_request *request)
{
    struct tracked_request *older;
    while ((older = find_conflict(&serialising->requests, &request->link, request)))
        co_queue_wait(&older->waiters, &serialising->mutex);
}

static void co_visit_lanes(struct block_node *node, struct tracked_request *request)
{
    for (unsigned i = 0; i < node->env->loop_count; i++) {
        struct node_lane *lane = &node->lanes[i];
        struct tracked_request *other;
        pthread_mutex_lock(&lane->mutex);
        while ((other = find_conflict(&lane->in_flight, &lane->in_flight.head, request)))
            co_queue_wait(&other->waiters, &lane->mutex);
        pthread_mutex_unlock(&lane->mutex);
    }
}

/* For a linked request that saw others registered. */
static void co_give_way(struct block_node *node, struct tracked_request *request)
{
    struct node_serialising *serialising = &node->serialising;
    pthread_mutex_lock(&serialising->mutex);
    if (find_conflict(&serialising->requests, &serialising->requests.head, request)) {
        pthread_mutex_lock(&request->lane->mutex);
        list_remove(&request->link);
        co_queue_wake_all(&request->waiters);
        pthread_mutex_unlock(&request->lane->mutex);
        register_last(serialising, request);
        co_wait_for_older(serialising, request);
    }
    pthread_mutex_unlock(&serialising->mutex);
}

void tracked_co_begin(struct block_node *node, struct tracked_request *request, uint64_t offset,
                      uint64_t length, bool serialising)
{
    assert(length > 0 && offset <= UINT64_MAX - length);
    struct node_lane *lane = tracked_lane(node);
    *request = (struct tracked_request){
        .offset = offset, .length = length, .lane = lane, .serialising = serialising};
    co_queue_init(&request->waiters);
    if (serialising) {
        pthread_mutex_lock(&node->serialising.mutex);
        register_last(&node->serialising, request);
        co_wait_for_older(&node->serialising, request);
        pthread_mutex_unlock(&node->serialising.mutex);
        co_visit_lanes(node, request);
        return;
    }
    pthread_mutex_lock(&lane->mutex);
    list_append(&lane->in_flight, &request->link);
    unsigned registered = atomic_load_explicit(&node->serialising.count, memory_order_acquire);
    pthread_mutex_unlock(&lane->mutex);
    if (registered > 0)
        co_give_way(node, request);
}

/* As a plain request that steps back where the other would register and wait: what it leaves behind
 * is the same, so the invariants hold. */
bool tracked_try_begin(struct block_node *node, struct tracked_request *request, uint64_t offset,
                       uint64_t length)
{
    assert(length > 0 && offset <= UINT64_MAX - length);
    struct node_lane *lane = tracked_lane(node);
    *request = (struct tracked_request){.offset = offset, .length = length, .lane = lane};
    co_queue_init(&request->waiters);
    pthread_mutex_lock(&lane->mutex);
    list_append(&lane->in_flight, &request->link);
    unsigned registered = atomic_load_explicit(&node->serialising.count, memory_order_acquire);
    pthread_mutex_unlock(&lane->mutex);
    if (registered == 0)
        return true;
    struct node_serialising *serialising = &node->serialising;
    pthread_mutex_lock(&serialising->mutex);
    bool conflicts =
        find_conflict(&serialising->requests, &serialising->requests.head, request) != NULL;
    pthread_mutex_unlock(&serialising->mutex);
    if (conflicts)
        tracked_end(node, request, false);
    return !conflicts;
}

void tracked_co_begin_exclusive(struct block_node *node, struct tracked_request *request)
{
    tracked_co_begin(node, request, 0, UINT64_MAX, true);
}

/* Only this loop writes its lane's generation, so it needs no read-modify-write instruction. */
static void raise_write_generation(struct node_lane *lane)
{
    uint64_t generation = atomic_load_explicit(&lane->write_generation, memory_order_relaxed);
    atomic_store_explicit(&lane->write_generation, generation + 1, memory_order_release);
}

void tracked_end(struct block_node *node, struct tracked_request *request, bool changed)
{
    struct node_lane *lane = request->lane;
    assert(lane == tracked_lane(node));
    if (changed)
        raise_write_generation(lane);
    pthread_mutex_t *mutex = request->registered ? &node->serialising.mutex : &lane->mutex;
    pthread_mutex_lock(mutex);
    list_remove(&request->link);
    if (request->registered)
        atomic_fetch_sub(&node->serialising.count, 1);
    if (!co_queue_is_empty(&request->waiters))
        co_queue_wake_all(&request->waiters);
    pthread_mutex_unlock(mutex);
}
