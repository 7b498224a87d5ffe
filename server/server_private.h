/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_SERVER_PRIVATE_H
#define SERVER_SERVER_PRIVATE_H

/* What a connection tells the server. */

struct connection;
struct server;
struct server_lane;

/* Any thread: constant while the server lives. */
const struct server_options *server_options_of(const struct server *server);

/* On the lane's loop: the connection is off the lane's list, nothing of it is left there. It is
 * freed on loop 0. */
void server_connection_ended(struct connection *connection);

/* On the lane's loop: something that kept the lane from being quiet is over. */
void server_lane_rests(struct server_lane *lane);

#endif
