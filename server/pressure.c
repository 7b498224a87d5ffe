/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/pressure.h"

#include <assert.h>

#include "server/connection_private.h"
#include "server/lane.h"
#include "server/server.h"
#include "server/server_private.h"

static void feed_waiting(struct loop_task *task);
static void close_idle_readers(struct loop_timer *timer);

void pressure_init(struct server_lane *lane, unsigned lane_count)
{
    size_t share = PRESSURE_BYTES_MAX / lane_count;
    lane->request_bytes = 0;
    lane->request_bytes_max = share > PRESSURE_LANE_BYTES_MIN ? share : PRESSURE_LANE_BYTES_MIN;
    list_init(&lane->waiting);
    lane->feed_task.run = feed_waiting;
    link_init(&lane->feed_task.link);
    lane->waiting_timer.expired = close_idle_readers;
    link_init(&lane->waiting_timer.link);
}

void pressure_fini(struct server_lane *lane)
{
    assert(list_is_empty(&lane->waiting) && lane->request_bytes == 0);
    assert(!link_is_listed(&lane->feed_task.link) && !link_is_listed(&lane->waiting_timer.link));
    (void)lane;
}

bool pressure_allows(const struct connection *connection, size_t cost_bytes)
{
    const struct server_lane *lane = connection->lane;
    if (cost_bytes == 0 || lane->request_bytes == 0)
        return true;
    if (connection->request_count == 0 && cost_bytes <= PRESSURE_SMALL_BYTES)
        return true;
    const struct list_link *first = list_first(&lane->waiting);
    if (first && first != &connection->waiting_link)
        return false;
    return lane->request_bytes + cost_bytes <= lane->request_bytes_max;
}

static void set_timer(struct server_lane *lane)
{
    uint32_t timeout_ms = server_options_of(lane->server)->stall_timeout_ms;
    if (timeout_ms > 0)
        loop_timer_set(lane->loop, &lane->waiting_timer,
                       loop_now_ns(lane->loop) + timeout_ms * NS_PER_MS);
}

void pressure_wait(struct connection *connection)
{
    struct server_lane *lane = connection->lane;
    if (link_is_listed(&connection->waiting_link))
        return;
    if (list_is_empty(&lane->waiting))
        set_timer(lane);
    list_append(&lane->waiting, &connection->waiting_link);
}

static void feed_soon(struct server_lane *lane)
{
    if (!list_is_empty(&lane->waiting))
        loop_at_round_end(lane->loop, &lane->feed_task);
}

void pressure_forget(struct connection *connection)
{
    struct server_lane *lane = connection->lane;
    if (!link_is_listed(&connection->waiting_link))
        return;
    list_remove(&connection->waiting_link);
    if (list_is_empty(&lane->waiting)) { /* nothing comes back to the lane: it may be gone soon */
        loop_timer_clear(&lane->waiting_timer);
        loop_task_cancel(&lane->feed_task);
    }
    feed_soon(lane); /* it may have been the first */
}

void pressure_add(struct server_lane *lane, size_t cost_bytes)
{
    lane->request_bytes += cost_bytes;
}

void pressure_remove(struct server_lane *lane, size_t cost_bytes)
{
    assert(lane->request_bytes >= cost_bytes);
    lane->request_bytes -= cost_bytes;
    if (cost_bytes > 0)
        feed_soon(lane);
}

/* In order: the first one that still does not fit keeps the others waiting. */
static void feed_waiting(struct loop_task *task)
{
    struct server_lane *lane = container_of(task, struct server_lane, feed_task);
    struct list_link *link;
    while ((link = list_first(&lane->waiting)) != NULL) {
        struct connection *connection = container_of(link, struct connection, waiting_link);
        if (connection_waits_for_pressure(connection))
            return;
        connection_enter(connection);
        connection_resume(connection); /* while it is the first: only the first may */
        if (list_first(&lane->waiting) == link && !connection_waits_for_pressure(connection))
            pressure_forget(connection); /* its own bounds hold it back, or it is gone */
        connection_leave(connection);
    }
}

static void close_idle_readers(struct loop_timer *timer)
{
    struct server_lane *lane = container_of(timer, struct server_lane, waiting_timer);
    uint64_t timeout_ns = server_options_of(lane->server)->stall_timeout_ms * NS_PER_MS;
    set_timer(lane);
    list_for_each (link, &lane->connections) {
        struct connection *connection = container_of(link, struct connection, link);
        if (connection->write_blocked && connection->unsent_bytes > 0 &&
            loop_now_ns(lane->loop) - connection->sent_ns >= timeout_ns)
            connection_abort(connection,
                             "took nothing of its answers while others wait for memory");
    }
}
