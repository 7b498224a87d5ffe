/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_LOOP_ROOM_H
#define BLOCK_LOOP_ROOM_H

/*
 * What a loop has taken on and what it may do on the spot (block/loop.h, block/loop_backlog.h), and
 * whether several clients use it. Then none of them may keep it for long: what would be quickest
 * for one alone, to copy all that it has sent in the loop, is what the others wait for.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;

struct loop_room {
    unsigned backlog;
    unsigned operations, operations_max; /* in this round; see loop_count_work() */
    size_t round_bytes, turn_bytes;
    const void *last_client; /* never looked into: it may be gone */
    uint64_t last_came_ns;
    uint64_t alone_from_ns; /* if no other client comes meanwhile */
};

void loop_room_init(struct loop_room *room);
void loop_room_begin_round(struct loop_room *room);
/* The loop's own. */
struct loop_room *loop_room(struct loop *loop);

/* A client has sent something: any address that is its own. */
void loop_client_came(struct loop *loop, const void *client);
/* Two clients have been served within the last LOOP_SHARED_NS, by the loop's cached time. */
#define LOOP_SHARED_NS (100 * NS_PER_MS)
bool loop_is_shared(struct loop *loop);

#endif
