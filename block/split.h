/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_SPLIT_H
#define BLOCK_SPLIT_H

/*
 * Cuts what is aligned already into pieces that the driver's limits allow, one after the other. The
 * first piece that fails ends the request; the pieces before it are done.
 */

#include "block/driver.h"

/* Ranges as driver.h promises them to drivers, of any length. */
int split_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec);
int split_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                   unsigned flags);
/* Writes zeroes where the driver cannot make them itself. With BLOCK_FAST that is -ENOTSUP instead,
 * unless a piece was zeroed already: a change must not be left behind a refusal. */
int split_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags);
int split_co_discard(struct block_node *node, uint64_t offset, uint64_t length);

#endif
