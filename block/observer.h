/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_OBSERVER_H
#define BLOCK_OBSERVER_H

/*
 * Observers of a node: called before its driver changes what is stored. A dirty bitmap sets its
 * bits there; a backup point copies the old bytes away. See observer.c.
 */

#include "block/driver.h"

enum block_change {
    BLOCK_CHANGE_WRITE,
    BLOCK_CHANGE_ZERO,
    BLOCK_CHANGE_DISCARD,
};

/* Lives in its owner, from observer_co_add() to the return of observer_co_remove(). */
struct block_observer {
    /* The range is about to be changed, and will be when all observers have returned 0. It is what
     * the driver will be handed: whole blocks of its request_alignment, a piece that its limits
     * allow, so a request may come in several calls, and zeroes that the driver cannot make come
     * again as writes. Nothing else changes the range meanwhile but other changes that are being
     * observed, on this loop or others: calls of one observer overlap.
     *
     * May wait, also for another call of the same observer; may read the node by
     * observer_co_read(), and by nothing else; sends it no other request. A negative errno (not
     * -ENOTSUP) fails the request, and the observers after this one are not called. */
    int (*co_before)(struct block_observer *observer, struct block_node *node,
                     enum block_change change, uint64_t offset, uint64_t length);
    struct list_link link;
};

/* The last in the order. When it returns, every change that was not observed has ended, and every
 * later one is observed. Not from inside a request to the node. */
void observer_co_add(struct block_node *node, struct block_observer *observer);
/* When it returns, no call is under way and none will come. Not from inside a request. */
void observer_co_remove(struct block_node *node, struct block_observer *observer);

/* From inside co_before alone: reads what is stored, of any alignment, also outside of the range
 * that changes. Not of a node that grows meanwhile (BLOCK_DRIVER_GROWS) past the block in which it
 * ended. */
int observer_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec);

/* For the doorway. */
int observer_co_call_all(struct block_node *node, enum block_change change, uint64_t offset,
                         uint64_t length);
static inline int observer_co_before(struct block_node *node, enum block_change change,
                                     uint64_t offset, uint64_t length)
{
    if (atomic_load_explicit(&node->observers.count, memory_order_relaxed) == 0)
        return 0;
    return observer_co_call_all(node, change, offset, length);
}

/* For block/node. */
void observer_init(struct block_node *node);
/* Every observer was removed. */
void observer_fini(struct block_node *node);

#endif
