/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_PRESSURE_H
#define SERVER_PRESSURE_H

/*
 * What all connections of a lane may hold together. Each connection is bounded by itself
 * (connection.h); thousands of them, each with one large READ that it does not read, or one large
 * WRITE that it does not finish, are bounded here.
 *
 * A request whose data does not fit waits, and with it its connection; those that wait get their
 * turn in order, as memory is given back. A connection that has nothing else under way may always
 * have PRESSURE_SMALL_BYTES, so small requests go on beside large ones that wait. Who waits for
 * longer than the stall limit has those closed that took nothing of their answers for as long;
 * writes that do not go on are closed by their own connections' stall limit.
 *
 * What was to be lent and has to be read after all (server/dispatch_lend.h) is read in pieces of
 * PRESSURE_SMALL_BYTES, one at a time of a connection, and does not wait.
 *
 * So the lane holds at most lane->request_bytes_max, or one request, and twice PRESSURE_SMALL_BYTES
 * a connection. On the lane's loop.
 */

#include <stdbool.h>
#include <stddef.h>

struct connection;
struct server_lane;

#define PRESSURE_BYTES_MAX ((size_t)256 << 20)     /* of all lanes, in equal parts */
#define PRESSURE_LANE_BYTES_MIN ((size_t)32 << 20) /* but no part is smaller */
#define PRESSURE_SMALL_BYTES ((size_t)256 << 10)

void pressure_init(struct server_lane *lane, unsigned lane_count);
/* No connection is left. */
void pressure_fini(struct server_lane *lane);

/* Whether the connection may start another request of this cost now. */
bool pressure_allows(const struct connection *connection, size_t cost_bytes);
/* It may not: resumes the connection when it is its turn. Waiting already is fine. */
void pressure_wait(struct connection *connection);
/* It does not wait any more; it may never have. */
void pressure_forget(struct connection *connection);

/* A request with this cost has started, has ended. */
void pressure_add(struct server_lane *lane, size_t cost_bytes);
void pressure_remove(struct server_lane *lane, size_t cost_bytes);

#endif
