/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>

/*
 * Time comes through this table, so that the simulation can make it pass. A reading is in
 * nanoseconds since some moment in the past and never goes back.
 */
struct clock {
    uint64_t (*now_ns)(struct clock *clock);
};

/* The machine's own: CLOCK_MONOTONIC. */
extern struct clock clock_monotonic;

/* The one by which the kernel says when a file was changed, since 1970: CLOCK_REALTIME_COARSE, so
 * that a file's time may be some ms later. This one does go back, when somebody sets it. */
extern struct clock clock_of_files;

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

#endif
