/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_BLOCK_BLOCK_FIXTURE_H
#define TESTS_UNIT_BLOCK_BLOCK_FIXTURE_H

/*
 * One loop, an environment with the drivers of memory_driver.h, a disk in memory, and the node and
 * backend on it: what tests of the block layer stand on. Tests run as one coroutine.
 */

#include "block/env.h"
#include "block/loop.h"
#include "tests/unit/block/memory_driver.h"

struct fixture {
    struct loop *loop;
    struct workers *workers;
    struct block_env env;
    struct memory_disk disk;
    struct block_node *node; /* what fixture_co_open() opened */
};

void fixture_init(struct fixture *fixture, const struct block_driver *const *drivers,
                  uint64_t size_bytes, uint64_t capacity_bytes, uint64_t seed);
/* Closes the node when it is still open. */
void fixture_fini(struct fixture *fixture);

/* Runs test(fixture, arg) as a coroutine to its end. */
void fixture_run(struct fixture *fixture, void (*test)(struct fixture *fixture, void *arg),
                 void *arg);

/* The cmocka test `name` that runs co_name(fixture, NULL) with those drivers and a disk of that
 * size. */
#define FIXTURE_TEST_WITH(name, drivers, size_bytes, capacity_bytes)    \
    static void name(void **state)                                      \
    {                                                                   \
        struct fixture fixture;                                         \
        (void)state;                                                    \
        fixture_init(&fixture, drivers, size_bytes, capacity_bytes, 1); \
        fixture_run(&fixture, co_##name, NULL);                         \
        fixture_fini(&fixture);                                         \
    }
#define FIXTURE_TEST(name, size_bytes, capacity_bytes) \
    FIXTURE_TEST_WITH(name, memory_drivers, size_bytes, capacity_bytes)

/* Opens driver on the disk, or "pass" above "<driver>" when through_pass. */
void fixture_co_open(struct fixture *fixture, const char *driver, bool through_pass);
void fixture_co_close(struct fixture *fixture);

/* Coroutines of one loop that are started together and waited for. */
struct group {
    struct loop *loop;
    unsigned running;
    struct coroutine *waiter;
};
void group_init(struct group *group, struct loop *loop);
void group_start(struct group *group, void (*entry)(void *arg), void *arg);
void group_co_wait(struct group *group);

/* The seed of a random test: from the environment's SEED, or else of this moment; printed. */
uint64_t fixture_seed(const char *test);

/* Requests on one buffer. */
int fixture_co_read(struct block_node *node, uint64_t offset, void *data, size_t length);
int fixture_co_write(struct block_node *node, uint64_t offset, const void *data, size_t length,
                     unsigned flags);

#endif
