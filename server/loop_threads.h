/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_LOOP_THREADS_H
#define SERVER_LOOP_THREADS_H

/*
 * The event loops of the process and the threads that turn them. Loop 0 is the main thread's, which
 * turns it itself; each other loop has a thread from start to stop.
 */

#include <pthread.h>

#include "block/loop.h"
#include "common/error.h"

struct loop_threads {
    struct loop *loops[LOOP_COUNT_MAX];
    pthread_t threads[LOOP_COUNT_MAX]; /* threads[0] is not used */
    unsigned loop_count;
    unsigned started_count; /* loops that turn, the first one counted */
};

/* Makes the loops; no thread yet. */
int loop_threads_init(struct loop_threads *threads, unsigned loop_count, struct error *err);
void loop_threads_fini(struct loop_threads *threads);

/* Starts a thread for each loop but the first. The threads have the caller's signal mask. */
int loop_threads_start(struct loop_threads *threads, struct error *err);
/* Ends them and waits for that. Harmless when they were never started. */
void loop_threads_stop(struct loop_threads *threads);

#endif
