/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_DOORWAY_H
#define BLOCK_DOORWAY_H

/*
 * The one place from which a driver's data calls are made: what driver.h promises the driver is
 * asserted before each call, what the driver promises after it, and what a NULL call means is
 * decided here. Observers are called here, before a change (observer.h): what fails because one
 * of them did has not reached the driver.
 */

#include "block/driver.h"

int doorway_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec);
/* BLOCK_FUA only for a driver that has BLOCK_DRIVER_FUA. */
int doorway_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                     unsigned flags);
/* NULL call: -ENOTSUP. */
int doorway_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags);
/* NULL call: nothing is done, which is a discard too. */
int doorway_co_discard(struct block_node *node, uint64_t offset, uint64_t length);
/* NULL call: -ENOTSUP. */
int doorway_co_cache(struct block_node *node, uint64_t offset, uint64_t length);
/* NULL call: the child that holds the image's bytes is flushed. */
int doorway_co_flush(struct block_node *node);
/* NULL call: allocated, not zero. */
int doorway_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                      struct block_extent *ret_extent);
/* NULL call: what doorway_co_status() says. */
int doorway_co_statuses(struct block_node *node, uint64_t offset, uint64_t length,
                        struct block_extents *ret_extents);
/* NULL call: all of it is the node's own. */
int doorway_co_is_own(struct block_node *node, uint64_t offset, uint64_t length, bool *ret_is_own,
                      uint64_t *ret_length);
void doorway_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                               struct block_extent *ret_extent);
/* Only where there is such a call: see node_lend(). */
int doorway_lend(struct block_node *node, uint64_t offset, uint64_t length,
                 struct block_loan *loan);

#endif
