/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_PLANT_H
#define TESTS_HARNESS_SIM_PLANT_H

/*
 * Planted bugs, to see that the simulation finds them: each sits in the seam, between the real
 * server and the simulated world, and does what a broken server, disk or socket would do, now and
 * then.
 */

#include "block/host_files.h"
#include "tests/harness/sim.h"
#include "tests/harness/sim_disk.h"

enum sim_plant {
    PLANT_NONE,
    PLANT_STALE_READ,         /* a block of a read is as it was at the last sync */
    PLANT_LOST_WRITE,         /* a write is answered and not done */
    PLANT_MISPLACED_WRITE,    /* a write goes 512 bytes further */
    PLANT_SHORT_WRITE,        /* half a write is done and reported as whole */
    PLANT_LYING_SYNC,         /* a sync is answered and not done */
    PLANT_LOST_SYNC,          /* the same, and once in a run */
    PLANT_WIDE_ZERO,          /* zeroing goes up to the next 512 */
    PLANT_FALSE_HOLE,         /* SEEK_DATA and SEEK_HOLE call data a hole */
    PLANT_LOST_BYTE,          /* a byte to a client is lost */
    PLANT_HIDDEN_WRITE_ERROR, /* a write that fails is called done */
    PLANT_HIDDEN_SYNC_ERROR,  /* a sync that fails is called done */
    PLANT_RETRIED_SYNC,       /* a sync that fails is tried again, and that is believed */
    PLANT_FORGOTTEN_FAILURE,  /* the block layer forgets that a flush has failed */
    PLANT_COUNT,
};

extern const char *const sim_plant_names[PLANT_COUNT];

struct sim_planted_files {
    struct host_files files; /* to be used in the place of the disk's own */
    struct sim_disk *disk;
    enum sim_plant plant;
    struct random random;
    unsigned once_in;
    uint64_t syncs; /* until the one that PLANT_LOST_SYNC loses */
};

/* Some bugs show only when a call fails; the kind of call that must. */
bool sim_plant_needs_fault(enum sim_plant plant);
enum sim_fault_kind sim_plant_fault(enum sim_plant plant);

/* Every bug but PLANT_LOST_BYTE, which is the stream's, and PLANT_FORGOTTEN_FAILURE, which is the
 * world's. */
void sim_plant_init(struct sim_planted_files *planted, struct sim_disk *disk, enum sim_plant plant);

#endif
