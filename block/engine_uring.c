/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * io_uring: one ring a loop.
 *
 * Words: an SQE is a submission the kernel has not seen yet, a CQE is a result it has left in
 * shared memory. An operation is *queued* (on one of two lists), then *prepared* (in an SQE), then
 * *in flight* (the kernel has it), then done.
 *
 * What was queued goes down together, a piece of it in a round, with one io_uring_enter. A read
 * that the page cache can answer is completed inside that call, so its result is collected right
 * behind it without another one, and nobody sleeps. Only for what the kernel keeps longer is the
 * ring's descriptor watched; the watch is set when the first such operation appears and stays, so a
 * workload that lives in the page cache never pays for it. No eventfd: the ring's own descriptor is
 * readable while results lie in it.
 *
 * Invariants:
 *   1. prepared + in flight <= the completion ring's entries. The kernel never has to keep a result
 *      back (overflow), so no result is late and none costs a system call to fetch.
 *   2. queue() cannot fail: what finds no SQE waits in its list, in order.
 *   3. done() is called from the loop's turn or the watch, never inside queue().
 *
 * Set-up flags (Linux 5.19; an older kernel refuses them, and threads are used):
 *   COOP_TASKRUN: late results are put into the ring when this thread next leaves the kernel,
 *   instead of by an interrupt to it.
 *   SUBMIT_ALL: a submission that is refused does not hold back those behind it.
 * Not DEFER_TASKRUN (6.1): for cached reads it measured the same (1.45 against 1.48 us a 4 KiB read
 * at depth 16, tests/bench/engine). For late results it wants an io_uring_enter a sweep, where with
 * COOP_TASKRUN the return from epoll_wait, often with EINTR, has done that work. And it nails the
 * ring to the thread that made it (SINGLE_ISSUER), but a loop may be turned by the main thread
 * while images are opened, and by its own thread later.
 */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <stdlib.h>

#include "block/engine.h"
#include "block/engine_misses.h"
#include "block/loop.h"
#include "block/loop_backlog.h"
#include "block/loop_room.h"
#include "block/memory_tools.h"
#include "common/log.h"

#define URING_SUBMISSIONS 256
#define URING_COMPLETIONS 1024
#define URING_SWEEP_MAX 64 /* results copied out of the ring at a time */
/* Operations submitted in a round. Between two such pieces the answers to the first are sent, and
 * the client works while the rest is read. A piece of cold reads is small, since each costs the
 * loop time; where everything is in memory it is what a round has room for.
 *
 * Where other clients wait for the loop, who asks for what is in memory goes first, in a submission
 * of his own, and the misses of others go to workers (engine_misses.c). To ask (mincore(2), the
 * caller's: enum engine_memory) costs less than the misses it sorts out; it is not done where
 * all reads were in memory of late. So what waits, waits for URING_WARM_AFTER others at most: then
 * nobody is asked, and who comes is behind it. */
#define URING_PIECE 8
#define URING_WARM_AFTER 256 /* operations in a row that ended inside their submission */

struct uring_engine {
    struct engine engine;
    struct loop *loop;
    struct io_uring ring;
    struct loop_source source;
    struct loop_watch watch;
    struct list waiting;   /* struct engine_op.link */
    struct list in_memory; /* the same, of reads that are said to be; they go first */
    struct engine_misses misses;
    unsigned prepared, in_flight;
    unsigned in_flight_max;
    unsigned ended_at_once; /* in a row; no more are counted than are asked for */
};

/* --- going down ---------------------------------------------------------------------------------
 */

static void prepare_sqe(struct io_uring_sqe *sqe, struct engine_op *op)
{
    /* READ and WRITE take one buffer without an iovec to copy and check; the kernel cuts a transfer
     * at 2 GiB - 4 KiB, so cutting the length to an int loses nothing. */
    const struct iovec *iov = op->iov;
    unsigned length = op->iov_count == 1 && iov->iov_len > INT_MAX ? INT_MAX & ~4095u
                      : op->iov_count == 1                         ? (unsigned)iov->iov_len
                                                                   : 0;
    switch (op->kind) {
    case ENGINE_READ:
        if (op->iov_count == 1)
            io_uring_prep_read(sqe, op->fd, iov->iov_base, length, op->offset);
        else
            io_uring_prep_readv(sqe, op->fd, iov, op->iov_count, op->offset);
        break;
    case ENGINE_WRITE:
        if (op->iov_count == 1)
            io_uring_prep_write(sqe, op->fd, iov->iov_base, length, op->offset);
        else
            io_uring_prep_writev(sqe, op->fd, iov, op->iov_count, op->offset);
        break;
    case ENGINE_SYNC:
        io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
        break;
    case ENGINE_FALLOCATE:
        io_uring_prep_fallocate(sqe, op->fd, op->mode, (off_t)op->offset, (off_t)op->length);
        break;
    }
    io_uring_sqe_set_data(sqe, op);
}

