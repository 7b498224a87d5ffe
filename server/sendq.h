/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_SENDQ_H
#define SERVER_SENDQ_H

/*
 * What is to be sent to one client. Each item is a reply: some buffers, which its owner keeps until
 * the item comes back. Everything that waits goes out in one call, and a stream that takes only a
 * part of it is carried on at the very byte.
 *
 * An item may have a buffer that is not in memory of ours, and is *lent* for the time of one send
 * (bytes of a file, which the stream takes without a copy): its iov_base is NULL, and the item
 * knows how to send it. Such an item is large and costs nothing while it waits; so those without
 * overtake it until its turn has come, which it has when what was there before is out. So whoever
 * waits for a block status, or for a small read, does not wait for megabytes that he asked for
 * before; and the lent ones cannot be kept waiting by later ones for ever.
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
    sendq_send_lent *send_lent; /* NULL, or one iov_base is NULL */
};

struct sendq {
    struct list items;         /* in order */
    size_t front_sent;         /* bytes of the first item that are out already */
    struct sendq_item *lender; /* the one of the items with a lent buffer, or NULL */
    struct list lent;          /* the other items with one, in order */
    unsigned lent_count;       /* those */
};

void sendq_init(struct sendq *queue);

static inline bool sendq_is_empty(const struct sendq *queue)
{
    return list_is_empty(&queue->items) && list_is_empty(&queue->lent);
}

static inline void sendq_add(struct sendq *queue, struct sendq_item *item)
{
    list_append(item->send_lent ? &queue->lent : &queue->items, &item->link);
    queue->lent_count += item->send_lent ? 1 : 0;
}

/* After a flush that returned -ENODATA: the one that it is about. */
static inline struct sendq_item *sendq_first(const struct sendq *queue)
{
    return container_of(queue->items.head.next, struct sendq_item, link);
}

/* So many lent bytes go out in one flush, or one loan: who reads as fast as they come keeps the
 * loop from nobody. */
#define SENDQ_LENT_BYTES_MAX ((size_t)1 << 20)

/* Writes what the stream takes, and appends the items that are out whole to `sent`. 0: the queue is
 * empty; -EAGAIN: more when the stream can be written again; -EBUSY: more in the next round;
 * -ENODATA: everything before the first item is out, front_sent bytes of it are, and it goes on
 * when it can lend again; else the stream is broken. */
int sendq_flush(struct sendq *queue, struct stream *stream, struct list *sent);

/* Gives up what waits: appends all items to `dropped`. */
void sendq_drop(struct sendq *queue, struct list *dropped);

#endif
