/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COMMON_RANDOM_H
#define COMMON_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Random numbers that a seed makes again (SplitMix64): for choices, never for secrets. Each holder
 * has a generator of its own, so that one more draw here does not change what is drawn there.
 */
struct random {
    uint64_t state;
};

void random_seed(struct random *random, uint64_t seed);
uint64_t random_u64(struct random *random);
/* Uniform in [0, bound); bound is at least 1. */
uint64_t random_below(struct random *random, uint64_t bound);
/* True once in `in` draws on average. */
bool random_once_in(struct random *random, uint64_t in);

#endif
