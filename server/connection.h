/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_CONNECTION_H
#define SERVER_CONNECTION_H

/*
 * One client's connection, from greeting to close. It lives on one lane's loop, but for its birth
 * and its end, which are loop 0's.
 *
 *     HANDSHAKE -> TRANSMISSION -> DRAINING -> (LINGERING ->) CLOSED -> ended, told to the server
 *
 * HANDSHAKE     feeds the handshake, under a deadline that counts from its birth
 * TRANSMISSION  each good request becomes a coroutine at once, each reply goes to the send queue,
 *               which is flushed at the end of the loop's round
 * DRAINING      DISC, the client's end of file, nonsense, or a stop: nothing is read any more;
 *               what is outstanding is answered
 * LINGERING     all is answered, but the client may still be sending: what it sends is thrown away
 *               for a moment, since closing a TCP socket with bytes unread makes the client's side
 *               forget answers that are still on their way
 * CLOSED        the stream is gone; requests in flight end without an answer
 *
 * A stop is a refusal before it is an end: what comes while earlier requests are still under way is
 * answered with NBD_ESHUTDOWN, and an option with NBD_REP_ERR_SHUTDOWN. When nothing is under way
 * any more, DRAINING begins. A client in the handshake is given a moment, unless it never said a
 * word.
 *
 * Bounds: past CONNECTION_REQUESTS_MAX requests, or CONNECTION_BYTES_MAX bytes of replies and
 * payloads, that were received and not yet answered to the last byte, the socket is not read. One
 * request always goes on, however large.
 *
 * What all connections of the lane hold together is bounded by pressure.h, and what the WRITEs hold
 * that came in part by intake.h.
 *
 * READs are started about CONNECTION_READ_AHEAD_BYTES at a time, and the next when those were sent
 * or turned out to need the disk. What the page cache has is so read into memory that is still in
 * the processor's cache when it is sent, and used again for the next; and a client that never reads
 * costs that much. Where reads end in a later turn (a disk, tmpfs) it costs CONNECTION_BYTES_MAX.
 * A READ whose data is lent holds no memory, so it keeps nothing behind it from being started; but
 * one goes out before the next is begun, as long as the stream takes them. So a BLOCK_STATUS or a
 * small READ behind many large ones is started at once, and sendq.h sends its answer before theirs.
 *
 * A request that came in part has a deadline too: its client is closed when nothing more of it came
 * for the server's stall_timeout_ms. It costs no timer a receive: one timer is set when there is
 * none, and looks at received_ns when it expires.
 *
 * An idle connection has no stack, no receive memory and no buffer: part of a request's header is
 * kept in the connection itself.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/loop.h"
#include "common/list.h"
#include "protocol/transmission.h"
#include "protocol/wire.h"
#include "server/intake.h"
#include "server/sendq.h"

struct connection_greeting;
struct export;
struct receive_chunk;
struct server_lane;
struct server_request;
struct stream;

#define CONNECTION_LINGER_MS 500
/* A stream that is not received from for the loop's backlog tells again and again that it could be.
 * After so many times it is not watched: the backlog may stand still for as long as a disk does. */
#define CONNECTION_PASSED_OVER_MAX 8
#define CONNECTION_REQUESTS_MAX 256
#define CONNECTION_BYTES_MAX ((size_t)24 << 20)
/* Replies to READs on their way to the stream: so many bytes are read ahead of it, no more. */
#define CONNECTION_READ_AHEAD_BYTES ((size_t)1 << 20)
/* READs whose data is lent that are begun in one round, where others wait for the stream already.
 */
#define CONNECTION_LENDS_MAX 16
/* A part of a payload that is smaller than this is copied to the payload's own buffer. */
#define CONNECTION_PIN_BYTES_MIN ((size_t)32 << 10)

struct connection {
    struct list_link link; /* on lane->connections while not ended */
    struct server_lane *lane;
    struct export *export;
    struct stream *stream; /* NULL: CLOSED */
    unsigned holds;        /* callers on the stack, and posted jobs; ends only at 0 */
    struct loop_job job;   /* birth: to the lane; end: to loop 0 */

    /* The handshake, and its output until the last byte is out; then NULL. */
    struct connection_greeting *greeting;
    struct loop_timer deadline; /* of the handshake, of a stalled request, of lingering */
    bool in_transmission;
    bool was_negotiated; /* for the server: it chose the export */
    bool complained;     /* the log has its line about this client, or it left as it may */

    /* Input. */
    struct transmission transmission;
    bool input_ended;
    bool may_send_more; /* input ended by our wish: the client may not know yet */
    bool lingering;
    bool stopping; /* what comes now is answered by "shutting down", as long as it is looked at */
    uint8_t head[REQUEST_HEADER_MAX]; /* of a request, not yet whole */
    size_t head_length;
    bool has_held; /* a request that waits until the bounds allow it */
    enum transmission_event held_event;
    struct transmission_item held;
    struct { /* received behind it, and not looked at */
        struct receive_chunk *chunk;
        const uint8_t *data;
        size_t length;
    } unseen;
    struct server_request *receiving; /* a WRITE whose payload is not yet whole */
    size_t receiving_filled;          /* bytes of its buffer that came */
    struct connection_intake intake;  /* of that WRITE */
    struct loop_task receive_task;    /* listed: it can be read, and waits for the loop's backlog */
    unsigned passed_over;             /* how often it was told so meanwhile */
    uint64_t received_ns;             /* when bytes last came, or were last looked at */
    struct list_link waiting_link;    /* on lane->waiting: the held request is too much now */
    struct loop_job resume_job;
    bool resume_posted;

    /* Output. */
    struct sendq sendq;
    struct loop_task send_task;
    bool write_blocked; /* the stream is full: wait until it can be written */
    uint64_t sent_ns;   /* when it last took something, or became full */
    /* The first in the queue, while the bytes it was to lend are read into memory; or NULL. */
    struct server_request *fetching;
    unsigned wanted; /* what the stream was asked to tell */

    /* READs started in this round, and replies that wait for the stream: see may_read_on(). */
    size_t started_read_bytes;
    size_t unsent_bytes;
    unsigned lends_in_round; /* READs of this round that are answered by what is lent */
    struct loop_task turn_task;

    /* Received and not yet answered to the last byte. */
    unsigned request_count;
    size_t request_bytes;
};

/* On loop 0. NULL when there is no memory; the stream is then still the caller's. */
struct connection *connection_new(struct server_lane *lane, struct export *export,
                                  struct stream *stream);
/* On the lane: attaches the stream and greets; from here on it ends by itself, by a call of
 * server_connection_ended() on loop 0. */
void connection_start(struct connection *connection);
/* On the lane: see server_stop(). */
void connection_stop(struct connection *connection);
/* On the lane: closes the stream at once. */
void connection_abort(struct connection *connection, const char *reason);
/* After its end. */
void connection_free(struct connection *connection);

#endif
