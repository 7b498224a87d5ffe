/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Buffered writes that are not made in the loop, one at a time of a file. File systems let one
 * writer in at a time (the inode's lock), so more threads than one only wait for each other, and
 * spin while they do: sixteen of them took both of two processors from the loop and its clients.
 *
 * Who finds nobody writing leads: a worker makes his write, then those that have come meanwhile, in
 * order, up to LED_WRITES_MAX; each of them is told at once. Then the next in line leads, and the
 * first leader is told, too. So one hand-over to a thread serves several writes, and no thread, no
 * loop and no coroutine is needed that would live longer than the writes themselves.
 *
 * How long a write took is its own time, without the line's. A thread whose processor is taken, by
 * another one or by the host of a virtual machine, does not write meanwhile: so where it costs
 * little beside the copy, from 32 KiB on, a write counts as slow only if the thread has slept in
 * it. Without that, large writes of a busy machine left the loop and did not come back.
 *
 * The writer is never idle while there are writes. Where the loop has to wait for a processor
 * (block/loop_crowd.h) he keeps off the loop's.
 */
#include <assert.h>

#include "block/coroutine.h"
#include "block/loop.h"
#include "block/loop_crowd.h"
#include "block/posix.h"
#include "block/workers.h"
#include "common/processor.h"

#define LED_WRITES_MAX 8
#define QUICK_WRITE_NS_MAX NS_PER_MS
#define COUNTED_BYTES_MIN (32 * 1024) /* of them on sleeps are counted */

/* On the stack of the coroutine that waits for it. */
struct queued_write {
    struct posix_file *file;
    const struct engine_op *op;
    struct coroutine *co;
    struct clock *clock;
    struct posix_written written;
    bool is_made; /* else who is woken leads */
    struct list_link link;
};

struct posix_written posix_write_now(struct host_files *files, struct clock *clock,
                                     const struct engine_op *op)
{
    struct posix_written written;
    bool counts_sleeps = files->sleeps && engine_op_bytes(op) >= COUNTED_BYTES_MIN;
    uint64_t sleeps = counts_sleeps ? files->sleeps(files) : 0;
    uint64_t started_ns = clock->now_ns(clock);
    written.result = files->pwritev(files, op->fd, op->iov, (int)op->iov_count, op->offset);
    written.took_ns = clock->now_ns(clock) - started_ns;
    written.was_quick =
        written.took_ns <= QUICK_WRITE_NS_MAX || (counts_sleeps && files->sleeps(files) == sleeps);
    return written;
}

void posix_writer_init(struct posix_writer *writer)
{
    pthread_mutex_init(&writer->mutex, NULL);
    list_init(&writer->waiting);
    writer->is_writing = false;
}

void posix_writer_fini(struct posix_writer *writer)
{
    assert(!writer->is_writing && list_is_empty(&writer->waiting));
    pthread_mutex_destroy(&writer->mutex);
}

/* True: the caller leads. */
static bool enter(struct posix_writer *writer, struct queued_write *write)
{
    pthread_mutex_lock(&writer->mutex);
    bool leads = !writer->is_writing;
    writer->is_writing = true;
    if (!leads)
        list_append(&writer->waiting, &write->link);
    pthread_mutex_unlock(&writer->mutex);
    return leads;
}

/* The next in line; NULL: nobody writes any more. */
static struct queued_write *next_write(struct posix_writer *writer)
{
    pthread_mutex_lock(&writer->mutex);
    struct list_link *link = list_pop(&writer->waiting);
    writer->is_writing = link != NULL;
    pthread_mutex_unlock(&writer->mutex);
    return link ? container_of(link, struct queued_write, link) : NULL;
}

static void make(struct queued_write *write)
{
    write->written = posix_write_now(write->file->files, write->clock, write->op);
    write->is_made = true;
}

static int lead_work(void *arg)
{
    struct queued_write *write = arg;
    struct posix_writer *writer = &write->file->writer;
    make(write); /* whose coroutine waits for this work */
    unsigned made = 1;
    while ((write = next_write(writer)) && made++ < LED_WRITES_MAX) {
        make(write);
        coroutine_wake(write->co); /* and it is gone */
    }
    if (write)
        coroutine_wake(write->co); /* it leads */
    return 0;
}

struct posix_written posix_writer_co_write(struct posix_file *file, struct workers *workers,
                                           const struct engine_op *op)
{
    struct loop *loop = loop_current();
    struct queued_write write = {
        .file = file,
        .op = op,
        .co = coroutine_self(),
        .clock = loop_clock(loop),
    };
    link_init(&write.link);
    bool leads = enter(&file->writer, &write);
    if (!leads) {
        coroutine_yield();
        leads = !write.is_made;
    }
    if (leads)
        workers_co_run_off(workers, loop_crowd_measure(loop) ? processor_current() : -1, lead_work,
                           &write);
    return write.written;
}
