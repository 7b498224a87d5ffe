/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/clock.h"

#include <time.h>

static uint64_t read_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t monotonic_now_ns(struct clock *clock)
{
    (void)clock;
    return read_ns(CLOCK_MONOTONIC);
}

static uint64_t files_now_ns(struct clock *clock)
{
    (void)clock;
    return read_ns(CLOCK_REALTIME_COARSE);
}

struct clock clock_monotonic = {.now_ns = monotonic_now_ns};
struct clock clock_of_files = {.now_ns = files_now_ns};
