/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/intake.h"

#include <assert.h>

#include "protocol/wire.h"
#include "server/connection_private.h"
#include "server/lane.h"
#include "server/server.h"
#include "server/server_private.h"

/* 16 + 36 MiB, and what a server weighs by itself: less than 64 MiB whatever clients begin. */
#define RESERVE_BYTES ((size_t)36 << 20)
_Static_assert(RESERVE_BYTES >= NBD_PAYLOAD_DEFAULT_MAX, "the largest payload fits");

const struct intake_limits intake_usual = {
    .small_bytes = (size_t)64 << 10,
    .room_bytes = (size_t)16 << 20,
    .reserve_bytes = RESERVE_BYTES,
    .behind_bytes = (size_t)16 << 10,
    .idle_ms = 5000,
    .slowest_bytes = (size_t)256 << 10,
};

static void feed_queue(struct loop_task *task);
static void woken(struct loop_job *job);
static void close_slow_holders(struct loop_timer *timer);

/* --- the reserve --------------------------------------------------------------------------------
 */

void intake_reserve_init(struct intake_reserve *reserve, const struct intake_limits *limits,
                         unsigned lane_count)
{
    *reserve = (struct intake_reserve){.limits = limits, .lane_count = lane_count};
    pthread_mutex_init(&reserve->lock, NULL);
    list_init(&reserve->waiting);
}

void intake_reserve_fini(struct intake_reserve *reserve)
{
    assert(reserve->used_bytes == 0 && list_is_empty(&reserve->waiting));
    pthread_mutex_destroy(&reserve->lock);
}

/* Under the lock. */
static void wake_first(struct intake_reserve *reserve)
{
    struct list_link *link = list_first(&reserve->waiting);
    if (!link)
        return;
    struct lane_intake *intake = container_of(link, struct lane_intake, waiting_link);
    if (intake->wake_posted)
        return;
    intake->wake_posted = true;
    loop_post(container_of(intake, struct server_lane, intake)->loop, &intake->wake_job);
}

/* False: the lane waits for it, behind those that came before. */
static bool reserve_take(struct lane_intake *intake, size_t bytes)
{
    struct intake_reserve *reserve = intake->reserve;
    pthread_mutex_lock(&reserve->lock);
    const struct list_link *first = list_first(&reserve->waiting);
    bool is_its_turn = !first || first == &intake->waiting_link;
    bool fits =
        reserve->used_bytes == 0 || reserve->used_bytes + bytes <= reserve->limits->reserve_bytes;
    bool taken = is_its_turn && fits;
    if (taken) {
        reserve->used_bytes += bytes;
        list_remove(&intake->waiting_link);
        wake_first(reserve); /* there may be some left */
    } else if (!intake->is_waiting) {
        list_append(&reserve->waiting, &intake->waiting_link);
    }
    pthread_mutex_unlock(&reserve->lock);
    intake->is_waiting = !taken;
    return taken;
}

static void reserve_give_back(struct lane_intake *intake, size_t bytes)
{
    struct intake_reserve *reserve = intake->reserve;
    pthread_mutex_lock(&reserve->lock);
    assert(reserve->used_bytes >= bytes);
    reserve->used_bytes -= bytes;
    wake_first(reserve);
    pthread_mutex_unlock(&reserve->lock);
}

/* Nobody of this lane waits any more. */
static void reserve_leave(struct lane_intake *intake)
{
    struct intake_reserve *reserve = intake->reserve;
    if (!intake->is_waiting)
        return;
    intake->is_waiting = false;
    pthread_mutex_lock(&reserve->lock);
    list_remove(&intake->waiting_link);
    wake_first(reserve); /* this one may have been the first */
    pthread_mutex_unlock(&reserve->lock);
}

static bool somebody_waits(struct intake_reserve *reserve)
{
    pthread_mutex_lock(&reserve->lock);
    bool any = !list_is_empty(&reserve->waiting);
    pthread_mutex_unlock(&reserve->lock);
    return any;
}

/* --- a lane -------------------------------------------------------------------------------------
 */

