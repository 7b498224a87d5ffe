/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Posts and wake-ups between loops: balls that hop from loop to loop as jobs, streams of numbered
 * jobs from each loop to each other, and pairs of coroutines on two loops that wake each other.
 *
 * Checked: every ball makes all its hops on the loop it was posted to; jobs of one thread run in
 * the order it posted them, each once; no wake-up is lost (the run ends) or comes twice.
 */
#include "tests/stress/stress.h"

#define BALLS 64
#define HOPS 2000
#define STREAM_JOBS 3000
#define PAIRS 24
#define EXCHANGES 1000

static struct stress stress;

/* The actor that throws the ball waits until it has landed for the last time. */
struct ball {
    struct loop_job job;
    struct random random;
    unsigned hops_left;
    unsigned at;
    struct coroutine *thrower;
};

static void ball_lands(struct loop_job *job)
{
    struct ball *ball = container_of(job, struct ball, job);
    check(loop_current() == stress.loops[ball->at]);
    if (--ball->hops_left == 0) {
        coroutine_wake(ball->thrower);
        return;
    }
    ball->at = (unsigned)random_below(&ball->random, STRESS_LOOPS);
    loop_post(stress.loops[ball->at], &ball->job);
}

static void thrower_main(void *arg)
{
    struct ball ball = {.job = {.run = ball_lands}, .hops_left = HOPS, .at = 0};
    ball.thrower = coroutine_self();
    stress_random(&stress, &ball.random, (uintptr_t)arg);
    loop_post(stress.loops[0], &ball.job);
    coroutine_yield();
    check(ball.hops_left == 0);
}

struct stream_job {
    struct loop_job job;
    unsigned from, to, number;
};

/* Next number expected; each cell is touched by the receiving loop alone. */
static unsigned expected[STRESS_LOOPS][STRESS_LOOPS];

static void stream_job_arrives(struct loop_job *job)
{
    struct stream_job *stream_job = container_of(job, struct stream_job, job);
    check(loop_current() == stress.loops[stream_job->to]);
    check(expected[stream_job->to][stream_job->from] == stream_job->number);
    expected[stream_job->to][stream_job->from]++;
    free(stream_job);
}

static void streamer_main(void *arg)
{
    unsigned from = (unsigned)(uintptr_t)arg, sent[STRESS_LOOPS] = {0};
    struct random random;
    stress_random(&stress, &random, 1000 + from);
    for (unsigned i = 0; i < STREAM_JOBS * STRESS_LOOPS; i++) {
        unsigned to = i % STRESS_LOOPS;
        struct stream_job *job = malloc(sizeof(*job));
        check(job);
        *job = (struct stream_job){{.run = stream_job_arrives}, from, to, sent[to]++};
        loop_post(stress.loops[to], &job->job);
        if (random_once_in(&random, 64))
            stress_co_dawdle(&stress, &random);
    }
}

/* Two coroutines on two loops; a turn passes to and fro. */
struct pair {
    _Atomic(struct coroutine *) sides[2];
    atomic_uint turns;
    atomic_uint left;
};

struct side {
    struct pair *pair;
    unsigned number;
};

static void side_main(void *arg)
{
    struct side *side = arg;
    struct pair *pair = side->pair;
    unsigned mine = side->number;
    free(side);
    atomic_store(&pair->sides[mine], coroutine_self());
    if (mine == 0)
        while (!atomic_load(&pair->sides[1])) /* the other starts by waiting */
            coroutine_co_pause();
    for (unsigned i = 0; i < EXCHANGES; i++) {
        if (mine == 1 || i > 0)
            coroutine_yield();
        check(atomic_fetch_add(&pair->turns, 1) == 2 * i + mine);
        if (mine == 0 || i + 1 < EXCHANGES)
            coroutine_wake(atomic_load(&pair->sides[1 - mine]));
    }
    if (atomic_fetch_sub(&pair->left, 1) == 1)
        free(pair);
}

int main(void)
{
    stress_init(&stress, "posts");
    for (unsigned i = 0; i < BALLS; i++)
        stress_spawn(&stress, i % STRESS_LOOPS, thrower_main, (void *)(uintptr_t)i);
    for (unsigned i = 0; i < STRESS_LOOPS; i++)
        stress_spawn(&stress, i, streamer_main, (void *)(uintptr_t)i);
    for (unsigned i = 0; i < PAIRS; i++) {
        struct pair *pair = calloc(1, sizeof(*pair));
        check(pair);
        atomic_store(&pair->left, 2);
        for (unsigned j = 0; j < 2; j++) {
            struct side *side = malloc(sizeof(*side));
            check(side);
            *side = (struct side){pair, j};
            stress_spawn(&stress, (i + j * (1 + i % 3)) % STRESS_LOOPS, side_main, side);
        }
    }
    stress_run(&stress);
    /* A stream's last jobs may have been posted just before the stop. */
    for (unsigned i = 0; i < STRESS_LOOPS; i++)
        while (loop_turn(stress.loops[i], false))
            ;
    for (unsigned i = 0; i < STRESS_LOOPS; i++)
        for (unsigned j = 0; j < STRESS_LOOPS; j++)
            check(expected[i][j] == STREAM_JOBS);
    stress_fini(&stress);
    return 0;
}
