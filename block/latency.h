/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_LATENCY_H
#define BLOCK_LATENCY_H

/*
 * How long requests took: over the whole life, and over the last minute, ten minutes and hour.
 * Plain memory without a lock and without a clock: block/account guards it and hands in the time.
 *
 * A *histogram* counts values in buckets of an eighth of a power of two, so a percentile is wrong
 * by 12 percent at most, usually by much less; count, sum, min and max are exact. Everything below
 * 512 ns is one bucket, everything from 137 s up another.
 *
 * A *window* is four slots that take turns, each a quarter of its length: what is read are the slot
 * of this moment and the three before, so it covers three quarters of the length to all of it.
 */

#include <stdint.h>

#define LATENCY_FIRST_BIT 9 /* 512 ns */
#define LATENCY_LAST_BIT 37 /* 137 s */
#define LATENCY_SUB_BITS 3
#define LATENCY_BUCKETS (2 + (LATENCY_LAST_BIT - LATENCY_FIRST_BIT) * (1 << LATENCY_SUB_BITS))
#define LATENCY_SLOTS 4

enum latency_span {
    LATENCY_LIFE,
    LATENCY_MINUTE,
    LATENCY_TEN_MINUTES,
    LATENCY_HOUR,
    LATENCY_SPAN_COUNT,
};
#define LATENCY_WINDOWS (LATENCY_SPAN_COUNT - 1) /* the spans that forget */

struct histogram {
    uint64_t count;
    uint64_t sum_ns, min_ns, max_ns; /* of no meaning when count is 0 */
    uint64_t buckets[LATENCY_BUCKETS];
};

/* What a person is told. All 0 when count is. */
struct latency_summary {
    uint64_t count;
    uint64_t min_ns, avg_ns, p50_ns, p99_ns, max_ns;
};

/* The same as a histogram, of a part of a window. */
struct latency_slot {
    uint64_t number; /* which quarter since the clock's zero, from 1 */
    uint64_t sum_ns, min_ns, max_ns;
    uint32_t buckets[LATENCY_BUCKETS];
};

struct latency {
    struct histogram life;
    struct latency_slot slots[LATENCY_WINDOWS][LATENCY_SLOTS];
};

/* All zero bytes is an empty histogram, and an empty latency. */

/* `count` requests that took took_ns each ended at now_ns. */
void latency_add(struct latency *latency, uint64_t now_ns, uint64_t took_ns, uint32_t count);

/* Adds what the span holds at now_ns to *into. */
void latency_merge(const struct latency *latency, enum latency_span span, uint64_t now_ns,
                   struct histogram *into);

void histogram_summarise(const struct histogram *histogram, struct latency_summary *ret);

#endif
