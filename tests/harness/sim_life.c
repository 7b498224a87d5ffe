/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/backend.h"
#include "block/block.h"
#include "block/coroutine.h"
#include "block/driver.h"
#include "block/node_options.h"
#include "common/list.h"
#include "formats/registry.h"
#include "server/export.h"
#include "server/stream.h"
#include "tests/harness/sim_engine.h"
#include "tests/harness/sim_poller.h"
#include "tests/harness/sim_world.h"

#define PATIENCE_MS 10000 /* calls that block may hold up a loop for long */

/* --- on loop 0 ------------------------------------------------------------------------------- */

struct home_call {
    struct loop_job job;
    struct sim_world *world;
    void (*call)(struct sim_world *world);
};

static void home_call_run(struct loop_job *job)
{
    struct home_call *call = container_of(job, struct home_call, job);
    call->call(call->world);
    free(call);
}

/* Calls on loop 0, at its next turn. */
static void call_home(struct sim_world *world, void (*function)(struct sim_world *world))
{
    struct home_call *call = malloc(sizeof(*call));
    assert(call);
    *call = (struct home_call){.job = {.run = home_call_run}, .world = world, .call = function};
    loop_post(world->loops[0], &call->job);
}

static void look_at_loops(struct sim *sim)
{
    struct sim_world *world = container_of(sim, struct sim_world, sim);
    for (unsigned i = 0; i < world->loop_count; i++)
        sim_loop_look(world->loops[i]);
    if (world->plant == PLANT_FORGOTTEN_FAILURE && world->export)
        for (struct block_node *node = world->export->backend->node; node; node = node->file)
            atomic_store(&node->flush.failed, 0);
}

static void settle(struct sim_world *world)
{
    look_at_loops(&world->sim);
    sim_run(&world->sim);
}

/* Neither failed nor at its end. */
static bool goes_on(const struct sim_world *world)
{
    return !sim_failed(&world->sim) && !world->sim.is_halted;
}

static int set_up_block(struct sim_world *world)
{
    struct host_files *files =
        world->plant == PLANT_NONE ? &world->disk.files : &world->planted.files;
    sim_workers_init(&world->workers, &world->sim);
    for (unsigned i = 0; i < world->loop_count; i++) {
        int ret = sim_loop_new(&world->sim, &world->loops[i], i, &world->err);
        if (ret < 0)
            return ret;
    }
    world->sim.after_event = look_at_loops;
    int ret = block_env_init(&world->env, world->loops, world->loop_count, &world->workers.workers,
                             files, formats_registry, &world->err);
    world->env.engines = sim_engines;
    return ret < 0 ? ret : sim_graph_add_group(&world->env, &world->group, &world->err);
}

/* --- the export ------------------------------------------------------------------------------ */

static void open_main(void *opaque)
{
    struct sim_world *world = opaque;
    struct node_options *options;
    struct block_node *node;
    world->result = config_node_options(&world->config, &options, &world->err);
    if (world->result < 0)
        return;
    if (world->config.image_opts)
        world->result = block_co_open(&world->env, options, &node, &world->err);
    else
        world->result = block_co_open_image(&world->env, world->config.image, world->config.format,
                                            options, &node, &world->err);
    if (world->result < 0)
        return;
    struct export_options export_options = config_export_options(&world->config);
    world->result = export_co_open(&world->export, node, &export_options, &world->err);
    block_co_node_unref(node);
}

static void close_main(void *opaque)
{
    struct sim_world *world = opaque;
    struct export *export = world->export;
    world->export = NULL;
    world->closing_ns = world->sim.now_ns;
    world->result = export_co_close(export);
    if (world->result < 0)
        error_set(&world->err, world->result, "closing failed: %s", error_text(world->result));
}

static void start_open(struct sim_world *world)
{
    if (coroutine_start(world->loops[0], open_main, world) < 0)
        world->result = error_set(&world->err, -ENOMEM, "no stack");
}

static void start_close(struct sim_world *world)
{
    if (coroutine_start(world->loops[0], close_main, world) < 0)
        world->result = error_set(&world->err, -ENOMEM, "no stack");
}

