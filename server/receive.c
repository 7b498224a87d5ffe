/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/receive.h"

#include <assert.h>
#include <stdlib.h>

#define CHUNK_ALIGNMENT 4096

void receive_pool_init(struct receive_pool *pool)
{
    *pool = (struct receive_pool){0};
    list_init(&pool->spare);
}

static void chunk_free(struct receive_chunk *chunk)
{
    if (!chunk)
        return;
    assert(chunk->pins == 0);
    free(chunk->data);
    free(chunk);
}

void receive_pool_fini(struct receive_pool *pool)
{
    assert(!pool->lent && pool->full_count == 0);
    chunk_free(pool->current);
    struct list_link *link;
    while ((link = list_pop(&pool->spare)) != NULL)
        chunk_free(container_of(link, struct receive_chunk, link));
}

/* A spare one, or a new one; NULL when there is no memory. */
static struct receive_chunk *chunk_get(struct receive_pool *pool)
{
    struct list_link *link = list_pop(&pool->spare);
    if (link) {
        pool->spare_count--;
        return container_of(link, struct receive_chunk, link);
    }
    struct receive_chunk *chunk = malloc(sizeof(*chunk));
    void *data;
    if (!chunk)
        return NULL;
    if (posix_memalign(&data, CHUNK_ALIGNMENT, RECEIVE_CHUNK_BYTES) != 0) {
        free(chunk);
        return NULL;
    }
    *chunk = (struct receive_chunk){.pool = pool, .data = data};
    link_init(&chunk->link);
    return chunk;
}

uint8_t *receive_borrow(struct receive_pool *pool, struct receive_chunk **ret_chunk,
                        size_t *ret_space)
{
    assert(!pool->lent);
    if (!pool->current || RECEIVE_CHUNK_BYTES - pool->used < RECEIVE_SPACE_MIN) {
        struct receive_chunk *next = chunk_get(pool);
        if (!next)
            return NULL;
        if (pool->current) {
            assert(pool->current->pins > 0);
            pool->full_count++;
        }
        pool->current = next;
        pool->used = 0;
    }
    pool->lent = true;
    *ret_chunk = pool->current;
    *ret_space = RECEIVE_CHUNK_BYTES - pool->used;
    return pool->current->data + pool->used;
}

void receive_return(struct receive_pool *pool, size_t used)
{
    assert(pool->lent && used <= RECEIVE_CHUNK_BYTES - pool->used);
    pool->lent = false;
    pool->used = pool->current->pins > 0 ? pool->used + used : 0;
}

void receive_pin(struct receive_chunk *chunk)
{
    chunk->pins++;
}

void receive_unpin(struct receive_chunk *chunk)
{
    struct receive_pool *pool = chunk->pool;
    assert(chunk->pins > 0);
    if (--chunk->pins > 0)
        return;
    if (chunk == pool->current) {
        /* While it is lent, receive_return() decides. */
        if (!pool->lent)
            pool->used = 0;
        return;
    }
    assert(pool->full_count > 0);
    pool->full_count--;
    if (pool->spare_count == RECEIVE_CHUNKS_SPARE_MAX) {
        chunk_free(chunk);
        return;
    }
    /* Last in, first out: the warmest is lent next. */
    list_prepend(&pool->spare, &chunk->link);
    pool->spare_count++;
}
