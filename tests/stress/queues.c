/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Wait queues across loops: coroutines of four loops on four threads share a counting semaphore, an
 * object that is read by many or written by one, and a line that is served in order.
 *
 * Checked: never more inside than there are permits; no reader beside a writer; what the writer
 * wrote is whole; nobody is lost (the run ends); those of one loop are served in the order they
 * came to the line.
 */
#include "tests/stress/stress.h"

#include <pthread.h>

#include "block/coroutine_lock.h"

#define ACTORS_PER_LOOP 300
#define VISITS 12
#define PERMITS 7
#define LINE_PER_LOOP 100
#define LINE_VISITS 10

struct shared {
    struct stress stress;
    atomic_uint actor_numbers;

    pthread_mutex_t mutex; /* guards the states below; never held across a wait */
    struct co_queue permit_waiters;
    unsigned permits;
    unsigned visits;
    struct co_queue page_waiters;
    unsigned readers;
    bool writing;

    /* Guarded by the page's state alone, not by the mutex: the queues must order this. */
    uint64_t page[8];
    atomic_uint inside;

    pthread_mutex_t line_mutex;
    struct co_queue line;
    unsigned line_tickets;
    unsigned line_served;
    unsigned last_ticket[STRESS_LOOPS]; /* each its loop's own */
};

static void acquire_permit(struct shared *shared)
{
    pthread_mutex_lock(&shared->mutex);
    while (shared->permits == 0)
        co_queue_wait(&shared->permit_waiters, &shared->mutex);
    shared->permits--;
    shared->visits++;
    pthread_mutex_unlock(&shared->mutex);
    check(atomic_fetch_add(&shared->inside, 1) < PERMITS);
}

static void release_permit(struct shared *shared)
{
    atomic_fetch_sub(&shared->inside, 1);
    pthread_mutex_lock(&shared->mutex);
    shared->permits++;
    co_queue_wake_one(&shared->permit_waiters);
    pthread_mutex_unlock(&shared->mutex);
}

static void read_page(struct shared *shared, struct random *random)
{
    pthread_mutex_lock(&shared->mutex);
    while (shared->writing)
        co_queue_wait(&shared->page_waiters, &shared->mutex);
    shared->readers++;
    pthread_mutex_unlock(&shared->mutex);

    uint64_t first = shared->page[0];
    stress_co_dawdle(&shared->stress, random);
    for (unsigned i = 0; i < 8; i++)
        check(shared->page[i] == first + i);

    pthread_mutex_lock(&shared->mutex);
    check(!shared->writing && shared->readers > 0);
    if (--shared->readers == 0)
        co_queue_wake_all(&shared->page_waiters);
    pthread_mutex_unlock(&shared->mutex);
}

static void write_page(struct shared *shared, struct random *random)
{
    pthread_mutex_lock(&shared->mutex);
    while (shared->writing || shared->readers > 0)
        co_queue_wait(&shared->page_waiters, &shared->mutex);
    shared->writing = true;
    pthread_mutex_unlock(&shared->mutex);

    uint64_t first = random_u64(random) >> 1;
    for (unsigned i = 0; i < 8; i++) {
        shared->page[i] = first + i;
        if (i == 3)
            stress_co_dawdle(&shared->stress, random);
    }

    pthread_mutex_lock(&shared->mutex);
    check(shared->writing && shared->readers == 0);
    shared->writing = false;
    co_queue_wake_all(&shared->page_waiters);
    pthread_mutex_unlock(&shared->mutex);
}

static void visitor_main(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    stress_random(&shared->stress, &random, atomic_fetch_add(&shared->actor_numbers, 1));
    for (unsigned i = 0; i < VISITS; i++) {
        acquire_permit(shared);
        if (random_once_in(&random, 4))
            write_page(shared, &random);
        else
            read_page(shared, &random);
        release_permit(shared);
        if (random_once_in(&random, 4))
            stress_co_dawdle(&shared->stress, &random);
    }
}

static void in_line_main(void *arg)
{
    struct shared *shared = arg;
    unsigned home = loop_index(loop_current());
    for (unsigned i = 0; i < LINE_VISITS; i++) {
        pthread_mutex_lock(&shared->line_mutex);
        unsigned ticket = ++shared->line_tickets;
        co_queue_wait(&shared->line, &shared->line_mutex);
        shared->line_served++;
        pthread_mutex_unlock(&shared->line_mutex);
        check(ticket > shared->last_ticket[home]);
        shared->last_ticket[home] = ticket;
    }
}

/* The one who serves the line: wake-ups by one thread arrive in its order. */
static void server_main(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    unsigned served = 0;
    const unsigned wanted = (STRESS_LOOPS - 1) * LINE_PER_LOOP * LINE_VISITS;
    stress_random(&shared->stress, &random, 0);
    while (served < wanted) {
        pthread_mutex_lock(&shared->line_mutex);
        for (uint64_t batch = 1 + random_below(&random, 8); batch > 0; batch--)
            served += co_queue_wake_one(&shared->line);
        pthread_mutex_unlock(&shared->line_mutex);
        if (random_once_in(&random, 16))
            stress_co_dawdle(&shared->stress, &random);
        else
            coroutine_co_pause();
    }
}

int main(void)
{
    struct shared *shared = calloc(1, sizeof(*shared));
    check(shared);
    stress_init(&shared->stress, "queues");
    pthread_mutex_init(&shared->mutex, NULL);
    pthread_mutex_init(&shared->line_mutex, NULL);
    co_queue_init(&shared->permit_waiters);
    co_queue_init(&shared->page_waiters);
    co_queue_init(&shared->line);
    shared->permits = PERMITS;
    for (unsigned i = 0; i < 8; i++)
        shared->page[i] = i;

    for (unsigned i = 0; i < STRESS_LOOPS * ACTORS_PER_LOOP; i++)
        stress_spawn(&shared->stress, i % STRESS_LOOPS, visitor_main, shared);
    for (unsigned i = 0; i < (STRESS_LOOPS - 1) * LINE_PER_LOOP; i++)
        stress_spawn(&shared->stress, 1 + i % (STRESS_LOOPS - 1), in_line_main, shared);
    stress_spawn(&shared->stress, 0, server_main, shared);
    stress_run(&shared->stress);

    check(shared->visits == STRESS_LOOPS * ACTORS_PER_LOOP * VISITS);
    check(shared->permits == PERMITS);
    check(shared->line_served == (STRESS_LOOPS - 1) * LINE_PER_LOOP * LINE_VISITS);
    check(co_queue_is_empty(&shared->permit_waiters) && co_queue_is_empty(&shared->page_waiters));
    check(co_queue_is_empty(&shared->line));
    stress_fini(&shared->stress);
    pthread_mutex_destroy(&shared->mutex);
    pthread_mutex_destroy(&shared->line_mutex);
    free(shared);
    return 0;
}
