/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_THROTTLE_GROUP_H
#define BLOCK_THROTTLE_GROUP_H

/*
 * A throttle group: limits that several nodes share, on any number of loops. Each node is a
 * *member*, and the members that have requests waiting take turns, one request each, so that one
 * busy node does not keep the others from their share. It is turns of requests that are fair, not
 * bytes: of two members, the one with the larger requests gets more of a limit on bytes.
 *
 * Limits are set when a group is made, and stay.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/throttle.h"
#include "common/error.h"
#include "common/list.h"

struct throttle_group;

/* The groups that have names: one list an environment (block_env). Changed while no node is being
 * opened; guarded all the same. */
struct throttle_groups {
    pthread_mutex_t mutex;
    struct list list;
};

void throttle_groups_init(struct throttle_groups *groups);
/* Every group was freed. */
void throttle_groups_fini(struct throttle_groups *groups);

/* Makes a group that throttle_groups_find() finds. limits are checked here; -EINVAL and their
 * sentence. Names are unique: that is the caller's duty. */
int throttle_group_new(struct throttle_group **ret_group, struct throttle_groups *groups,
                       const char *name, const struct throttle_limits *limits, struct error *err);
/* It has no member. Takes NULL. */
void throttle_group_free(struct throttle_group *group);
/* NULL: there is none of that name. */
struct throttle_group *throttle_groups_find(struct throttle_groups *groups, const char *name);

const char *throttle_group_name(const struct throttle_group *group);
/* Whether the group has anything to say to requests of this direction. One load. */
bool throttle_group_limits(const struct throttle_group *group, enum throttle_direction direction);

/* Lives in its owner. */
struct throttle_member {
    struct throttle_group *group;
    /* All below is guarded by the group's mutex. */
    unsigned exempt_depth;
    struct {
        struct list_link turn_link; /* on the group's list while somebody waits here */
        struct list waiters;        /* oldest first */
    } queues[THROTTLE_DIRECTION_COUNT];
};

/* The group lives longer than its members. */
void throttle_member_init(struct throttle_member *member, struct throttle_group *group);
/* Nobody waits. */
void throttle_member_fini(struct throttle_member *member);

/* Waits until a request of so many bytes may go, and accounts for it. In a coroutine, any loop. */
void throttle_member_co_pass(struct throttle_member *member, enum throttle_direction direction,
                             uint64_t length_bytes);

/* From here on requests of this member go at once, those that wait now too; they are accounted for,
 * so what comes after them pays. Until as many ends as begins were called. On any loop. */
void throttle_member_exempt_begin(struct throttle_member *member);
void throttle_member_exempt_end(struct throttle_member *member);

#endif
