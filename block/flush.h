/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_FLUSH_H
#define BLOCK_FLUSH_H

#include "block/driver.h"

/* Flushes of one node, grouped: see flush.c. */

void flush_init(struct block_node *node);
void flush_fini(struct block_node *node);
/* Once the node has its account. */
void flush_init_counters(struct block_node *node);

/* Somebody else may have written to the node, as before it was opened: its next flush is not for
 * free. Nothing is in flight. */
void flush_forget(struct block_node *node);

/* Of a node's flushes, those that cost no call of the driver of their own. */
uint64_t flush_grouped_count(const struct block_node *node); /* shared another one's call */
uint64_t flush_skipped_count(const struct block_node *node); /* nothing was written since */

/* Every change whose request ended before is on stable storage afterwards; also those that someone
 * else made before the node was opened. */
int flush_co_node(struct block_node *node);
/* The same for this node's own changes alone: for closing, where nobody asks for more. */
int flush_co_changes(struct block_node *node);

/* 0, or the errno of the flush that failed: from then on no FUA may be promised either. */
int flush_failed(const struct block_node *node);

#endif
