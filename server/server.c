/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/server.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/block.h"
#include "block/coroutine.h"
#include "block/env.h"
#include "block/loop.h"
#include "block/reopen.h"
#include "common/log.h"
#include "server/connection.h"
#include "server/export.h"
#include "server/lane.h"
#include "server/server_private.h"
#include "server/stream.h"

/*
 * Everything but the lanes is loop 0's. `client_count` goes up when a stream is accepted and down
 * when its connection's end has come back from its lane, so at 0 no lane knows any.
 */
struct server {
    struct export *export;
    struct server_options options;
    struct server_events events;

    unsigned client_count;
    unsigned connection_counts[LOOP_COUNT_MAX]; /* by lane */
    bool any_negotiated;                        /* some client that has left chose the export */
    bool told_last_left;

    bool stopping;
    unsigned quiet_lanes;

    struct intake_reserve intake_reserve;
    unsigned lane_count;
    struct server_lane lanes[];
};

static unsigned choose_fewest(struct placement *placement, const unsigned *connection_counts,
                              unsigned loop_count)
{
    (void)placement;
    unsigned best = 0;
    for (unsigned i = 1; i < loop_count; i++) {
        if (connection_counts[i] < connection_counts[best])
            best = i;
    }
    return best;
}

struct placement placement_fewest = {.choose = choose_fewest};

int server_new(struct server **ret_server, struct block_env *env, struct export *export,
               const struct server_options *options, const struct server_events *events,
               struct error *err)
{
    assert(env->loop_count >= 1 && env->loop_count <= LOOP_COUNT_MAX);
    struct server *server =
        calloc(1, sizeof(*server) + env->loop_count * sizeof(struct server_lane));
    if (!server)
        return error_set(err, -ENOMEM, "no memory for the server");
    server->export = export;
    server->options = *options;
    server->events = *events;
    server->lane_count = env->loop_count;
    intake_reserve_init(&server->intake_reserve, options->intake ? options->intake : &intake_usual,
                        server->lane_count);
    for (unsigned i = 0; i < server->lane_count; i++)
        lane_init(&server->lanes[i], server, env, i, &server->intake_reserve);
    *ret_server = server;
    return 0;
}

void server_free(struct server *server)
{
    if (!server)
        return;
    assert(server->client_count == 0);
    for (unsigned i = 0; i < server->lane_count; i++)
        lane_fini(&server->lanes[i]);
    intake_reserve_fini(&server->intake_reserve);
    free(server);
}

const struct server_options *server_options_of(const struct server *server)
{
    return &server->options;
}

bool server_has_room(const struct server *server)
{
    if (server->stopping)
        return false;
    return server->options.clients_max == 0 || server->client_count < server->options.clients_max;
}

static struct loop *home_loop(const struct server *server)
{
    return server->lanes[0].loop;
}

/* --- the life of a connection, as loop 0 sees it ------------------------------------------------
 */

/*
 * Before a client is told anything: whether the image's file is longer now. A host that does not
 * tell is no reason to turn the client away, and one that does not answer soon none to let it wait:
 * then it is told of the size that is known, and the question is left to end by itself. Only so
 * many of them are open on a lane.
 */
#define LOOK_LIMIT_MS 200
#define LOOKS_MAX 16

struct look {
    struct server_lane *lane;
    struct connection *connection; /* NULL: it did not wait any longer */
    struct loop_timer limit;
};

static void lane_check_quiet(struct server_lane *lane);

static void start_looked_for(struct look *look)
{
    struct connection *connection = look->connection;
    look->connection = NULL;
    loop_timer_clear(&look->limit);
    if (connection)
        connection_start(connection);
}

static void look_is_late(struct loop_timer *timer)
{
    start_looked_for(container_of(timer, struct look, limit));
}

static void co_look(void *arg)
{
    struct look *look = arg;
    struct server_lane *lane = look->lane;
    block_co_refresh_size(lane->server->export->backend);
    start_looked_for(look);
    free(look);
    lane->look_count--;
    lane_check_quiet(lane);
}

static bool start_look(struct server_lane *lane, struct connection *connection)
{
    struct look *look = lane->look_count < LOOKS_MAX ? malloc(sizeof(*look)) : NULL;
    if (!look)
        return false;
    *look = (struct look){.lane = lane, .connection = connection};
    link_init(&look->limit.link);
    look->limit.expired = look_is_late;
    loop_timer_set(lane->loop, &look->limit, loop_now_ns(lane->loop) + LOOK_LIMIT_MS * NS_PER_MS);
    lane->look_count++;
    if (coroutine_start(lane->loop, co_look, look) == 0)
        return true;
    lane->look_count--;
    loop_timer_clear(&look->limit);
    free(look);
    return false;
}

