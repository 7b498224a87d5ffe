/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_world.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/align.h"
#include "tests/harness/sim_engine.h"
#include "tests/harness/sim_image.h"

#define IMAGE "disk.img"
#define LIVES_MAX 4
#define SURVIVORS 5 /* images that one power cut may leave, each of them looked at */

const struct engine_ops *const sim_engines[] = {&engine_sim, &engine_threads, &engine_sync, NULL};

/* --- what is drawn --------------------------------------------------------------------------- */

static enum image_cache draw_cache(struct random *random)
{
    static const enum image_cache common[] = {IMAGE_CACHE_WRITEBACK, IMAGE_CACHE_NONE};
    static const enum image_cache rare[] = {IMAGE_CACHE_WRITETHROUGH, IMAGE_CACHE_DIRECTSYNC,
                                            IMAGE_CACHE_UNSAFE};
    return random_once_in(random, 3) ? rare[random_below(random, 3)]
                                     : common[random_below(random, 2)];
}

static void draw_config(struct sim_world *world)
{
    struct random *random = &world->random;
    world->loop_count = (unsigned)draw_between(random, 1, SIM_LOOPS_MAX);
    world->config = (struct config){
        .image = world->has_graph ? world->graph.options : IMAGE,
        .image_opts = world->has_graph,
        .format = world->has_graph ? NULL : "raw",
        .read_only = random_once_in(random, 12),
        .cache = draw_cache(random),
        .aio = sim_engines[random_once_in(random, 3) ? random_below(random, 3) : 0]->name,
        .discard = random_once_in(random, 2),
        .export_name = random_once_in(random, 2) ? "" : "disk",
        .clients_max = random_once_in(random, 4) ? (unsigned)draw_between(random, 1, 3) : 0,
        .persistent = true,
    };
    if (sim_kept_has_all(&world->disk.kept)) /* a reader of it would show what was flushed alone */
        world->config.read_only = false;
}

static void draw_faults(struct sim_world *world)
{
    struct sim_faults *faults = &world->disk.faults;
    sim_faults_fini(faults);
    sim_faults_init(faults, &world->sim);
    faults->is_loose = world->has_graph;
    if (world->has_graph && world->graph.is_verified)
        return; /* where one of two fails, they differ */
    if (sim_plant_needs_fault(world->plant))
        sim_faults_plan(faults, sim_plant_fault(world->plant));
    else if (random_once_in(&faults->random, 20))
        sim_faults_plan(faults, FAULT_OPEN);
    else if (random_once_in(&faults->random, 2))
        for (unsigned i = 0; i == 0 || (i < 3 && random_once_in(&faults->random, 3)); i++)
            sim_faults_plan_any(faults);
}

/* How this life will end, if it does not end by itself. */
static void draw_end(struct sim_world *world)
{
    struct random *random = &world->random;
    world->end_at_answer = world->end_at_call = 0;
    world->is_power_cut = !random_once_in(random, 4);
    /* Without syncs a format's tables have no order. */
    if (world->has_graph && world->config.cache == IMAGE_CACHE_UNSAFE)
        world->is_power_cut = false;
    if (random_once_in(random, 2))
        world->end_at_answer = draw_scaled(random, 1, 600);
    else
        world->end_at_call = draw_scaled(random, 1, 400);
}

static void draw_life(struct sim_world *world, unsigned number, bool may_break)
{
    world->sim.life = number;
    if (number > 0)
        world->random = sim_random(&world->sim, "world", 0);
    draw_config(world);
    draw_faults(world);
    world->end_at_answer = world->end_at_call = 0;
    if (may_break && !(world->has_graph && world->graph.is_verified))
        draw_end(world);
    world->holds = random_once_in(&world->random, 20);
}

