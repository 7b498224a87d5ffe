/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_TROUBLE_H
#define TESTS_CRASH_TROUBLE_H

/*
 * A workload again and again, and each time another call of the disks fails, or another allocation:
 * nothing crashes or hangs, reads are right, an error that may lose something is told to somebody,
 * what was flushed before and after is there after a power cut, and the image has leaks at most;
 * none where only a client's own write failed.
 *
 * And again over files of a host, where each call in turn is interrupted, or a transfer short:
 * nobody sees that, and nothing is different afterwards.
 */

#include "tests/crash/run.h"

struct crash_trouble_sums {
    uint64_t lives, failed_calls, told, quiet; /* quiet: nobody was told, and nothing was lost */
    uint64_t leaky, leaks_max;                 /* of those that were closed without an error */
    uint64_t leakless; /* of them, those in which nothing may leak: a client's write failed, or
                        * nothing did */
};

/* The seed's workload with the failure at every stride-th call, from one that the seed draws on;
 * once and sticky, each with EIO and ENOSPC. False: something was wrong; it was printed. */
bool crash_try_faults(struct crash_runner *runner, uint64_t seed, uint64_t stride,
                      struct crash_trouble_sums *sums);
/* The same with allocations, which fail with -ENOMEM. */
bool crash_try_no_memory(struct crash_runner *runner, uint64_t seed, uint64_t stride,
                         struct crash_trouble_sums *sums);

/* The same with calls of a host, once and sticky. CRASH_HOST_NONE: each fault in turn. */
bool crash_try_host(struct crash_runner *runner, uint64_t seed, enum crash_host_fault wanted,
                    uint64_t stride, struct crash_trouble_sums *sums);

/* One alone, as a failure says it. */
struct crash_spot {
    bool is_memory, is_sticky;
    enum crash_host_fault host; /* CRASH_HOST_NONE: the disks fail, or the memory */
    int code;
    uint64_t at;
};
bool crash_try_spot(struct crash_runner *runner, uint64_t seed, const struct crash_spot *spot,
                    struct crash_trouble_sums *sums);

#endif
