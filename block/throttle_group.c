/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/throttle_group.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/loop.h"

/*
 * Words: a *waiter* is a request that waits, on the stack of its coroutine. The *turn list* of a
 * direction has the members that have waiters of this direction, and its first is the next to send
 * one; then it goes to the end of the list. The *leader* is the one waiter who has a timer, on its
 * own home loop; all others sleep until they are released or become the leader.
 *
 * Invariants, all under the group's mutex:
 * 1. A member is on a turn list exactly while its queue of that direction has a waiter.
 * 2. While anybody waits there is a leader, and either its timer is set for a moment that is not
 *    later than the first at which somebody may go, or it was woken and will set it, or whoever
 *    holds the mutex right now is about to do this.
 * 3. A waiter is woken at most once for each yield (`woken`), whoever does it: its timer, a
 *    dispatch on another loop, an exemption, or the leader that leaves.
 * 4. A waiter that was released is on no list; who released it does not touch it after giving up
 *    the mutex, since its coroutine takes the mutex before it leaves co_wait().
 * 5. Nobody overtakes: a request goes without queueing only while nobody waits for a bucket that it
 *    needs. Else it queues, and all that may go now are let go in turn.
 *
 * Reads and writes take turns too (`turn_direction`) where both may go: otherwise the one whose
 * timer happens to come first could always empty a bucket that both pour into.
 *
 * No mutex is held across a wait. A timer or a loop that is late by less than a bucket takes to
 * run out (a tenth of a second, where no burst is given) costs nothing in the long run: what leaked
 * out meanwhile lets several go at once.
 *
 * Tried on paper and rejected: a timer for each loop and direction in the group. It has to be set
 * on its own loop, so every hand-over is a posted job whose life must be bounded, and a group could
 * not be freed before the last one ran. A timer on a waiter's stack is gone with its waiter.
 */

struct throttle_group {
    struct list_link link; /* on groups->list */
    struct throttle_groups *groups;
    char *name;
    bool limits[THROTTLE_DIRECTION_COUNT]; /* constant */
    bool has_total;                        /* constant: a bucket that both directions need */

    pthread_mutex_t mutex; /* guards all below, and the members */
    struct throttle throttle;
    unsigned member_count;
    struct list turns[THROTTLE_DIRECTION_COUNT]; /* queues[direction].turn_link of members */
    enum throttle_direction turn_direction;      /* which is asked first */
    struct waiter *leader;
    uint64_t leader_due_ns;
};

struct waiter {
    struct list_link link; /* on its member's queue */
    struct throttle_member *member;
    struct coroutine *co;
    uint64_t length_bytes;
    enum throttle_direction direction;
    struct loop_timer timer; /* its home loop's; not guarded */
    bool released;
    bool woken;
};

/* --- groups ------------------------------------------------------------------------------------
 */

void throttle_groups_init(struct throttle_groups *groups)
{
    pthread_mutex_init(&groups->mutex, NULL);
    list_init(&groups->list);
}

void throttle_groups_fini(struct throttle_groups *groups)
{
    assert(list_is_empty(&groups->list));
    pthread_mutex_destroy(&groups->mutex);
}

static void group_init(struct throttle_group *group, struct throttle_groups *groups,
                       const struct throttle_limits *limits)
{
    link_init(&group->link);
    group->groups = groups;
    group->has_total = throttle_limits_have_total(limits);
    pthread_mutex_init(&group->mutex, NULL);
    throttle_init(&group->throttle, limits);
    for (enum throttle_direction i = 0; i < THROTTLE_DIRECTION_COUNT; i++) {
        group->limits[i] = throttle_limits_concern(limits, i);
        list_init(&group->turns[i]);
    }
}

int throttle_group_new(struct throttle_group **ret_group, struct throttle_groups *groups,
                       const char *name, const struct throttle_limits *limits, struct error *err)
{
    int rc = throttle_limits_check(limits, err);
    if (rc < 0)
        return rc;
    struct throttle_group *group = calloc(1, sizeof(*group));
    char *copy = strdup(name);
    if (!group || !copy) {
        free(group);
        free(copy);
        return error_set(err, -ENOMEM, "no memory for the throttle group '%.100s'", name);
    }
    group_init(group, groups, limits);
    group->name = copy;
    pthread_mutex_lock(&groups->mutex);
    list_append(&groups->list, &group->link);
    pthread_mutex_unlock(&groups->mutex);
    *ret_group = group;
    return 0;
}

void throttle_group_free(struct throttle_group *group)
{
    if (!group)
        return;
    assert(group->member_count == 0 && !group->leader);
    pthread_mutex_lock(&group->groups->mutex);
    list_remove(&group->link);
    pthread_mutex_unlock(&group->groups->mutex);
    pthread_mutex_destroy(&group->mutex);
    free(group->name);
    free(group);
}

