/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_engine.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/engine_call.h"
#include "block/loop.h"
#include "tests/harness/sim_poller.h"

struct sim_engine {
    struct engine engine;
    struct engine_context context;
    struct sim *sim;
    struct random random;
    struct loop_source source;
    struct list ended; /* struct engine_op.link: the result is set, done() is to be called */
    uint64_t slow_ns;  /* the longest half of an operation */
    uint64_t ops;      /* that were queued */
    unsigned in_flight;
};

/* An operation on its way: its effect, then its end. */
struct sim_flight {
    struct sim_event event;
    struct loop_job arrival;
    struct sim_engine *engine;
    struct engine_op *op;
    uint64_t number, queued_ns;
};

static uint64_t draw_delay_ns(struct sim_engine *engine)
{
    if (random_once_in(&engine->random, 4))
        return 0;
    return draw_scaled(&engine->random, 100, engine->slow_ns);
}

/* On the loop: the end waits for the engine's share of this turn, so that many come up together. */
static void arrive(struct loop_job *arrival)
{
    struct sim_flight *flight = container_of(arrival, struct sim_flight, arrival);
    list_append(&flight->engine->ended, &flight->op->link);
    free(flight);
}

static void complete(struct sim_event *event)
{
    struct sim_flight *flight = container_of(event, struct sim_flight, event);
    sim_note(event->sim, "op ends", flight->number, flight->op->kind, (uint64_t)flight->op->result);
    flight->arrival.run = arrive;
    loop_post(flight->engine->context.loop, &flight->arrival);
}

static void take_effect(struct sim_event *event)
{
    struct sim_flight *flight = container_of(event, struct sim_flight, event);
    struct sim_engine *engine = flight->engine;
    event->sim->call_began_ns = flight->queued_ns;
    flight->op->result = engine_call(engine->context.files, flight->op);
    event->sim->call_began_ns = 0;
    event->run = complete;
    event_set(event, draw_delay_ns(engine));
}

static void sim_engine_queue(struct engine *base, struct engine_op *op)
{
    struct sim_engine *engine = container_of(base, struct sim_engine, engine);
    struct sim_flight *flight = calloc(1, sizeof(*flight));
    assert(flight);
    flight->engine = engine;
    flight->op = op;
    flight->number = engine->ops++;
    flight->queued_ns = engine->sim->now_ns;
    engine->in_flight++;
    link_init(&op->link);
    sim_note(engine->sim, "op queued", flight->number, op->kind, op->offset);
    event_init(&flight->event, engine->sim, take_effect);
    if (op->kind != ENGINE_SYNC || !sim_holds(engine->sim, &flight->event))
        event_set(&flight->event, draw_delay_ns(engine));
}

static bool sim_engine_turn(struct loop_source *source)
{
    struct sim_engine *engine = container_of(source, struct sim_engine, source);
    struct list ended;
    list_init(&ended);
    list_move_all(&ended, &engine->ended);
    bool any = false;
    struct list_link *link;
    while ((link = list_pop(&ended))) {
        struct engine_op *op = container_of(link, struct engine_op, link);
        engine->in_flight--;
        any = true;
        op->done(op);
    }
    return any;
}

static int sim_engine_open(const struct engine_context *context, struct engine **ret_engine,
                           struct error *err)
{
    struct sim_engine *engine = calloc(1, sizeof(*engine));
    if (!engine)
        return error_set(err, -ENOMEM, "no memory for the simulated AIO engine");
    engine->engine.ops = &engine_sim;
    engine->context = *context;
    engine->sim = sim_of_loop(context->loop);
    engine->random = sim_random(engine->sim, "engine", loop_index(context->loop));
    engine->slow_ns = draw_scaled(&engine->random, 1000, 2 * NS_PER_MS);
    list_init(&engine->ended);
    engine->source.turn = sim_engine_turn;
    link_init(&engine->source.link);
    loop_source_add(context->loop, &engine->source);
    *ret_engine = &engine->engine;
    return 0;
}

static void sim_engine_close(struct engine *base)
{
    struct sim_engine *engine = container_of(base, struct sim_engine, engine);
    assert(engine->in_flight == 0);
    loop_source_remove(&engine->source);
    free(engine);
}

const struct engine_ops engine_sim = {
    .name = "sim",
    .open = sim_engine_open,
    .close = sim_engine_close,
    .queue = sim_engine_queue,
};
