/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_LOOP_H
#define BLOCK_LOOP_H

/*
 * One thread's event loop.
 *
 * A turn of a loop is rounds: take what other threads posted, resume every coroutine that can go
 * on, run the tasks they left (one send a connection), let each source (an AIO engine) submit and
 * collect; the same again while anything is ready; then sleep until something is. So what one
 * receive brought is submitted together, and what became done together is answered together, before
 * the next piece is submitted: the client works on the first answers while we make the next.
 *
 * Words: the *home loop* of an object is the loop that alone touches it. A *watch* tells when a
 * descriptor is ready, a *timer* when a moment has come, a *job* comes from any thread, a *task*
 * runs once, late in a round, a *source* has a share in every round of a turn.
 *
 * Everything here is called on the loop's own thread, but for loop_post() and loop_stop().
 * Nothing here waits but loop_run() and loop_turn().
 *
 * Readiness and sleep come through a table (struct poller_ops), so that the simulation turns
 * several loops on one thread without a descriptor in sight. block/poller_ev.c, on libev, is the
 * real one.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/error.h"
#include "common/list.h"

struct loop;
struct coroutine;

#define LOOP_COUNT_MAX 64 /* loops in one process */

enum loop_event {
    LOOP_READABLE = 1,
    LOOP_WRITABLE = 2,
};

/* Lives in its owner; off when wanted is 0. */
struct loop_watch {
    int fd;
    unsigned wanted; /* enum loop_event bits; changed only by loop_watch_set() */
    void (*ready)(struct loop_watch *watch, unsigned events);
    /* How much the other side has been sent and has not read, in bytes and with what the kernel
     * needs for them. Set after loop_watch_init(); NULL: nobody can tell. */
    size_t (*unread)(struct loop_watch *watch);
    /* the poller's own */
    struct loop *loop;
    void *poller_space[8];
};

/* Lives in its owner. */
struct loop_timer {
    uint64_t due_ns;
    void (*expired)(struct loop_timer *timer); /* already off when this runs; may set it again */
    struct list_link link;
};

struct loop_job {
    void (*run)(struct loop_job *job); /* on the loop it was posted to; may free the job */
    struct loop_job *next;
};

struct loop_task {
    void (*run)(struct loop_task *task);
    struct list_link link;
};

struct loop_source {
    /* Submits what is queued, collects what is done; true when that made anything ready to run. */
    bool (*turn)(struct loop_source *source);
    struct list_link link;
};

struct poller_ops {
    const char *name;
    int (*open)(struct loop *loop, void **ret_poller, struct error *err);
    void (*close)(void *poller);
    /* watch->wanted is what shall be told from now on; 0 forgets the watch. watch->loop is NULL in
     * the first call for a watch, and set afterwards by the loop. */
    void (*watch)(void *poller, struct loop_watch *watch);
    /* Calls ready() of what is ready; sleeps up to timeout_ns (negative: no limit, 0: not at all)
     * when nothing is, or until wake(). May return early. True when it called any ready(). */
    bool (*wait)(void *poller, int64_t timeout_ns);
    /* From any thread: ends a wait() under way, or else the next one. */
    void (*wake)(void *poller);
    /* Sleeps for this short while, which nothing ends. NULL: the loop never naps. */
    void (*nap)(void *poller, uint64_t ns);
    /* How long the loop's thread has waited for a processor, in all. Called on that thread. 0:
     * nobody can tell. NULL: it never has. */
    uint64_t (*waited_ns)(void *poller);
};

extern const struct poller_ops poller_ev;

/* index: which lane of each node is this loop's, 0 to LOOP_COUNT_MAX - 1, unique in the process. */
int loop_new(struct loop **ret_loop, unsigned index, const struct poller_ops *poller_ops,
             struct clock *clock, struct error *err);
/* No coroutine, watch or timer of it is left. Takes NULL. */
void loop_free(struct loop *loop);

unsigned loop_index(const struct loop *loop);
/* The poller that loop_new() opened: for the simulation, which owns it. */
void *loop_poller(const struct loop *loop);
/* The loop that this thread turns right now; NULL outside of a turn. */
struct loop *loop_current(void);
/* Cached: read once a turn. For deadlines and accounting. */
uint64_t loop_now_ns(struct loop *loop);
/* This thread's loop's index and loop_now_ns(), in one call: what every request asks for. Only in a
 * turn. */
struct loop_moment {
    uint64_t now_ns;
    unsigned index;
};
struct loop_moment loop_moment(void);
/* For what must be timed within a turn. */
struct clock *loop_clock(const struct loop *loop);

