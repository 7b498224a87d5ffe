/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_KEPT_H
#define TESTS_HARNESS_SIM_KEPT_H

/*
 * Memory that the simulated host keeps when a server is killed (host_files.h), until the power is
 * cut. There is one at a time: a graph has one image that is written.
 */

#include <stdbool.h>
#include <stddef.h>

#include "block/host_files.h"

struct sim_disk;

struct sim_kept {
    char name[96]; /* empty: nobody has kept anything */
    void *bytes;
    size_t length;
    bool is_open;
};

int sim_kept_open(struct host_files *files, const char *name, size_t length, bool only_look,
                  struct host_kept *ret_kept, struct error *err);
void sim_kept_close(struct host_files *files, struct host_kept *kept, bool is_done);

/* Whoever had it is gone. is_cut: and the power too. */
void sim_kept_forget_user(struct sim_kept *kept, bool is_cut);
void sim_kept_fini(struct sim_kept *kept);

/* Whether a redo log is in it that has all that was changed. */
bool sim_kept_has_all(const struct sim_kept *kept);
/* A copy, to be put back or ended; nobody has it open. */
struct sim_kept sim_kept_copy(const struct sim_kept *kept);
void sim_kept_put_back(struct sim_kept *kept, struct sim_kept *copy);

#endif
