/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_CACHE_TOY_FORMAT_H
#define TESTS_UNIT_CACHE_TOY_FORMAT_H

/*
 * A small format over the disk of cache_fixture.h, and its rules.
 *
 * A *root* is an entry of a HIGH table, and names a *map*, which is a MIDDLE table, and
 * its generation; a map has its generation and names *slots*; every slot and every map has a count
 * in a LOW table, which is at least the number of those that name it. Maps are moved and given up,
 * and their places become other maps, or data that no table is.
 */

#include <string.h>

#include "tests/unit/cache/cache_fixture.h"

#define MAPS (QUARTER / TABLE_BYTES)
#define SLOTS 200 /* the first ones are the maps' own */
#define ROOTS 24
#define ROOTS_PER_TABLE 4
#define MAP_WORDS 16 /* the first is the generation */
#define GENERATION_SHIFT 16

static inline uint64_t word_at(const uint8_t *disk, uint64_t place)
{
    uint64_t value;
    memcpy(&value, disk + place, sizeof(value));
    return value;
}

static inline uint64_t place_of_count(unsigned slot)
{
    return place_of(LOW, slot % MAPS) + slot / MAPS * 8;
}

static inline uint64_t place_of_root(unsigned root)
{
    return place_of(HIGH, root / ROOTS_PER_TABLE) + root % ROOTS_PER_TABLE * 8;
}

static inline void check_map(const uint8_t *disk, uint64_t root_value, unsigned *names)
{
    unsigned map = (unsigned)(root_value & 0xffff) - 1;
    assert_true(map < MAPS);
    names[map]++;
    assert_int_equal(word_at(disk, place_of(MIDDLE, map)), root_value >> GENERATION_SHIFT);
    for (unsigned i = 1; i < MAP_WORDS; i++) {
        uint64_t value = word_at(disk, place_of(MIDDLE, map) + i * 8);
        assert_true(value <= SLOTS);
        if (value > 0)
            names[value - 1]++;
    }
}

static inline void check_rules(const uint8_t *disk)
{
    unsigned names[SLOTS] = {0};
    for (unsigned root = 0; root < ROOTS; root++) {
        uint64_t value = word_at(disk, place_of_root(root));
        if (value != 0)
            check_map(disk, value, names);
    }
    for (unsigned slot = 0; slot < SLOTS; slot++)
        assert_true(word_at(disk, place_of_count(slot)) >= names[slot]);
}

#endif
