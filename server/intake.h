/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_INTAKE_H
#define SERVER_INTAKE_H

/*
 * What WRITEs that have come in part may hold together. pressure.h counts what requests promise;
 * here only what arrived counts, so a slow client costs little, and a hundred clients that each
 * send half of 32 MiB are stopped long before.
 *
 * Words: the *room* is a lane's share of memory for payloads that are not whole yet. A WRITE that
 * finds it full waits in the lane's queue, its socket is not read, and the kernel holds the client
 * back. The *reserve* belongs to all lanes: who is first in a queue takes as much of it as its
 * payload still lacks, so it can be received to its end whatever the others do, and gives memory
 * back to both. So there is always somebody who goes on, and in order.
 *
 * Invariants:
 *   1. Payloads that are not whole hold at most room and reserve, and the first piece of each.
 *   2. The reserve holds any one payload (by a static assertion, and were it smaller it would be
 * let through alone), so who is first waits for nothing but the ends of those that have some of it.
 *   3. A lane that waits for the reserve is on its list, and the first of them is woken whenever
 *      some is given back.
 *
 * Those that have of the reserve while others wait for it are closed when nothing came for
 * idle_ms, or when it comes at less than slowest_bytes a second. Nobody is blamed for the time in
 * which we did not read. With no stall limit nobody is closed here either.
 *
 * Payloads up to small_bytes are not counted and never wait: small writes go on beside large ones.
 *
 * On the lane's loop, but for the reserve, which has a lock.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/loop.h"
#include "common/list.h"

struct connection;
struct server_lane;

struct intake_limits {
    size_t small_bytes;   /* of a payload: not counted */
    size_t room_bytes;    /* of all lanes, in equal parts */
    size_t reserve_bytes; /* of all lanes */
    size_t behind_bytes;  /* of a receive, when a lane is crowded, for requests yet unknown */
    uint32_t idle_ms;     /* of who has of the reserve while others wait */
    size_t slowest_bytes; /* a second, of the same */
};

extern const struct intake_limits intake_usual;

struct intake_reserve {
    const struct intake_limits *limits;
    unsigned lane_count;
    pthread_mutex_t lock;
    size_t used_bytes;
    struct list waiting; /* struct lane_intake.waiting_link */
};

/* A lane's. */
struct lane_intake {
    struct intake_reserve *reserve;
    size_t room_used, room_bytes;
    struct list queue;   /* struct connection_intake.link: not read from */
    struct list holders; /* the same: of the reserve */
    struct loop_task feed_task;
    struct loop_timer slow_timer; /* on while there are holders */
    bool is_waiting;              /* waiting_link is listed */
    /* Under the reserve's lock. */
    struct list_link waiting_link;
    struct loop_job wake_job;
    bool wake_posted;
};

/* A connection's, for the WRITE that it receives. */
struct connection_intake {
    bool is_counted;
    size_t room_bytes;     /* arrived, and counted in the lane's room */
    size_t reserved_bytes; /* of the reserve; 0: none */
    uint64_t reserved_ns;  /* when */
    struct list_link link; /* on the lane's queue or holders */
};

void intake_reserve_init(struct intake_reserve *reserve, const struct intake_limits *limits,
                         unsigned lane_count);
void intake_reserve_fini(struct intake_reserve *reserve);
void intake_init(struct server_lane *lane, struct intake_reserve *reserve);
/* No connection is left, and intake_is_quiet(). */
void intake_fini(struct server_lane *lane);
/* Nobody is about to wake the lane. */
bool intake_is_quiet(struct server_lane *lane);

/* Of a WRITE's payload of length bytes, here_bytes have arrived and more are awaited. */
void intake_begin(struct connection *connection, size_t length, size_t here_bytes);
/* How much of the left_bytes may be received now; at 0 it waits in the queue from now on. */
size_t intake_may_receive(struct connection *connection, size_t left_bytes);
void intake_arrived(struct connection *connection, size_t bytes);
/* The payload is whole, or will never be. Harmless when nothing began. */
void intake_end(struct connection *connection);

/* In the queue: its socket is not to be read. */
bool intake_waits(const struct connection *connection);
/* Others may wait for it: it is to be read even when the loop has much to begin. */
bool intake_has_reserve(const struct connection *connection);
/* What a receive may bring of requests that are not known yet: space, or less in a crowd. */
size_t intake_behind_bytes(const struct server_lane *lane, size_t space);

#endif
