/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_BOUNCE_H
#define BLOCK_BOUNCE_H

#include <stdbool.h>

#include "block/driver.h"

/*
 * The last step before the driver: memory that is not as limits.memory_alignment wants it goes
 * through a buffer of the loop's pool. A request whose memory is aligned is handed on untouched.
 */

#define BOUNCE_BYTES_MAX (1u << 20) /* longer ranges come in pieces, so that memory is bounded */

/* Whether these bytes must be copied; then a piece may be BOUNCE_BYTES_MAX long at most. */
bool bounce_is_needed(const struct block_node *node, const struct block_vec *vec);

int bounce_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec);
int bounce_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                    unsigned flags);

#endif
