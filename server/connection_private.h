/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_CONNECTION_PRIVATE_H
#define SERVER_CONNECTION_PRIVATE_H

/* What the connection's files share: connection.c has its life and its output, connection_input.c
 * what it receives. */

#include "protocol/handshake.h"
#include "protocol/writer.h"
#include "server/connection.h"
#include "server/export.h"

struct connection_greeting {
    struct handshake handshake;
    struct handshake_exports exports;
    struct export_view view; /* what exports shows */
    struct writer output;
};

/*
 * Every way into a connection (readiness, a task, a timer, a job, a reply) is between these two.
 * The last one to leave looks at what is to be done next; after it, the connection may be gone.
 */
void connection_enter(struct connection *connection);
void connection_leave(struct connection *connection);

/* Logs what is wrong with the client: one line a connection, whatever follows from it. */
void connection_complain(struct connection *connection, const char *what);

/* The client is gone or cannot be served: complains, and closes the stream at once. Inside enter
 * and leave. */
void connection_lose(struct connection *connection, const char *reason);
/* The same, where the reason is a negative errno of the stream. */
void connection_lose_by(struct connection *connection, const char *what, int code);

/* There is something to send at the end of the round. */
void connection_send_soon(struct connection *connection);

/* A request object for `wire`, counted from now on; NULL when there is no memory. */
struct server_request *connection_new_request(struct connection *connection,
                                              const struct request *wire, size_t cost_bytes);
/* Frees it and counts it no more. */
void connection_free_request(struct connection *connection, struct server_request *request);
/* Its reply is ready: queues it, or frees it when nobody is there to read it. */
void connection_reply(struct connection *connection, struct server_request *request);

/* --- connection_input.c -------------------------------------------------------------------------
 */

/* The stream has something to read: one receive, and all that came of it. */
void connection_receive(struct connection *connection);
/* The same, thrown away. False when nothing more will come. */
bool connection_discard(struct connection *connection);
/* Looks at what was held back, as far as the bounds now allow. */
void connection_resume(struct connection *connection);
/* It is held back by nothing but what the lane holds already. */
bool connection_waits_for_pressure(const struct connection *connection);
/* A request has come in part, and the rest of it is waited for. */
bool connection_is_mid_request(const struct connection *connection);
/* Something is held back; nothing is received until it is not. */
bool connection_is_paused(const struct connection *connection);
/* The stream is full of what is lent: what the client sends is looked at whenever it takes more,
 * all at once. To look at each request as it comes would take the loop's time from others. Not
 * where a WRITE has come in part: it may have memory that others wait for. */
bool connection_is_left_alone(const struct connection *connection);
/* It is held back, and need not be any more. */
bool connection_can_resume(const struct connection *connection);
/* Nothing is received any more; a WRITE that is not whole is forgotten, and what was received and
 * held back is still looked at. */
void connection_end_input(struct connection *connection);
/* Forgets everything that was received and not started. */
void connection_drop_input(struct connection *connection);

#endif
