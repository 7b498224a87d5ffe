/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Linux AIO ("native", as qemu calls it): one io_context a loop, for files opened with O_DIRECT.
 *
 * Words: an operation is *queued* (on the waiting list), then *in flight* (the kernel has it), then
 * done. What was queued in one turn goes down with one io_submit; results are signalled by an
 * eventfd and fetched by one io_getevents a sweep, which libaio answers without a system call when
 * there is none. The results also lie in memory that is mapped into the process, and some programs
 * read them there; but no header of the kernel promises that layout, so this one does not.
 *
 * io_submit is asynchronous only where the file system plays along: it may wait for blocks to be
 * allocated, for a lock of the inode, or for room in the queue of the device. A loop must not, so
 * every operation is sent with RWF_NOWAIT. What the kernel cannot do without waiting comes back
 * with EAGAIN, what it cannot do that way at all with EOPNOTSUPP or EINVAL; all of these are done
 * again by a worker, whole: what was written before the EAGAIN is written once more, with the same
 * bytes. So nothing is lost when a file is not what AIO was made for, but speed. Syncs and
 * allocations have no AIO, and go to the workers at once.
 *
 * Invariants:
 *   1. in flight <= NATIVE_EVENTS, the size that the context was made with.
 *   2. queue() cannot fail: what finds no room waits in the list, in order.
 *   3. done() is called from the loop's turn, the watch or a worker's end, never inside queue().
 */
#include <assert.h>
#include <errno.h>
#include <libaio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "block/engine.h"
#include "block/loop.h"
#include "common/log.h"

#define NATIVE_EVENTS 512
#define NATIVE_BATCH 64 /* submitted and fetched at a time */

/* linux/fs.h has it, which does not go together with sys/mount.h of some C libraries. */
#define NATIVE_RWF_NOWAIT 0x8

struct native_engine {
    struct engine engine;
    struct loop *loop;
    struct engine *workers; /* an engine_threads of our own */
    io_context_t context;
    int event_fd;
    struct loop_source source;
    struct loop_watch watch;
    struct list waiting; /* struct engine_op.link */
    unsigned in_flight;
};

static_assert(sizeof(struct iocb) <= sizeof(((struct engine_op *)NULL)->engine_space),
              "a control block lies in the operation's own space");

static struct iocb *iocb_of_op(struct engine_op *op)
{
    return (struct iocb *)op->engine_space;
}

static struct engine_op *op_of_iocb(struct iocb *iocb)
{
    return container_of((void *)iocb, struct engine_op, engine_space);
}

/* From here on the operation is the workers'. */
static void hand_over(struct native_engine *native, struct engine_op *op)
{
    engine_queue(native->workers, op);
}

/* --- going down ---------------------------------------------------------------------------------
 */

static void prepare_iocb(const struct native_engine *native, struct engine_op *op)
{
    struct iocb *iocb = iocb_of_op(op);
    if (op->kind == ENGINE_READ)
        io_prep_preadv(iocb, op->fd, op->iov, (int)op->iov_count, (long long)op->offset);
    else
        io_prep_pwritev(iocb, op->fd, op->iov, (int)op->iov_count, (long long)op->offset);
    iocb->aio_rw_flags = NATIVE_RWF_NOWAIT;
    io_set_eventfd(iocb, native->event_fd);
}

static bool must_be_done_by_a_worker(int64_t result)
{
    return result == -EAGAIN || result == -EOPNOTSUPP || result == -EINVAL;
}

static void end(struct native_engine *native, struct engine_op *op, int64_t result)
{
    if (must_be_done_by_a_worker(result)) {
        hand_over(native, op);
        return;
    }
    op->result = result;
    op->done(op);
}

/* The first of those that wait was refused, for what it is. */
static void end_refused(struct native_engine *native, int code)
{
    end(native, container_of(list_pop(&native->waiting), struct engine_op, link), code);
}

static unsigned fill_batch(const struct native_engine *native, struct iocb **batch)
{
    unsigned room = NATIVE_EVENTS - native->in_flight;
    unsigned count = 0;
    list_for_each (link, &native->waiting) {
        if (count == room || count == NATIVE_BATCH)
            break;
        batch[count++] = iocb_of_op(container_of(link, struct engine_op, link));
    }
    return count;
}

/* False when the kernel can take no more just now. *told: some done() ran. */
static bool submit_some(struct native_engine *native, bool *told)
{
    struct iocb *batch[NATIVE_BATCH];
    unsigned count = fill_batch(native, batch);
    if (count == 0)
        return false;
    int taken = io_submit(native->context, (long)count, batch);
    if (taken == -EINTR)
        return true;
    if (taken == -EAGAIN || taken == -ENOMEM || taken == 0) {
        /* Results on their way will bring the next turn. With none on its way nobody would. */
        *told |= native->in_flight == 0;
        return false;
    }
    if (taken < 0) {
        *told = true;
        end_refused(native, taken);
        return true;
    }
    for (int i = 0; i < taken; i++)
        list_pop(&native->waiting);
    native->in_flight += (unsigned)taken;
    return true;
}