/* Runs a coroutine on loop 0 to its end; false: the life has ended, or the run has failed. */
static bool run_home(struct sim_world *world, void (*start)(struct sim_world *world),
                     const char *what)
{
    world->result = -EINPROGRESS;
    call_home(world, start);
    settle(world);
    if (world->result == -EINPROGRESS && !world->sim.is_halted)
        sim_fail(&world->sim, "%s the export hangs", what);
    return goes_on(world);
}

/* A failure to open is one sentence, and nothing is left behind. */
static bool open_with_faults(struct sim_world *world)
{
    struct sim_faults *faults = &world->disk.faults;
    /* An open that repairs may be cut short by a fault, but not in a way that the oracle knows. */
    faults->is_armed = !faults->is_loose || faults->plans[0].kind == FAULT_OPEN;
    bool goes_on = run_home(world, start_open, "opening");
    faults->is_armed = false;
    if (!goes_on || world->result >= 0)
        return goes_on;
    if (faults->happened_count == 0 || world->err.message[0] == '\0' ||
        sim_disk_open_count(&world->disk) > 0)
        sim_fail(&world->sim, "opening failed with '%s'; %u faults, %u files left open",
                 world->err.message, faults->happened_count, sim_disk_open_count(&world->disk));
    return goes_on && run_home(world, start_open, "opening");
}

static bool open_export(struct sim_world *world)
{
    if (!open_with_faults(world))
        return false;
    if (world->result < 0)
        sim_fail(&world->sim, "opening the export: %s", world->err.message);
    return !sim_failed(&world->sim);
}

/* --- the clients ----------------------------------------------------------------------------- */

static unsigned choose_loop(struct placement *placement, const unsigned *connection_counts,
                            unsigned loop_count)
{
    struct sim_world *world = container_of(placement, struct sim_world, placement);
    (void)connection_counts;
    return (unsigned)random_below(&world->random, loop_count);
}

static void let_in(struct sim_world *world)
{
    for (unsigned i = 0; i < world->client_count; i++) {
        if (!world->wants_in[i] || !server_has_room(world->server))
            continue;
        world->wants_in[i] = false;
        server_accept_stream(world->server, sim_client_connect(&world->clients[i]));
        if (world->plant == PLANT_LOST_BYTE)
            world->clients[i].stream->lose_byte_at = draw_scaled(&world->random, 20, 100000);
    }
}

static void client_arrives(struct sim_event *event)
{
    struct sim_world *world = container_of(event->sim, struct sim_world, sim);
    world->wants_in[event - world->arrivals] = true;
    call_home(world, let_in);
}

static void room_event(void *ctx)
{
    let_in(ctx);
}

static void last_left_event(void *ctx)
{
    struct sim_world *world = ctx;
    sim_fail(&world->sim, "a persistent server was told that its last client left");
}

static void stopped_event(void *ctx)
{
    struct sim_world *world = ctx;
    world->stopped = true;
}

static void stop_home(struct sim_world *world)
{
    world->all.is_stopping = true;
    server_stop(world->server);
    if (world->sim.held)
        event_set(&world->patience, (SERVER_STOP_TIMEOUT_MS + PATIENCE_MS) * NS_PER_MS);
    sim_release(&world->sim, (SERVER_STOP_TIMEOUT_MS + 2 * PATIENCE_MS) * NS_PER_MS);
}

/* The stop's time limit is over, and something is still in flight: clients do not wait for it. */
static void patience_is_over(struct sim_event *event)
{
    struct sim_world *world = container_of(event->sim, struct sim_world, sim);
    for (unsigned i = 0; i < world->client_count; i++) {
        const struct sim_stream *stream = world->clients[i].stream;
        if (stream && !stream->server_closed)
            sim_fail(&world->sim, "%s is still connected after the stop's time limit",
                     world->clients[i].who);
    }
}

static void stop_early(struct sim_clients *all)
{
    call_home(container_of(all, struct sim_world, all), stop_home);
}

