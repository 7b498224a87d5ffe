/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_AIO_H
#define BLOCK_AIO_H

/*
 * Requests to a backend with a callback, for callers that are no coroutines: an emulated device
 * answers a port write and goes on. Each request is a coroutine that makes the block_co_ call of
 * the same name and then has the caller told.
 *
 * All of it is called on a loop, which is the request's home loop: inside a coroutine or outside,
 * also from a callback. Nothing here waits.
 *
 * The callback. It comes exactly once for every call that returned 0: on the home loop, outside of
 * any coroutine, and never before the call, or a block_unplug(), has returned: at the end of a
 * round of the loop's turn (loop.h), after everything that was ready in it. result is what the
 * block_co_ call returns, or -ECANCELED. The struct is the caller's again when the callback begins:
 * it may be used for another request there, or freed.
 *
 * Order. Requests in flight together have none, neither in what they do nor in when they end, also
 * where they overlap: who wants one after the other waits for the callback. Callbacks of one
 * backend on one loop come in the order in which the requests ended, and all that ended in one
 * round come one after the other with nothing between them: a device that collects answers sends
 * them in a task that its first callback sets with loop_at_round_end(). A flush covers every
 * request whose callback had begun before block_aio_flush() was called (in fact, every one that had
 * ended), and no other.
 *
 * Plug. Between block_plug() and the block_unplug() that ends the outermost one, requests of this
 * loop to this backend are kept. At the unplug they go down together, in the order they came, in
 * the round that follows; what the engine batches in a round goes to the kernel in one call.
 * Requests by block_co_ calls are not kept.
 *
 * Drain. block_co_backend_drain() waits for the callbacks too: when it returns, every request that
 * had gone down has been answered and its callback has returned, and none comes before the resume.
 * A request that a plug keeps, or that comes during the drain, has not gone down, and is not waited
 * for; it begins after the resume. So a callback must not wait for a drain of its own backend, and
 * nothing in it can: it is no coroutine.
 */

#include "block/block.h"
#include "common/list.h"

enum block_aio_kind {
    BLOCK_AIO_READ,
    BLOCK_AIO_WRITE,
    BLOCK_AIO_ZERO,
    BLOCK_AIO_DISCARD,
    BLOCK_AIO_FLUSH,
};

/* One request; lives in its owner from the call to the callback. All but `done` is block/aio's own.
 */
struct block_aio {
    void (*done)(struct block_aio *aio, int result); /* set before the call */

    struct block_backend *backend;
    enum block_aio_kind kind;
    unsigned flags;
    uint64_t offset, length;
    struct block_vec vec;
    struct coroutine *plugged; /* who waits for the unplug; NULL when nobody does */
    bool is_canceled;
    int result;
    struct list_link link;
};

/* 0: the callback will come. -ENOMEM: there was no memory for a coroutine; nothing is begun, and no
 * callback comes. What is wrong with the request itself is told by the callback. vec is copied; its
 * iovecs and their memory stay with the request until the callback. flags: enum
 * block_request_flag. */
int block_aio_readv(struct block_aio *aio, struct block_backend *backend, uint64_t offset,
                    const struct block_vec *vec);
int block_aio_writev(struct block_aio *aio, struct block_backend *backend, uint64_t offset,
                     const struct block_vec *vec, unsigned flags);
int block_aio_zero(struct block_aio *aio, struct block_backend *backend, uint64_t offset,
                   uint64_t length, unsigned flags);
int block_aio_discard(struct block_aio *aio, struct block_backend *backend, uint64_t offset,
                      uint64_t length, unsigned flags);
int block_aio_flush(struct block_aio *aio, struct block_backend *backend);

/* Asks for an early end; on the home loop, before the callback has begun. The callback comes as
 * ever. A request that has not gone down (a plug or a drain keeps it) ends with -ECANCELED and has
 * done nothing; one that has ends as if it had not been canceled, with its own result: its memory
 * must stay until then. One that a plug keeps ends without an unplug; one that a drain keeps is
 * answered after the resume. */
void block_aio_cancel_async(struct block_aio *aio);

/* For this loop's requests to this backend; they nest. */
void block_plug(struct block_backend *backend);
void block_unplug(struct block_backend *backend);

#endif
