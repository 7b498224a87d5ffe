/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_LANE_H
#define SERVER_LANE_H

/*
 * One loop's share of the server: its connections and the memory they take turns with. Touched by
 * that loop alone.
 */

#include <stdbool.h>

#include "block/loop.h"
#include "common/list.h"
#include "server/intake.h"
#include "server/receive.h"

struct block_env;
struct buffer_pool;
struct server;
struct server_request;

#define LANE_SPARE_REQUESTS_MAX 512

struct server_lane {
    struct server *server;
    struct loop *loop;
    struct buffer_pool *buffers;
    struct receive_pool receive;
    struct list spare_requests; /* struct server_request.reply.link */
    unsigned spare_request_count;
    struct list connections; /* struct connection.link */
    unsigned look_count;     /* at the image's size, under way */

    /* See pressure.h. */
    size_t request_bytes; /* what the connections' request_bytes are in all */
    size_t request_bytes_max;
    struct list waiting; /* struct connection.waiting_link, the longest first */
    struct loop_task feed_task;
    struct loop_timer waiting_timer; /* on while somebody waits */
    struct lane_intake intake;

    bool stopping;
    struct loop_timer stop_timer; /* on while stopping and connections are left */
    struct loop_job stop_job;     /* loop 0 to this: stop */
    struct loop_job quiet_job;    /* this to loop 0: no connection is left */
};

void lane_init(struct server_lane *lane, struct server *server, struct block_env *env,
               unsigned index, struct intake_reserve *reserve);
/* No connection is left. */
void lane_fini(struct server_lane *lane);

/* A request from the spare ones, its reply's link listed nowhere; NULL when there is no memory. */
struct server_request *lane_get_request(struct server_lane *lane);
/* Takes back what dispatch_release() was called on. */
void lane_put_request(struct server_lane *lane, struct server_request *request);

#endif
