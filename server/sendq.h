/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_SENDQ_H
#define SERVER_SENDQ_H

/*
 * What is to be sent to one client, in order. Each item is a reply: some buffers, which its owner
 * keeps until the item comes back. Everything that waits goes out in one call, and a stream that
 * takes only a part of it is carried on at the very byte.
 *
 * An item may have a buffer that is not in memory of ours, and is *lent* for the time of one send
 * (bytes of a file, which the stream takes without a copy): its iov_base is NULL, and the item
 * knows how to send it.
 */

#include <stddef.h>
#include <sys/uio.h>

#include "common/list.h"

struct stream;
struct sendq_item;

/* Sends the buffers in `before`, then bytes of the item's lent buffer from its byte `skip` on.
 * Returns a count of both, at least 1, and whether the stream takes no more now; -ENODATA: nothing
 * was sent, since the bytes cannot be lent now; other errors as stream->ops->writev(). */
typedef ssize_t sendq_send_lent(struct sendq_item *item, size_t skip, struct stream *stream,
                                const struct iovec *before, unsigned before_count, bool *ret_full);

struct sendq_item {
    struct list_link link;
    const struct iovec *iov;    /* no empty ones */
    unsigned iov_count;         /* at least 1 */
    sendq_send_lent *send_lent; /* used only where an iov_base is NULL; one of them at most is */
};

struct sendq {
    struct list items;
    size_t front_sent; /* bytes of the first item that are out already */
};

void sendq_init(struct sendq *queue);

static inline bool sendq_is_empty(const struct sendq *queue)
{
    return list_is_empty(&queue->items);
}

static inline void sendq_add(struct sendq *queue, struct sendq_item *item)
{
    list_append(&queue->items, &item->link);
}

static inline struct sendq_item *sendq_first(const struct sendq *queue)
{
    return container_of(queue->items.head.next, struct sendq_item, link);
}

/* Writes what the stream takes, and appends the items that are out whole to `sent`. 0: the queue is
 * empty; -EAGAIN: more when the stream can be written again; -ENODATA: everything before the first
 * item is out, front_sent bytes of it are, and its lent buffer must become one in memory before it
 * goes on; else the stream is broken. */
int sendq_flush(struct sendq *queue, struct stream *stream, struct list *sent);

/* Gives up what waits: appends all items to `dropped`. */
void sendq_drop(struct sendq *queue, struct list *dropped);

#endif
