/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/doorway.h"

#include <assert.h>
#include <errno.h>

#include "block/coroutine.h"
#include "block/observer.h"
#include "common/align.h"
#include "common/checked.h"

#define ERRNO_MAX 4095 /* the kernel's own bound */

static void assert_may_call(const struct block_node *node)
{
    assert(coroutine_inside());
    assert(node->opened);
}

static void assert_range(const struct block_node *node, uint64_t offset, uint64_t length,
                         uint64_t length_max, bool may_grow)
{
    uint64_t size = atomic_load(&node->size_bytes);
    assert_may_call(node);
    assert(length > 0);
    assert(offset <= UINT64_MAX - length);
    assert(length_max == 0 || length <= length_max);
    assert(offset + length <= size || (may_grow && (node->driver->flags & BLOCK_DRIVER_GROWS)));
    assert(is_aligned(offset, node->limits.request_alignment));
    assert(is_aligned(length, node->limits.request_alignment) || offset + length >= size);
}

static void assert_memory(const struct block_node *node, const struct block_vec *vec)
{
    size_t whole = align_down(vec->length, node->limits.memory_alignment);
    struct block_vec aligned = {.iov = vec->iov, .skip = vec->skip, .length = whole};
    assert(whole == 0 || vec_is_aligned(&aligned, node->limits.memory_alignment));
}

static void assert_flags(const struct block_node *node, unsigned flags, unsigned allowed)
{
    if (node->driver->flags & BLOCK_DRIVER_FUA)
        allowed |= BLOCK_FUA;
    assert((flags & ~allowed) == 0);
    assert(!node->read_only);
}

static int checked_result(int rc)
{
    assert(rc <= 0 && rc >= -ERRNO_MAX);
    return rc;
}

static void assert_extent(const struct block_extent *extent, uint64_t length)
{
    assert(extent->length >= 1 && extent->length <= length);
    assert((extent->flags & ~(unsigned)(BLOCK_EXTENT_ALLOCATED | BLOCK_EXTENT_ZERO)) == 0);
}

int doorway_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    assert_range(node, offset, vec->length, node->limits.transfer_bytes_max, false);
    assert_memory(node, vec);
    return checked_result(node->driver->co_read(node, offset, vec));
}

int doorway_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                     unsigned flags)
{
    assert_range(node, offset, vec->length, node->limits.transfer_bytes_max, true);
    assert_memory(node, vec);
    assert_flags(node, flags, node->limits.compress_bytes > 0 ? BLOCK_COMPRESS : 0);
    int rc = observer_co_before(node, BLOCK_CHANGE_WRITE, offset, vec->length);
    return rc < 0 ? rc : checked_result(node->driver->co_write(node, offset, vec, flags));
}

int doorway_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    assert_range(node, offset, length, node->limits.zero_bytes_max, true);
    assert_flags(node, flags, BLOCK_NO_UNMAP | BLOCK_FAST);
    if (!node->driver->co_zero)
        return -ENOTSUP;
    int rc = observer_co_before(node, BLOCK_CHANGE_ZERO, offset, length);
    return rc < 0 ? rc : checked_result(node->driver->co_zero(node, offset, length, flags));
}

int doorway_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    assert_range(node, offset, length, node->limits.discard_bytes_max, false);
    assert_flags(node, 0, 0);
    if (!node->driver->co_discard)
        return 0;
    int rc = observer_co_before(node, BLOCK_CHANGE_DISCARD, offset, length);
    return rc < 0 ? rc : checked_result(node->driver->co_discard(node, offset, length));
}

int doorway_co_flush(struct block_node *node)
{
    assert_may_call(node);
    if (node->driver->co_flush)
        return checked_result(node->driver->co_flush(node));
    return node->file ? node_co_flush(node->file) : 0;
}

static void assert_status_range(const struct block_node *node, uint64_t offset, uint64_t length)
{
    assert(node->opened);
    assert(length > 0);
    assert(range_is_inside(offset, length, atomic_load(&node->size_bytes)));
}

int doorway_co_cache(struct block_node *node, uint64_t offset, uint64_t length)
{
    assert_may_call(node);
    assert_status_range(node, offset, length);
    if (!node->driver->co_cache)
        return -ENOTSUP;
    return checked_result(node->driver->co_cache(node, offset, length));
}

int doorway_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                      struct block_extent *ret_extent)
{
    assert_may_call(node);
    assert_status_range(node, offset, length);
    struct block_extent extent = {.length = length, .flags = BLOCK_EXTENT_ALLOCATED};
    if (node->driver->co_status) {
        int rc = checked_result(node->driver->co_status(node, offset, length, &extent));
        if (rc < 0)
            return rc;
        assert_extent(&extent, length);
    }
    *ret_extent = extent;
    return 0;
}

int doorway_co_statuses(struct block_node *node, uint64_t offset, uint64_t length,
                        struct block_extents *ret_extents)
{
    assert_may_call(node);
    assert_status_range(node, offset, length);
    ret_extents->count = 1;
    if (!node->driver->co_statuses)
        return doorway_co_status(node, offset, length, &ret_extents->all[0]);
    int rc = checked_result(node->driver->co_statuses(node, offset, length, ret_extents));
    assert(rc < 0 || (ret_extents->count >= 1 && ret_extents->count <= BLOCK_EXTENTS_MAX));
    for (unsigned i = 0; i < ret_extents->count && rc == 0; i++) {
        assert_extent(&ret_extents->all[i], length);
        length -= ret_extents->all[i].length;
    }
    return rc;
}

int doorway_co_is_own(struct block_node *node, uint64_t offset, uint64_t length, bool *ret_is_own,
                      uint64_t *ret_length)
{
    bool is_own = true;
    uint64_t own_length = length;
    assert_may_call(node);
    assert_status_range(node, offset, length);
    if (node->driver->co_is_own) {
        int rc =
            checked_result(node->driver->co_is_own(node, offset, length, &is_own, &own_length));
        if (rc < 0)
            return rc;
        assert(own_length >= 1 && own_length <= length);
    }
    *ret_is_own = is_own;
    *ret_length = own_length;
    return 0;
}

void doorway_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                               struct block_extent *ret_extent)
{
    assert_status_range(node, offset, length);
    *ret_extent = (struct block_extent){.length = length, .flags = BLOCK_EXTENT_ALLOCATED};
    if (node->driver->status_remembered) {
        node->driver->status_remembered(node, offset, length, ret_extent);
        assert_extent(ret_extent, length);
    }
}

int doorway_lend(struct block_node *node, uint64_t offset, uint64_t length, struct block_loan *loan)
{
    assert_status_range(node, offset, length);
    return checked_result(node->driver->lend(node, offset, length, loan));
}
