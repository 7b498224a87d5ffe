/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_WORLD_H
#define TESTS_HARNESS_SIM_WORLD_H

/*
 * One whole run: the real server on simulated loops, workers, files and streams, with its clients
 * and the oracle, all of it drawn from one seed.
 *
 * A run is one or several *lives* of the server on one image. A life is opened, served, verified,
 * stopped and closed; or it ends in the middle: the process is killed (what it wrote stays in the
 * page cache), or the power is cut (stable storage stays, and any part of what was not synced).
 *
 *   sim_world  the disk, the lives, what the ends leave behind
 *   sim_life   one life: loops, export, server, clients
 *   sim_image  what lies in the file, where that is not byte by byte what clients see
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/env.h"
#include "block/loop.h"
#include "server/config.h"
#include "server/intake.h"
#include "server/server.h"
#include "tests/harness/oracle.h"
#include "tests/harness/sim.h"
#include "tests/harness/sim_client.h"
#include "tests/harness/sim_disk.h"
#include "tests/harness/sim_graph.h"
#include "tests/harness/sim_plant.h"
#include "tests/harness/sim_workers.h"

#define SIM_LOOPS_MAX 3
#define SIM_CLIENTS_MAX 8

struct sim_world {
    struct sim sim;
    struct random random;
    struct config config;
    unsigned loop_count;
    uint64_t size_bytes;
    enum sim_plant plant;
    bool has_graph; /* else a raw image on one file: */
    struct sim_graph graph;

    struct sim_disk disk;
    struct sim_planted_files planted;
    struct sim_file *file; /* the image's own; a graph may have more */
    struct oracle oracle;
    unsigned lives, cuts, kills;
    unsigned logs;   /* redo logs that a killed server left */
    uint64_t judged; /* images that qemu-img has looked at */
    uint64_t faults; /* that happened */

    /* Of this life; drawn before it begins. */
    uint64_t end_at_answer, end_at_call; /* cut or killed soon after; 0: not by that */
    bool is_power_cut;                   /* else killed */
    bool holds;                          /* an operation does not end before the server stops */

    struct sim_event end; /* the life ends when this runs */
    struct sim_workers workers;
    struct loop *loops[SIM_LOOPS_MAX];
    struct block_env env;
    struct throttle_group *group;
    void (*visit)(void *world); /* see sim_life_visit() */
    void *looks;                /* sim_image's own */
    struct export *export;
    struct server *server;
    struct placement placement;
    struct intake_limits intake;
    struct error err;
    int result; /* of the coroutine that ran last */
    bool stopped;
    uint64_t closing_ns;       /* when that began */
    struct sim_event patience; /* nobody is to be connected any more */

    struct sim_clients all;
    struct sim_client clients[SIM_CLIENTS_MAX];
    struct sim_event arrivals[SIM_CLIENTS_MAX];
    bool wants_in[SIM_CLIENTS_MAX];
    unsigned client_count; /* the last one is the verifier */
};

extern const struct engine_ops *const sim_engines[]; /* NULL-ended */

enum sim_ending {
    ENDING_CLOSED,
    ENDING_MIDDLE, /* the power was cut, or the process was killed: all of it is left as it was */
    ENDING_WRONG,  /* the run has failed */
};

/* One life; what closing said is in world->result. */
enum sim_ending sim_life_run(struct sim_world *world);
/* Runs entry(world) as a coroutine on loop 0 of a block layer that nobody else uses, without
 * faults; it leaves a result in world->result and world->err. False: it has failed, and so has the
 * run. */
bool sim_life_visit(struct sim_world *world, void (*entry)(void *world), const char *what);

/* Runs the seed, on a raw image or on a graph. On failure world->sim.failure says what was wrong,
 * and nothing is taken down: what was in flight stays as it is, and the process is of no other use.
 * The world is large: not for the stack. */
void sim_world_run(struct sim_world *world, uint64_t seed, bool has_graph, enum sim_plant plant,
                   bool is_traced);

/* The run's configuration in one line. */
void sim_world_describe(const struct sim_world *world, char *text, size_t room);

#endif
