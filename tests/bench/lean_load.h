/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_BENCH_LEAN_LOAD_H
#define TESTS_BENCH_LEAN_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/bench/latency.h"

enum lean_mode { LEAN_READ, LEAN_WRITE, LEAN_RANDREAD, LEAN_RANDWRITE, LEAN_WRITEFLUSH };

struct lean_plan {
    const char *address; /* as raw_connect */
    const char *export_name;
    enum lean_mode mode;
    bool structured;
    bool verify;
    unsigned int depth; /* a connection */
    unsigned int connections;
    uint32_t block_bytes;
    uint64_t seconds;  /* 0: by requests */
    uint64_t requests; /* 0: by seconds */
    uint64_t seed;
    uint64_t part_offset, part_bytes; /* of the export; 0 bytes: to its end */
};

struct lean_result {
    uint64_t requests; /* a write with its flush is one */
    uint64_t errors;   /* error replies, and blocks that do not verify */
    uint64_t turns;    /* receives; requests / turns is the batch the server made */
    double seconds;
    struct latency latency;
};

/*
 * Connects, runs the plan, drains, disconnects. 0 or a negative errno, with the sentence on stderr.
 * ret_result is the caller's, zeroed.
 */
int lean_run(const struct lean_plan *plan, struct lean_result *ret_result);

#endif
