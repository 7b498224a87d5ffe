/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One range from or to one descriptor. An engine does one thing once; short transfers and
 * interruptions are carried on here.
 *
 * Small buffered writes in the loop. On ext4 a buffered write cannot be made without blocking, so
 * io_uring hands it to a thread of its own, and the threads engine does so too: a 4 KiB write then
 * takes 4 or 11 us at depth 16 and 97 us at depth 1, against 3 us for a plain pwrite into the page
 * cache (tests/bench/engine). So writes are made on the spot, 256 KiB at a time, as long as this
 * file's writes are quick. One that took longer than a millisecond (the journal is full, dirty
 * pages are being throttled) has stopped the loop for that long; from then on a worker makes the
 * file's writes for a while (posix_writer.c, posix_pace.h): a throttled writer is let through most
 * of the time and then held for long. The clock is the loop's, so under the simulation's clock, and
 * with an engine that does not ask for it (inline_writes_pay), nothing here depends on how fast the
 * machine is. Many at once, and the pieces of a larger one, take turns with the sends and the
 * sockets; see loop_count_work(): a write counts for its bytes, or for the nanoseconds that it took
 * if they are more, since memory that the host has to find first costs a multiple.
 *
 * What is best for one client is not for two: where others wait for the loop (loop_is_shared()),
 * writes of more than 16 KiB go to the worker, which copies them while the loop serves on, and of
 * more than 256 KiB to the engine. A smaller one costs the loop less than the hand-over.
 */
#include <errno.h>

#include "block/coroutine.h"
#include "block/env.h"
#include "block/loop.h"
#include "block/loop_backlog.h"
#include "block/loop_room.h"
#include "block/posix.h"
#include "common/align.h"

#define INLINE_WRITE_BYTES_MAX (256 * 1024)
#define SHARED_WRITE_BYTES_MAX (16 * 1024) /* where other clients wait for the loop */
#define INLINE_READ_BYTES_MAX (64 * 1024)
#define PAGE_BYTES 4096u

static bool may_write_inline(const struct posix_file *file, struct loop *loop, size_t length)
{
    size_t length_max = loop_is_shared(loop) ? SHARED_WRITE_BYTES_MAX : INLINE_WRITE_BYTES_MAX;
    return length <= length_max && posix_is_quick(&file->writes);
}

static int64_t co_by_engine(struct posix_file *file, struct engine *engine, struct engine_op *op)
{
    if (op->kind != ENGINE_WRITE && op->kind != ENGINE_FALLOCATE)
        return engine_co_run(engine, op);
    atomic_fetch_add_explicit(&file->changes_under_way, 1, memory_order_relaxed);
    int64_t result = engine_co_run(engine, op);
    atomic_fetch_sub_explicit(&file->changes_under_way, 1, memory_order_relaxed);
    return result;
}

static struct posix_written co_write_by_worker(struct block_node *node, const struct engine_op *op)
{
    struct posix_file *file = posix_of(node);
    atomic_fetch_add_explicit(&file->changes_under_way, 1, memory_order_relaxed);
    struct posix_written written = posix_writer_co_write(file, node->env->workers, op);
    atomic_fetch_sub_explicit(&file->changes_under_way, 1, memory_order_relaxed);
    return written;
}

/* Of a file whose engine would rather not have its writes. */
static int64_t co_write_watched(struct block_node *node, const struct engine_op *op, size_t length)
{
    struct posix_file *file = posix_of(node);
    struct loop *loop = loop_current();
    struct posix_written written;
    loop_backlog_grew(loop);
    while (may_write_inline(file, loop, length) && !loop_has_room(loop))
        coroutine_co_pause();
    loop_backlog_fell(loop, 1);
    if (may_write_inline(file, loop, length)) {
        written = posix_write_now(file->files, loop_clock(loop), op);
        loop_count_work(loop, written.took_ns > length ? written.took_ns : length);
        posix_note_in_loop(&file->writes, written.was_quick);
    } else {
        written = co_write_by_worker(node, op);
        posix_note_by_worker(&file->writes, written.was_quick);
    }
    return written.result;
}

