/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/observer.h"

#include <assert.h>
#include <errno.h>

#include "block/align.h"
#include "block/coroutine.h"
#include "block/tracked.h"

/*
 * The list of a node's observers changes only while nothing is in flight on the node: whoever adds
 * or removes one is tracked as an exclusive request (tracked.h). So the list needs no lock and no
 * generation: a request that goes through it was begun after the last change of the list and ends
 * before the next one. And who adds an observer knows where it begins: what was not observed has
 * ended, what comes is observed, and no request is half of each.
 *
 * The doorway calls them: behind tracking, alignment and splitting. There the ranges are those that
 * the driver touches, the old ends of a read-modify-write too; and a request that only waits for
 * another one has not been observed yet.
 *
 * Without observers it costs one load, of a line that every request reads anyway.
 */

void observer_init(struct block_node *node)
{
    list_init(&node->observers.list);
}

void observer_fini(struct block_node *node)
{
    assert(list_is_empty(&node->observers.list));
    (void)node;
}

void observer_co_add(struct block_node *node, struct block_observer *observer)
{
    struct tracked_request request;
    assert(coroutine_inside());
    tracked_co_begin_exclusive(node, &request);
    list_append(&node->observers.list, &observer->link);
    atomic_fetch_add(&node->observers.count, 1);
    tracked_end(node, &request, false);
}

void observer_co_remove(struct block_node *node, struct block_observer *observer)
{
    struct tracked_request request;
    assert(coroutine_inside());
    tracked_co_begin_exclusive(node, &request);
    assert(link_is_listed(&observer->link));
    list_remove(&observer->link);
    atomic_fetch_sub(&node->observers.count, 1);
    tracked_end(node, &request, false);
}

int observer_co_call_all(struct block_node *node, enum block_change change, uint64_t offset,
                         uint64_t length)
{
    list_for_each (link, &node->observers.list) {
        struct block_observer *observer = container_of(link, struct block_observer, link);
        int rc = observer->co_before(observer, node, change, offset, length);
        assert(rc <= 0 && rc != -ENOTSUP);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Not tracked: the change that is observed is, and a request begins nothing on a node on which it
 * has something begun (tracked.c, invariant 4). */
int observer_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    assert(atomic_load(&node->observers.count) > 0);
    return vec->length > 0 ? align_co_read(node, offset, vec) : 0;
}
