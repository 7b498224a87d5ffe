/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_SENDQ_H
#define SERVER_SENDQ_H

/*
 * What is to be sent to one client, in order. Each item is a reply: some buffers, which its owner
 * keeps until the item comes back. Everything that waits goes out in one call, and a stream that
 * takes only a part of it is carried on at the very byte.
 */

#include <stddef.h>
#include <sys/uio.h>

#include "common/list.h"

struct stream;

struct sendq_item {
    struct list_link link;
    const struct iovec *iov; /* no empty ones */
    unsigned iov_count;      /* at least 1 */
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

/* Writes what the stream takes, and appends the items that are out whole to `sent`. 0: the queue is
 * empty; -EAGAIN: more when the stream can be written again; else the stream is broken. */
int sendq_flush(struct sendq *queue, struct stream *stream, struct list *sent);

/* Gives up what waits: appends all items to `dropped`. */
void sendq_drop(struct sendq *queue, struct list *dropped);

#endif