/* --- coming up ----------------------------------------------------------------------------------
 */

static bool tell_all(struct native_engine *native)
{
    struct io_event events[NATIVE_BATCH];
    bool any = false;
    while (native->in_flight > 0) {
        struct timespec no_time = {0};
        int count = io_getevents(native->context, 0, NATIVE_BATCH, events, &no_time);
        if (count == -EINTR)
            continue;
        if (count <= 0)
            break;
        assert((unsigned)count <= native->in_flight);
        native->in_flight -= (unsigned)count;
        for (int i = 0; i < count; i++)
            end(native, op_of_iocb(events[i].obj), (int64_t)events[i].res);
        any = true;
    }
    return any;
}

static bool native_turn(struct loop_source *source)
{
    struct native_engine *native = container_of(source, struct native_engine, source);
    bool told = tell_all(native); /* makes room first */
    while (submit_some(native, &told))
        told |= tell_all(native); /* a hole is read, and an error found, inside io_submit */
    return told;
}

static void native_ready(struct loop_watch *watch, unsigned events)
{
    struct native_engine *native = container_of(watch, struct native_engine, watch);
    uint64_t signals;
    (void)events;
    /* Before the results are fetched: what ends later signals again. */
    if (read(native->event_fd, &signals, sizeof(signals)) < 0)
        assert(errno == EAGAIN || errno == EINTR);
    tell_all(native);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static int refuse(int code, struct error *err)
{
    switch (code) {
    case -EAGAIN:
        return error_set(
            err, code,
            "AIO engine 'native': the system has no room for %d more operations; raise "
            "the sysctl fs.aio-max-nr, or use --aio=threads",
            NATIVE_EVENTS);
    case -ENOSYS:
    case -EPERM:
        return error_set(err, code,
                         "AIO engine 'native': this kernel or a sandbox does not allow Linux AIO; "
                         "use --aio=threads");
    default:
        return error_set(err, code, "AIO engine 'native': cannot set it up: %s; use --aio=threads",
                         error_text(code));
    }
}

static int open_parts(struct native_engine *native, const struct engine_context *context,
                      struct error *err)
{
    native->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (native->event_fd < 0)
        return refuse(-errno, err);
    int ret = io_setup(NATIVE_EVENTS, &native->context);
    if (ret < 0) {
        refuse(ret, err);
        goto out_event_fd;
    }
    ret = engine_threads.open(context, &native->workers, err);
    if (ret == 0)
        return 0;
    io_destroy(native->context);
out_event_fd:
    close(native->event_fd);
    return ret;
}

static int native_open(const struct engine_context *context, struct engine **ret_engine,
                       struct error *err)
{
    struct native_engine *native = calloc(1, sizeof(*native));
    if (!native)
        return error_set(err, -ENOMEM, "no memory for the AIO engine 'native'");
    int ret = open_parts(native, context, err);
    if (ret < 0) {
        free(native);
        return ret;
    }
    native->engine.ops = &engine_native;
    native->loop = context->loop;
    list_init(&native->waiting);
    loop_watch_init(&native->watch, native->event_fd, native_ready);
    loop_watch_set(native->loop, &native->watch, LOOP_READABLE);
    native->source.turn = native_turn;
    link_init(&native->source.link);
    loop_source_add(context->loop, &native->source);
    *ret_engine = &native->engine;
    return 0;
}

static void native_close(struct engine *engine)
{
    struct native_engine *native = container_of(engine, struct native_engine, engine);
    assert(list_is_empty(&native->waiting) && native->in_flight == 0);
    engine_threads.close(native->workers);
    loop_watch_set(native->loop, &native->watch, 0);
    loop_source_remove(&native->source);
    io_destroy(native->context);
    close(native->event_fd);
    free(native);
}

static void native_queue(struct engine *engine, struct engine_op *op)
{
    struct native_engine *native = container_of(engine, struct native_engine, engine);
    if (op->kind != ENGINE_READ && op->kind != ENGINE_WRITE) {
        hand_over(native, op);
        return;
    }
    prepare_iocb(native, op);
    link_init(&op->link);
    list_append(&native->waiting, &op->link);
}

const struct engine_ops engine_native = {
    .name = "native",
    .open = native_open,
    .close = native_close,
    .queue = native_queue,
    .needs_direct = true,
};
