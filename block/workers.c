/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pool of real threads, and what is common to all pools.
 *
 * Words: a *slot* is room for one thread; a thread that is *idle* has no job and sleeps on its
 * slot's own condition variable; one that has *left* has ended and waits to be joined.
 *
 * The thread that went idle last is called first. Its caches are warm, and the surplus is left to
 * sleep undisturbed until it leaves; with one condition variable for all they would take turns and
 * none would ever leave.
 */
#include "block/workers.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "block/coroutine.h"
#include "block/loop.h"
#include "common/list.h"
#include "common/processor.h"

#define IDLE_S_MAX 10 /* then the thread leaves */

struct pool;

enum slot_state { SLOT_FREE, SLOT_RUNNING, SLOT_LEFT };

struct slot {
    struct pool *pool;
    enum slot_state state;
    pthread_t thread;
    pthread_cond_t called;
    struct list_link link; /* on the list of the idle, or not */
};

struct pool {
    struct workers workers;
    pthread_mutex_t mutex; /* guards all that follows */
    struct list queue;     /* of jobs nobody has taken yet */
    struct list idle;
    bool ending;
    unsigned running_count;
    unsigned slot_count;
    struct slot slots[];
};

/* What lies in a job's pool_space: on the queue a link, on its way home a loop's job. */
union job_space {
    struct list_link link;
    struct loop_job home;
};

_Static_assert(sizeof(union job_space) <= sizeof(((struct worker_job *)0)->pool_space),
               "the pool's part of a job fits");

static union job_space *job_space(struct worker_job *job)
{
    return (union job_space *)(void *)job->pool_space;
}

static void tell_done(struct loop_job *home)
{
    struct worker_job *job = container_of((void **)(void *)home, struct worker_job, pool_space[0]);
    job->done(job);
}

/* Any thread. The job is its loop's again afterwards. */
static void work_off(struct worker_job *job)
{
    job->work(job);
    struct loop_job *home = &job_space(job)->home;
    home->run = tell_done;
    loop_post(job->loop, home);
}

/* The mutex is held. False when the thread shall leave. */
static bool sleep_until_called(struct slot *slot)
{
    struct pool *pool = slot->pool;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_S_MAX;
    list_prepend(&pool->idle, &slot->link);
    int rc = 0;
    while (link_is_listed(&slot->link) && rc != ETIMEDOUT) /* who calls takes us off the list */
        rc = pthread_cond_timedwait(&slot->called, &pool->mutex, &until);
    bool called = !link_is_listed(&slot->link);
    list_remove(&slot->link);
    return called;
}

static void *worker_main(void *arg)
{
    struct slot *slot = arg;
    struct pool *pool = slot->pool;
    struct processor_place place = PROCESSOR_ANY;
    pthread_setname_np(pthread_self(), "platter-worker");
    /* A thread that is called does not take the processor from the one that called it: a loop that
     * hands out sixteen reads would lose it after the first. Where that is refused, it may. Who
     * started us with another policy (chrt) has chosen for the workers too. */
    if (sched_getscheduler(0) == SCHED_OTHER)
        sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        struct list_link *link = list_pop(&pool->queue);
        if (link) {
            struct worker_job *job =
                container_of((void **)(void *)link, struct worker_job, pool_space[0]);
            pthread_mutex_unlock(&pool->mutex);
            processor_keep_off(&place, (int)job->keep_off - 1);
            work_off(job);
            pthread_mutex_lock(&pool->mutex);
        } else if (pool->ending || !sleep_until_called(slot)) {
            break;
        }
    }
    slot->state = SLOT_LEFT;
    pool->running_count--;
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

