/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_WORKLOAD_H
#define TESTS_CRASH_WORKLOAD_H

/*
 * What clients do with an image: drawn from a seed, or one of all short sequences. Several clients
 * at the same time on one image, each one request after the other; what overlaps in time and place
 * has no order, and the oracle knows that.
 */

#include "block/block.h"
#include "tests/crash/bench.h"
#include "tests/crash/tape.h"
#include "tests/harness/oracle.h"

enum crash_request_kind {
    CRASH_REQUEST_WRITE,
    CRASH_REQUEST_ZERO,
    CRASH_REQUEST_ZERO_KEEP, /* NO_HOLE */
    CRASH_REQUEST_DISCARD,
    CRASH_REQUEST_FLUSH,
    CRASH_REQUEST_READ,
    CRASH_REQUEST_STEP, /* one of the format's own */
    CRASH_REQUEST_RESIZE,
    CRASH_REQUEST_KINDS,
};

struct crash_request {
    enum crash_request_kind kind;
    bool is_forced; /* FUA */
    uint64_t offset, length;
    unsigned step;
};

#define CRASH_CLIENTS_MAX 4
#define CRASH_REQUESTS_MAX 24 /* of one client */
#define CRASH_FLUSHES_MAX (CRASH_CLIENTS_MAX * CRASH_REQUESTS_MAX)

struct crash_workload {
    bool reads_slowly; /* the disks are to take their time with reads alone */
    unsigned client_count;
    unsigned counts[CRASH_CLIENTS_MAX];
    struct crash_request requests[CRASH_CLIENTS_MAX][CRASH_REQUESTS_MAX];
};

void crash_workload_draw(struct crash_workload *workload, const struct crash_bench *bench,
                         struct random *random);
/* The number-th of all sequences of some requests by one client, around the first two units;
 * false: there are not so many. */
#define CRASH_SEQUENCE_REQUESTS 3
bool crash_workload_sequence(struct crash_workload *workload, const struct crash_bench *bench,
                             uint64_t number);
uint64_t crash_sequence_count(void);

/* Who carries a workload out. */
struct crash_worker {
    struct crash_bench *bench;
    struct block_backend *backend;
    struct oracle *oracle;   /* fails the run when a read shows what it may not */
    struct crash_tape *tape; /* NULL: none */
    struct random random;
    unsigned pauses_max;
    bool lacks_memory;    /* allocations fail in requests: see no_memory.h; one client alone */
    bool may_fail;        /* requests may; else that fails the run */
    unsigned failed;      /* of them did */
    uint32_t flushes;     /* that were sent */
    bool flush_succeeded; /* the last one did */
};
void crash_co_work(struct crash_worker *worker, const struct crash_workload *workload);

/* For a message. */
void crash_workload_print(const struct crash_workload *workload);

#endif
