/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_WORKERS_H
#define BLOCK_WORKERS_H

/*
 * The one pool of threads for what cannot be made asynchronous: open, lseek where it is slow,
 * ioctl, name lookup, inflate, and all of engine_threads. Threads start when there is work for
 * them, up to the maximum, and leave after a time without.
 *
 * The pool is behind a table, so that in the simulation a job runs at once and its end is told at a
 * seeded later turn.
 */

#include "common/error.h"

struct loop;

struct worker_job {
    void (*work)(struct worker_job *job); /* on a worker's thread: may block, may not yield */
    void (*done)(struct worker_job *job); /* on the loop that submitted it */
    struct loop *loop;                    /* set by workers_submit() */
    unsigned keep_off;   /* the number of a processor that it shall not take, and 1; 0: any */
    void *pool_space[3]; /* the pool's own */
};

struct workers;

struct workers_ops {
    void (*submit)(struct workers *workers, struct worker_job *job);
    void (*free)(struct workers *workers);
};

struct workers {
    const struct workers_ops *ops;
};

#define WORKERS_THREADS_MAX 64

/* The pool of real threads. */
int workers_new(struct workers **ret_workers, unsigned threads_max, struct error *err);
/* No job is left. Takes NULL. */
void workers_free(struct workers *workers);

/* From a loop's thread; done() runs there. Never fails: with no thread to be had, the job is worked
 * off on the spot. */
void workers_submit(struct workers *workers, struct loop *loop, struct worker_job *job);

/* Runs work(arg) on a worker while the calling coroutine waits; returns what it returns. */
int workers_co_run(struct workers *workers, int (*work)(void *arg), void *arg);
/* The same, on others than this processor, if there are any; negative: on any. */
int workers_co_run_off(struct workers *workers, int processor, int (*work)(void *arg), void *arg);

#endif
