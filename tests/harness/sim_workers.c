/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_workers.h"

#include <assert.h>
#include <stdlib.h>

#include "block/loop.h"
#include "common/list.h"

struct sim_job {
    struct sim_event event; /* the work, then its end */
    struct loop_job end;
    struct sim_workers *workers;
    struct worker_job *job;
    uint64_t number;
};

static uint64_t draw_delay_ns(struct sim_workers *workers)
{
    if (random_once_in(&workers->random, 3))
        return random_below(&workers->random, 1000);
    if (workers->stalls_once_in > 0 && random_once_in(&workers->random, workers->stalls_once_in))
        return draw_between(&workers->random, 1, 40) * NS_PER_S;
    return draw_scaled(&workers->random, 1000, workers->slow_ns);
}

static void tell_end(struct loop_job *end)
{
    struct sim_job *sim_job = container_of(end, struct sim_job, end);
    struct worker_job *job = sim_job->job;
    sim_job->workers->in_flight--;
    free(sim_job);
    job->done(job);
}

static void post_end(struct sim_event *event)
{
    struct sim_job *sim_job = container_of(event, struct sim_job, event);
    sim_note(event->sim, "job ends", sim_job->number, 0, 0);
    sim_job->end.run = tell_end;
    loop_post(sim_job->job->loop, &sim_job->end);
}

static void work(struct sim_event *event)
{
    struct sim_job *sim_job = container_of(event, struct sim_job, event);
    sim_note(event->sim, "job works", sim_job->number, 0, 0);
    sim_job->job->work(sim_job->job);
    event->run = post_end;
    event_set(event, draw_delay_ns(sim_job->workers));
}

static void sim_workers_submit(struct workers *base, struct worker_job *job)
{
    struct sim_workers *workers = container_of(base, struct sim_workers, workers);
    struct sim_job *sim_job = calloc(1, sizeof(*sim_job));
    assert(sim_job);
    sim_job->workers = workers;
    sim_job->job = job;
    sim_job->number = workers->jobs++;
    workers->in_flight++;
    event_init(&sim_job->event, workers->sim, work);
    if (!sim_holds(workers->sim, &sim_job->event))
        event_set(&sim_job->event, draw_delay_ns(workers));
}

static void sim_workers_free(struct workers *base)
{
    struct sim_workers *workers = container_of(base, struct sim_workers, workers);
    assert(workers->in_flight == 0);
}

static const struct workers_ops sim_workers_ops = {
    .submit = sim_workers_submit,
    .free = sim_workers_free,
};

void sim_workers_init(struct sim_workers *workers, struct sim *sim)
{
    *workers = (struct sim_workers){
        .workers = {.ops = &sim_workers_ops},
        .sim = sim,
        .random = sim_random(sim, "workers", 0),
    };
    workers->slow_ns = draw_scaled(&workers->random, 2000, 5 * NS_PER_MS);
    if (random_once_in(&workers->random, 8))
        workers->stalls_once_in = (unsigned)draw_between(&workers->random, 3, 60);
}
