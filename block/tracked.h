/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_TRACKED_H
#define BLOCK_TRACKED_H

/*
 * Requests in flight on a node, and who of them must keep others out: see tracked.c.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/coroutine_lock.h"
#include "block/driver.h"
#include "common/list.h"

/* Lives on the stack of the coroutine that makes the request. */
struct tracked_request {
    struct list_link link;
    uint64_t offset, length;
    struct node_lane *lane;  /* of the loop it runs on */
    bool serialising;        /* keeps all that overlap it out */
    bool registered;         /* link is on node->serialising.requests, else on lane->in_flight */
    struct co_queue waiters; /* for its end; guarded by the mutex of the list it is on */
};

/* This loop's lane of the node. */
struct node_lane *tracked_lane(struct block_node *node);

int tracked_init(struct block_node *node); /* 0 or -ENOMEM */
/* Nothing is in flight. Also for a node whose tracked_init() failed. */
void tracked_fini(struct block_node *node);

/* Returns once the range may be touched. length is at least 1, and offset + length does not wrap.
 * A coroutine begins nothing on a node while it has something begun there. */
void tracked_co_begin(struct block_node *node, struct tracked_request *request, uint64_t offset,
                      uint64_t length, bool serialising);
/* The same for a plain request, without waiting: false where it would have to, and nothing is begun
 * then. Also outside of a coroutine. */
bool tracked_try_begin(struct block_node *node, struct tracked_request *request, uint64_t offset,
                       uint64_t length);
/* As a serialising request over everything there is or may be: for a resize. */
void tracked_co_begin_exclusive(struct block_node *node, struct tracked_request *request);

/* changed: it may have changed what is stored, so a later flush has something to do. */
void tracked_end(struct block_node *node, struct tracked_request *request, bool changed);

#endif