struct throttle_group *throttle_groups_find(struct throttle_groups *groups, const char *name)
{
    struct throttle_group *found = NULL;
    pthread_mutex_lock(&groups->mutex);
    list_for_each (link, &groups->list) {
        struct throttle_group *group = container_of(link, struct throttle_group, link);
        if (strcmp(group->name, name) == 0)
            found = group;
    }
    pthread_mutex_unlock(&groups->mutex);
    return found;
}

const char *throttle_group_name(const struct throttle_group *group)
{
    return group->name;
}

bool throttle_group_limits(const struct throttle_group *group, enum throttle_direction direction)
{
    return group->limits[direction];
}

/* --- members and their turns -------------------------------------------------------------------
 */

void throttle_member_init(struct throttle_member *member, struct throttle_group *group)
{
    *member = (struct throttle_member){.group = group};
    for (unsigned i = 0; i < THROTTLE_DIRECTION_COUNT; i++) {
        link_init(&member->queues[i].turn_link);
        list_init(&member->queues[i].waiters);
    }
    pthread_mutex_lock(&group->mutex);
    group->member_count++;
    pthread_mutex_unlock(&group->mutex);
}

void throttle_member_fini(struct throttle_member *member)
{
    struct throttle_group *group = member->group;
    pthread_mutex_lock(&group->mutex);
    for (unsigned i = 0; i < THROTTLE_DIRECTION_COUNT; i++)
        assert(list_is_empty(&member->queues[i].waiters));
    group->member_count--;
    pthread_mutex_unlock(&group->mutex);
}

static struct throttle_member *member_at(struct list_link *turn_link,
                                         enum throttle_direction direction)
{
    return direction == THROTTLE_READ
               ? container_of(turn_link, struct throttle_member, queues[THROTTLE_READ].turn_link)
               : container_of(turn_link, struct throttle_member, queues[THROTTLE_WRITE].turn_link);
}

/* Who is next in this direction; NULL: nobody waits. */
static struct waiter *next_waiter(const struct throttle_group *group,
                                  enum throttle_direction direction)
{
    struct list_link *link = list_first(&group->turns[direction]);
    if (!link)
        return NULL;
    struct throttle_member *member = member_at(link, direction);
    return container_of(list_first(&member->queues[direction].waiters), struct waiter, link);
}

static void enqueue(struct throttle_group *group, struct waiter *waiter)
{
    struct throttle_member *member = waiter->member;
    enum throttle_direction direction = waiter->direction;
    list_append(&member->queues[direction].waiters, &waiter->link);
    if (!link_is_listed(&member->queues[direction].turn_link))
        list_append(&group->turns[direction], &member->queues[direction].turn_link);
}

/* The member's turn is over. */
static void dequeue(struct throttle_group *group, struct waiter *waiter)
{
    struct throttle_member *member = waiter->member;
    enum throttle_direction direction = waiter->direction;
    list_remove(&waiter->link);
    list_remove(&member->queues[direction].turn_link);
    if (!list_is_empty(&member->queues[direction].waiters))
        list_append(&group->turns[direction], &member->queues[direction].turn_link);
}

/* --- who goes ----------------------------------------------------------------------------------
 */

static void wake(struct waiter *waiter)
{
    if (waiter->woken)
        return;
    waiter->woken = true;
    coroutine_wake(waiter->co);
}

static void release(struct throttle_group *group, struct waiter *waiter)
{
    dequeue(group, waiter);
    throttle_account(&group->throttle, waiter->direction, waiter->length_bytes);
    waiter->released = true;
    if (group->leader == waiter)
        group->leader = NULL;
    wake(waiter);
}

static enum throttle_direction other(enum throttle_direction direction)
{
    return direction == THROTTLE_READ ? THROTTLE_WRITE : THROTTLE_READ;
}

/* Lets the next of this direction go, if there is one and it may. */
static bool try_release(struct throttle_group *group, enum throttle_direction direction,
                        uint64_t now_ns)
{
    struct waiter *waiter = next_waiter(group, direction);
    if (!waiter || throttle_wait_ns(&group->throttle, direction, now_ns) > 0)
        return false;
    release(group, waiter);
    group->turn_direction = other(direction);
    return true;
}

/* Lets all go that may go now, in turn. */
static void dispatch(struct throttle_group *group, uint64_t now_ns)
{
    while (try_release(group, group->turn_direction, now_ns) ||
           try_release(group, other(group->turn_direction), now_ns))
        ;
}

