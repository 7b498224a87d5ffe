/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/loop_room.h"

#include <assert.h>

#include "block/loop.h"
#include "block/loop_backlog.h"
#include "common/align.h"
#include "common/clock.h"

static void deepen_rounds(struct loop_room *room, unsigned waiting)
{
    unsigned half = smaller(waiting / 2, LOOP_ROUND_OPERATIONS_MAX);
    if (half > room->operations_max)
        room->operations_max = half;
}

void loop_room_init(struct loop_room *room)
{
    *room = (struct loop_room){.operations_max = LOOP_ROUND_OPERATIONS};
}

void loop_room_begin_round(struct loop_room *room)
{
    if (room->backlog == 0)
        room->operations_max = LOOP_ROUND_OPERATIONS;
    deepen_rounds(room, room->backlog);
    room->operations = 0;
    room->round_bytes = 0;
}

unsigned loop_round_operations(struct loop *loop)
{
    struct loop_room *room = loop_room(loop);
    deepen_rounds(room, room->backlog);
    return room->operations_max;
}

bool loop_has_room(struct loop *loop)
{
    const struct loop_room *room = loop_room(loop);
    return room->operations < room->operations_max && room->round_bytes < LOOP_ROUND_BYTES;
}

bool loop_has_room_among(struct loop *loop, unsigned waiting)
{
    deepen_rounds(loop_room(loop), waiting);
    return loop_has_room(loop);
}

void loop_count_work(struct loop *loop, size_t bytes)
{
    struct loop_room *room = loop_room(loop);
    room->operations++;
    room->round_bytes += bytes;
    room->turn_bytes += bytes;
}

void loop_backlog_grew(struct loop *loop)
{
    loop_room(loop)->backlog++;
}

void loop_backlog_fell(struct loop *loop, unsigned count)
{
    struct loop_room *room = loop_room(loop);
    assert(count <= room->backlog);
    room->backlog -= count;
}

bool loop_is_backlogged(struct loop *loop)
{
    return loop_room(loop)->backlog >= LOOP_BACKLOG_MAX;
}

void loop_client_came(struct loop *loop, const void *client)
{
    struct loop_room *room = loop_room(loop);
    uint64_t now_ns = loop_now_ns(loop);
    bool is_other = room->last_client && client != room->last_client;
    if (is_other && now_ns - room->last_came_ns < LOOP_SHARED_NS)
        room->alone_from_ns = now_ns + LOOP_SHARED_NS;
    room->last_client = client;
    room->last_came_ns = now_ns;
}

bool loop_is_shared(struct loop *loop)
{
    return loop_now_ns(loop) < loop_room(loop)->alone_from_ns;
}
