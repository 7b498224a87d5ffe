/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_ENGINE_CALL_H
#define BLOCK_ENGINE_CALL_H

/* For engines that make plain calls of host_files: on a worker or in the loop. */

#include <assert.h>

#include "block/engine.h"
#include "block/host_files.h"

static inline int64_t engine_call(struct host_files *files, const struct engine_op *op)
{
    switch (op->kind) {
    case ENGINE_READ:
        return files->preadv(files, op->fd, op->iov, (int)op->iov_count, op->offset);
    case ENGINE_WRITE:
        return files->pwritev(files, op->fd, op->iov, (int)op->iov_count, op->offset);
    case ENGINE_SYNC:
        return files->sync(files, op->fd);
    case ENGINE_FALLOCATE:
        return files->fallocate(files, op->fd, op->mode, op->offset, op->length);
    }
    assert(!"an engine_op_kind");
    return -1;
}

#endif
