/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests to the backend. Each owns what it reads into or writes from, so a command can end while
 * its request goes on: the request moves to the list of those left behind, its callback only frees
 * it, and a reset that waits looks whether it can end.
 */
#include "tests/harness/ide_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void request_ended(struct block_aio *aio, int result)
{
    struct ide_request *request = container_of(aio, struct ide_request, aio);
    struct ide_channel *channel = request->channel;
    list_remove(&request->link);
    if (request->done)
        request->done(channel, request, result);
    else
        ide_reset_try_end(channel);
    free(request);
}

static struct ide_request *request_new(struct ide_channel *channel, uint32_t length, bool changes,
                                       ide_request_done *done)
{
    struct ide_request *request = malloc(sizeof(*request) + length);
    if (!request)
        return NULL;
    request->aio.done = request_ended;
    request->channel = channel;
    request->changes = changes;
    request->done = done;
    request->length = length;
    link_init(&request->link);
    return request;
}

/* rc is what the backend said to the call. */
static int begun(struct ide_channel *channel, struct ide_request *request, int rc)
{
    if (rc < 0)
        free(request);
    else
        list_append(&channel->requests, &request->link);
    return rc;
}

int ide_io_read(struct ide_channel *channel, uint64_t offset, uint32_t length,
                ide_request_done *done)
{
    struct ide_request *request = request_new(channel, length, false, done);
    if (!request)
        return -ENOMEM;
    struct block_vec vec = vec_of_buffer(&request->iov, request->bounce, length);
    return begun(channel, request,
                 block_aio_readv(&request->aio, channel->config.backend, offset, &vec));
}

int ide_io_write(struct ide_channel *channel, uint64_t offset, const void *bytes, uint32_t length,
                 unsigned flags, ide_request_done *done)
{
    struct ide_request *request = request_new(channel, length, true, done);
    if (!request)
        return -ENOMEM;
    memcpy(request->bounce, bytes, length);
    struct block_vec vec = vec_of_buffer(&request->iov, request->bounce, length);
    return begun(channel, request,
                 block_aio_writev(&request->aio, channel->config.backend, offset, &vec, flags));
}

int ide_io_discard(struct ide_channel *channel, uint64_t offset, uint64_t length, unsigned flags,
                   ide_request_done *done)
{
    struct ide_request *request = request_new(channel, 0, true, done);
    if (!request)
        return -ENOMEM;
    return begun(channel, request,
                 block_aio_discard(&request->aio, channel->config.backend, offset, length, flags));
}

int ide_io_flush(struct ide_channel *channel, ide_request_done *done)
{
    struct ide_request *request = request_new(channel, 0, false, done);
    if (!request)
        return -ENOMEM;
    return begun(channel, request, block_aio_flush(&request->aio, channel->config.backend));
}

void ide_io_leave_behind(struct ide_channel *channel)
{
    list_for_each (link, &channel->requests) {
        struct ide_request *request = container_of(link, struct ide_request, link);
        request->done = NULL;
        block_aio_cancel_async(&request->aio);
    }
    list_move_all(&channel->left_behind, &channel->requests);
}

bool ide_io_is_settled(const struct ide_channel *channel)
{
    unsigned count = 0;
    list_for_each (link, &channel->left_behind) {
        if (container_of(link, struct ide_request, link)->changes)
            return false;
        count++;
    }
    return count <= IDE_LEFT_BEHIND_MAX;
}
