/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_POLLER_H
#define TESTS_HARNESS_SIM_POLLER_H

/*
 * Event loops without descriptors or threads: each turn of a loop is an event of the world. A loop
 * sleeps when its turn says so (wait() writes down until when, and returns), and turns again when
 * that time has come, a watch is ready, or somebody posted to it. The order in which loops turn is
 * drawn from the seed. (Whether a loop that sleeps is always woken is not for here: wait() does not
 * sleep. The loops' stress test has that.)
 *
 * A watch has no descriptor: whoever plays the other side says what is ready.
 */

#include "block/loop.h"
#include "common/error.h"
#include "tests/harness/sim.h"

extern const struct poller_ops poller_sim;

/* A loop whose turns are events of this world, the first one now. loop_free() ends it. */
int sim_loop_new(struct sim *sim, struct loop **ret_loop, unsigned index, struct error *err);

/* The world that a loop of sim_loop_new() lives in. */
struct sim *sim_of_loop(const struct loop *loop);

/* After anything ran that may have posted to the loop: nobody wakes a loop that is between two
 * turns, because in the real world it would look for itself. */
void sim_loop_look(struct loop *loop);

/* What is ready from now on (enum loop_event bits); told to the watch as long as it is wanted. */
void sim_watch_set_ready(struct loop_watch *watch, unsigned ready);

#endif
