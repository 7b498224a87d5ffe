/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_CHAIN_H
#define BLOCK_CHAIN_H

/*
 * A chain of images: one, its backing file, the backing file of that, and so on. Filters between
 * them are looked through, and are no link of it.
 */

#include "block/driver.h"

/* The image that a filter shows, or the node itself. */
struct block_node *chain_image(struct block_node *node);
/* The next one behind an image; NULL: it is the last. */
struct block_node *chain_behind(const struct block_node *image);

/* Which image of the chain has what the range shows at its start, and for how much of the range, at
 * least 1, that is so: 1 is the node's own, 2 its backing file, 0: none has it. What lies past the
 * end of an image counts as that one's. */
int chain_co_depth(struct block_node *node, uint64_t offset, uint64_t length, uint32_t *ret_depth,
                   uint64_t *ret_length);

/* The dirty bitmap of that name of the first image in the chain that has one: see
 * block_driver_admin.co_find_bitmap. -ENOENT: none has; every error with a sentence. */
int chain_co_find_bitmap(struct block_node *node, const char *name,
                         const struct dirty_bitmap **ret_bitmap, struct error *err);

#endif
