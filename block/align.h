/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_ALIGN_H
#define BLOCK_ALIGN_H

/*
 * Requests of any alignment, made of whole blocks of limits.request_alignment bytes: see align.c.
 */

#include <stdbool.h>

#include "block/driver.h"

/* What a request must be tracked as before it may touch its range. */
struct align_cover {
    uint64_t offset, length;
    bool serialising;
};

/* size is the node's size now; a request that finds another size after it has begun asks again. */
struct align_cover align_cover_read(const struct block_node *node, uint64_t offset, uint64_t length,
                                    uint64_t size);
struct align_cover align_cover_write(const struct block_node *node, uint64_t offset,
                                     uint64_t length, uint64_t size);

/* The caller has begun as the cover says. Bytes past the node's end read as zeroes. */
int align_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec);
int align_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                   unsigned flags);
/* BLOCK_FAST: -ENOTSUP when an end would have to be written, or the node made to grow. */
int align_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags);
/* Blocks that are not wholly inside the range are left alone. */
int align_co_discard(struct block_node *node, uint64_t offset, uint64_t length);

#endif
