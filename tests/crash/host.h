/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_HOST_H
#define TESTS_CRASH_HOST_H

/*
 * The disks of a run as files of a host, below the driver "file" and the engine "sync": so what a
 * format does goes through all that carries interrupted calls and short transfers on. A call does
 * at once what it does, and puts it on the disk's tape.
 */

#include "block/host_files.h"
#include "tests/crash/crash.h"
#include "tests/crash/disk.h"

enum crash_host_fault {
    CRASH_HOST_NONE,
    CRASH_HOST_INTERRUPTED, /* the call fails with EINTR */
    CRASH_HOST_SHORT,       /* a transfer moves some sectors of it, or it is one and moves that */
    CRASH_HOST_ODD, /* or some bytes: no host does that between two sectors when it loses its
                     * power too, so there is none of it until the image is closed */
    CRASH_HOST_FAULTS,
};
extern const char *const crash_host_fault_names[CRASH_HOST_FAULTS]; /* "interrupted", ... */

struct crash_host {
    struct host_files files;
    struct crash_disk *disks[CRASH_ROLES];
    enum crash_host_fault fault;
    uint64_t calls;   /* that the fault may befall */
    uint64_t fail_at; /* this one, counted from 1; 0: none */
    bool is_sticky;   /* and all behind it; of one that is interrupted, the next try is not */
    bool was_interrupted;
    uint64_t hits;
    struct random random; /* how short */
};

void crash_host_init(struct crash_host *host);
/* From now on; `calls` and `hits` begin at 0. */
void crash_host_arm(struct crash_host *host, enum crash_host_fault fault, uint64_t fail_at,
                    bool is_sticky, uint64_t seed);

struct node_options;
/* Sets, below prefix, what opens that disk as a file. direct: by O_DIRECT, in sectors. */
void crash_host_set_options(struct crash_host *host, enum crash_role role, struct crash_disk *disk,
                            bool direct, struct node_options *options, const char *prefix);

#endif
