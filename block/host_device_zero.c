/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Write-zeroes and discard of a block device.
 *
 *   zero, space may go (discard=unmap, and not BLOCK_NO_UNMAP):  fallocate PUNCH_HOLE, else as
 * below zero, space stays taken:                                     BLKZEROOUT, else -ENOTSUP
 *   discard with discard=unmap:                                  BLKDISCARD, else nothing
 *   discard with discard=ignore:                                 nothing
 *
 * PUNCH_HOLE on a device asks the kernel for zeroes that may free their blocks, and is refused
 * where the device cannot make zeroes itself. It goes through the engine. BLKZEROOUT keeps the
 * blocks, and where the device cannot, the kernel writes zeroes: that saves carrying them here, but
 * is not quick. So with BLOCK_FAST it is used only where the queue says that the device makes
 * zeroes (write_zeroes_max_bytes). fallocate's ZERO_RANGE would come to the same in the kernel. A
 * discard is never used for zeroes: what a discarded block reads as is the device's own affair.
 *
 * A discard is a hint: what is not a whole granule (discard_granularity) is left out, since the
 * device would, and a device without discards does nothing and says yes. But one that fails says
 * so.
 *
 * The ioctls run on a worker and cannot be interrupted; long ranges go in pieces, so that a worker
 * comes back now and then, and a client that goes away is noticed.
 *
 * Before any of it the kernel drops the range from its page cache; it refuses (EBUSY) where a
 * mounted file system has the device and the range is being written. Then nothing was done, and
 * zeroes are written, which always works.
 */
#include <errno.h>
#include <linux/fs.h>

#include "block/env.h"
#include "block/host_device.h"
#include "block/workers.h"

#define PIECE_BYTES (UINT64_C(256) << 20) /* the kernel writes as many zeroes in about a second */

struct range_job {
    struct posix_file *file;
    unsigned long request;
    uint64_t range[2]; /* offset, length */
};

static int range_work(void *arg)
{
    struct range_job *job = arg;
    struct host_files *files = job->file->files;
    int ret;
    do {
        ret = files->ioctl(files, job->file->fd, job->request, job->range);
    } while (ret == -EINTR);
    return ret < 0 ? ret : 0;
}

static bool is_missing(int code)
{
    return code == -EOPNOTSUPP || code == -ENOTTY || code == -ENOSYS;
}

/* -ENOTSUP: this request is not to be had here, as *no_request remembers, or not now. */
static int co_ioctl(struct block_node *node, _Atomic bool *no_request, unsigned long request,
                    uint64_t offset, uint64_t length)
{
    struct range_job job = {.file = posix_of(node), .request = request, .range = {offset, length}};
    if (atomic_load_explicit(no_request, memory_order_relaxed))
        return -ENOTSUP;
    int ret = workers_co_run(node->env->workers, range_work, &job);
    if (is_missing(ret))
        atomic_store_explicit(no_request, true, memory_order_relaxed);
    return is_missing(ret) || ret == -EBUSY ? -ENOTSUP : ret;
}

static int co_zero_piece(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    struct host_device *device = host_device_of(node);
    bool may_unmap = device->file.unmap && !(flags & BLOCK_NO_UNMAP);
    int ret = may_unmap ? posix_co_punch(node, offset, length) : -ENOTSUP;
    if (ret == -EBUSY)
        ret = -ENOTSUP;
    if (ret == -ENOTSUP && (device->queue.has_zeroes || !(flags & BLOCK_FAST)))
        ret = co_ioctl(node, &device->no_zero_out, BLKZEROOUT, offset, length);
    return ret;
}

int host_device_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    uint64_t end = offset + length;
    for (uint64_t from = offset; from < end;) {
        uint64_t piece = end - from < PIECE_BYTES ? end - from : PIECE_BYTES;
        int ret = co_zero_piece(node, from, piece, flags);
        if (ret == -ENOTSUP && (flags & BLOCK_FAST) && from > offset) {
            /* It went quickly until here; what is begun is ended. */
            flags &= ~(unsigned)BLOCK_FAST;
            ret = co_zero_piece(node, from, piece, flags);
            if (ret == -ENOTSUP)
                ret = -EIO;
        }
        if (ret == -ENOTSUP)
            return ret; /* zeroes are written, from the beginning on */
        if (ret < 0)
            return host_device_co_failed(node, end, ret);
        from += piece;
    }
    return 0;
}

static uint64_t discard_piece_bytes(const struct device_queue *queue)
{
    uint64_t granularity = queue->discard_granularity_bytes;
    return granularity == 0 ? PIECE_BYTES : (PIECE_BYTES / granularity + 1) * granularity;
}

int host_device_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct host_device *device = host_device_of(node);
    if (!device->file.unmap || !device->queue.has_discard ||
        !device_queue_discardable(&device->queue, &offset, &length))
        return 0;
    uint64_t end = offset + length;
    uint64_t piece_max = discard_piece_bytes(&device->queue);
    for (uint64_t from = offset; from < end;) {
        uint64_t piece = end - from < piece_max ? end - from : piece_max;
        int ret = co_ioctl(node, &device->no_discard, BLKDISCARD, from, piece);
        if (ret == -ENOTSUP)
            return 0;
        if (ret < 0)
            return host_device_co_failed(node, end, ret);
        from += piece;
    }
    return 0;
}