static void set_up_files(struct sim_world *world)
{
    static const uint32_t alignments[] = {512, 4096};
    struct random *random = &world->random;
    world->size_bytes = draw_scaled(random, 32768, 768 << 10);
    if (random_once_in(random, 2))
        world->size_bytes -= world->size_bytes % 4096;
    struct sim_disk_nature nature =
        sim_disk_nature_draw(random, alignments[random_below(random, 2)]);
    if (world->has_graph) /* a kill must not leave half an entry of a table; no kernel does */
        nature.piece_bytes = SIM_FILE_SECTOR;
    sim_disk_init(&world->disk, &world->sim, &nature);
    sim_plant_init(&world->planted, &world->disk, world->plant);
    if (world->has_graph)
        world->size_bytes = align_up(world->size_bytes / 2, 512);
    oracle_init(&world->oracle, &world->sim, world->size_bytes);
    if (world->has_graph) {
        sim_graph_draw(&world->graph, random, "", world->size_bytes, false);
        world->loop_count = 1;
        sim_image_make(world);
        return;
    }
    world->file = sim_disk_add_file(&world->disk, IMAGE, world->size_bytes);
    for (uint64_t at = 0; at < world->size_bytes; at += ORACLE_INITIAL_UNIT) {
        const uint8_t *unit = oracle_initial(&world->oracle, at);
        uint64_t left = world->size_bytes - at;
        if (unit)
            sim_file_fill(world->file, at, unit,
                          left < ORACLE_INITIAL_UNIT ? left : ORACLE_INITIAL_UNIT);
    }
}

/* --- the ends -------------------------------------------------------------------------------- */

/* Any image that the disk may show obeys the oracle; the next server has to live with one. */
static void cut_power(struct sim_world *world)
{
    if (world->has_graph) {
        world->cuts++;
        sim_disk_forget_users(&world->disk, true);
        sim_image_cut(world, SURVIVORS);
        return;
    }
    struct random random = sim_random(&world->sim, "power cut", 0);
    uint8_t *image = malloc(world->file->room_bytes);
    assert(image);
    world->cuts++;
    sim_disk_forget_users(&world->disk, true);
    for (unsigned i = 0; i < SURVIVORS && !sim_failed(&world->sim); i++) {
        sim_file_survivor(world->file, &random, image);
        sim_note_bytes(&world->sim, "power cut", world->cuts, image, world->size_bytes);
        oracle_check_survivor(&world->oracle, image);
    }
    sim_file_go_on_with(world->file, image, world->size_bytes);
    oracle_go_on_with(&world->oracle, image);
    free(image);
}

static void kill_server(struct sim_world *world)
{
    world->kills++;
    sim_note(&world->sim, "kill", world->kills, 0, 0);
    sim_disk_forget_users(&world->disk, false);
    if (world->has_graph) {
        sim_image_killed(world);
        return;
    }
    oracle_server_gone(&world->oracle, world->disk.faults.sync_failed_ns != 0);
}

static void break_off(struct sim_world *world)
{
    sim_forget_events(&world->sim);
    world->sim.is_halted = false;
    bool is_lost = world->disk.faults.sync_failed_ns != 0;
    if (world->is_power_cut || (world->has_graph && is_lost))
        cut_power(world);
    else
        kill_server(world);
}

/* The same of a graph: what failed may have left tables in memory, as a kill does. */
static void check_graph_closed(struct sim_world *world)
{
    const struct sim_faults *faults = &world->disk.faults;
    bool is_lost = faults->sync_failed_ns != 0,
         is_unsafe = world->config.cache == IMAGE_CACHE_UNSAFE;
    if (world->result < 0 && faults->happened_count == 0)
        sim_fail(&world->sim, "closing the image: %s, and nothing has failed", world->err.message);
    /* What fails behind the flush loses nothing that was promised: the dirty bit stays. */
    if (world->result >= 0 && is_lost && !world->config.read_only &&
        faults->sync_failed_ns < world->closing_ns)
        sim_fail(&world->sim, "closing the image: all is well, and a sync has failed");
    if (sim_disk_open_count(&world->disk) > 0)
        sim_fail(&world->sim, "closing the image left a file open");
    if (sim_failed(&world->sim))
        return;
    if (is_lost && world->result >= 0)
        oracle_closed(&world->oracle, NULL);
    if (is_lost)
        cut_power(world);
    else if (world->result < 0)
        kill_server(world);
    else
        sim_image_closed(world, !is_unsafe);
    if (is_unsafe)
        sim_file_sync(world->file);
}