static void end_soon(struct sim_clients *all)
{
    struct sim_world *world = container_of(all, struct sim_world, all);
    event_set(&world->end, draw_scaled(&world->random, 1, NS_PER_MS));
}

static void life_ends(struct sim_event *event)
{
    event->sim->is_halted = true;
}

/* Mostly so little that WRITEs that come in part wait for each other. */
static void draw_intake(struct sim_world *world)
{
    world->intake = intake_usual;
    if (random_once_in(&world->random, 4))
        return;
    world->intake.small_bytes = draw_scaled(&world->random, 1, 4096);
    world->intake.room_bytes = draw_scaled(&world->random, 1, 65536);
    world->intake.reserve_bytes = draw_scaled(&world->random, 1, 65536);
    world->intake.behind_bytes = draw_scaled(&world->random, 1, 4096);
}

static int set_up_server(struct sim_world *world)
{
    draw_intake(world);
    const struct server_options options = {
        .clients_max = world->config.clients_max,
        .persistent = true,
        .handshake_timeout_ms = SERVER_HANDSHAKE_TIMEOUT_MS,
        .stall_timeout_ms = SERVER_STALL_TIMEOUT_MS,
        .stop_timeout_ms = SERVER_STOP_TIMEOUT_MS,
        .placement = &world->placement,
        .intake = &world->intake,
    };
    const struct server_events events = {
        .room = room_event,
        .last_left = last_left_event,
        .stopped = stopped_event,
        .ctx = world,
    };
    world->placement.choose = choose_loop;
    return server_new(&world->server, &world->env, world->export, &options, &events, &world->err);
}

static void set_up_clients(struct sim_world *world)
{
    struct random *random = &world->random;
    world->all = (struct sim_clients){
        .sim = &world->sim,
        .oracle = &world->oracle,
        .file = world->has_graph ? NULL : world->file,
        .export_name = world->config.export_name,
        .faults = &world->disk.faults,
        .read_only = world->config.read_only,
        .is_unsafe = world->config.cache == IMAGE_CACHE_UNSAFE,
        .write_through = config_export_options(&world->config).rules.write_through,
        .stop = stop_early,
        .stop_at = random_once_in(random, 5) ? draw_scaled(random, 1, 400) : 0,
        .cut_soon = end_soon,
        .cut_at = world->end_at_answer,
    };
    for (unsigned i = 0; i < 4; i++)
        world->all.hot_spots[i] = random_below(random, world->size_bytes);
    world->client_count = (unsigned)draw_between(random, 2, SIM_CLIENTS_MAX);
    for (unsigned i = 0; i < world->client_count; i++) {
        enum sim_client_kind kind =
            random_once_in(random, 5) ? SIM_CLIENT_ROGUE : SIM_CLIENT_HONEST;
        if (i == world->client_count - 1)
            kind = SIM_CLIENT_VERIFIER;
        sim_client_init(&world->clients[i], &world->all, i, kind);
        if (world->config.clients_max > 0)
            world->clients[i].lingers = false; /* it would keep the others out */
        event_init(&world->arrivals[i], &world->sim, client_arrives);
        if (kind != SIM_CLIENT_VERIFIER)
            event_set(&world->arrivals[i], draw_scaled(random, 1, 20 * NS_PER_MS));
    }
}

/* Nothing happens any more: is everybody where they should be? */
static bool check_rest(struct sim_world *world)
{
    for (unsigned i = 0; i < world->client_count; i++) {
        const struct sim_client *client = &world->clients[i];
        bool may_be_outside = client->kind == SIM_CLIENT_VERIFIER || world->all.is_stopping;
        bool is_right = client->phase == PHASE_GONE ||
                        (client->phase == PHASE_OUTSIDE && may_be_outside) ||
                        (client->lingers && !world->stopped);
        if (!is_right) {
            char text[256];
            sim_client_describe(client, text, sizeof(text));
            sim_fail(&world->sim, "hang: nothing is left to happen, and %s", text);
        }
    }
    if (world->workers.in_flight > 0)
        sim_fail(&world->sim, "hang: %u jobs are with the workers", world->workers.in_flight);
    return goes_on(world);
}

