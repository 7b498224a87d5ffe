/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Small reads are lent as copies, made at once. A 4 KiB read of what is in memory costs the kernel
 * no more than one by io_uring, and costs us no wait: no coroutine, no operation, and the next one
 * uses the same memory, which is still in the processor's cache. The page cache is not asked first:
 * preadv2(2) with RWF_NOWAIT tells.
 *
 * But where it does not have the page, it has the disk begin to read, which takes the loop ten
 * times as long as a copy. So after one that failed the next is the engine's, after another one the
 * next two, then four; what misses all the time is tried once in 65. Each that was there halves the
 * number: a file of which single pages are missing is read at once. And each 64 MiB count for
 * themselves: who reads what is in memory is not kept from it by who reads elsewhere what is not.
 */
#include <errno.h>

#include "block/loop.h"
#include "block/posix.h"

#define ENGINE_READS_MAX 64 /* after a miss */
#define AREA_BYTES (64u << 20)

/* One of all that have the same remainder. */
static struct posix_area *area_of(struct posix_file *file, uint64_t offset)
{
    return &file->areas[offset / AREA_BYTES % POSIX_AREAS];
}

static void note_copy(struct posix_area *area, bool was_there)
{
    unsigned more = atomic_load_explicit(&area->engine_reads_more, memory_order_relaxed);
    if (!was_there)
        posix_set_count(&area->engine_reads_due,
                        posix_back_off(&area->engine_reads_more, 1, ENGINE_READS_MAX));
    else if (more > 0)
        posix_set_count(&area->engine_reads_more, more / 2);
}

int posix_lend_at_once(struct posix_file *file, uint64_t offset, size_t length,
                       struct block_loan *loan)
{
    struct posix_area *area = area_of(file, offset);
    struct loop *loop = loop_current();
    struct iovec iov = {.iov_base = loan->copy_to, .iov_len = length};
    if (file->direct || !file->files->preadv_at_once)
        return -ENOTSUP;
    if (posix_take_due(&area->engine_reads_due) || !loop_has_room(loop))
        return -EAGAIN;
    ssize_t got = file->files->preadv_at_once(file->files, file->fd, &iov, 1, offset);
    bool was_there = got == (ssize_t)length;
    note_copy(area, was_there);
    loop_count_work(loop, was_there ? length : LOOP_LATE_READ_BYTES);
    if (!was_there)
        return -EAGAIN;
    loan->use(loan, file->fd, offset, length);
    return 0;
}
