/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/bounce.h"

#include <assert.h>
#include <errno.h>

#include "block/doorway.h"
#include "block/env.h"

bool bounce_is_needed(const struct block_node *node, const struct block_vec *vec)
{
    uint32_t alignment = node->limits.memory_alignment;
    return alignment > 1 && !vec_is_aligned(vec, alignment);
}

int bounce_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    if (!bounce_is_needed(node, vec))
        return doorway_co_read(node, offset, vec);
    assert(vec->length <= BOUNCE_BYTES_MAX);
    struct buffer_pool *pool = &block_env_local(node->env)->buffers;
    void *data = buffer_get(pool, vec->length);
    if (!data)
        return -ENOMEM;
    struct iovec iov;
    struct block_vec whole = vec_of_buffer(&iov, data, vec->length);
    int rc = doorway_co_read(node, offset, &whole);
    if (rc == 0)
        vec_copy_from(vec, data);
    buffer_put(pool, data, vec->length);
    return rc;
}

int bounce_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                    unsigned flags)
{
    if (!bounce_is_needed(node, vec))
        return doorway_co_write(node, offset, vec, flags);
    assert(vec->length <= BOUNCE_BYTES_MAX);
    struct buffer_pool *pool = &block_env_local(node->env)->buffers;
    void *data = buffer_get(pool, vec->length);
    if (!data)
        return -ENOMEM;
    struct iovec iov;
    struct block_vec whole = vec_of_buffer(&iov, data, vec->length);
    vec_copy_to(vec, data);
    int rc = doorway_co_write(node, offset, &whole, flags);
    buffer_put(pool, data, vec->length);
    return rc;
}
