/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The end of a loop while others still have a hand on it: a loop is freed by its own thread as soon
 * as the last job has come, when the one who posted that job may not have returned from the post;
 * a loop is stopped from several sides at once; a pool of workers goes right after its last job.
 *
 * Checked: by the sanitizers (nothing is touched after its end), and that every round ends.
 */
#include "tests/stress/stress.h"

#include <pthread.h>
#include <unistd.h>

#define ROUNDS 400

struct last_job {
    struct loop_job job;
    struct loop *loop;
    unsigned *jobs_left;
};

static void last_job_arrives(struct loop_job *job)
{
    struct last_job *last = container_of(job, struct last_job, job);
    if (--*last->jobs_left == 0)
        loop_stop(last->loop);
}

struct doomed {
    struct loop *loop;
    unsigned jobs_left;
};

/* Runs the loop until its last job and frees it at once. */
static void *doomed_main(void *arg)
{
    struct doomed *doomed = arg;
    loop_run(doomed->loop);
    check(doomed->jobs_left == 0);
    loop_free(doomed->loop);
    return NULL;
}

static void *poster_main(void *arg)
{
    struct last_job *last = arg;
    loop_post(last->loop, &last->job);
    return NULL; /* that the post was the last touch is what is tested */
}

static void free_a_loop_under_its_posters(struct random *random)
{
    struct doomed doomed;
    struct last_job jobs[2];
    pthread_t loop_thread, threads[2];
    check(loop_new(&doomed.loop, 0, &poller_ev, &clock_monotonic, NULL) == 0);
    doomed.jobs_left = 2;
    for (unsigned i = 0; i < 2; i++)
        jobs[i] = (struct last_job){{.run = last_job_arrives}, doomed.loop, &doomed.jobs_left};
    check(pthread_create(&loop_thread, NULL, doomed_main, &doomed) == 0);
    for (unsigned i = 0; i < 2; i++) {
        if (random_once_in(random, 2))
            usleep((useconds_t)random_below(random, 300)); /* so that it sleeps, often */
        check(pthread_create(&threads[i], NULL, poster_main, &jobs[i]) == 0);
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    pthread_join(loop_thread, NULL);
}

static void *stopper_main(void *arg)
{
    loop_stop(arg);
    return NULL;
}

static void *runner_main(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void stop_a_loop_from_all_sides(struct random *random)
{
    struct loop *loop;
    pthread_t runner, stoppers[3];
    check(loop_new(&loop, 0, &poller_ev, &clock_monotonic, NULL) == 0);
    check(pthread_create(&runner, NULL, runner_main, loop) == 0);
    if (random_once_in(random, 2))
        usleep((useconds_t)random_below(random, 300));
    for (unsigned i = 0; i < 3; i++)
        check(pthread_create(&stoppers[i], NULL, stopper_main, loop) == 0);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(stoppers[i], NULL);
    pthread_join(runner, NULL);
    loop_free(loop); /* a stop may have come after the run: it is still in the inbox */
}

static int nothing(void *arg)
{
    return *(int *)arg;
}

static void job_main(void *arg)
{
    int answer = 42;
    check(workers_co_run(arg, nothing, &answer) == 42);
}

static void end_workers_right_after_their_job(struct random *random)
{
    struct loop *loop;
    struct workers *workers;
    check(loop_new(&loop, 0, &poller_ev, &clock_monotonic, NULL) == 0);
    check(workers_new(&workers, 1 + (unsigned)random_below(random, 3), NULL) == 0);
    for (uint64_t jobs = random_below(random, 4); jobs > 0; jobs--)
        check(loop_run_co(loop, job_main, workers) == 0);
    if (random_once_in(random, 2)) {
        workers_free(workers);
        loop_free(loop);
    } else { /* a worker may still be on its way out of loop_post() */
        loop_free(loop);
        workers_free(workers);
    }
}

int main(void)
{
    struct random random;
    random_seed(&random, stress_seed("teardown"));
    for (unsigned i = 0; i < ROUNDS; i++) {
        free_a_loop_under_its_posters(&random);
        stop_a_loop_from_all_sides(&random);
        end_workers_right_after_their_job(&random);
    }
    return 0;
}
