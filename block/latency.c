/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/latency.h"

#include <stdbool.h>
#include <string.h>

#include "common/clock.h"

#define SUBS (1u << LATENCY_SUB_BITS)

static const uint64_t slot_length_ns[LATENCY_WINDOWS] = {
    [LATENCY_MINUTE - 1] = 60 * NS_PER_S / LATENCY_SLOTS,
    [LATENCY_TEN_MINUTES - 1] = 600 * NS_PER_S / LATENCY_SLOTS,
    [LATENCY_HOUR - 1] = 3600 * NS_PER_S / LATENCY_SLOTS,
};

static unsigned bucket_of(uint64_t value_ns)
{
    if (value_ns >> LATENCY_FIRST_BIT == 0)
        return 0;
    if (value_ns >> LATENCY_LAST_BIT)
        return LATENCY_BUCKETS - 1;
    unsigned bit = 63 - (unsigned)__builtin_clzll(value_ns);
    unsigned sub = (unsigned)(value_ns >> (bit - LATENCY_SUB_BITS)) & (SUBS - 1);
    return 1 + (bit - LATENCY_FIRST_BIT) * SUBS + sub;
}

/* The smallest value of the bucket; of the one behind the last, where that one ends for us. */
static uint64_t bucket_start_ns(unsigned bucket)
{
    if (bucket == 0)
        return 0;
    unsigned bit = LATENCY_FIRST_BIT + (bucket - 1) / SUBS;
    return (SUBS + (uint64_t)(bucket - 1) % SUBS) << (bit - LATENCY_SUB_BITS);
}

/* --- adding ---------------------------------------------------------------------------------- */

static void widen(uint64_t *min_ns, uint64_t *max_ns, bool is_first, uint64_t low, uint64_t high)
{
    if (is_first || low < *min_ns)
        *min_ns = low;
    if (is_first || high > *max_ns)
        *max_ns = high;
}

static void add_to_slot(struct latency_slot *slot, uint64_t number, unsigned bucket,
                        uint64_t took_ns, uint32_t count)
{
    bool is_first = slot->number != number;
    if (is_first)
        *slot = (struct latency_slot){.number = number};
    slot->buckets[bucket] += count;
    slot->sum_ns += took_ns * count;
    widen(&slot->min_ns, &slot->max_ns, is_first, took_ns, took_ns);
}

void latency_add(struct latency *latency, uint64_t now_ns, uint64_t took_ns, uint32_t count)
{
    struct histogram *life = &latency->life;
    unsigned bucket = bucket_of(took_ns);
    widen(&life->min_ns, &life->max_ns, life->count == 0, took_ns, took_ns);
    life->count += count;
    life->sum_ns += took_ns * count;
    life->buckets[bucket] += count;
    for (unsigned i = 0; i < LATENCY_WINDOWS; i++) {
        uint64_t number = 1 + now_ns / slot_length_ns[i];
        add_to_slot(&latency->slots[i][number % LATENCY_SLOTS], number, bucket, took_ns, count);
    }
}

/* --- reading --------------------------------------------------------------------------------- */

static void merge_life(const struct histogram *life, struct histogram *into)
{
    if (life->count == 0)
        return;
    widen(&into->min_ns, &into->max_ns, into->count == 0, life->min_ns, life->max_ns);
    into->count += life->count;
    into->sum_ns += life->sum_ns;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        into->buckets[i] += life->buckets[i];
}

static void merge_slot(const struct latency_slot *slot, struct histogram *into)
{
    widen(&into->min_ns, &into->max_ns, into->count == 0, slot->min_ns, slot->max_ns);
    into->sum_ns += slot->sum_ns;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
        into->count += slot->buckets[i];
        into->buckets[i] += slot->buckets[i];
    }
}

void latency_merge(const struct latency *latency, enum latency_span span, uint64_t now_ns,
                   struct histogram *into)
{
    if (span == LATENCY_LIFE) {
        merge_life(&latency->life, into);
        return;
    }
    uint64_t number = 1 + now_ns / slot_length_ns[span - 1];
    for (unsigned i = 0; i < LATENCY_SLOTS; i++) {
        const struct latency_slot *slot = &latency->slots[span - 1][i];
        /* One that is ahead was written after the reader looked at the clock. */
        if (slot->number > 0 && slot->number + LATENCY_SLOTS > number)
            merge_slot(slot, into);
    }
}

/* The value that so many in a thousand do not exceed: where it would lie if its bucket's values lay
 * evenly. */
static uint64_t percentile_ns(const struct histogram *histogram, unsigned per_mille)
{
    uint64_t rank = (histogram->count * per_mille + 999) / 1000;
    uint64_t before = 0;
    unsigned bucket = 0;
    while (before + histogram->buckets[bucket] < rank)
        before += histogram->buckets[bucket++];
    uint64_t start_ns = bucket_start_ns(bucket);
    uint64_t length_ns = bucket_start_ns(bucket + 1) - start_ns;
    if (bucket == LATENCY_BUCKETS - 1)
        return histogram->max_ns;
    uint64_t value_ns = start_ns + (uint64_t)((double)length_ns * (double)(rank - before) /
                                              (double)histogram->buckets[bucket]);
    if (value_ns < histogram->min_ns)
        return histogram->min_ns;
    return value_ns < histogram->max_ns ? value_ns : histogram->max_ns;
}

void histogram_summarise(const struct histogram *histogram, struct latency_summary *ret)
{
    *ret = (struct latency_summary){.count = histogram->count};
    if (histogram->count == 0)
        return;
    ret->min_ns = histogram->min_ns;
    ret->max_ns = histogram->max_ns;
    ret->avg_ns = histogram->sum_ns / histogram->count;
    ret->p50_ns = percentile_ns(histogram, 500);
    ret->p99_ns = percentile_ns(histogram, 990);
}
