/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/zero_scan.h"

#include <stdint.h>
#include <string.h>

/*
 * Data that is not zero mostly shows it in its first word, so that is looked at alone. Zeroes are
 * then read in steps of STEP_BYTES: four registers' worth are put together before one test, so that
 * the loads, not the tests, set the pace. The vectors are what the compiler may use of any such
 * processor. Wider ones, chosen at run time, would be twice as fast in the first cache and gain a
 * tenth in memory (the C library's memchr() shows it, in tests/bench/zero_scan).
 */

/* Memory of any type, at any address. */
typedef uint64_t vector __attribute__((vector_size(32), aligned(1), may_alias));

#define STEP_BYTES (4 * sizeof(vector))

static bool step_is_zero(const unsigned char *data)
{
    const vector *vectors = (const void *)data;
    vector all = (vectors[0] | vectors[1]) | (vectors[2] | vectors[3]);
    return ((all[0] | all[1]) | (all[2] | all[3])) == 0;
}

static bool word_is_zero(const unsigned char *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    return word == 0;
}

static bool few_are_zero(const unsigned char *data, size_t length)
{
    unsigned char all = 0;
    for (; length >= sizeof(uint64_t); length -= sizeof(uint64_t)) {
        if (!word_is_zero(data))
            return false;
        data += sizeof(uint64_t);
    }
    while (length-- > 0)
        all |= *data++;
    return all == 0;
}

bool zero_scan(const void *data, size_t length)
{
    const unsigned char *bytes = data;
    if (length < STEP_BYTES)
        return few_are_zero(bytes, length);
    if (!word_is_zero(bytes))
        return false;
    const unsigned char *last = bytes + length - STEP_BYTES;
    for (; bytes < last; bytes += STEP_BYTES) {
        if (!step_is_zero(bytes))
            return false;
    }
    return step_is_zero(last); /* may look at some bytes again */
}
