/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_STREAM_H
#define TESTS_HARNESS_SIM_STREAM_H

/*
 * A socket in memory between the server and one client: two pipes, each with a bound, a latency,
 * and a way of its own to cut what goes through it into pieces. What is sent arrives later, in
 * pieces of any size, in order. The server's end is a struct stream; the client's end is the
 * functions below.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/loop.h"
#include "server/stream.h"
#include "tests/harness/sim.h"
#include "tests/harness/sim_bytes.h"

struct sim_stream;

struct sim_pipe {
    struct sim_stream *stream;
    struct sim_bytes bytes;
    size_t arrived; /* of bytes; the rest is on its way */
    size_t room;    /* bytes that fit */
    bool ended;     /* nothing more is written */
    bool is_stuck;  /* a write was cut short: nothing fits until the event */
    struct sim_event arrival, relief;
    uint64_t taken; /* bytes that were read, since the beginning */
};

/* How a stream behaves; drawn once a stream. */
struct sim_stream_nature {
    uint64_t latency_ns;    /* the longest */
    unsigned tiny_once_in;  /* a piece is 1 to 16 bytes once in so many; 0: never */
    unsigned whole_once_in; /* all that is there goes at once, once in so many; else any part */
};

struct sim_stream {
    struct stream stream;
    struct sim *sim;
    struct random random;
    unsigned number;
    struct sim_stream_nature nature;
    unsigned small_pieces_left; /* then the stream is a generous one, or a run would never end */
    struct sim_pipe to_server, to_client;
    struct loop *loop;        /* NULL until attached */
    struct loop_watch watch;  /* the server's wish */
    struct sim_event *client; /* set when something changed for the client */
    bool server_closed, client_closed;
    bool is_reset;         /* the client is gone and the server is told so by an error */
    uint64_t lose_byte_at; /* planted: this byte to the client vanishes; 0: none does */
};

/* client is the event that is set when there is something to read or room to write. The server's
 * end goes to server_accept_stream(), the other one ends with sim_stream_client_close(). */
struct sim_stream *sim_stream_new(struct sim *sim, unsigned number, struct sim_event *client);

/* Moves arrived bytes to the end of `to`; returns how many. */
size_t sim_stream_receive(struct sim_stream *stream, struct sim_bytes *to, size_t length_max);
/* Takes what fits from the front of `from`; returns how many. */
size_t sim_stream_send(struct sim_stream *stream, struct sim_bytes *from);
/* The server's last byte was received. */
bool sim_stream_has_ended(const struct sim_stream *stream);
/* The client sends no more. */
void sim_stream_half_close(struct sim_stream *stream);
/* The client is gone; the stream too, as soon as the server has closed it. is_reset: what was sent
 * and has not arrived is lost. */
void sim_stream_client_close(struct sim_stream *stream, bool is_reset);

#endif
