/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

/*
 * The server proper: connections on loops, over streams, to one export. It opens no socket and
 * starts no thread, so main and the simulation use the same one:
 *
 *     export_co_open()                  a node becomes an export (export.h)
 *     server_new()                      on loops that block_env has
 *     server_accept_stream() ...        on loop 0, for each client, while server_has_room()
 *     server_stop() -> stopped()        answers what was received, closes every connection
 *     server_free()
 *     export_co_close()                 flushes and closes the image
 *
 * Loop 0 is the server's home loop: all of the functions below are called there, and all events
 * are told there. A connection lives on the loop that the placement chose, and only reports to
 * loop 0 when it ends.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct block_env;
struct export;
struct intake_limits;
struct server;
struct stream;

/* Which loop a new connection lands on. A table, so that the simulation can choose. */
struct placement {
    /* connection_counts[i] is how many loop i has now, of loop_count loops; returns an index. */
    unsigned (*choose)(struct placement *placement, const unsigned *connection_counts,
                       unsigned loop_count);
};

/* The loop with the fewest connections, the first of them. */
extern struct placement placement_fewest;

struct server_options {
    unsigned clients_max;          /* at the same time; 0: no bound */
    bool persistent;               /* goes on when the last client has left */
    uint32_t handshake_timeout_ms; /* from accept to the end of the handshake; 0: none */
    uint32_t stall_timeout_ms;     /* nothing more of a request that came in part; 0: none */
    uint32_t stop_timeout_ms;      /* how long a client that does not read can hold up a stop */
    struct placement *placement;   /* stays the caller's */
    /* Of WRITEs that come in part; stays the caller's. NULL: intake_usual. */
    const struct intake_limits *intake;
};

#define SERVER_HANDSHAKE_TIMEOUT_MS 10000
#define SERVER_STALL_TIMEOUT_MS 60000
#define SERVER_STOP_TIMEOUT_MS 3000

/* Told on loop 0. */
struct server_events {
    /* A connection has ended: another stream may be accepted. */
    void (*room)(void *ctx);
    /* The server is not persistent, and the last client of those that chose the export has left:
     * time for server_stop(). Told once. */
    void (*last_left)(void *ctx);
    /* After server_stop(): no connection and no request is left. Told once. */
    void (*stopped)(void *ctx);
    void *ctx;
};

/* options and events are copied; env and export stay the caller's and outlive the server. -ENOMEM.
 */
int server_new(struct server **ret_server, struct block_env *env, struct export *export,
               const struct server_options *options, const struct server_events *events,
               struct error *err);
/* Has told stopped(), or never accepted anything. Takes NULL. */
void server_free(struct server *server);

/* Whether clients_max allows another stream. False when stopping. */
bool server_has_room(const struct server *server);
/* Takes the stream, which is not attached yet, and greets it on the loop that the placement
 * chooses; closes it when there is no memory. Only while server_has_room(). */
void server_accept_stream(struct server *server, struct stream *stream);

/* Accepts no more, takes no new request, answers those that were received, closes each connection
 * when its answers are out or stop_timeout_ms is over. Harmless when called again. */
void server_stop(struct server *server);

#endif
