/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/stress/stress.h"

#include <pthread.h>
#include <time.h>

uint64_t stress_seed(const char *name)
{
    const char *given = getenv("PLATTER_SEED");
    uint64_t seed =
        given ? strtoull(given, NULL, 0) : clock_monotonic.now_ns(&clock_monotonic) / 1000;
    printf("%s: PLATTER_SEED=%llu\n", name, (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

void stress_init(struct stress *stress, const char *name)
{
    *stress = (struct stress){.seed = stress_seed(name)};
    for (unsigned i = 0; i < STRESS_LOOPS; i++)
        check(loop_new(&stress->loops[i], i, &poller_ev, &clock_monotonic, NULL) == 0);
    check(workers_new(&stress->workers, 4, NULL) == 0);
}

struct spawn {
    struct loop_job job;
    struct stress *stress;
    unsigned loop_index;
    coroutine_entry *entry;
    void *arg;
};

static void actor_main(void *arg)
{
    struct spawn *spawn = arg;
    struct stress *stress = spawn->stress;
    struct loop *home = stress->loops[spawn->loop_index];
    atomic_fetch_add(&stress->actors_begun, 1);
    spawn->entry(spawn->arg);
    check(loop_current() == home);
    check(coroutine_loop(coroutine_self()) == home);
    free(spawn);
    if (atomic_fetch_sub(&stress->actors_left, 1) != 1)
        return;
    for (unsigned i = 0; i < STRESS_LOOPS; i++)
        loop_stop(stress->loops[i]);
}

static void start_actor(struct loop_job *job)
{
    struct spawn *spawn = container_of(job, struct spawn, job);
    check(coroutine_start(spawn->stress->loops[spawn->loop_index], actor_main, spawn) == 0);
}

void stress_spawn(struct stress *stress, unsigned loop_index, coroutine_entry *entry, void *arg)
{
    struct spawn *spawn = malloc(sizeof(*spawn));
    check(spawn);
    *spawn = (struct spawn){{.run = start_actor}, stress, loop_index, entry, arg};
    atomic_fetch_add(&stress->actors_left, 1);
    loop_post(stress->loops[loop_index], &spawn->job);
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

void stress_run(struct stress *stress)
{
    pthread_t threads[STRESS_LOOPS];
    for (unsigned i = 0; i < STRESS_LOOPS; i++)
        check(pthread_create(&threads[i], NULL, run_loop, stress->loops[i]) == 0);
    for (unsigned i = 0; i < STRESS_LOOPS; i++)
        check(pthread_join(threads[i], NULL) == 0);
    check(atomic_load(&stress->actors_left) == 0);
}

void stress_fini(struct stress *stress)
{
    workers_free(stress->workers);
    for (unsigned i = 0; i < STRESS_LOOPS; i++)
        loop_free(stress->loops[i]);
}

void stress_random(const struct stress *stress, struct random *random, uint64_t actor)
{
    random_seed(random, stress->seed * UINT64_C(1000003) + actor);
}

struct nap {
    struct loop_timer timer;
    struct coroutine *co;
};

static void nap_over(struct loop_timer *timer)
{
    coroutine_wake(container_of(timer, struct nap, timer)->co);
}

static int burn(void *arg)
{
    volatile unsigned sum = 0;
    for (unsigned i = 0; i < *(unsigned *)arg; i++)
        sum += i;
    return (int)sum & 0;
}

void stress_co_dawdle(struct stress *stress, struct random *random)
{
    struct loop *loop = coroutine_loop(coroutine_self());
    uint64_t choice = random_below(random, 16);
    if (choice < 12) {
        for (uint64_t i = choice % 4; i > 0; i--)
            coroutine_co_pause();
    } else if (choice < 15) {
        unsigned steps = (unsigned)random_below(random, 2000);
        check(workers_co_run(stress->workers, burn, &steps) == 0);
    } else {
        struct nap nap = {.timer = {.expired = nap_over}, .co = coroutine_self()};
        link_init(&nap.timer.link);
        loop_timer_set(loop, &nap.timer, loop_now_ns(loop) + random_below(random, NS_PER_MS));
        coroutine_yield();
    }
}
