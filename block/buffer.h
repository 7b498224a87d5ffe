/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_BUFFER_H
#define BLOCK_BUFFER_H

/*
 * Buffers for data, page-aligned so that O_DIRECT takes them, kept by size for the next request so
 * that the hot path allocates nothing. A pool belongs to one loop. Last in, first out: the buffer
 * that is still in the processor's cache is used again first.
 */

#include <stddef.h>

#define BUFFER_ALIGNMENT 4096
#define BUFFER_CLASS_COUNT 12             /* 4 KiB, 8 KiB, ... 8 MiB; larger ones are not kept */
#define BUFFER_POOL_KEEP_BYTES (8u << 20) /* what a pool keeps at most, over all classes */

struct buffer_free;

struct buffer_pool {
    struct buffer_free *classes[BUFFER_CLASS_COUNT];
    size_t kept_bytes;
};

void buffer_pool_init(struct buffer_pool *pool);
/* Every buffer has been put back. */
void buffer_pool_fini(struct buffer_pool *pool);

/* At least length bytes, not cleared; NULL when there is no memory. length is at least 1. A buffer
 * above a class's reach comes from the system untouched, so only what is written of it is resident.
 */
void *buffer_get(struct buffer_pool *pool, size_t length);
/* length is what buffer_get() was given. Takes NULL. */
void buffer_put(struct buffer_pool *pool, void *buffer, size_t length);

#endif
