/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_H
#define TESTS_HARNESS_SIM_H

/*
 * The simulated world: one seed, one clock, one queue of things to come, one thread.
 *
 * Whatever is left to chance in the real world (how long a disk takes, how many bytes a socket
 * gives, which loop turns first) is drawn here from generators that come from the seed, and
 * whatever happens later is an *event* in the queue, ordered by time and then by the order it was
 * set. So a seed makes the same run again, to the byte: sim_note() folds every step into a hash
 * that two runs of a seed share.
 *
 * Nothing here may depend on addresses, on the real clock, or on memory that was not written.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/random.h"

struct sim;

/* Lives in its owner; event_init() first. */
struct sim_event {
    void (*run)(struct sim_event *event); /* already off when this runs; may set it again */
    struct sim *sim;
    /* private */
    uint64_t due_ns, sequence;
    size_t index; /* in the heap, counted from 1; 0: off */
};

#define SIM_FAILURE_MAX 1024

struct sim {
    struct clock clock; /* for loop_new() */
    uint64_t seed;
    unsigned life; /* what is drawn in one life is not drawn again in the next */
    uint64_t now_ns;
    bool is_halted;  /* sim_run() returns */
    bool is_traced;  /* prints each note */
    uint64_t hash;   /* of all notes so far */
    uint64_t events; /* that ran */
    uint64_t events_max;
    uint64_t hold_at;                     /* see sim_holds(); 0: never */
    struct sim_event *held;               /* the one that is; NULL: none */
    uint64_t call_began_ns;               /* when the system call under way began; 0: just now */
    void (*after_event)(struct sim *sim); /* NULL: nothing */
    char failure[SIM_FAILURE_MAX];        /* the first one; empty while all is well */
    /* private */
    uint64_t sequence;
    struct sim_event **heap;
    size_t heap_count, heap_room;
};

void sim_init(struct sim *sim, uint64_t seed, bool is_traced);
/* Events that are still set are forgotten. */
void sim_fini(struct sim *sim);

/* A generator of its own for one part of the world, so that one more draw there shifts nothing
 * elsewhere. part is a name, number tells parts of one name apart. */
struct random sim_random(const struct sim *sim, const char *part, uint64_t number);

void event_init(struct sim_event *event, struct sim *sim, void (*run)(struct sim_event *event));
/* Sets the event, or moves it. */
void event_set(struct sim_event *event, uint64_t delay_ns);
/* Sets the event, or moves it to an earlier time; never to a later one. */
void event_set_no_later(struct sim_event *event, uint64_t delay_ns);
void event_clear(struct sim_event *event);
static inline bool event_is_set(const struct sim_event *event)
{
    return event->index != 0;
}

/* Time passes inside a call that blocks its thread. */
void sim_pass_time(struct sim *sim, uint64_t delay_ns);

/* Runs events until none is left, the run failed, or it is halted. More than events_max of them is
 * a failure. */
void sim_run(struct sim *sim);

/* An operation begins that could take very long: the hold_at-th of them does, until somebody calls
 * sim_release(). True: the caller leaves the event alone. */
bool sim_holds(struct sim *sim, struct sim_event *event);
void sim_release(struct sim *sim, uint64_t delay_ns);

/* All that was to come does not. */
void sim_forget_events(struct sim *sim);

/* One step of the run, for the hash and the trace: `what` is a constant, a to c are numbers. */
void sim_note(struct sim *sim, const char *what, uint64_t a, uint64_t b, uint64_t c);
/* The same with bytes that were moved. */
void sim_note_bytes(struct sim *sim, const char *what, uint64_t a, const void *bytes,
                    size_t length);

/* Ends the run: something was wrong. Only the first failure counts. */
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline bool sim_failed(const struct sim *sim)
{
    return sim->failure[0] != '\0';
}

/* --- drawing --------------------------------------------------------------------------------- */

/* In [low, high]. */
uint64_t draw_between(struct random *random, uint64_t low, uint64_t high);
/* In [low, high], low at least 1: each power of two as likely as the next, so small and large. */
uint64_t draw_scaled(struct random *random, uint64_t low, uint64_t high);

#endif