/* Who will be the first to go, and when; NULL: nobody waits. */
static struct waiter *find_first(struct throttle_group *group, uint64_t now_ns,
                                 uint64_t *ret_due_ns)
{
    struct waiter *first = NULL;
    for (enum throttle_direction i = 0; i < THROTTLE_DIRECTION_COUNT; i++) {
        struct waiter *waiter = next_waiter(group, i);
        if (!waiter)
            continue;
        uint64_t due_ns = now_ns + throttle_wait_ns(&group->throttle, i, now_ns);
        if (!first || due_ns < *ret_due_ns) {
            first = waiter;
            *ret_due_ns = due_ns;
        }
    }
    return first;
}

/* Makes the next one the leader, when somebody waits and nobody leads; it sets its own timer. */
static void pass_lead(struct throttle_group *group, uint64_t now_ns)
{
    uint64_t due_ns = 0;
    if (group->leader)
        return;
    struct waiter *first = find_first(group, now_ns, &due_ns);
    if (!first)
        return;
    group->leader = first;
    group->leader_due_ns = 0; /* it comes at once */
    wake(first);
}

static void timer_expired(struct loop_timer *timer)
{
    struct waiter *waiter = container_of(timer, struct waiter, timer);
    struct throttle_group *group = waiter->member->group;
    pthread_mutex_lock(&group->mutex);
    wake(waiter);
    pthread_mutex_unlock(&group->mutex);
}

/* A waiter that is awake sees to invariant 2 before it sleeps. */
static void lead_if_first(struct throttle_group *group, struct waiter *waiter, struct loop *loop,
                          uint64_t now_ns)
{
    uint64_t due_ns = 0;
    find_first(group, now_ns, &due_ns);
    if (group->leader && group->leader != waiter && group->leader_due_ns <= due_ns)
        return;
    group->leader = waiter;
    group->leader_due_ns = due_ns;
    loop_timer_set(loop, &waiter->timer, due_ns);
}

/* The mutex is held, and given up meanwhile. */
static void co_wait(struct throttle_group *group, struct waiter *waiter)
{
    struct loop *loop = coroutine_loop(waiter->co);
    waiter->timer.expired = timer_expired;
    link_init(&waiter->timer.link);
    waiter->woken = true; /* it is awake */
    enqueue(group, waiter);
    for (;;) {
        uint64_t now_ns = loop_now_ns(loop);
        dispatch(group, now_ns);
        if (waiter->released) {
            pass_lead(group, now_ns);
            return;
        }
        lead_if_first(group, waiter, loop, now_ns);
        waiter->woken = false;
        pthread_mutex_unlock(&group->mutex);
        /* A wake-up from another thread may come right here: it is posted, so it finds us
         * waiting. */
        coroutine_yield();
        loop_timer_clear(&waiter->timer);
        pthread_mutex_lock(&group->mutex);
    }
}

static bool must_queue(struct throttle_group *group, const struct throttle_member *member,
                       enum throttle_direction direction)
{
    if (member->exempt_depth > 0)
        return false;
    if (!list_is_empty(&group->turns[direction]) ||
        (group->has_total && !list_is_empty(&group->turns[other(direction)])))
        return true;
    uint64_t now_ns = loop_now_ns(coroutine_loop(coroutine_self()));
    return throttle_wait_ns(&group->throttle, direction, now_ns) > 0;
}

void throttle_member_co_pass(struct throttle_member *member, enum throttle_direction direction,
                             uint64_t length_bytes)
{
    struct throttle_group *group = member->group;
    if (!group->limits[direction])
        return;
    struct waiter waiter = {
        .member = member,
        .co = coroutine_self(),
        .length_bytes = length_bytes,
        .direction = direction,
    };
    link_init(&waiter.link);
    pthread_mutex_lock(&group->mutex);
    if (must_queue(group, member, direction))
        co_wait(group, &waiter);
    else
        throttle_account(&group->throttle, direction, length_bytes);
    pthread_mutex_unlock(&group->mutex);
}

/* --- exemption ---------------------------------------------------------------------------------
 */

void throttle_member_exempt_begin(struct throttle_member *member)
{
    struct throttle_group *group = member->group;
    pthread_mutex_lock(&group->mutex);
    member->exempt_depth++;
    for (enum throttle_direction i = 0; i < THROTTLE_DIRECTION_COUNT; i++) {
        list_for_each (link, &member->queues[i].waiters)
            release(group, container_of(link, struct waiter, link));
    }
    pass_lead(group, loop_now_ns(loop_current()));
    pthread_mutex_unlock(&group->mutex);
}

void throttle_member_exempt_end(struct throttle_member *member)
{
    struct throttle_group *group = member->group;
    pthread_mutex_lock(&group->mutex);
    assert(member->exempt_depth > 0);
    member->exempt_depth--;
    pthread_mutex_unlock(&group->mutex);
}