/* Turns until loop_stop(). */
void loop_run(struct loop *loop);
/* From any thread: loop_run() returns after the turn under way. */
void loop_stop(struct loop *loop);
/* Whether a job waits for the next turn. For the simulation, which turns loops by hand: a loop that
 * is between two turns is not woken. */
bool loop_has_posted(const struct loop *loop);
/* One turn; true when it did anything. may_sleep: sleeps when there was nothing to do, so that
 * `while (!done) loop_turn(loop, true);` sees what this turn did before it sleeps; else it only
 * looks. */
bool loop_turn(struct loop *loop, bool may_sleep);

/* Runs entry(arg) as a coroutine and turns the loop until it has ended: the way in for tools and
 * tests, on a thread that turns no loop. 0, or -ENOMEM when no stack could be had. */
int loop_run_co(struct loop *loop, void (*entry)(void *arg), void *arg);
/* The same, and turns on until no coroutine of the loop is left: for a loop that nobody turns
 * afterwards. */
int loop_run_all_co(struct loop *loop, void (*entry)(void *arg), void *arg);

/* Before a watch's first use, and before its use with another descriptor, also one with the same
 * number. It must be off. */
void loop_watch_init(struct loop_watch *watch, int fd,
                     void (*ready)(struct loop_watch *watch, unsigned events));
/* Costs nothing now, and in the end only what differs at the turn's end from the turn before: pause
 * and resume as you like. Before its descriptor is closed, a watch must be off. */
void loop_watch_set(struct loop *loop, struct loop_watch *watch, unsigned wanted);

/* On the loop, by who has read: there were so many bytes; 0: the end, or an error. is_likely_next:
 * it will be the next one, as it seems, so a loop that looks on before it sleeps calls ready() with
 * LOOP_READABLE without asking the poller first, again and again, and perhaps in vain. Nobody has
 * to tell it; who has once told it that it is likely does so each time. */
void loop_watch_came(struct loop *loop, struct loop_watch *watch, size_t bytes,
                     bool is_likely_next);

/* Timers with the same length set in order cost O(1): the search starts at the latest. link_init()
 * the timer's link before the first call. Setting one that is on moves it. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t due_ns);
void loop_timer_clear(struct loop_timer *timer);

/* From any thread. Jobs of one thread run in the order it posted them. The sleeping loop is woken
 * by one write, only when its inbox was empty. */
void loop_post(struct loop *loop, struct loop_job *job);

/* Runs the task once, when this round has resumed what was ready; a task that is already waiting
 * stays where it is. link_init() the task's link before the first call. */
void loop_at_round_end(struct loop *loop, struct loop_task *task);
void loop_task_cancel(struct loop_task *task);

/* Before the loop sleeps it looks on for up to limit_ns without sleeping, as long as that pays: a
 * wait that brought nothing is followed by more and more sleeps without a look. 0, as in a new
 * loop: never. What is saved is the wake-up, which costs two processors more than a small request
 * does, above all where they are virtual. A client who is alone on the loop and has answers left to
 * read may be left to them for so long, if that pays (block/loop_nap.h): timers are kept, but a job
 * that is posted meanwhile waits. */
void loop_set_busy_poll(struct loop *loop, uint64_t limit_ns);

/*
 * Work that is done on the spot, in the loop's own time, and copies much: a buffered write, a read
 * of what is in memory. A round has room for LOOP_ROUND_OPERATIONS of them, or half of the backlog
 * and up to LOOP_ROUND_OPERATIONS_MAX, or for LOOP_ROUND_BYTES, so that the answers to the first
 * are sent, and the client works on, before the last are done; a turn for LOOP_TURN_BYTES, so that
 * other connections are looked at. Who finds no room comes back in a later round
 * (coroutine_co_pause()).
 */
#define LOOP_ROUND_OPERATIONS 8
#define LOOP_ROUND_OPERATIONS_MAX 32
#define LOOP_ROUND_BYTES (128 << 10)
#define LOOP_TURN_BYTES (256 << 10)
bool loop_has_room(struct loop *loop);
/* The same for who has so many more of them at hand, which are no backlog yet: of these too a half
 * goes into one round. */
bool loop_has_room_among(struct loop *loop, unsigned waiting);
/* How many operations a round has room for now: half of the backlog at its deepest since there was
 * none. So server and client both have work; with all of a short queue in one round they would
 * sleep and wake each other by turns. */
unsigned loop_round_operations(struct loop *loop);
void loop_count_work(struct loop *loop, size_t bytes);
/* To hand the disk a read that is not in memory takes the loop as long as to copy so much. */
#define LOOP_LATE_READ_BYTES (32 << 10)

/* A source stays until it is removed. */
void loop_source_add(struct loop *loop, struct loop_source *source);
void loop_source_remove(struct loop_source *source);

#endif