static bool is_warm(const struct uring_engine *uring)
{
    return uring->ended_at_once >= URING_WARM_AFTER;
}

static bool piece_is_full(const struct uring_engine *uring, size_t bytes, bool all_in_memory)
{
    if (uring->prepared < URING_PIECE)
        return false;
    return !all_in_memory || uring->prepared >= loop_round_operations(uring->loop) ||
           bytes >= LOOP_ROUND_BYTES;
}

static bool none_waits(const struct uring_engine *uring)
{
    return list_is_empty(&uring->waiting) && list_is_empty(&uring->in_memory);
}

static void prepare_waiting(struct uring_engine *uring)
{
    unsigned prepared_before = uring->prepared;
    bool any_in_memory = !list_is_empty(&uring->in_memory);
    struct list *from = any_in_memory ? &uring->in_memory : &uring->waiting;
    size_t bytes = 0;
    while (!list_is_empty(from) && !piece_is_full(uring, bytes, any_in_memory || is_warm(uring)) &&
           uring->prepared + uring->in_flight < uring->in_flight_max) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
        if (!sqe)
            break;
        struct list_link *link = list_pop(from);
        struct engine_op *op = container_of(link, struct engine_op, link);
        prepare_sqe(sqe, op);
        bytes += engine_op_bytes(op);
        uring->prepared++;
    }
    loop_backlog_fell(uring->loop, uring->prepared - prepared_before);
}

/* False when the kernel cannot take more just now: what is prepared stays so for the next turn. */
static bool submit_prepared(struct uring_engine *uring)
{
    while (uring->prepared > 0) {
        int count = io_uring_submit(&uring->ring);
        if (count == -EINTR)
            continue;
        if (count == -EAGAIN || count == -EBUSY || count == -ENOMEM || count == 0)
            return false;
        if (count < 0) {
            /* No other error is possible with a ring and entries that we made ourselves. */
            log_error("io_uring: submitting %u operations failed: %s", uring->prepared,
                      error_text(count));
            abort();
        }
        assert((unsigned)count <= uring->prepared);
        uring->prepared -= (unsigned)count;
        uring->in_flight += (unsigned)count;
    }
    return true;
}

/* --- coming up ----------------------------------------------------------------------------------
 */

/* Takes up to URING_SWEEP_MAX results out of the ring and tells them; false when there was none.
 * They are copied out first, so that done() may queue again without care for the ring. */
static bool tell_some(struct uring_engine *uring)
{
    struct io_uring_cqe *cqes[URING_SWEEP_MAX];
    struct engine_op *ops[URING_SWEEP_MAX];
    unsigned count = io_uring_peek_batch_cqe(&uring->ring, cqes, URING_SWEEP_MAX);
    for (unsigned i = 0; i < count; i++) {
        ops[i] = io_uring_cqe_get_data(cqes[i]);
        ops[i]->result = cqes[i]->res;
        if (ops[i]->kind == ENGINE_READ && ops[i]->result > 0)
            tools_memory_filled(ops[i]->iov, ops[i]->iov_count, (size_t)ops[i]->result);
    }
    io_uring_cq_advance(&uring->ring, count);
    assert(count <= uring->in_flight);
    uring->in_flight -= count;
    for (unsigned i = 0; i < count; i++)
        ops[i]->done(ops[i]);
    return count > 0;
}

static bool tell_all(struct uring_engine *uring)
{
    bool any = false;
    while (tell_some(uring))
        any = true;
    return any;
}

static void watch_late_results(struct uring_engine *uring)
{
    if (uring->in_flight > 0 && !uring->watch.wanted)
        loop_watch_set(uring->loop, &uring->watch, LOOP_READABLE);
}

/* What did not end inside its submission cost the loop a request to the disk, 10 us and more where
 * the disk is virtual. So a turn has room for a piece of them, and then looks at the sockets: the
 * next client's cached read waits for eight of a deep queue of misses, not for all; but small ones
 * go to workers as soon as there is a next client (engine_misses.c). */
static void count_late(struct uring_engine *uring, unsigned late_before, unsigned submitted)
{
    if (uring->in_flight > late_before) {
        loop_count_work(uring->loop, (uring->in_flight - late_before) * LOOP_LATE_READ_BYTES);
        uring->ended_at_once = 0;
    } else if (uring->ended_at_once < URING_WARM_AFTER) {
        uring->ended_at_once += submitted;
    }
}

static bool uring_turn(struct loop_source *source)
{
    struct uring_engine *uring = container_of(source, struct uring_engine, source);
    bool told = tell_all(uring); /* makes room first */
    prepare_waiting(uring);
    unsigned late_before = uring->in_flight;
    unsigned prepared = uring->prepared;
    bool taken = submit_prepared(uring);
    told |= tell_all(uring);
    count_late(uring, late_before, prepared - uring->prepared);
    /* What still waits needs another round, unless results on their way will bring it: with none on
     * its way nobody would wake the loop. */
    bool room = uring->in_flight < (taken ? uring->in_flight_max : 1);
    if (room && (uring->prepared > 0 || !none_waits(uring)))
        told = true;
    watch_late_results(uring);
    engine_misses_hand_over(&uring->misses);
    return told;
}

