/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_WORLD_H
#define TESTS_HARNESS_SIM_WORLD_H

/*
 * One whole run: the real server on simulated loops, workers, files and streams, with its clients
 * and the oracle. Opened, served, verified, stopped and closed, all of it drawn from one seed.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/env.h"
#include "block/loop.h"
#include "server/config.h"
#include "server/server.h"
#include "tests/harness/oracle.h"
#include "tests/harness/sim.h"
#include "tests/harness/sim_client.h"
#include "tests/harness/sim_disk.h"
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

    struct sim_workers workers;
    struct sim_disk disk;
    struct sim_planted_files planted;
    struct sim_file *file;
    struct oracle oracle;

    struct loop *loops[SIM_LOOPS_MAX];
    struct block_env env;
    struct export *export;
    struct server *server;
    struct placement placement;
    struct error err;
    int result; /* of the coroutine that ran last */
    bool stopped;

    struct sim_clients all;
    struct sim_client clients[SIM_CLIENTS_MAX];
    struct sim_event arrivals[SIM_CLIENTS_MAX];
    bool wants_in[SIM_CLIENTS_MAX];
    unsigned client_count; /* the last one is the verifier */
};

/* Runs the seed. On failure world->sim.failure says what was wrong, and nothing is taken down: what
 * was in flight stays as it is, and the process is of no other use. The world is large: not for the
 * stack. */
void sim_world_run(struct sim_world *world, uint64_t seed, enum sim_plant plant, bool is_traced);

/* The run's configuration in one line. */
void sim_world_describe(const struct sim_world *world, char *text, size_t room);

#endif
