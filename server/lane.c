/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/lane.h"

#include <assert.h>
#include <stdlib.h>

#include "block/env.h"
#include "server/dispatch.h"
#include "server/pressure.h"

void lane_init(struct server_lane *lane, struct server *server, struct block_env *env,
               unsigned index, struct intake_reserve *reserve)
{
    *lane = (struct server_lane){
        .server = server,
        .loop = env->locals[index].loop,
        .buffers = &env->locals[index].buffers,
    };
    receive_pool_init(&lane->receive);
    list_init(&lane->spare_requests);
    list_init(&lane->connections);
    pressure_init(lane, env->loop_count);
    intake_init(lane, reserve);
    link_init(&lane->stop_timer.link);
}

void lane_fini(struct server_lane *lane)
{
    assert(list_is_empty(&lane->connections));
    intake_fini(lane);
    pressure_fini(lane);
    receive_pool_fini(&lane->receive);
    struct list_link *link;
    while ((link = list_pop(&lane->spare_requests)) != NULL)
        free(container_of(link, struct server_request, reply.link));
}

struct server_request *lane_get_request(struct server_lane *lane)
{
    struct list_link *link = list_pop(&lane->spare_requests);
    if (link) {
        lane->spare_request_count--;
        return container_of(link, struct server_request, reply.link);
    }
    struct server_request *request = malloc(sizeof(*request));
    if (request)
        link_init(&request->reply.link);
    return request;
}

void lane_put_request(struct server_lane *lane, struct server_request *request)
{
    assert(!request->buffer && !request->pinned);
    if (lane->spare_request_count == LANE_SPARE_REQUESTS_MAX) {
        free(request);
        return;
    }
    /* Last in, first out: the warmest is used next. */
    list_prepend(&lane->spare_requests, &request->reply.link);
    lane->spare_request_count++;
}