void intake_init(struct server_lane *lane, struct intake_reserve *reserve)
{
    struct lane_intake *intake = &lane->intake;
    *intake = (struct lane_intake){
        .reserve = reserve,
        .room_bytes = reserve->limits->room_bytes / reserve->lane_count,
        .feed_task.run = feed_queue,
        .slow_timer.expired = close_slow_holders,
        .wake_job.run = woken,
    };
    list_init(&intake->queue);
    list_init(&intake->holders);
    link_init(&intake->feed_task.link);
    link_init(&intake->slow_timer.link);
    link_init(&intake->waiting_link);
}

void intake_fini(struct server_lane *lane)
{
    struct lane_intake *intake = &lane->intake;
    assert(list_is_empty(&intake->queue) && list_is_empty(&intake->holders));
    assert(intake->room_used == 0 && !intake->is_waiting && !intake->wake_posted);
    assert(!link_is_listed(&intake->feed_task.link) && !link_is_listed(&intake->slow_timer.link));
    (void)intake;
}

bool intake_is_quiet(struct server_lane *lane)
{
    struct lane_intake *intake = &lane->intake;
    pthread_mutex_lock(&intake->reserve->lock);
    bool is_quiet = !intake->wake_posted;
    pthread_mutex_unlock(&intake->reserve->lock);
    return is_quiet;
}

static void set_slow_timer(struct server_lane *lane)
{
    const struct intake_limits *limits = lane->intake.reserve->limits;
    if (server_options_of(lane->server)->stall_timeout_ms > 0)
        loop_timer_set(lane->loop, &lane->intake.slow_timer,
                       loop_now_ns(lane->loop) + limits->idle_ms * NS_PER_MS / 4);
}

/* As much of the reserve as its payload lacks. */
static bool take_reserve(struct connection *connection)
{
    struct server_lane *lane = connection->lane;
    struct connection_intake *own = &connection->intake;
    size_t left_bytes = transmission_payload_left(&connection->transmission);
    if (!reserve_take(&lane->intake, left_bytes))
        return false;
    list_remove(&own->link);
    own->reserved_bytes = left_bytes;
    own->reserved_ns = loop_now_ns(lane->loop);
    if (list_is_empty(&lane->intake.holders))
        set_slow_timer(lane);
    list_append(&lane->intake.holders, &own->link);
    return true;
}

static bool has_room(const struct lane_intake *intake)
{
    return intake->room_used < intake->room_bytes;
}

/* The first goes on by the reserve. As many more as would fill the room may try, in pieces. */
static void feed_queue(struct loop_task *task)
{
    struct server_lane *lane = container_of(task, struct server_lane, intake.feed_task);
    struct lane_intake *intake = &lane->intake;
    size_t room = has_room(intake) ? intake->room_bytes - intake->room_used : 0;
    struct list_link *link;
    while ((link = list_first(&intake->queue)) != NULL) {
        struct connection *connection = container_of(link, struct connection, intake.link);
        if (!take_reserve(connection)) {
            if (room == 0)
                return;
            list_remove(link);
            room -= room < RECEIVE_CHUNK_BYTES ? room : RECEIVE_CHUNK_BYTES;
        }
        connection_enter(connection);
        connection->received_ns = loop_now_ns(lane->loop); /* it was we who waited */
        connection_leave(connection);                      /* its socket is looked at again */
    }
    reserve_leave(intake);
}

/* A lane without payloads leaves nothing behind that would come back to it: it may be gone soon. */
static void rest_or_feed(struct server_lane *lane)
{
    struct lane_intake *intake = &lane->intake;
    if (list_is_empty(&intake->holders))
        loop_timer_clear(&intake->slow_timer);
    if (!list_is_empty(&intake->queue)) {
        loop_at_round_end(lane->loop, &intake->feed_task);
        return;
    }
    loop_task_cancel(&intake->feed_task);
    reserve_leave(intake);
}

static void woken(struct loop_job *job)
{
    struct server_lane *lane = container_of(job, struct server_lane, intake.wake_job);
    struct lane_intake *intake = &lane->intake;
    pthread_mutex_lock(&intake->reserve->lock);
    intake->wake_posted = false;
    pthread_mutex_unlock(&intake->reserve->lock);
    rest_or_feed(lane);
    server_lane_rests(lane);
}

