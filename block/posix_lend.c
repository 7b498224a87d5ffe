/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes handed on where they lie: the page cache lends them to who can send them from a descriptor
 * (server/dispatch_lend.c), and nobody copies them.
 *
 * Never the disk. sendfile(2) has no way to say "only what is in memory", so the page cache is
 * asked first (host_files, pages_in_memory). A range that is not there in whole is not lent; it is
 * read as any other, by the engine, which does not stop the loop. What is left is a page that is
 * dropped between the question and the use. The borrower asks again when his answer is older than
 * some milliseconds, so that takes memory pressure at that very moment, and then costs the loop the
 * read of that page. Where the host does not answer (no RWF_NOWAIT for this file, a file that we
 * may not write to, the simulation) nothing is lent at all.
 *
 * The question costs a third of what it costs to send what is there. So as long as nothing is
 * missing the host is asked in a quicker way, which takes pages that the disk is about to fill for
 * present: where nobody reads from the disk there are none. When something is missing after all, or
 * the thread has slept in the use of a loan, the next 256 questions are the exact ones. Somebody
 * else's reads of the same file may stop the loop so, twice in 257 loans at most; and each time
 * that is noticed doubles how many questions are exact, up to 8192. (Each quick question takes one
 * of those back.)
 *
 * How often the thread has slept is asked for only around the 256 loans after one that took long,
 * which may also be for want of a processor: the clock tells that, for a tenth of the cost. So it
 * is the second such loan among them that is noticed, and one that is alone is not.
 *
 * Readahead is still started inside sendfile(2), at the page that the kernel has marked for it, and
 * may wait for room in the disk's queue; so it is inside a read that io_uring makes without
 * waiting.
 *
 * O_DIRECT files are not lent: they are not in the page cache on purpose.
 *
 * What the reader may see. The socket takes references to pages, not their bytes. So until the
 * client's kernel (UNIX socket) or the network card (TCP) has fetched them, a write to the same
 * place shows through, in whole or in part, also within a page or a sector:
 *
 * - A write that begins after the read's reply came in whole is never seen by it: nothing refers to
 *   the pages any more. (A TCP segment sent again with other bytes is one the client has already.)
 * - A write that was acknowledged before the read was sent is always seen: it was in the page cache
 *   before.
 * - Between the two, read and write are in flight together, whoever sent the write: the read's
 *   reply is not there yet. NBD gives such requests no order, and no promise that one is whole
 *   before the other: a server may carry a READ out in pieces. The client sees old bytes, new bytes
 *   or some of both, as it may from a pread() that runs beside a pwrite().
 * - Discard, write-zeroes and truncation take the pages out of the file; the reader keeps the old
 *   ones until he has read them: old bytes, or zeroes where a page was cut. The kernel gives the
 *   memory to nobody else before that.
 * - A page of this file is never anything but its own offset's. In a format that gives freed
 *   clusters to other offsets the last point would not hold: such a driver must not lend without
 *   keeping the cluster until the reader has it (driver.h says so).
 *
 * Past the end there is nothing to be lent, so the zeroes there are read() as ever; so is what a
 * file shows that another process has cut (sendfile then sends less, and the rest is read).
 *
 * Small reads are lent as copies (block/posix_at_once.c).
 */
#include <errno.h>

#include "block/loop.h"
#include "block/posix.h"
#include "common/checked.h"
#include "common/clock.h"

#define EXACT_QUESTIONS_AFTER_MISS 256
#define EXACT_QUESTIONS_MAX 8192
#define COUNTED_USES 256 /* after one that took long, sleeps are counted in so many more */
#define LONG_USE_NS 32000
#define LONG_USE_BYTES_A_NS 8 /* and for each so many it may take one longer; 20 is usual */

void posix_lend_open(struct host_files *files, int fd, uint64_t size_bytes,
                     struct host_pages *ret_pages)
{
    struct host_pages pages = {.base = NULL};
    if (size_bytes > 0 && files->pages_open)
        files->pages_open(files, fd, size_bytes, &pages); /* without it nothing is lent */
    *ret_pages = pages;
}

void posix_lend_close(struct posix_file *file)
{
    if (file->pages.base)
        file->files->pages_close(file->files, &file->pages);
}

enum engine_memory posix_ask_memory(const struct posix_file *file, uint64_t offset, size_t length)
{
    if (!file->pages.base || length > HOST_PAGES_ASK_MAX ||
        !range_is_inside(offset, length, file->pages.length)) /* it may have grown since */
        return ENGINE_MEMORY_UNKNOWN;
    return file->files->pages_in_memory(file->files, &file->pages, offset, length)
               ? ENGINE_MEMORY_HAS_IT
               : ENGINE_MEMORY_LACKS_IT;
}

static void note_miss(struct posix_file *file)
{
    unsigned more = atomic_load_explicit(&file->exact_questions_more, memory_order_relaxed);
    posix_set_count(&file->exact_questions_due, EXACT_QUESTIONS_AFTER_MISS + more);
}

/* What had been found in memory was not there. The next time is found out at once. */
static void note_slept(struct posix_file *file)
{
    unsigned due = posix_back_off(&file->exact_questions_more, EXACT_QUESTIONS_AFTER_MISS,
                                  EXACT_QUESTIONS_MAX);
    posix_set_count(&file->exact_questions_due, due);
    posix_set_count(&file->counted_uses_due, 2 * due + COUNTED_USES);
}

static bool is_there(struct posix_file *file, uint64_t offset, size_t length)
{
    struct host_files *files = file->files;
    int answer = -ENOSYS;
    if (!posix_take_due(&file->exact_questions_due) && files->pages_cached) {
        posix_take_due(&file->exact_questions_more);
        answer = files->pages_cached(files, file->fd, offset, length);
    }
    if (answer < 0)
        answer = files->pages_in_memory(files, &file->pages, offset, length);
    if (answer == 0)
        note_miss(file);
    return answer > 0;
}

static void use_loan(struct posix_file *file, uint64_t offset, size_t length,
                     struct block_loan *loan)
{
    struct host_files *files = file->files;
    struct clock *clock = loop_clock(loop_current());
    bool is_counted = files->sleeps && posix_take_due(&file->counted_uses_due);
    uint64_t sleeps = is_counted ? files->sleeps(files) : 0;
    uint64_t began_ns = clock->now_ns(clock);
    loan->use(loan, file->fd, offset, length);
    if (clock->now_ns(clock) - began_ns < LONG_USE_NS + length / LONG_USE_BYTES_A_NS)
        return;
    if (is_counted && files->sleeps(files) != sleeps)
        note_slept(file);
    else if (!is_counted)
        posix_set_count(&file->counted_uses_due, COUNTED_USES);
}

int posix_lend(struct block_node *node, uint64_t offset, uint64_t length, struct block_loan *loan)
{
    struct posix_file *file = posix_of(node);
    if (loan->copy_to)
        return posix_lend_at_once(file, offset, (size_t)length, loan);
    if (!file->pages.base)
        return -ENOTSUP;
    if (!range_is_inside(offset, length, file->pages.length)) /* it has grown since */
        return -EAGAIN;
    size_t part = length < HOST_PAGES_ASK_MAX ? (size_t)length : HOST_PAGES_ASK_MAX;
    if (!loan->known_in_memory && !is_there(file, offset, part))
        return -EAGAIN;
    if (loan->only_asks)
        loan->use(loan, file->fd, offset, part);
    else
        use_loan(file, offset, part, loan);
    return 0;
}
