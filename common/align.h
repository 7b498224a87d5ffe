/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COMMON_ALIGN_H
#define COMMON_ALIGN_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

/* Bounds of ranges. Alignments are powers of two, in bytes. */

static inline uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline bool is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static inline uint64_t align_down(uint64_t value, uint64_t alignment)
{
    assert(is_power_of_two(alignment));
    return value & ~(alignment - 1);
}

/* The caller has checked that value + alignment - 1 does not wrap. */
static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
    assert(is_power_of_two(alignment));
    assert(value <= UINT64_MAX - (alignment - 1));
    return (value + alignment - 1) & ~(alignment - 1);
}

static inline bool is_aligned(uint64_t value, uint64_t alignment)
{
    assert(is_power_of_two(alignment));
    return (value & (alignment - 1)) == 0;
}

#endif
