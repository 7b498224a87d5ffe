/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_poller.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct sim_poller {
    struct loop *loop;
    struct sim *sim; /* NULL until sim_loop_new() has the poller in hand */
    struct sim_event turn;
    struct random random;
    struct list watches;
    uint64_t round; /* of telling what is ready */
};

/* In loop_watch.poller_space. */
struct sim_watch {
    struct list_link link;
    struct sim_poller *poller; /* where it is watched; NULL: nowhere */
    uint64_t round;            /* in which it was told last */
    unsigned ready;
};

static_assert(sizeof(struct sim_watch) <= sizeof(((struct loop_watch *)NULL)->poller_space),
              "a watch has room for the poller's own");

static struct sim_watch *space_of(struct loop_watch *watch)
{
    return (struct sim_watch *)(void *)watch->poller_space;
}

static struct loop_watch *watch_of(struct list_link *link)
{
    struct sim_watch *space = container_of(link, struct sim_watch, link);
    return container_of((void *)space, struct loop_watch, poller_space);
}

/* How long it takes until a loop that could turn does: mostly at once, now and then it is busy
 * elsewhere and others go first. */
static uint64_t draw_turn_delay_ns(struct random *random)
{
    if (random_once_in(random, 8))
        return draw_scaled(random, 1, 500000);
    return random_below(random, 2000);
}

static void turn_soon(struct sim_poller *poller)
{
    event_set_no_later(&poller->turn, draw_turn_delay_ns(&poller->random));
}

static bool is_due(struct loop_watch *watch)
{
    return (space_of(watch)->ready & watch->wanted) != 0;
}

void sim_watch_set_ready(struct loop_watch *watch, unsigned ready)
{
    struct sim_watch *space = space_of(watch);
    space->ready = ready;
    if (space->poller && is_due(watch))
        turn_soon(space->poller);
}

static void sim_poller_watch(void *opaque, struct loop_watch *watch)
{
    struct sim_poller *poller = opaque;
    struct sim_watch *space = space_of(watch);
    assert(watch->fd == -1); /* a descriptor in the simulation: something went past the seam */
    if (!watch->loop)
        link_init(&space->link);
    list_remove(&space->link);
    space->poller = NULL;
    if (watch->wanted == 0)
        return;
    space->poller = poller;
    list_append(&poller->watches, &space->link);
    if (is_due(watch))
        turn_soon(poller);
}

/* The next watch to tell in this round, in the order they were set; NULL: no more. */
static struct loop_watch *next_due(struct sim_poller *poller)
{
    list_for_each (link, &poller->watches) {
        struct loop_watch *watch = watch_of(link);
        if (is_due(watch) && space_of(watch)->round != poller->round)
            return watch;
    }
    return NULL;
}

/* Tells what is ready; now and then not all of it, as a real poller with a bound does. True when
 * something was or is still to be told. */
static bool tell_ready(struct sim_poller *poller)
{
    bool any = false;
    struct loop_watch *watch;
    poller->round++;
    while ((watch = next_due(poller))) {
        any = true;
        space_of(watch)->round = poller->round;
        if (random_once_in(&poller->random, 6))
            continue;
        unsigned events = space_of(watch)->ready & watch->wanted;
        watch->ready(watch, events); /* may end this watch, or any other */
    }
    return any;
}

static bool sim_poller_wait(void *opaque, int64_t timeout_ns)
{
    struct sim_poller *poller = opaque;
    if (!poller->sim)
        return false;
    if (tell_ready(poller))
        return true;
    if (timeout_ns > 0)
        event_set_no_later(&poller->turn,
                           (uint64_t)timeout_ns + draw_turn_delay_ns(&poller->random));
    return false;
}

static void sim_poller_wake(void *opaque)
{
    struct sim_poller *poller = opaque;
    if (poller->sim)
        turn_soon(poller);
}

static int sim_poller_open(struct loop *loop, void **ret_poller, struct error *err)
{
    struct sim_poller *poller = calloc(1, sizeof(*poller));
    if (!poller)
        return error_set(err, -ENOMEM, "no memory for a simulated poller");
    poller->loop = loop;
    list_init(&poller->watches);
    *ret_poller = poller;
    return 0;
}

static void sim_poller_close(void *opaque)
{
    struct sim_poller *poller = opaque;
    assert(list_is_empty(&poller->watches));
    if (poller->sim)
        event_clear(&poller->turn);
    free(poller);
}

const struct poller_ops poller_sim = {
    .name = "sim",
    .open = sim_poller_open,
    .close = sim_poller_close,
    .watch = sim_poller_watch,
    .wait = sim_poller_wait,
    .wake = sim_poller_wake,
};

static void turn(struct sim_event *event)
{
    struct sim_poller *poller = container_of(event, struct sim_poller, turn);
    sim_note(poller->sim, "turn", loop_index(poller->loop), 0, 0);
    if (loop_turn(poller->loop, true))
        turn_soon(poller);
}

void sim_loop_look(struct loop *loop)
{
    struct sim_poller *poller = loop_poller(loop);
    if (loop_has_posted(loop))
        turn_soon(poller);
}

int sim_loop_new(struct sim *sim, struct loop **ret_loop, unsigned index, struct error *err)
{
    int ret = loop_new(ret_loop, index, &poller_sim, &sim->clock, err);
    if (ret < 0)
        return ret;
    struct sim_poller *poller = loop_poller(*ret_loop);
    poller->sim = sim;
    poller->random = sim_random(sim, "poller", index);
    event_init(&poller->turn, sim, turn);
    event_set(&poller->turn, 0);
    return 0;
}

struct sim *sim_of_loop(const struct loop *loop)
{
    return ((struct sim_poller *)loop_poller(loop))->sim;
}
