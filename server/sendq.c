/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/sendq.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>

#include "server/stream.h"

void sendq_init(struct sendq *queue)
{
    list_init(&queue->items);
    list_init(&queue->lent);
    queue->front_sent = 0;
    queue->lender = NULL;
    queue->lent_count = 0;
}

/* The turn of the next one with a lent buffer has come. */
static void admit_lender(struct sendq *queue)
{
    struct list_link *link = list_pop(&queue->lent);
    if (!link)
        return;
    queue->lent_count--;
    list_append(&queue->items, link);
    queue->lender = container_of(link, struct sendq_item, link);
}

/* What one call sends: buffers, and then, or NULL, an item's lent buffer. */
struct gathered {
    unsigned count;
    size_t bytes;
    struct sendq_item *lender;
    size_t lent_skip;             /* of the lent buffer: is out already */
    unsigned count_before_lender; /* those of the buffers that are other items' */
    size_t bytes_before_lender;
};

/* Fills iov[IOV_MAX] with what waits. */
static struct gathered gather(const struct sendq *queue, struct iovec *iov)
{
    struct gathered all = {.count = 0};
    size_t skip = queue->front_sent;
    list_for_each (link, &queue->items) {
        struct sendq_item *item = container_of(link, struct sendq_item, link);
        unsigned count_before = all.count;
        size_t bytes_before = all.bytes;
        for (unsigned i = 0; i < item->iov_count; i++) {
            struct iovec part = item->iov[i];
            if (skip >= part.iov_len) {
                skip -= part.iov_len;
                continue;
            }
            if (!part.iov_base) {
                all.lender = item;
                all.lent_skip = skip;
                all.count_before_lender = count_before;
                all.bytes_before_lender = bytes_before;
                return all;
            }
            if (all.count == IOV_MAX)
                return all;
            iov[all.count++] = (struct iovec){
                .iov_base = (char *)part.iov_base + skip,
                .iov_len = part.iov_len - skip,
            };
            all.bytes += part.iov_len - skip;
            skip = 0;
        }
    }
    return all;
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
        struct sendq_item *item = container_of(link, struct sendq_item, link);
        size_t length = item_bytes(item);
        if (queue->front_sent < length)
            return;
        queue->front_sent -= length;
        if (item == queue->lender)
            queue->lender = NULL;
        list_remove(link);
        list_append(sent, link);
    }
    assert(queue->front_sent == 0);
}

/* 0: all of it is out; -EAGAIN: the stream is full; else it is broken. */
static int send_buffers(struct sendq *queue, struct stream *stream, const struct iovec *iov,
                        unsigned count, size_t bytes, struct list *sent)
{
    ssize_t written = stream->ops->writev(stream, iov, count);
    if (written < 0)
        return (int)written;
    assert(written > 0 && (size_t)written <= bytes);
    advance(queue, (size_t)written, sent);
    /* A stream that took less is full: asking again would only say so. */
    return (size_t)written < bytes ? -EAGAIN : 0;
}

/* The same for buffers with a lent one behind them; 0 also when more of that is to be lent. */
static int send_with_lent(struct sendq *queue, struct stream *stream, const struct iovec *iov,
                          const struct gathered *all, struct list *sent, size_t *lent_bytes)
{
    bool full = false;
    ssize_t written =
        all->lender->send_lent(all->lender, all->lent_skip, stream, iov, all->count, &full);
    if (written == -ENODATA) {
        int code = 0;
        if (all->count_before_lender > 0)
            code = send_buffers(queue, stream, iov, all->count_before_lender,
                                all->bytes_before_lender, sent);
        return code < 0 ? code : -ENODATA;
    }
    if (written < 0)
        return (int)written;
    assert(written > 0);
    advance(queue, (size_t)written, sent);
    *lent_bytes += (size_t)written;
    return full ? -EAGAIN : 0;
}

int sendq_flush(struct sendq *queue, struct stream *stream, struct list *sent)
{
    struct iovec iov[IOV_MAX];
    size_t lent_bytes = 0;
    while (!sendq_is_empty(queue)) {
        if (lent_bytes >= SENDQ_LENT_BYTES_MAX)
            return -EBUSY;
        if (!queue->lender)
            admit_lender(queue);
        struct gathered all = gather(queue, iov);
        int code = all.lender ? send_with_lent(queue, stream, iov, &all, sent, &lent_bytes)
                              : send_buffers(queue, stream, iov, all.count, all.bytes, sent);
        if (code < 0)
            return code;
    }
    return 0;
}

void sendq_drop(struct sendq *queue, struct list *dropped)
{
    list_move_all(dropped, &queue->items);
    list_move_all(dropped, &queue->lent);
    queue->front_sent = 0;
    queue->lender = NULL;
    queue->lent_count = 0;
}
