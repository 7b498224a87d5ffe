/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_BENCH_LATENCY_H
#define TESTS_BENCH_LATENCY_H

#include <stdint.h>

/*
 * A histogram of durations in nanoseconds with 32 steps in each power of two: a percentile is right
 * to about 3 %, the maximum is exact.
 */
#define LATENCY_STEP_BITS 5
#define LATENCY_BUCKETS ((64 - LATENCY_STEP_BITS + 1) << LATENCY_STEP_BITS)

struct latency {
    uint64_t counts[LATENCY_BUCKETS];
    uint64_t total;
    uint64_t max_ns;
};

static inline unsigned int latency_bucket(uint64_t ns)
{
    if (ns < (1u << LATENCY_STEP_BITS)) {
        return ns;
    }
    unsigned int power = 63 - __builtin_clzll(ns);
    unsigned int step = (ns >> (power - LATENCY_STEP_BITS)) & ((1u << LATENCY_STEP_BITS) - 1);
    return ((power - LATENCY_STEP_BITS + 1) << LATENCY_STEP_BITS) + step;
}

static inline void latency_add(struct latency *latency, uint64_t ns)
{
    latency->counts[latency_bucket(ns)]++;
    latency->total++;
    if (ns > latency->max_ns) {
        latency->max_ns = ns;
    }
}

/* The smallest duration in the bucket that holds this share (0 to 1) of all; 0 when empty. */
static inline uint64_t latency_percentile_ns(const struct latency *latency, double share)
{
    uint64_t seen = 0, wanted = share * latency->total;
    for (unsigned int i = 0; i < LATENCY_BUCKETS; i++) {
        seen += latency->counts[i];
        if (seen > wanted) {
            unsigned int power = i >> LATENCY_STEP_BITS;
            uint64_t step = i & ((1u << LATENCY_STEP_BITS) - 1);
            return power == 0 ? step : ((1u << LATENCY_STEP_BITS) + step) << (power - 1);
        }
    }
    return latency->max_ns;
}

#endif