/* The export was closed, and world->result is what that said. */
static void check_closed(struct sim_world *world)
{
    const struct sim_file *file = world->file;
    bool is_lost = world->disk.faults.sync_failed_ns != 0;
    bool is_flushed = !world->config.read_only && world->config.cache != IMAGE_CACHE_UNSAFE;
    if (is_flushed && (world->result < 0) != is_lost)
        sim_fail(&world->sim, "closing the image: %s, and %s",
                 world->result < 0 ? world->err.message : "all is well",
                 is_lost ? "a sync has failed" : "no sync has failed");
    if (file->size_bytes != world->size_bytes)
        sim_fail(&world->sim, "the file is %" PRIu64 " bytes long at the end", file->size_bytes);
    if (sim_disk_open_count(&world->disk) > 0)
        sim_fail(&world->sim, "closing the image left a file open");
    sim_faults_check_told(&world->disk.faults);
    if (sim_failed(&world->sim))
        return;
    if (is_flushed && !is_lost)
        oracle_closed(&world->oracle, file->durable);
    oracle_server_gone(&world->oracle, is_lost);
}

/* --- the run --------------------------------------------------------------------------------- */

/* False: the run has failed. */
static bool live_once(struct sim_world *world, unsigned number, bool may_break)
{
    draw_life(world, number, may_break);
    uint64_t syncs_before = world->disk.syncs;
    enum sim_ending ending = sim_life_run(world);
    if (world->config.cache == IMAGE_CACHE_UNSAFE && world->disk.syncs != syncs_before)
        sim_fail(&world->sim, "the disk was synced in spite of --cache=unsafe");
    world->lives++;
    world->faults += world->disk.faults.happened_count;
    if (ending == ENDING_MIDDLE)
        break_off(world);
    else if (ending == ENDING_CLOSED && world->has_graph)
        check_graph_closed(world);
    else if (ending == ENDING_CLOSED)
        check_closed(world);
    return !sim_failed(&world->sim);
}

void sim_world_run(struct sim_world *world, uint64_t seed, bool has_graph, enum sim_plant plant,
                   bool is_traced)
{
    memset(world, 0, sizeof(*world));
    world->has_graph = has_graph;
    world->plant = plant;
    sim_init(&world->sim, seed, is_traced);
    world->random = sim_random(&world->sim, "world", 0);
    set_up_files(world);
    if (sim_failed(&world->sim))
        return;
    unsigned lives = 1;
    if (random_once_in(&world->random, 3))
        lives = (unsigned)draw_between(&world->random, 2, LIVES_MAX);
    for (unsigned i = 0; i < lives; i++)
        if (!live_once(world, i, i < lives - 1 && !random_once_in(&world->random, 4)))
            return;
    if (!world->has_graph)
        oracle_check_end(&world->oracle, world->file->cached, world->file->durable);
    if (sim_failed(&world->sim))
        return;
    oracle_fini(&world->oracle);
    sim_disk_fini(&world->disk);
    sim_fini(&world->sim);
}

void sim_world_describe(const struct sim_world *world, char *text, size_t room)
{
    static const char *const caches[] = {"writeback", "none", "writethrough", "directsync",
                                         "unsafe"};
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
    size_t used = strlen(text);
    if (world->has_graph)
        snprintf(text + used, room - used, "; %s; %s", world->graph.options, world->graph.create);
}