/* --- one payload --------------------------------------------------------------------------------
 */

void intake_begin(struct connection *connection, size_t length, size_t here_bytes)
{
    struct lane_intake *intake = &connection->lane->intake;
    assert(!connection->intake.is_counted);
    if (length <= intake->reserve->limits->small_bytes)
        return;
    connection->intake.is_counted = true;
    connection->intake.room_bytes = here_bytes;
    intake->room_used += here_bytes;
}

size_t intake_may_receive(struct connection *connection, size_t left_bytes)
{
    struct lane_intake *intake = &connection->lane->intake;
    if (!connection->intake.is_counted || connection->intake.reserved_bytes > 0)
        return left_bytes;
    if (has_room(intake)) {
        size_t step = intake->room_bytes - intake->room_used;
        if (step < intake->reserve->limits->small_bytes)
            step = intake->reserve->limits->small_bytes;
        return left_bytes < step ? left_bytes : step;
    }
    assert(!link_is_listed(&connection->intake.link));
    if (list_is_empty(&intake->queue) && take_reserve(connection))
        return left_bytes;
    list_append(&intake->queue, &connection->intake.link);
    return 0;
}

void intake_arrived(struct connection *connection, size_t bytes)
{
    struct connection_intake *own = &connection->intake;
    if (!own->is_counted || own->reserved_bytes > 0)
        return;
    own->room_bytes += bytes;
    connection->lane->intake.room_used += bytes;
}

void intake_end(struct connection *connection)
{
    struct server_lane *lane = connection->lane;
    struct lane_intake *intake = &lane->intake;
    struct connection_intake *own = &connection->intake;
    if (!own->is_counted)
        return;
    assert(intake->room_used >= own->room_bytes);
    intake->room_used -= own->room_bytes;
    list_remove(&own->link);
    if (own->reserved_bytes > 0)
        reserve_give_back(intake, own->reserved_bytes);
    *own = (struct connection_intake){.is_counted = false};
    link_init(&own->link);
    rest_or_feed(lane);
}

bool intake_waits(const struct connection *connection)
{
    return link_is_listed(&connection->intake.link) && connection->intake.reserved_bytes == 0;
}

bool intake_has_reserve(const struct connection *connection)
{
    return connection->intake.reserved_bytes > 0;
}

size_t intake_behind_bytes(const struct server_lane *lane, size_t space)
{
    const struct lane_intake *intake = &lane->intake;
    size_t behind_bytes = intake->reserve->limits->behind_bytes;
    bool is_crowded = !has_room(intake) || !list_is_empty(&lane->waiting);
    return is_crowded && behind_bytes < space ? behind_bytes : space;
}

/* --- who is too slow ----------------------------------------------------------------------------
 */

static bool is_too_slow(const struct connection *connection, uint64_t now_ns)
{
    const struct connection_intake *own = &connection->intake;
    const struct intake_limits *limits = connection->lane->intake.reserve->limits;
    uint64_t whole_ms =
        limits->idle_ms + (uint64_t)own->reserved_bytes * 1000 / limits->slowest_bytes;
    return now_ns - connection->received_ns >= limits->idle_ms * NS_PER_MS ||
           now_ns - own->reserved_ns >= whole_ms * NS_PER_MS;
}

static struct connection *first_slow_holder(struct server_lane *lane)
{
    list_for_each (link, &lane->intake.holders) {
        struct connection *connection = container_of(link, struct connection, intake.link);
        if (is_too_slow(connection, loop_now_ns(lane->loop)))
            return connection;
    }
    return NULL;
}

static void close_slow_holders(struct loop_timer *timer)
{
    struct server_lane *lane = container_of(timer, struct server_lane, intake.slow_timer);
    struct connection *connection;
    set_slow_timer(lane);
    while (somebody_waits(lane->intake.reserve) && (connection = first_slow_holder(lane)) != NULL)
        connection_abort(connection, "sends a write's data too slowly while others wait for room");
}
