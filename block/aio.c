/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/aio.h"

#include <assert.h>
#include <errno.h>

#include "block/backend.h"
#include "block/coroutine.h"

/*
 * Callback requests. Everything here belongs to one (backend, loop): its lane is touched by its own
 * loop alone, so there is no lock.
 *
 * States of a request:
 *
 *     plugged    on lane->aio.plugged, its coroutine waits
 *     at the door, in flight    in drain_co_enter(), in the backend_co_ call
 *     ended      on lane->aio.ended, its coroutine is gone; its callback is due
 *     answered   the callback has begun: the struct is the caller's
 *
 * The coroutine is made in the call, so that there is one place where memory can be short, and that
 * is a return value: a request that has begun always ends by its callback. A plugged one keeps a
 * stack while it waits, as one in flight does.
 *
 * Invariants:
 * 1. A request that goes down passes the door once (drain_co_enter) and is in until its callback
 *    has returned (drain_leave). So a drain waits for the callback. The call itself is made without
 *    the door: it would wait there for itself.
 * 2. A canceled request that is plugged passes the door too before it ends, so that no callback
 *    comes during a drain.
 * 3. The task `answer` is set exactly while `ended` is not empty, or it runs. Whoever is on `ended`
 *    is in, so the lane lives as long as the task; after the last drain_leave() of a batch it may
 *    be gone, and is not touched.
 */

void aio_lane_init(struct aio_lane *aio)
{
    list_init(&aio->plugged);
    list_init(&aio->ended);
    link_init(&aio->answer.link);
}

void aio_lane_fini(struct aio_lane *aio)
{
    assert(aio->plug_depth == 0);
    assert(list_is_empty(&aio->plugged));
    assert(list_is_empty(&aio->ended));
    assert(!link_is_listed(&aio->answer.link));
}

/* --- the end -----------------------------------------------------------------------------------
 */

static void answer_all(struct loop_task *task)
{
    struct aio_lane *lane_aio = container_of(task, struct aio_lane, answer);
    struct backend_lane *lane = container_of(lane_aio, struct backend_lane, aio);
    struct list batch;
    struct list_link *link;
    list_init(&batch);
    list_move_all(&batch, &lane_aio->ended);
    while ((link = list_pop(&batch))) {
        struct block_aio *aio = container_of(link, struct block_aio, link);
        struct block_backend *backend = aio->backend;
        aio->done(aio, aio->result);
        drain_leave(backend, lane);
    }
}

static void end(struct block_aio *aio, struct backend_lane *lane, int result)
{
    aio->result = result;
    list_append(&lane->aio.ended, &aio->link);
    lane->aio.answer.run = answer_all;
    loop_at_round_end(loop_current(), &lane->aio.answer);
}

/* --- the way down ------------------------------------------------------------------------------
 */

static int co_perform(struct block_aio *aio, struct backend_lane *lane)
{
    struct block_backend *backend = aio->backend;
    if (aio->is_canceled)
        return -ECANCELED;
    switch (aio->kind) {
    case BLOCK_AIO_READ:
        return backend_co_read(backend, lane, aio->offset, &aio->vec);
    case BLOCK_AIO_WRITE:
        return backend_co_write(backend, lane, aio->offset, &aio->vec, aio->flags);
    case BLOCK_AIO_ZERO:
        return backend_co_zero(backend, lane, aio->offset, aio->length, aio->flags);
    case BLOCK_AIO_DISCARD:
        return backend_co_discard(backend, lane, aio->offset, aio->length, aio->flags);
    case BLOCK_AIO_FLUSH:
        break;
    }
    return backend_co_flush(backend, lane);
}

static void co_wait_for_unplug(struct block_aio *aio, struct aio_lane *lane_aio)
{
    aio->plugged = coroutine_self();
    list_append(&lane_aio->plugged, &aio->link);
    coroutine_yield();
}

static void let_go(struct block_aio *aio)
{
    struct coroutine *co = aio->plugged;
    aio->plugged = NULL;
    list_remove(&aio->link);
    coroutine_wake(co);
}

static void run_request(void *arg)
{
    struct block_aio *aio = arg;
    struct backend_lane *lane = backend_lane(aio->backend);
    if (lane->aio.plug_depth > 0)
        co_wait_for_unplug(aio, &lane->aio);
    drain_co_enter(aio->backend, lane);
    end(aio, lane, co_perform(aio, lane));
}

static int start(struct block_aio *aio, struct block_backend *backend, struct block_aio request)
{
    assert(aio->done && loop_current());
    request.done = aio->done;
    request.backend = backend;
    *aio = request;
    link_init(&aio->link);
    return coroutine_start(loop_current(), run_request, aio);
}

int block_aio_readv(struct block_aio *aio, struct block_backend *backend, uint64_t offset,
                    const struct block_vec *vec)
{
    struct block_aio request = {.kind = BLOCK_AIO_READ, .offset = offset, .vec = *vec};
    return start(aio, backend, request);
}

int block_aio_writev(struct block_aio *aio, struct block_backend *backend, uint64_t offset,
                     const struct block_vec *vec, unsigned flags)
{
    struct block_aio request = {
        .kind = BLOCK_AIO_WRITE, .offset = offset, .vec = *vec, .flags = flags};
    return start(aio, backend, request);
}

int block_aio_zero(struct block_aio *aio, struct block_backend *backend, uint64_t offset,
                   uint64_t length, unsigned flags)
{
    struct block_aio request = {
        .kind = BLOCK_AIO_ZERO, .offset = offset, .length = length, .flags = flags};
    return start(aio, backend, request);
}

int block_aio_discard(struct block_aio *aio, struct block_backend *backend, uint64_t offset,
                      uint64_t length, unsigned flags)
{
    struct block_aio request = {
        .kind = BLOCK_AIO_DISCARD, .offset = offset, .length = length, .flags = flags};
    return start(aio, backend, request);
}

int block_aio_flush(struct block_aio *aio, struct block_backend *backend)
{
    struct block_aio request = {.kind = BLOCK_AIO_FLUSH};
    return start(aio, backend, request);
}

void block_aio_cancel_async(struct block_aio *aio)
{
    aio->is_canceled = true;
    if (aio->plugged)
        let_go(aio);
}

/* --- plug --------------------------------------------------------------------------------------
 */

void block_plug(struct block_backend *backend)
{
    backend_lane(backend)->aio.plug_depth++;
}

void block_unplug(struct block_backend *backend)
{
    struct aio_lane *aio = &backend_lane(backend)->aio;
    struct list_link *link;
    assert(aio->plug_depth > 0);
    if (--aio->plug_depth > 0)
        return;
    while ((link = list_first(&aio->plugged)))
        let_go(container_of(link, struct block_aio, link));
}
