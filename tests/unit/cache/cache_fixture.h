/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_CACHE_CACHE_FIXTURE_H
#define TESTS_UNIT_CACHE_CACHE_FIXTURE_H

/*
 * A cache over two disks in memory: three kinds of 512-byte tables on the first, in the classes 0,
 * 1 and 2, each in a quarter of it, with room for CACHE_TABLES_MIN of each; and a fourth kind that
 * begins at an odd place of the last quarter, after one of a few bytes that ends inside its table.
 */

#include "cache/cache.h"
#include "tests/unit/block/block_fixture.h"

#define TABLE_BYTES 512
#define DISK_BYTES (64 * 1024)
#define QUARTER (DISK_BYTES / 4)
#define SHORT_BASE (3 * QUARTER)
#define SHORT_BYTES 12
#define ODD_BASE (SHORT_BASE + SHORT_BYTES)

enum { LOW, MIDDLE, HIGH, ODD, SHORT, KIND_COUNT };

struct cache_fixture {
    struct fixture block;
    struct memory_disk data_disk;
    struct block_node *data_node;
    pthread_mutex_t monitor;
    struct cache *cache;
};

/* Runs test(fixture) as a coroutine, over disks of this request and memory alignment. */
void cache_fixture_run_over(uint32_t request_alignment, uint32_t memory_alignment,
                            void (*test)(struct cache_fixture *fixture));
void cache_fixture_run(uint32_t alignment, void (*test)(struct cache_fixture *fixture));

/* One more over the same disks. */
struct cache *cache_fixture_new_cache(struct cache_fixture *fixture);

#define CACHE_TEST(name)                   \
    static void name(void **state)         \
    {                                      \
        (void)state;                       \
        cache_fixture_run(1, co_##name);   \
        cache_fixture_run(512, co_##name); \
    }

/* Where table `index` of a kind lies. */
uint64_t place_of(unsigned kind, unsigned index);
/* What the disk holds at first. */
uint8_t pattern_at(uint64_t node_offset);

/* Changes some bytes of a table, under a pin. */
void co_change(struct cache_fixture *fixture, unsigned kind, unsigned index, size_t from,
               const void *bytes, size_t length);
void co_change_u64(struct cache_fixture *fixture, unsigned kind, unsigned index, uint64_t value);
uint64_t co_read_u64(struct cache_fixture *fixture, unsigned kind, unsigned index);
uint64_t disk_u64(const struct cache_fixture *fixture, unsigned kind, unsigned index);
bool is_dirty(struct cache_fixture *fixture);
struct cache_counters counters_of(struct cache_fixture *fixture, unsigned kind);

#endif