static void uring_ready(struct loop_watch *watch, unsigned events)
{
    (void)events;
    tell_all(container_of(watch, struct uring_engine, watch));
}

/* --- life ---------------------------------------------------------------------------------------
 */

/* Sends one operation that does nothing through the ring: a sandbox may allow making a ring and
 * forbid using it, and that must show now. */
static int try_ring(struct io_uring *ring)
{
    struct io_uring_cqe *cqe;
    io_uring_prep_nop(io_uring_get_sqe(ring));
    int ret = io_uring_submit_and_wait(ring, 1);
    if (ret < 0)
        return ret;
    ret = io_uring_wait_cqe(ring, &cqe);
    if (ret < 0)
        return ret;
    ret = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return ret;
}

static int open_ring(struct io_uring *ring)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
        .cq_entries = URING_COMPLETIONS,
    };
    int ret = io_uring_queue_init_params(URING_SUBMISSIONS, ring, &params);
    if (ret < 0)
        return ret;
    ret = try_ring(ring);
    if (ret < 0)
        io_uring_queue_exit(ring);
    return ret;
}

static int refuse(int code, struct error *err)
{
    switch (code) {
    case -ENOSYS:
        return error_set(err, code,
                         "AIO engine 'io_uring': this kernel does not have io_uring, or a sandbox "
                         "hides it; use --aio=threads, or Linux 5.19 or newer");
    case -EINVAL:
        return error_set(err, code,
                         "AIO engine 'io_uring': this kernel's io_uring is too old; use "
                         "--aio=threads, or Linux 5.19 or newer");
    case -EPERM:
    case -EACCES:
        return error_set(
            err, code,
            "AIO engine 'io_uring': the system forbids it (%s); allow it by the sysctl "
            "kernel.io_uring_disabled=0 or in the container's seccomp profile, or use "
            "--aio=threads",
            error_text(code));
    case -ENOMEM:
        return error_set(err, code,
                         "AIO engine 'io_uring': no memory for a ring; raise the limit of locked "
                         "memory (ulimit -l), or use --aio=threads");
    default:
        return error_set(err, code,
                         "AIO engine 'io_uring': cannot make a ring: %s; use "
                         "--aio=threads",
                         error_text(code));
    }
}

static int uring_open(const struct engine_context *context, struct engine **ret_engine,
                      struct error *err)
{
    struct uring_engine *uring = calloc(1, sizeof(*uring));
    if (!uring)
        return error_set(err, -ENOMEM, "no memory for the AIO engine 'io_uring'");
    int ret = open_ring(&uring->ring);
    if (ret < 0) {
        free(uring);
        return refuse(ret, err);
    }
    uring->engine.ops = &engine_uring;
    uring->loop = context->loop;
    uring->in_flight_max = *uring->ring.cq.kring_entries;
    list_init(&uring->waiting);
    list_init(&uring->in_memory);
    engine_misses_init(&uring->misses, context);
    loop_watch_init(&uring->watch, uring->ring.ring_fd, uring_ready);
    uring->source.turn = uring_turn;
    link_init(&uring->source.link);
    loop_source_add(context->loop, &uring->source);
    *ret_engine = &uring->engine;
    return 0;
}

static void uring_close(struct engine *engine)
{
    struct uring_engine *uring = container_of(engine, struct uring_engine, engine);
    assert(none_waits(uring) && uring->prepared == 0 && uring->in_flight == 0);
    engine_misses_fini(&uring->misses);
    if (uring->watch.wanted)
        loop_watch_set(uring->loop, &uring->watch, 0);
    loop_source_remove(&uring->source);
    io_uring_queue_exit(&uring->ring);
    free(uring);
}

static void uring_queue(struct engine *engine, struct engine_op *op)
{
    struct uring_engine *uring = container_of(engine, struct uring_engine, engine);
    if (engine_misses_take(&uring->misses, op)) {
        uring->ended_at_once = 0;
        return;
    }
    link_init(&op->link);
    list_append(op->memory == ENGINE_MEMORY_HAS_IT ? &uring->in_memory : &uring->waiting,
                &op->link);
    loop_backlog_grew(uring->loop);
}

static bool uring_asks_memory(const struct engine *engine)
{
    const struct uring_engine *uring = container_of(engine, const struct uring_engine, engine);
    return !is_warm(uring) && loop_is_shared(uring->loop);
}

const struct engine_ops engine_uring = {
    .name = "io_uring",
    .open = uring_open,
    .close = uring_close,
    .queue = uring_queue,
    .inline_writes_pay = true,
    .asks_memory = uring_asks_memory,
};