/* The mutex is held. Does nothing when there are as many as may be, or no more can be had. */
static void start_thread(struct pool *pool)
{
    if (pool->running_count == pool->slot_count)
        return;
    struct slot *slot = pool->slots;
    while (slot->state == SLOT_RUNNING)
        slot++;
    if (slot->state == SLOT_LEFT)
        pthread_join(slot->thread, NULL); /* it gave up the mutex last: at once */
    slot->state = SLOT_FREE;
    sigset_t all, before;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&slot->thread, NULL, worker_main, slot) == 0) {
        slot->state = SLOT_RUNNING;
        pool->running_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void pool_submit(struct workers *workers, struct worker_job *job)
{
    struct pool *pool = container_of(workers, struct pool, workers);
    struct list_link *link = &job_space(job)->link;
    pthread_mutex_lock(&pool->mutex);
    assert(!pool->ending);
    list_append(&pool->queue, link);
    struct list_link *idle = list_pop(&pool->idle);
    if (!idle)
        start_thread(pool);
    bool nobody = pool->running_count == 0;
    if (nobody)
        list_remove(link);
    pthread_mutex_unlock(&pool->mutex);
    if (idle) /* not before: else it wakes to wait for the mutex */
        pthread_cond_signal(&container_of(idle, struct slot, link)->called);
    if (nobody)
        work_off(job);
}

static void pool_free(struct workers *workers)
{
    struct pool *pool = container_of(workers, struct pool, workers);
    struct list_link *idle;
    pthread_mutex_lock(&pool->mutex);
    assert(list_is_empty(&pool->queue));
    pool->ending = true;
    while ((idle = list_pop(&pool->idle)))
        pthread_cond_signal(&container_of(idle, struct slot, link)->called);
    pthread_mutex_unlock(&pool->mutex);
    /* A slot's state changes from RUNNING to LEFT at most; both are joined. */
    for (unsigned i = 0; i < pool->slot_count; i++) {
        pthread_mutex_lock(&pool->mutex);
        bool used = pool->slots[i].state != SLOT_FREE;
        pthread_mutex_unlock(&pool->mutex);
        if (used)
            pthread_join(pool->slots[i].thread, NULL);
        pthread_cond_destroy(&pool->slots[i].called);
    }
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

static const struct workers_ops pool_ops = {.submit = pool_submit, .free = pool_free};

int workers_new(struct workers **ret_workers, unsigned threads_max, struct error *err)
{
    assert(threads_max >= 1 && threads_max <= WORKERS_THREADS_MAX);
    struct pool *pool = calloc(1, sizeof(*pool) + threads_max * sizeof(pool->slots[0]));
    if (!pool)
        return error_set(err, -ENOMEM, "out of memory for %u worker threads", threads_max);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pool->workers.ops = &pool_ops;
    pthread_mutex_init(&pool->mutex, NULL);
    list_init(&pool->queue);
    list_init(&pool->idle);
    pool->slot_count = threads_max;
    for (unsigned i = 0; i < threads_max; i++) {
        pool->slots[i].pool = pool;
        link_init(&pool->slots[i].link);
        pthread_cond_init(&pool->slots[i].called, &monotonic);
    }
    pthread_condattr_destroy(&monotonic);
    *ret_workers = &pool->workers;
    return 0;
}

void workers_free(struct workers *workers)
{
    if (workers)
        workers->ops->free(workers);
}

void workers_submit(struct workers *workers, struct loop *loop, struct worker_job *job)
{
    assert(!loop_current() || loop_current() == loop);
    job->loop = loop;
    workers->ops->submit(workers, job);
}

/* On the stack of the coroutine that waits. */
struct co_job {
    struct worker_job job;
    struct coroutine *co;
    int (*work)(void *arg);
    void *arg;
    int result;
};

static void co_job_work(struct worker_job *job)
{
    struct co_job *co_job = container_of(job, struct co_job, job);
    co_job->result = co_job->work(co_job->arg);
}

static void co_job_done(struct worker_job *job)
{
    coroutine_wake(container_of(job, struct co_job, job)->co);
}

int workers_co_run(struct workers *workers, int (*work)(void *arg), void *arg)
{
    return workers_co_run_off(workers, -1, work, arg);
}

int workers_co_run_off(struct workers *workers, int processor, int (*work)(void *arg), void *arg)
{
    struct co_job co_job = {
        .job = {.work = co_job_work,
                .done = co_job_done,
                .keep_off = processor < 0 ? 0 : (unsigned)processor + 1},
        .co = coroutine_self(),
        .work = work,
        .arg = arg,
    };
    assert(co_job.co);
    workers_submit(workers, coroutine_loop(co_job.co), &co_job.job);
    coroutine_yield();
    return co_job.result;
}
