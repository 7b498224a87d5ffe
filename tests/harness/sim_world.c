/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_world.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "block/coroutine.h"
#include "block/node_options.h"
#include "common/list.h"
#include "formats/registry.h"
#include "server/export.h"
#include "server/stream.h"
#include "tests/harness/sim_engine.h"
#include "tests/harness/sim_poller.h"

#define IMAGE "disk.img"

static const struct engine_ops *const engines[] = {&engine_sim, &engine_threads, &engine_sync,
                                                   NULL};

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
}

static void settle(struct sim_world *world)
{
    look_at_loops(&world->sim);
    sim_run(&world->sim);
}

/* --- what is drawn --------------------------------------------------------------------------- */

static void draw_config(struct sim_world *world)
{
    static const enum config_cache caches[] = {CONFIG_CACHE_WRITEBACK, CONFIG_CACHE_NONE,
                                               CONFIG_CACHE_WRITETHROUGH, CONFIG_CACHE_DIRECTSYNC};
    struct random *random = &world->random;
    world->loop_count = (unsigned)draw_between(random, 1, SIM_LOOPS_MAX);
    world->size_bytes = draw_scaled(random, 32768, 2 << 20);
    if (random_once_in(random, 2))
        world->size_bytes -= world->size_bytes % 4096;
    world->config = (struct config){
        .image = IMAGE,
        .format = "raw",
        .read_only = random_once_in(random, 12),
        .cache = caches[random_below(random, random_once_in(random, 4) ? 4 : 2)],
        .aio = engines[random_once_in(random, 3) ? random_below(random, 3) : 0]->name,
        .discard = random_once_in(random, 2),
        .export_name = random_once_in(random, 2) ? "" : "disk",
        .clients_max = random_once_in(random, 4) ? (unsigned)draw_between(random, 1, 3) : 0,
        .persistent = true,
    };
}

static void set_up_files(struct sim_world *world)
{
    static const uint32_t alignments[] = {512, 4096};
    struct sim *sim = &world->sim;
    struct sim_disk_nature nature =
        sim_disk_nature_draw(&world->random, alignments[random_below(&world->random, 2)]);
    sim_disk_init(&world->disk, sim, &nature);
    sim_plant_init(&world->planted, &world->disk, world->plant);
    world->file = sim_disk_add_file(&world->disk, IMAGE, world->size_bytes);
    oracle_init(&world->oracle, sim, world->size_bytes);
    for (uint64_t at = 0; at < world->size_bytes; at += ORACLE_INITIAL_UNIT) {
        uint8_t unit[ORACLE_INITIAL_UNIT];
        uint64_t left = world->size_bytes - at;
        uint64_t length = left < sizeof(unit) ? left : sizeof(unit);
        if (oracle_initial(&world->oracle, at, unit, length))
            sim_file_fill(world->file, at, unit, length);
    }
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
    world->env.engines = engines;
    return ret;
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
    world->result = export_co_close(world->export);
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

/* Runs a coroutine on loop 0 to its end; false: the run has failed. */
static bool run_home(struct sim_world *world, void (*start)(struct sim_world *world),
                     const char *what)
{
    world->result = -EINPROGRESS;
    call_home(world, start);
    settle(world);
    if (world->result == -EINPROGRESS)
        sim_fail(&world->sim, "%s the export hangs", what);
    else if (world->result < 0)
        sim_fail(&world->sim, "%s the export: %s", what, world->err.message);
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
}

static void stop_early(struct sim_clients *all)
{
    call_home(container_of(all, struct sim_world, all), stop_home);
}

static int set_up_server(struct sim_world *world)
{
    const struct server_options options = {
        .clients_max = world->config.clients_max,
        .persistent = true,
        .handshake_timeout_ms = SERVER_HANDSHAKE_TIMEOUT_MS,
        .stall_timeout_ms = SERVER_STALL_TIMEOUT_MS,
        .stop_timeout_ms = SERVER_STOP_TIMEOUT_MS,
        .placement = &world->placement,
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
        .file = world->file,
        .export_name = world->config.export_name,
        .read_only = world->config.read_only,
        .write_through = config_export_options(&world->config).rules.write_through,
        .stop = stop_early,
        .stop_at = random_once_in(random, 5) ? draw_scaled(random, 1, 400) : 0,
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
    return !sim_failed(&world->sim);
}

static bool serve(struct sim_world *world)
{
    set_up_clients(world);
    settle(world);
    if (!world->all.is_stopping && check_rest(world)) {
        event_set(&world->arrivals[world->client_count - 1], 0);
        settle(world);
        if (!check_rest(world))
            return false;
        if (world->clients[world->client_count - 1].phase != PHASE_GONE)
            sim_fail(&world->sim, "the verifier was not let in");
        call_home(world, stop_home);
        settle(world);
    }
    if (!world->stopped)
        sim_fail(&world->sim, "hang: the server was told to stop and has not");
    return check_rest(world);
}

/* --- the run --------------------------------------------------------------------------------- */

static void tear_down(struct sim_world *world)
{
    for (unsigned i = 0; i < world->client_count; i++)
        sim_client_fini(&world->clients[i]);
    block_env_fini(&world->env);
    for (unsigned i = 0; i < world->loop_count; i++)
        loop_free(world->loops[i]);
    workers_free(&world->workers.workers);
    oracle_fini(&world->oracle);
    sim_disk_fini(&world->disk);
    sim_fini(&world->sim);
}

void sim_world_run(struct sim_world *world, uint64_t seed, enum sim_plant plant, bool is_traced)
{
    memset(world, 0, sizeof(*world));
    world->plant = plant;
    sim_init(&world->sim, seed, is_traced);
    world->random = sim_random(&world->sim, "world", 0);
    draw_config(world);
    set_up_files(world);
    int ret = set_up_block(world);
    if (ret < 0) {
        sim_fail(&world->sim, "setting up: %s", world->err.message);
        return;
    }
    if (!run_home(world, start_open, "opening"))
        return;
    ret = set_up_server(world);
    if (ret < 0) {
        sim_fail(&world->sim, "setting up: %s", world->err.message);
        return;
    }
    if (!serve(world))
        return;
    server_free(world->server);
    if (!run_home(world, start_close, "closing"))
        return;
    if (world->file->size_bytes != world->size_bytes)
        sim_fail(&world->sim, "the file is %" PRIu64 " bytes long at the end",
                 world->file->size_bytes);
    else
        oracle_check_end(&world->oracle, world->file->cached, world->file->durable);
    if (!sim_failed(&world->sim))
        tear_down(world);
}

void sim_world_describe(const struct sim_world *world, char *text, size_t room)
{
    static const char *const caches[] = {"writeback", "none", "writethrough", "directsync"};
    const struct sim_disk_nature *nature = &world->disk.nature;
    snprintf(
        text, room,
        "%" PRIu64 " bytes, %u loops, --aio=%s --cache=%s%s%s, %u clients, alignment %u, "
        "short 1/%u, slow 1/%u, EINTR 1/%u%s%s%s",
        world->size_bytes, world->loop_count, world->config.aio, caches[world->config.cache],
        world->config.read_only ? " -r" : "", world->config.discard ? " --discard=unmap" : "",
        world->client_count, nature->direct_alignment, nature->short_once_in, nature->slow_once_in,
        nature->eintr_once_in, nature->has_punch_hole ? "" : ", no PUNCH_HOLE",
        nature->has_zero_range ? "" : ", no ZERO_RANGE", nature->has_seek ? "" : ", no SEEK_HOLE");
}