static void start_on_lane(struct loop_job *job)
{
    struct connection *connection = container_of(job, struct connection, job);
    struct server_lane *lane = connection->lane;
    if (lane->stopping || !start_look(lane, connection))
        connection_start(connection);
}

void server_accept_stream(struct server *server, struct stream *stream)
{
    assert(server_has_room(server));
    struct placement *placement = server->options.placement;
    unsigned index = placement->choose(placement, server->connection_counts, server->lane_count);
    assert(index < server->lane_count);
    struct server_lane *lane = &server->lanes[index];
    struct connection *connection = connection_new(lane, server->export, stream);
    if (!connection) {
        log_warning("%s: no memory for another client", stream->peer);
        stream->ops->close(stream);
        return;
    }
    log_verbose("%s: connected", stream->peer);
    server->client_count++;
    server->connection_counts[index]++;
    connection->job.run = start_on_lane;
    loop_post(lane->loop, &connection->job);
}

static void tell_when_stopped(struct server *server)
{
    if (server->stopping && server->client_count == 0 && server->quiet_lanes == server->lane_count)
        server->events.stopped(server->events.ctx);
}

static void end_on_home(struct loop_job *job)
{
    struct connection *connection = container_of(job, struct connection, job);
    struct server_lane *lane = connection->lane;
    struct server *server = lane->server;
    server->any_negotiated |= connection->was_negotiated;
    server->client_count--;
    server->connection_counts[lane - server->lanes]--;
    connection_free(connection);

    if (server->stopping) {
        tell_when_stopped(server);
        return;
    }
    if (!server->options.persistent && server->any_negotiated && server->client_count == 0 &&
        !server->told_last_left) {
        server->told_last_left = true;
        server->events.last_left(server->events.ctx);
        return;
    }
    server->events.room(server->events.ctx);
}

/* --- stopping -----------------------------------------------------------------------------------
 */

static void quiet_on_home(struct loop_job *job)
{
    struct server *server = container_of(job, struct server_lane, quiet_job)->server;
    server->quiet_lanes++;
    tell_when_stopped(server);
}

/* A lane that stops is quiet when it has no connection, no timer, no look at the image, and no job
 * on its way. */
static void lane_check_quiet(struct server_lane *lane)
{
    bool is_busy =
        !list_is_empty(&lane->connections) || lane->look_count > 0 || !intake_is_quiet(lane);
    if (!lane->stopping || is_busy || lane->quiet_job.run)
        return;
    loop_timer_clear(&lane->stop_timer);
    lane->quiet_job.run = quiet_on_home;
    loop_post(home_loop(lane->server), &lane->quiet_job);
}

void server_lane_rests(struct server_lane *lane)
{
    lane_check_quiet(lane);
}

void server_connection_ended(struct connection *connection)
{
    struct server_lane *lane = connection->lane;
    connection->job.run = end_on_home;
    loop_post(home_loop(lane->server), &connection->job);
    lane_check_quiet(lane);
}

static void stop_expired(struct loop_timer *timer)
{
    struct server_lane *lane = container_of(timer, struct server_lane, stop_timer);
    list_for_each (link, &lane->connections)
        connection_abort(container_of(link, struct connection, link),
                         "did not read its last answers in time");
}

static void stop_on_lane(struct loop_job *job)
{
    struct server_lane *lane = container_of(job, struct server_lane, stop_job);
    uint32_t timeout_ms = lane->server->options.stop_timeout_ms;
    lane->stopping = true;
    lane->stop_timer.expired = stop_expired;
    loop_timer_set(lane->loop, &lane->stop_timer, loop_now_ns(lane->loop) + timeout_ms * NS_PER_MS);
    list_for_each (link, &lane->connections)
        connection_stop(container_of(link, struct connection, link));
    lane_check_quiet(lane);
}

void server_stop(struct server *server)
{
    if (server->stopping)
        return;
    server->stopping = true;
    block_backend_hurry(server->export->backend); /* what waits for a rate limit is answered now */
    error_policy_end(&server->export->error_policy);
    for (unsigned i = 0; i < server->lane_count; i++) {
        struct server_lane *lane = &server->lanes[i];
        lane->stop_job.run = stop_on_lane;
        loop_post(lane->loop, &lane->stop_job);
    }
}
