/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_DISK_H
#define TESTS_HARNESS_SIM_DISK_H

/*
 * The host's files, in memory: a table in the place of the system calls, that does what Linux
 * promises and no more. A call takes effect when it is made, and blocks for a time drawn from the
 * seed, as a call does that is made in the loop; the rest of the waiting is the engine's and the
 * workers' part.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/host_files.h"
#include "tests/harness/sim.h"
#include "tests/harness/sim_faults.h"
#include "tests/harness/sim_file.h"
#include "tests/harness/sim_kept.h"

/* What kind of disk and file system it is; drawn once a run. */
struct sim_disk_nature {
    uint32_t folio_bytes;      /* of the page cache */
    uint32_t direct_alignment; /* of O_DIRECT; 0: open(2) refuses O_DIRECT */
    uint32_t piece_bytes;      /* a write that is done in part ends at a multiple of it */
    unsigned short_once_in;    /* a transfer is cut short once in so many; 0: never */
    unsigned slow_once_in;     /* a call blocks for long once in so many; 0: never */
    unsigned eintr_once_in;    /* a call ends with EINTR once in so many; 0: never */
    bool says_alignment;       /* as statx(2) does since Linux 6.1 */
    bool has_punch_hole, has_zero_range;
    bool has_seek;          /* else all is called data, as the kernel does for such file systems */
    bool refuses_to_seek;   /* or the call fails */
    bool unwritten_is_hole; /* seek shows allocated but unwritten blocks as holes */
};

#define SIM_DISK_FDS 64
#define SIM_DISK_FD_BASE 100000 /* never a descriptor that the kernel gave */

struct sim_descriptor {
    struct sim_file *file; /* NULL: free */
    int flags;
};

struct sim_disk {
    struct host_files files;
    struct sim *sim;
    struct random random;
    struct sim_disk_nature nature;
    struct sim_faults faults; /* for the user to set */
    uint64_t late_offset;     /* a write that was cut short there is followed by this errno */
    int late_code;            /* 0: none is */
    struct sim_file *first_file;
    struct sim_descriptor fds[SIM_DISK_FDS];
    struct sim_kept kept;
    uint64_t stalls_since_ns, stalled_ns;       /* how long calls have blocked since then */
    uint64_t syncs, shorts, interrupts, stalls; /* that happened */
};

void sim_disk_init(struct sim_disk *disk, struct sim *sim, const struct sim_disk_nature *nature);
void sim_disk_fini(struct sim_disk *disk);

/* Draws a nature; direct_alignment is the caller's choice. */
struct sim_disk_nature sim_disk_nature_draw(struct random *random, uint32_t direct_alignment);

/* A file of holes; what it holds is put there by sim_file_fill(), and is durable. */
struct sim_file *sim_disk_add_file(struct sim_disk *disk, const char *path, uint64_t size_bytes);

/* NULL: there is none. */
struct sim_file *sim_disk_find_file(const struct sim_disk *disk, const char *path);

/* Whoever had files open is gone without a word. is_cut: and the power too. */
void sim_disk_forget_users(struct sim_disk *disk, bool is_cut);
unsigned sim_disk_open_count(const struct sim_disk *disk);

#endif
