/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_STRESS_STRESS_H
#define TESTS_STRESS_STRESS_H

/*
 * What the stress tests share: loops on threads of their own, coroutines ("actors") on them, and an
 * end when the last actor has ended. Each test checks its own invariants as it goes; a race that
 * breaks none of them is for ThreadSanitizer and AddressSanitizer to see.
 *
 * The seed is printed, and taken back from PLATTER_SEED: it makes the same choices again, though
 * not the same interleaving.
 */

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/coroutine.h"
#include "block/loop.h"
#include "block/workers.h"
#include "common/random.h"

#define STRESS_LOOPS 4

/* Ends the process with the sentence; works on any thread, with NDEBUG too. */
#define check(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

struct stress {
    uint64_t seed;
    struct loop *loops[STRESS_LOOPS];
    struct workers *workers;
    atomic_uint actors_left;
    atomic_uint actors_begun;
};

/* The seed, printed with the test's name. */
uint64_t stress_seed(const char *name);

void stress_init(struct stress *stress, const char *name);
/* entry(arg) becomes a coroutine on that loop, once the loops run. Any thread. */
void stress_spawn(struct stress *stress, unsigned loop_index, coroutine_entry *entry, void *arg);
/* Runs the loops until every actor has ended; those spawned on the way count too. */
void stress_run(struct stress *stress);
void stress_fini(struct stress *stress);

/* A generator of the actor's own. */
void stress_random(const struct stress *stress, struct random *random, uint64_t actor);
/* Waits for a moment: a pause, a timer, or a worker's job, as the numbers fall. */
void stress_co_dawdle(struct stress *stress, struct random *random);

#endif
