/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The protocol driver "file": an image in a regular file of the host. It makes no system call of
 * its own: transfers go to the loop's AIO engine, everything else to the host_files table on a
 * worker.
 *
 *   posix_open      options, opening, what a person can get wrong
 *   posix_lock      who else uses the file
 *   posix_direct    what O_DIRECT wants
 *   posix_transfer  one range, whatever the engine gives at a time; small writes in the loop
 *   posix_tail      the last bytes of a file that O_DIRECT cannot reach
 *   posix_zero      zeroes and discards
 *   posix_status    what is data and what is a hole
 *   posix_cache    what will be read soon
 *   posix_extents   the data that is remembered
 *   posix_lend      bytes handed on from the page cache without a copy
 *   posix_create    new files, new sizes
 *   posix_kept      memory of a file that stays when the process is killed
 *   posix_reopen    other rights and modes of an open file; its size now
 *
 * Two ways to the disk. cache.direct=off: everything through the page cache. cache.direct=on:
 * O_DIRECT, for which offset, length and memory are aligned (block/align sees to that for all
 * drivers), and a second, buffered descriptor for the odd tail of a file whose size is no multiple
 * of the alignment.
 *
 * The page cache and O_DIRECT on one file. Before a direct transfer the kernel writes the dirty
 * pages of its range back, and after a direct write it drops the pages of the range; both before
 * the transfer is told to be done. So what is done first is seen by what is begun later, whichever
 * way each of them takes. At the same time is another matter: a buffered write of the tail dirties
 * a whole page (or folio), with old bytes of the neighbours in it, and a direct write to those that
 * is under way meanwhile is undone when that page goes to the disk. Hence a write with an odd end
 * keeps direct writes out (posix_tail). Reads do no harm: the page they bring in is clean, and is
 * dropped.
 *
 * Past the end of the file reads give zeroes; a write makes it longer. node->size_bytes follows by
 * the largest end written. That another process has lengthened the file is noticed when it is asked
 * for (block/refresh.c); one that shortens it makes us read zeroes, not fail: a sparse file is no
 * rarer than a cut one, and looks the same from here.
 *
 * FUA is a flush after the write, not RWF_DSYNC with it. On ext4 both cost the same: 4 KiB at depth
 * 1 take 160 to 270 us either way, at depth 16 42 to 65 us a write, where 16 flushes share one
 * fdatasync. A flush also syncs what others have written meanwhile, which RWF_DSYNC would not; but
 * with it a lost write is seen in one place alone (block/flush), which then remembers it.
 */
#include "block/posix.h"

#include "common/align.h"

void posix_grew_to(struct block_node *node, uint64_t size_bytes)
{
    uint64_t old = atomic_load_explicit(&node->size_bytes, memory_order_relaxed);
    while (old < size_bytes && !atomic_compare_exchange_weak(&node->size_bytes, &old, size_bytes))
        ;
}

/* How many bytes at the front O_DIRECT can transfer. */
static size_t direct_bytes(const struct block_node *node, size_t length)
{
    return posix_of(node)->direct ? align_down(length, node->limits.request_alignment) : 0;
}

static int posix_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    const struct posix_file *file = posix_of(node);
    size_t direct = direct_bytes(node, vec->length);
    size_t done = 0, more = 0;
    if (direct > 0) {
        struct block_vec front = vec_slice(vec, 0, direct);
        int ret = posix_co_read_range(node, file->fd, node->limits.request_alignment, offset,
                                      &front, &done);
        if (ret < 0)
            return ret;
    }
    if (done == vec->length)
        return 0;
    struct block_vec rest = vec_slice(vec, done, vec->length - done);
    int ret = posix_co_read_range(node, file->buffered_fd, 1, offset + done, &rest, &more);
    if (ret < 0)
        return ret;
    rest = vec_slice(&rest, more, rest.length - more);
    vec_fill(&rest, 0); /* the file ends here */
    return 0;
}

/* The aligned front by O_DIRECT, the odd rest through the page cache. */
static int co_write_direct(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                           size_t *ret_done)
{
    const struct posix_file *file = posix_of(node);
    size_t direct = direct_bytes(node, vec->length);
    size_t done = 0;
    if (direct > 0) {
        struct block_vec front = vec_slice(vec, 0, direct);
        int ret = posix_co_write_range(node, file->fd, node->limits.request_alignment, offset,
                                       &front, &done);
        *ret_done = done;
        if (ret < 0)
            return ret;
    }
    if (direct == vec->length)
        return 0;
    struct block_vec rest = vec_slice(vec, direct, vec->length - direct);
    int ret = posix_co_write_range(node, file->buffered_fd, 1, offset + direct, &rest, &done);
    *ret_done = direct + done;
    return ret;
}

static int posix_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                          unsigned flags)
{
    (void)flags; /* FUA is a flush that the block layer adds */
    struct posix_file *file = posix_of(node);
    size_t done = 0;
    int ret;
    if (file->direct) {
        bool is_odd = direct_bytes(node, vec->length) != vec->length;
        posix_tail_co_enter(&file->tail, is_odd);
        ret = co_write_direct(node, offset, vec, &done);
        posix_tail_leave(&file->tail, is_odd);
    } else {
        ret = posix_co_write_range(node, file->fd, 1, offset, vec, &done);
    }
    if (done > 0)
        posix_grew_to(node, offset + done); /* also by what a full disk took of it */
    return ret;
}

/* One fdatasync serves both descriptors: it is the file that is synced. */
int posix_co_flush(struct block_node *node)
{
    const struct posix_file *file = posix_of(node);
    if (file->no_flush)
        return 0;
    return posix_co_operation(node, &(struct engine_op){.kind = ENGINE_SYNC, .fd = file->fd});
}

const struct block_driver block_driver_file = {
    .name = "file",
    .flags = BLOCK_DRIVER_PROTOCOL | BLOCK_DRIVER_GROWS,
    .co_open = posix_co_open,
    .co_close = posix_co_close,
    .co_read = posix_co_read,
    .co_write = posix_co_write,
    .co_zero = posix_co_zero,
    .co_discard = posix_co_discard,
    .co_cache = posix_co_cache,
    .co_flush = posix_co_flush,
    .co_status = posix_co_status,
    .co_statuses = posix_co_statuses,
    .status_remembered = posix_status_remembered,
    .lend = posix_lend,
    .admin = &posix_admin,
};
