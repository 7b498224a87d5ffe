/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/payload_pipe.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

void payload_pipes_init(struct payload_pipes *pool)
{
    *pool = (struct payload_pipes){0};
    list_init(&pool->spare);
}

static void pipe_free(struct payload_pipes *pool, struct payload_pipe *pipe)
{
    close(pipe->read_fd);
    close(pipe->write_fd);
    free(pipe);
    pool->open_count--;
}

void payload_pipes_fini(struct payload_pipes *pool)
{
    struct list_link *link;
    while ((link = list_pop(&pool->spare)) != NULL)
        pipe_free(pool, container_of(link, struct payload_pipe, link));
    assert(pool->open_count == 0);
}

static bool open_large(int fds[2])
{
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return false;
    if (fcntl(fds[1], F_SETPIPE_SZ, (int)PAYLOAD_PIPE_BYTES) >= (int)PAYLOAD_PIPE_BYTES)
        return true;
    close(fds[0]);
    close(fds[1]);
    return false;
}

struct payload_pipe *payload_pipe_get(struct payload_pipes *pool)
{
    struct list_link *link = list_pop(&pool->spare);
    if (link) {
        pool->spare_count--;
        return container_of(link, struct payload_pipe, link);
    }
    if (pool->open_count == PAYLOAD_PIPES_MAX)
        return NULL;
    struct payload_pipe *pipe = malloc(sizeof(*pipe));
    int fds[2];
    if (!pipe || !open_large(fds)) {
        free(pipe);
        return NULL;
    }
    *pipe = (struct payload_pipe){.read_fd = fds[0], .write_fd = fds[1]};
    link_init(&pipe->link);
    pool->open_count++;
    return pipe;
}

void payload_pipe_put(struct payload_pipes *pool, struct payload_pipe *pipe)
{
    if (pipe->held > 0 || pool->spare_count == PAYLOAD_PIPES_SPARE_MAX) {
        pipe_free(pool, pipe);
        return;
    }
    /* Last in, first out: the warmest is used next. */
    list_prepend(&pool->spare, &pipe->link);
    pool->spare_count++;
}

ssize_t payload_pipe_to_file(struct payload_pipe *pipe, int fd, uint64_t offset, size_t length)
{
    assert(length <= pipe->held);
    loff_t at = (loff_t)offset;
    ssize_t put;
    do {
        put = splice(pipe->read_fd, NULL, fd, &at, length, SPLICE_F_MOVE);
    } while (put < 0 && errno == EINTR);
    if (put < 0)
        return -errno;
    pipe->held -= (size_t)put;
    return put;
}

int payload_pipe_read(struct payload_pipe *pipe, void *to)
{
    char *at = to;
    while (pipe->held > 0) {
        ssize_t got = read(pipe->read_fd, at, pipe->held);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        at += got;
        pipe->held -= (size_t)got;
    }
    return 0;
}
