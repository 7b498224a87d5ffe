/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/sendq.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>

#include "server/stream.h"

void sendq_init(struct sendq *queue)
{
    list_init(&queue->items);
    queue->front_sent = 0;
}

/* Fills iov[IOV_MAX] with what waits; returns how many, and how many bytes they hold. */
static unsigned gather(const struct sendq *queue, struct iovec *iov, size_t *ret_bytes)
{
    unsigned count = 0;
    size_t bytes = 0;
    size_t skip = queue->front_sent;
    list_for_each (link, &queue->items) {
        const struct sendq_item *item = container_of(link, struct sendq_item, link);
        for (unsigned i = 0; i < item->iov_count; i++) {
            struct iovec part = item->iov[i];
            if (skip >= part.iov_len) {
                skip -= part.iov_len;
                continue;
            }
            if (count == IOV_MAX)
                goto full;
            iov[count++] = (struct iovec){
                .iov_base = (char *)part.iov_base + skip,
                .iov_len = part.iov_len - skip,
            };
            bytes += part.iov_len - skip;
            skip = 0;
        }
    }
full:
    *ret_bytes = bytes;
    return count;
}

static size_t item_bytes(const struct sendq_item *item)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < item->iov_count; i++)
        bytes += item->iov[i].iov_len;
    return bytes;
}

/* Another `bytes` bytes from the front are out. */
static void advance(struct sendq *queue, size_t bytes, struct list *sent)
{
    queue->front_sent += bytes;
    struct list_link *link;
    while ((link = list_first(&queue->items)) != NULL) {
        size_t length = item_bytes(container_of(link, struct sendq_item, link));
        if (queue->front_sent < length)
            return;
        queue->front_sent -= length;
        list_remove(link);
        list_append(sent, link);
    }
    assert(queue->front_sent == 0);
}

int sendq_flush(struct sendq *queue, struct stream *stream, struct list *sent)
{
    struct iovec iov[IOV_MAX];
    while (!sendq_is_empty(queue)) {
        size_t bytes;
        unsigned count = gather(queue, iov, &bytes);
        ssize_t written = stream->ops->writev(stream, iov, count);
        if (written < 0)
            return (int)written;
        assert(written > 0 && (size_t)written <= bytes);
        advance(queue, (size_t)written, sent);
        /* A stream that took less is full: asking again would only say so. */
        if ((size_t)written < bytes)
            return -EAGAIN;
    }
    return 0;
}

void sendq_drop(struct sendq *queue, struct list *dropped)
{
    list_move_all(dropped, &queue->items);
    queue->front_sent = 0;
}
