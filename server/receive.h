/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_RECEIVE_H
#define SERVER_RECEIVE_H

/*
 * Memory to receive into. It belongs to a loop, which lends it to one connection after the other
 * for the time it takes to look at what came, so an idle connection has none, and the same chunk,
 * warm in the processor's cache, serves them all.
 *
 * Who needs received bytes for longer (a write, until it is done) pins the chunk. A pinned chunk
 * goes on to be lent behind what was used of it, until less than RECEIVE_SPACE_MIN is left; so a
 * chunk that is not lent any more was used for its larger part. receive_may_pin() bounds what
 * pins can hold in all: past that, copy.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"

#define RECEIVE_CHUNK_BYTES ((size_t)256 << 10)
#define RECEIVE_SPACE_MIN ((size_t)64 << 10)
#define RECEIVE_CHUNKS_SPARE_MAX 4   /* unused ones kept for the next time */
#define RECEIVE_CHUNKS_PINNED_MAX 32 /* above that, receive_may_pin() says no */

struct receive_chunk {
    struct receive_pool *pool;
    unsigned pins;
    struct list_link link; /* on pool->spare */
    uint8_t *data;         /* RECEIVE_CHUNK_BYTES, page-aligned */
};

struct receive_pool {
    struct receive_chunk *current; /* NULL at first */
    size_t used;                   /* of current: what pins may point into */
    bool lent;                     /* between receive_borrow() and receive_return() */
    struct list spare;
    unsigned spare_count;
    unsigned full_count; /* chunks that are neither current nor spare: only pins hold them */
};

void receive_pool_init(struct receive_pool *pool);
/* Nothing is lent or pinned. */
void receive_pool_fini(struct receive_pool *pool);

/* Lends at least RECEIVE_SPACE_MIN bytes, of *ret_chunk; NULL when there is no memory. One at a
 * time. */
uint8_t *receive_borrow(struct receive_pool *pool, struct receive_chunk **ret_chunk,
                        size_t *ret_space);
/* The first `used` bytes of what was lent were looked at; where pinned, they stay as they are. */
void receive_return(struct receive_pool *pool, size_t used);

static inline bool receive_may_pin(const struct receive_pool *pool)
{
    return pool->full_count < RECEIVE_CHUNKS_PINNED_MAX;
}
void receive_pin(struct receive_chunk *chunk);
void receive_unpin(struct receive_chunk *chunk);

#endif
