/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/random.h"

#include <assert.h>

void random_seed(struct random *random, uint64_t seed)
{
    random->state = seed;
}

uint64_t random_u64(struct random *random)
{
    uint64_t mixed = random->state += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

uint64_t random_below(struct random *random, uint64_t bound)
{
    assert(bound > 0);
    return (uint64_t)(((unsigned __int128)random_u64(random) * bound) >> 64);
}

bool random_once_in(struct random *random, uint64_t in)
{
    return random_below(random, in) == 0;
}
