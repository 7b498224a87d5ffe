/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_DISPATCH_H
#define SERVER_DISPATCH_H

/*
 * One request's way: a coroutine, the block layer's calls, and the bytes of its reply. It knows no
 * connection; who made the request is told when the reply is ready.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/loop.h"
#include "block/vec.h"
#include "protocol/reply_answer.h"
#include "protocol/reply_chunk.h"
#include "protocol/request.h"
#include "server/sendq.h"

struct buffer_pool;
struct export;
struct loop;
struct receive_chunk;

/* Into how many pieces, data and holes by turns, one READ is answered at most. */
#define DISPATCH_READ_PIECES_MAX 8
#define DISPATCH_IOV_MAX (2 * DISPATCH_READ_PIECES_MAX)
#define DISPATCH_HEAD_BYTES (DISPATCH_READ_PIECES_MAX * REPLY_CHUNK_OFFSET_HOLE_MAX)

/* Below that a structured READ shows only the holes that memory knows; from here on it asks. */
#define DISPATCH_STATUS_BYTES_MIN (64u << 10)
/* A hole inside a READ that is smaller than this is sent as zeroes. */
#define DISPATCH_HOLE_BYTES_MIN 4096u
/* Of one CACHE, from its start; the rest of a longer one is left alone. */
#define DISPATCH_CACHE_BYTES_MAX (32u << 20)

struct server_request {
    struct sendq_item reply; /* the buffers of the reply, in order, when done() is called */
    struct request wire;
    struct export *export;
    uint64_t size_bytes;   /* of the export, as the client was told */
    uint64_t context_mask; /* which of its contexts the client has selected */
    struct loop *loop;
    struct buffer_pool *buffers;

    /* The payload of a WRITE: what lies in a receive chunk (pinned, or NULL), then in buffer. */
    struct iovec payload[2];
    struct receive_chunk *pinned;
    /* From the pool: a READ's data, a WRITE's payload, BLOCK_STATUS descriptors; or NULL. */
    void *buffer;
    size_t buffer_length;

    /* The client's stream takes bytes of a file without a copy. And when a READ's data was last
     * found in memory, by loop_now_ns(), and from which of its bytes on it is in the buffer: see
     * dispatch_lend.c. */
    bool may_lend;
    uint64_t found_in_memory_ns;
    size_t fetched_from;

    /* On the loop: the reply is ready. */
    void (*done)(struct server_request *request);
    /* On the loop: what dispatch_fetch() was called for is in memory, or cannot be had. */
    void (*fetched)(struct server_request *request, int code);
    void *owner;
    const bool *client_has_left; /* nobody waits for this request any more */
    struct loop_moment start;    /* for the account */
    size_t cost_bytes;           /* the owner's accounting */

    struct iovec iov[DISPATCH_IOV_MAX];
    uint8_t head[DISPATCH_HEAD_BYTES]; /* reply headers */
};

/* What a request's data weighs in memory, in bytes, for a client with these contexts. */
size_t dispatch_cost_bytes(const struct request *wire, uint64_t context_mask);

/* Carries the request out, which request_check() found good; done() is called from inside this, or
 * later. */
void dispatch_start(struct server_request *request);

/* Answers without work: fills the reply at once, does not call done(). */
void dispatch_answer(struct server_request *request, const struct request_verdict *verdict);

/* For those who fill a reply: memory for data, or false; and that its first iov_count buffers are
 * filled. */
bool dispatch_get_buffer(struct server_request *request, size_t length);
void dispatch_set_reply(struct server_request *request, unsigned iov_count);

/* Makes an error of the reply. */
void dispatch_fail(struct server_request *request, int code);

/* Gives back what the request still holds: buffer and pin. */
void dispatch_release(struct server_request *request);

#endif
