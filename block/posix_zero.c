/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Write-zeroes and discard, by fallocate(2).
 *
 *   zero, space may go (discard=unmap, and not BLOCK_NO_UNMAP):  PUNCH_HOLE, else ZERO_RANGE
 *   zero, space stays taken:   ZERO_RANGE, else PUNCH_HOLE and then allocate what it took away
 *   none of it is to be had:                                     -ENOTSUP, zeroes are written
 *   discard with discard=unmap:                                  PUNCH_HOLE, else nothing
 *   discard with discard=ignore:                                 nothing
 *
 * Without discard=unmap zeroes never make holes, as with qemu: who did not ask for a sparse file
 * keeps the space he has paid for. The file system zeroes the odd ends of a range itself, so any
 * range comes out exact; and inside the file KEEP_SIZE keeps an old size_bytes from making the file
 * longer than a concurrent resize.
 *
 * Past its end the file grows by ZERO_RANGE, or by allocating, without KEEP_SIZE, over the whole
 * new part or, where holes are wanted, over its last byte. Not by ftruncate: that sets a size, and
 * a write that ends further out at the same time would be cut off.
 *
 * O_DIRECT needs no care here: the kernel keeps fallocate and direct transfers apart by itself.
 *
 * All of these cost what a range's extents cost, not what its bytes do, but for allocating: a file
 * system that has no ZERO_RANGE may write zeroes for it (tmpfs does). So with BLOCK_FAST nothing is
 * punched to be allocated again; all else is quick, or -ENOTSUP before anything is changed.
 *
 * What a file system does not have is remembered, so the question costs one call a file.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include "block/posix.h"

static bool is_missing(int code)
{
    return code == -EOPNOTSUPP || code == -ENOSYS;
}

static int co_fallocate(struct block_node *node, int mode, uint64_t offset, uint64_t length)
{
    return posix_co_operation(node, &(struct engine_op){.kind = ENGINE_FALLOCATE,
                                                        .fd = posix_of(node)->fd,
                                                        .mode = mode,
                                                        .offset = offset,
                                                        .length = length});
}

/* -ENOTSUP: this mode is not to be had here, as *no_mode remembers. */
static int co_try(struct block_node *node, _Atomic bool *no_mode, int mode, uint64_t offset,
                  uint64_t length)
{
    if (length == 0)
        return 0;
    if (atomic_load_explicit(no_mode, memory_order_relaxed))
        return -ENOTSUP;
    int ret = co_fallocate(node, mode, offset, length);
    if (is_missing(ret)) {
        atomic_store_explicit(no_mode, true, memory_order_relaxed);
        return -ENOTSUP;
    }
    return ret;
}

int posix_co_punch(struct block_node *node, uint64_t offset, uint64_t length)
{
    return co_try(node, &posix_of(node)->no_punch_hole, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  offset, length);
}

static int co_zero_range(struct block_node *node, int extra_mode, uint64_t offset, uint64_t length)
{
    return co_try(node, &posix_of(node)->no_zero_range, FALLOC_FL_ZERO_RANGE | extra_mode, offset,
                  length);
}

static int co_allocate(struct block_node *node, int extra_mode, uint64_t offset, uint64_t length)
{
    return co_try(node, &posix_of(node)->no_allocate, extra_mode, offset, length);
}

/* -ENOTSUP may leave a hole here; zeroes that are written then fill it. */
static int co_punch_and_allocate(struct block_node *node, uint64_t offset, uint64_t length)
{
    if (atomic_load_explicit(&posix_of(node)->no_allocate, memory_order_relaxed))
        return -ENOTSUP;
    int ret = posix_co_punch(node, offset, length);
    if (ret == 0)
        ret = co_allocate(node, FALLOC_FL_KEEP_SIZE, offset, length);
    return ret;
}

static int co_zero_inside(struct block_node *node, uint64_t offset, uint64_t length, bool may_unmap,
                          bool is_fast)
{
    int ret = may_unmap ? posix_co_punch(node, offset, length) : -ENOTSUP;
    if (ret == -ENOTSUP)
        ret = co_zero_range(node, FALLOC_FL_KEEP_SIZE, offset, length);
    if (ret == -ENOTSUP && !may_unmap && !is_fast)
        ret = co_punch_and_allocate(node, offset, length);
    return ret;
}

static int co_zero_behind(struct block_node *node, uint64_t offset, uint64_t length, bool may_unmap)
{
    if (length == 0)
        return 0;
    /* What lies behind the end is a hole already: making the file longer shows it. */
    uint64_t from = may_unmap ? offset + length - 1 : offset;
    uint64_t end = offset + length;
    int ret = co_zero_range(node, 0, from, end - from);
    if (ret == -ENOTSUP)
        ret = co_allocate(node, 0, from, end - from);
    if (ret == 0)
        posix_grew_to(node, end);
    return ret;
}

int posix_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    struct posix_file *file = posix_of(node);
    bool may_unmap = file->unmap && !(flags & BLOCK_NO_UNMAP);
    uint64_t size = atomic_load(&node->size_bytes);
    uint64_t end = offset + length;
    uint64_t inside_end = end < size ? end : size;
    uint64_t inside = offset < inside_end ? inside_end - offset : 0;

    int ret = co_zero_inside(node, offset, inside, may_unmap, flags & BLOCK_FAST);
    posix_extents_forget(&file->data, offset, end); /* also when it failed half way */
    if (ret == 0)
        ret = co_zero_behind(node, offset + inside, length - inside, may_unmap);
    return ret;
}

int posix_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct posix_file *file = posix_of(node);
    if (!file->unmap)
        return 0;
    int ret = posix_co_punch(node, offset, length);
    posix_extents_forget(&file->data, offset, offset + length);
    return ret == -ENOTSUP ? 0 : ret;
}
