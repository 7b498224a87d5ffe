/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What coroutines and loops cost: switches, starts, wake-ups from loop to loop. Prints one line
 * each; `coroutine` takes no arguments.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "block/coroutine.h"
#include "block/loop.h"

#define PAUSES 2000000
#define STARTS 5000000
#define EXCHANGES 100000
#define POSTS 2000000

static uint64_t now_ns(void)
{
    return clock_monotonic.now_ns(&clock_monotonic);
}

/* A machine that others use too lets the clock run while we do not: the processor's time as well.
 */
static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

struct stopwatch {
    uint64_t start_ns, start_cpu_ns;
};

static struct stopwatch stopwatch_start(void)
{
    return (struct stopwatch){now_ns(), cpu_ns()};
}

static void report(const char *what, uint64_t count, struct stopwatch watch)
{
    double ns = (double)(now_ns() - watch.start_ns), cpu = (double)(cpu_ns() - watch.start_cpu_ns);
    printf("%-44s %11.0f /s %8.1f ns %8.1f ns of processor time\n", what, (double)count * 1e9 / ns,
           ns / (double)count, cpu / (double)count);
}

static void must(int rc)
{
    if (rc != 0) {
        fprintf(stderr, "coroutine: no loop, stack or thread could be had: %d\n", rc);
        exit(1);
    }
}

static struct loop *new_loop(unsigned index)
{
    struct loop *loop;
    must(loop_new(&loop, index, &poller_ev, &clock_monotonic, NULL));
    return loop;
}

/* A wake-up, a switch to the resumer and a switch back. */
static void pausing_main(void *arg)
{
    unsigned *left = arg;
    for (unsigned i = 0; i < PAUSES / 64; i++)
        coroutine_co_pause();
    --*left;
}

static void bench_pauses(void)
{
    struct loop *loop = new_loop(0);
    unsigned left = 64;
    struct stopwatch watch = stopwatch_start();
    for (unsigned i = 0; i < 64; i++)
        must(coroutine_start(loop, pausing_main, &left));
    while (left > 0)
        loop_turn(loop, false);
    report("pauses (wake, leave, resume; 64 coroutines)", PAUSES, watch);
    loop_free(loop);
}

static void empty_main(void *arg)
{
    ++*(uint64_t *)arg;
}

static void bench_starts(void)
{
    struct loop *loop = new_loop(0);
    uint64_t ran = 0;
    struct stopwatch watch = stopwatch_start();
    for (unsigned i = 0; i < STARTS; i++)
        must(coroutine_start(loop, empty_main, &ran));
    report("starts and ends (pooled stack)", ran, watch);
    loop_free(loop);
}

struct sides {
    struct loop *loops[2];
    struct coroutine *co[2];
    pthread_barrier_t both_there;
};

/* Both start on their own thread, and know each other before the first wake-up. */
static void side_main(struct sides *sides, unsigned mine)
{
    sides->co[mine] = coroutine_self();
    pthread_barrier_wait(&sides->both_there);
    for (unsigned i = 0; i < EXCHANGES; i++) {
        if (mine == 1 || i > 0)
            coroutine_yield();
        if (mine == 0 || i + 1 < EXCHANGES)
            coroutine_wake(sides->co[1 - mine]);
    }
}

static void first_main(void *arg)
{
    side_main(arg, 0);
}

static void second_main(void *arg)
{
    side_main(arg, 1);
}

static void *second_thread(void *arg)
{
    struct sides *sides = arg;
    must(loop_run_co(sides->loops[1], second_main, sides));
    return NULL;
}

static void bench_exchanges(void)
{
    struct sides sides = {.loops = {new_loop(0), new_loop(1)}};
    pthread_t thread;
    must(pthread_barrier_init(&sides.both_there, NULL, 2));
    must(pthread_create(&thread, NULL, second_thread, &sides));
    struct stopwatch watch = stopwatch_start();
    must(loop_run_co(sides.loops[0], first_main, &sides));
    must(pthread_join(thread, NULL));
    report("wake-ups of a sleeping loop, to and fro", 2 * EXCHANGES - 1, watch);
    pthread_barrier_destroy(&sides.both_there);
    loop_free(sides.loops[0]);
    loop_free(sides.loops[1]);
}

struct stream {
    struct loop *loop;
    struct loop_job *jobs;
    unsigned arrived; /* the receiving loop's own */
};

static struct stream stream;

static void job_arrives(struct loop_job *job)
{
    (void)job;
    if (++stream.arrived == POSTS)
        loop_stop(stream.loop);
}

static void *posting_thread(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < POSTS; i++) {
        stream.jobs[i].run = job_arrives;
        loop_post(stream.loop, &stream.jobs[i]);
    }
    return NULL;
}

static void bench_posts(void)
{
    pthread_t thread;
    stream = (struct stream){.loop = new_loop(0), .jobs = calloc(POSTS, sizeof(struct loop_job))};
    must(stream.jobs ? 0 : -1);
    struct stopwatch watch = stopwatch_start();
    must(pthread_create(&thread, NULL, posting_thread, NULL));
    loop_run(stream.loop);
    must(pthread_join(thread, NULL));
    report("posts from one thread to a loop, in a stream", POSTS, watch);
    loop_free(stream.loop);
    free(stream.jobs);
}

int main(void)
{
    bench_pauses();
    bench_starts();
    bench_exchanges();
    bench_posts();
    return 0;
}
