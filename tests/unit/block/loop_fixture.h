/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_BLOCK_LOOP_FIXTURE_H
#define TESTS_UNIT_BLOCK_LOOP_FIXTURE_H

/* A loop on a poller and a clock of the tests' own, and a trace of who ran. */

#include "tests/unit/unit.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "block/loop.h"

/* A poller that only remembers how it was called; the clock moves by what it was told to sleep. */
struct fake_poller {
    int64_t timeout_ns;
    unsigned waits, naps;
    uint64_t nap_ns;    /* the last one */
    uint64_t waited_ns; /* for a processor */
    unsigned waited_asked;
    atomic_uint wakes;
    void (*on_wait)(void *arg);
    void *arg;
};

static uint64_t fake_now_ns;
static unsigned fake_clock_readings;

static inline uint64_t fake_clock_now_ns(struct clock *clock)
{
    (void)clock;
    fake_clock_readings++;
    return fake_now_ns;
}

static struct clock fake_clock = {.now_ns = fake_clock_now_ns};

static inline int fake_open(struct loop *loop, void **ret_poller, struct error *err)
{
    (void)loop;
    (void)err;
    *ret_poller = calloc(1, sizeof(struct fake_poller));
    return 0;
}

static inline void fake_watch(void *poller, struct loop_watch *watch)
{
    (void)poller;
    (void)watch;
}

static inline bool fake_wait(void *opaque, int64_t timeout_ns)
{
    struct fake_poller *poller = opaque;
    poller->timeout_ns = timeout_ns;
    poller->waits++;
    if (timeout_ns > 0)
        fake_now_ns += (uint64_t)timeout_ns;
    if (poller->on_wait)
        poller->on_wait(poller->arg);
    return false;
}

static inline void fake_wake(void *opaque)
{
    struct fake_poller *poller = opaque;
    atomic_fetch_add(&poller->wakes, 1);
}

static inline void fake_nap(void *opaque, uint64_t ns)
{
    struct fake_poller *poller = opaque;
    poller->naps++;
    poller->nap_ns = ns;
    fake_now_ns += ns;
}

static inline uint64_t fake_waited_ns(void *opaque)
{
    struct fake_poller *poller = opaque;
    poller->waited_asked++;
    return poller->waited_ns;
}

static const struct poller_ops poller_fake = {
    .name = "fake",
    .open = fake_open,
    .close = free,
    .watch = fake_watch,
    .wait = fake_wait,
    .wake = fake_wake,
    .nap = fake_nap,
    .waited_ns = fake_waited_ns,
};

static inline int fake_setup(void **state)
{
    struct loop *loop;
    fake_now_ns = 1000;
    fake_clock_readings = 0;
    int rc = loop_new(&loop, 3, &poller_fake, &fake_clock, NULL);
    *state = loop;
    return rc;
}

static inline int loop_teardown(void **state)
{
    loop_free(*state);
    return 0;
}

/* Who ran, in order. */
static char trace[256];
static unsigned trace_length;

static inline void trace_reset(void)
{
    trace_length = 0;
    trace[0] = 0;
}

static inline void trace_add(char letter)
{
    assert_true(trace_length + 1 < sizeof(trace));
    trace[trace_length++] = letter;
    trace[trace_length] = 0;
}

struct lettered_task {
    struct loop_task task;
    struct loop *loop;
    unsigned again;
    char letter;
};

static inline void run_lettered_task(struct loop_task *task)
{
    struct lettered_task *lettered = container_of(task, struct lettered_task, task);
    trace_add(lettered->letter);
    if (lettered->again > 0) {
        lettered->again--;
        loop_at_round_end(lettered->loop, task);
    }
}

struct lettered_job {
    struct loop_job job;
    char letter;
};

static inline void run_lettered_job(struct loop_job *job)
{
    trace_add(container_of(job, struct lettered_job, job)->letter);
}

struct lettered_timer {
    struct loop_timer timer;
    struct loop *loop;
    uint64_t again_ns;
    char letter;
};

static inline void expire_lettered_timer(struct loop_timer *timer)
{
    struct lettered_timer *lettered = container_of(timer, struct lettered_timer, timer);
    assert_false(link_is_listed(&timer->link));
    trace_add(lettered->letter);
    if (lettered->again_ns)
        loop_timer_set(lettered->loop, timer, loop_now_ns(lettered->loop) + lettered->again_ns);
}

static inline void timer_init(struct lettered_timer *timer, struct loop *loop, char letter)
{
    *timer = (struct lettered_timer){
        .timer = {.expired = expire_lettered_timer}, .loop = loop, .letter = letter};
    link_init(&timer->timer.link);
}

#define on_fake(test) cmocka_unit_test_setup_teardown(test, fake_setup, loop_teardown)

#endif