/* The piece of a write that is made on the spot. It ends where a page of the file does: one that is
 * written in part may have to be read first. */
static struct block_vec first_piece(const struct posix_file *file, uint64_t offset,
                                    const struct block_vec *vec)
{
    uint64_t end = align_down(offset + INLINE_WRITE_BYTES_MAX, PAGE_BYTES);
    if (vec->length <= INLINE_WRITE_BYTES_MAX ||
        !may_write_inline(file, loop_current(), INLINE_WRITE_BYTES_MAX))
        return *vec;
    return vec_slice(vec, 0, (size_t)(end - offset));
}

static void add_hints(const struct posix_file *file, const struct engine *engine,
                      struct engine_op *op, size_t length)
{
    bool asks = op->kind == ENGINE_READ && !file->direct && length <= INLINE_READ_BYTES_MAX &&
                engine->ops->asks_memory && engine->ops->asks_memory(engine);
    op->memory = asks ? posix_ask_memory(file, op->offset, length) : ENGINE_MEMORY_UNKNOWN;
}

/* As much of vec as one operation takes; a count or a negative errno other than -EINTR. */
static int64_t co_transfer(struct block_node *node, enum engine_op_kind kind, int fd,
                           uint64_t offset, const struct block_vec *vec)
{
    struct posix_file *file = posix_of(node);
    struct engine *engine = block_env_engine(node->env, file->engine_ops);
    bool watched = kind == ENGINE_WRITE && !file->direct && engine->ops->inline_writes_pay;
    struct block_vec part = watched ? first_piece(file, offset, vec) : *vec;
    struct iovec iov[POSIX_IOVECS_MAX];
    size_t length;
    struct engine_op op = {
        .kind = kind,
        .fd = fd,
        .offset = offset,
        .iov = iov,
        .iov_count = vec_to_iovec(&part, iov, POSIX_IOVECS_MAX, &length),
    };
    add_hints(file, engine, &op, length);
    bool is_small = length <= INLINE_WRITE_BYTES_MAX; /* else it is the engine's after all */
    int64_t result;
    do {
        result = watched && is_small ? co_write_watched(node, &op, length)
                                     : co_by_engine(file, engine, &op);
    } while (result == -EINTR);
    return result;
}

int posix_co_read_range(struct block_node *node, int fd, uint32_t alignment, uint64_t offset,
                        const struct block_vec *vec, size_t *ret_done)
{
    size_t done = 0;
    int ret = 0;
    while (done < vec->length) {
        struct block_vec rest = vec_slice(vec, done, vec->length - done);
        int64_t count = co_transfer(node, ENGINE_READ, fd, offset + done, &rest);
        if (count < 0) {
            ret = (int)count;
            break;
        }
        done += (size_t)count;
        if (count == 0 || !is_aligned((uint64_t)count, alignment))
            break; /* the file ends here */
    }
    *ret_done = done;
    return ret;
}

int posix_co_write_range(struct block_node *node, int fd, uint32_t alignment, uint64_t offset,
                         const struct block_vec *vec, size_t *ret_done)
{
    size_t done = 0;
    int ret = 0;
    while (done < vec->length) {
        struct block_vec rest = vec_slice(vec, done, vec->length - done);
        int64_t count = co_transfer(node, ENGINE_WRITE, fd, offset + done, &rest);
        if (count < 0) {
            ret = (int)count;
            break;
        }
        /* O_DIRECT carries on at an aligned place alone: the bytes before it are written again. */
        count = (int64_t)align_down((uint64_t)count, alignment);
        if (count == 0) {
            /* No error and no progress: no host is known to do that, and it might for ever. */
            ret = -EIO;
            break;
        }
        done += (size_t)count;
    }
    *ret_done = done;
    return ret;
}

int posix_co_operation(struct block_node *node, const struct engine_op *op)
{
    struct posix_file *file = posix_of(node);
    struct engine *engine = block_env_engine(node->env, file->engine_ops);
    int64_t result;
    do {
        struct engine_op again = *op;
        result = co_by_engine(file, engine, &again);
    } while (result == -EINTR);
    return (int)result;
}
