/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_GRAPH_H
#define TESTS_HARNESS_SIM_GRAPH_H

/*
 * Graphs drawn from a seed: a qcow2 image of any shape, or now and then a raw one, with filters
 * above it and between it and its file. What is behind each is an ordinary file, made by our own
 * create. The simulation serves them on its disk, the threaded test of connections on the host's.
 *
 * No filter changes a byte or fails anything; they delay, cut, align and limit.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/env.h"
#include "block/throttle_group.h"
#include "common/random.h"
#include "tests/harness/oracle.h"

#define SIM_GRAPH_PATH_MAX 96

struct sim_graph {
    char options[1600];  /* of the nodes, as for --image-opts */
    char create[320];    /* of the qcow2 image, as for block_co_create(); empty: it is raw */
    uint64_t size_bytes; /* what clients see */
    uint64_t start;      /* where that begins in the image */
    uint64_t image_bytes;
    uint64_t backing_bytes;             /* 0: there is none */
    bool is_verified;                   /* a raw image goes along: nothing may fail or be cut */
    char image[SIM_GRAPH_PATH_MAX];     /* the files' paths; empty: there is none */
    char backing[SIM_GRAPH_PATH_MAX];   /* raw */
    char reference[SIM_GRAPH_PATH_MAX]; /* raw */
};

/* The files are in the folder; "" is none. is_qcow2: never a raw image. */
void sim_graph_draw(struct sim_graph *graph, struct random *random, const char *folder,
                    uint64_t size_bytes, bool is_qcow2);

/* The throttle group that the graphs name, in an environment; for throttle_group_free(). */
int sim_graph_add_group(struct block_env *env, struct throttle_group **ret_group,
                        struct error *err);

/* Makes the files, with what the oracle's image holds at the beginning: a backing file has what it
 * reaches, and its overlay the rest. May wait. */
int sim_graph_co_make(const struct sim_graph *graph, struct block_env *env,
                      const struct oracle *oracle, struct error *err);
/* Opens the graph with the options of `more` besides. May wait. */
int sim_graph_co_open(const struct sim_graph *graph, struct block_env *env, const char *more,
                      struct block_node **ret_node, struct error *err);
/* What our check says of the image without the filters; a raw one has neither errors nor leaks. The
 * first sentence is in err. May wait. */
int sim_graph_co_check(const struct sim_graph *graph, struct block_env *env, uint64_t *ret_errors,
                       uint64_t *ret_leaks, struct error *err);

#endif