/* The disk is well again: what clients were promised must be there. */
static bool verify(struct sim_world *world)
{
    struct sim_client *verifier = &world->clients[world->client_count - 1];
    world->disk.faults.is_armed = false;
    world->sim.hold_at = 0;
    event_set(&world->arrivals[world->client_count - 1], 0);
    settle(world);
    if (goes_on(world) && check_rest(world) && verifier->phase != PHASE_GONE)
        sim_fail(&world->sim, "the verifier was not let in");
    return goes_on(world);
}

static bool serve(struct sim_world *world)
{
    set_up_clients(world);
    settle(world);
    if (!goes_on(world))
        return false;
    if (!world->all.is_stopping) {
        if (!world->sim.held && !(check_rest(world) && verify(world)))
            return false;
        call_home(world, stop_home);
        settle(world);
    }
    if (goes_on(world) && !world->stopped)
        sim_fail(&world->sim, "hang: the server was told to stop and has not");
    return goes_on(world) && check_rest(world);
}

/* --- the life -------------------------------------------------------------------------------- */

static void tear_down(struct sim_world *world)
{
    for (unsigned i = 0; i < world->client_count; i++)
        sim_client_fini(&world->clients[i]);
    throttle_group_free(world->group);
    block_env_fini(&world->env);
    for (unsigned i = 0; i < world->loop_count; i++)
        loop_free(world->loops[i]);
    workers_free(&world->workers.workers);
}

static void set_up_life(struct sim_world *world)
{
    world->stopped = false;
    world->server = NULL;
    world->export = NULL;
    world->err = (struct error){0};
    world->client_count = 0;
    memset(world->wants_in, 0, sizeof(world->wants_in));
    event_init(&world->end, &world->sim, life_ends);
    event_init(&world->patience, &world->sim, patience_is_over);
    world->disk.faults.cut = &world->end;
    world->disk.faults.cut_at_call = world->end_at_call;
}

static void start_visit(struct sim_world *world)
{
    if (coroutine_start(world->loops[0], world->visit, world) < 0)
        world->result = error_set(&world->err, -ENOMEM, "no stack");
}

bool sim_life_visit(struct sim_world *world, void (*entry)(void *world), const char *what)
{
    set_up_life(world);
    world->disk.faults.is_armed = false;
    world->visit = entry;
    if (set_up_block(world) < 0) {
        sim_fail(&world->sim, "setting up: %s", world->err.message);
        return false;
    }
    if (!run_home(world, start_visit, what))
        return false;
    if (world->result < 0)
        sim_fail(&world->sim, "%s: %s", what, world->err.message);
    if (sim_disk_open_count(&world->disk) > 0)
        sim_fail(&world->sim, "%s: %u files are left open", what,
                 sim_disk_open_count(&world->disk));
    if (sim_failed(&world->sim))
        return false;
    tear_down(world);
    sim_forget_events(&world->sim);
    return true;
}

/* Opened, served, closed; false when it ended before, or was wrong. */
static bool live(struct sim_world *world)
{
    int ret = set_up_block(world);
    if (ret == 0 && !open_export(world))
        return false;
    if (ret == 0)
        ret = set_up_server(world);
    if (ret < 0) {
        sim_fail(&world->sim, "setting up: %s", world->err.message);
        return false;
    }
    world->disk.faults.is_armed = true;
    if (world->holds)
        world->sim.hold_at = draw_scaled(&world->random, 1, 60);
    if (!serve(world))
        return false;
    server_free(world->server);
    return run_home(world, start_close, "closing");
}

enum sim_ending sim_life_run(struct sim_world *world)
{
    set_up_life(world);
    bool is_closed = live(world);
    world->disk.faults.is_armed = false;
    if (sim_failed(&world->sim))
        return ENDING_WRONG;
    if (!is_closed)
        return ENDING_MIDDLE;
    tear_down(world);
    sim_forget_events(&world->sim);
    return ENDING_CLOSED;
}
