/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_ENGINE_H
#define BLOCK_ENGINE_H

/*
 * AIO engines: one way each to have reads, writes, syncs and allocations done without stopping the
 * loop. A loop has one engine of each kind in use; it is touched by that loop alone.
 *
 * Operations queued in one turn go down together when the engine takes its share of the turn, and
 * completions come up in one sweep. An engine does one thing once: a short transfer or EINTR is the
 * caller's to carry on (block/posix does).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/error.h"
#include "common/list.h"

struct loop;
struct workers;
struct host_files;
struct engine;

enum engine_op_kind {
    ENGINE_READ,
    ENGINE_WRITE,
    ENGINE_SYNC,      /* fdatasync(2) */
    ENGINE_FALLOCATE, /* fallocate(2) with mode, offset, length */
};

/* What the page cache has of a read, as it said a moment ago. */
enum engine_memory {
    ENGINE_MEMORY_UNKNOWN, /* nobody has asked */
    ENGINE_MEMORY_HAS_IT,
    ENGINE_MEMORY_LACKS_IT, /* in whole or in part */
};

/* Lives with the caller until done() runs. */
struct engine_op {
    enum engine_op_kind kind;
    int fd;
    int mode;
    uint64_t offset;
    uint64_t length;         /* fallocate alone */
    const struct iovec *iov; /* at most IOV_MAX of them; the caller keeps them until done() */
    unsigned iov_count;
    enum engine_memory memory; /* a hint, of a small read */

    int64_t result; /* a count or 0, or a negative errno */
    void (*done)(struct engine_op *op);
    /* the engine's own */
    struct engine *engine;
    struct list_link link;
    void *engine_space[10];
};

struct engine_context {
    struct loop *loop;
    struct workers *workers;
    struct host_files *files;
};

struct engine_ops {
    const char *name; /* as --aio spells it */
    /* On the loop's thread. Fails where the kernel refuses it; the sentence says how to allow it.
     */
    int (*open)(const struct engine_context *context, struct engine **ret_engine,
                struct error *err);
    /* Nothing is queued or in flight. */
    void (*close)(struct engine *engine);
    void (*queue)(struct engine *engine, struct engine_op *op);
    /* A small buffered write costs less made on the spot than handed to this engine; whether the
     * loop can afford it is the caller's to watch (block/posix_write). */
    bool inline_writes_pay;
    /* It makes use of the hint `memory` now. NULL: never. */
    bool (*asks_memory)(const struct engine *engine);
    /* Made for files opened with O_DIRECT; others are refused, as qemu does. */
    bool needs_direct;
};

struct engine {
    const struct engine_ops *ops;
};

extern const struct engine_ops engine_uring;   /* "io_uring" */
extern const struct engine_ops engine_threads; /* "threads": works everywhere */
extern const struct engine_ops engine_native;  /* "native": Linux AIO, for O_DIRECT */
extern const struct engine_ops engine_sync;    /* "sync": in the loop, at once; for tests */

/* All of them in order of preference, NULL-ended; the first that opens is the default. */
extern const struct engine_ops *const engines_by_preference[];

/* NULL when no engine has this name. */
const struct engine_ops *engine_find(const char *name);

static inline void engine_queue(struct engine *engine, struct engine_op *op)
{
    op->engine = engine;
    engine->ops->queue(engine, op);
}

/* Of the memory that is read into or written from. */
static inline size_t engine_op_bytes(const struct engine_op *op)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < op->iov_count; i++)
        bytes += op->iov[i].iov_len;
    return bytes;
}

/* Queues op and waits for it; returns op->result. Only inside a coroutine. */
int64_t engine_co_run(struct engine *engine, struct engine_op *op);

#endif
