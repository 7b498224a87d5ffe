/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A gow1 image shared by four loops: many actors write, zero, discard and read small ranges of
 * their own that lie in the same few blocks, and flush. Each sees what it wrote last; a discard
 * shows the old bytes or zeroes. Past their ranges there is one that some of them share. At the end
 * the image is closed and the file read by the description of the format alone: each block was
 * allocated once, nobody lost one, and every byte is there.
 *
 * The map's slices are more than the cache holds, so they come and go, and rounds of write-back run
 * all the time.
 */
#include "tests/stress/stress.h"

#include <string.h>

#include "block/env.h"
#include "block/node_options.h"
#include "formats/gow1/driver.h"
#include "tests/unit/formats/gow1/memory_gow1.h"

#define SIZE 20480u /* blocks of the disk: 20 slices of the map, of which the cache holds 8 */
#define CAPACITY_BYTES (GOW_DATA + 256 * GOW_BLOCK)
#define ACTORS 32
#define ROUNDS 1500
#define RANGE_BYTES 900 /* of one actor in each group */
#define GROUPS 32
#define GROUP_STEP ((uint64_t)SIZE / GROUPS * GOW_BLOCK)

#define WIDE_BEGIN (GROUP_STEP - 5 * GOW_BLOCK) /* of the bytes that some share */
#define WIDE_BYTES (3 * GOW_BLOCK)
#define WIDE_BYTE 0xee
#define WIDE_ACTORS 8

struct shared {
    struct stress stress;
    struct block_env env;
    struct memory_disk disk;
    struct block_node *node;
    atomic_uint numbers, wide_numbers, ended;
};
static struct shared shared;
static uint8_t models[ACTORS][GROUPS][RANGE_BYTES];

/* A group lies in two blocks, and one actor's range in both. */
static uint64_t offset_of(unsigned group, unsigned number)
{
    return group * GROUP_STEP + GOW_BLOCK - ACTORS / 2 * RANGE_BYTES - 100 + number * RANGE_BYTES;
}

static int co_transfer(bool is_write, uint64_t offset, uint8_t *data, size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    return is_write ? node_co_write(shared.node, offset, &vec, 0)
                    : node_co_read(shared.node, offset, &vec);
}

static void co_check(uint64_t offset, const uint8_t *model)
{
    uint8_t data[RANGE_BYTES];
    check(co_transfer(false, offset, data, RANGE_BYTES) == 0);
    check(memcmp(data, model, RANGE_BYTES) == 0);
}

static void co_discard(uint64_t offset, uint8_t *model)
{
    uint8_t data[RANGE_BYTES];
    check(node_co_discard(shared.node, offset, RANGE_BYTES, 0) == 0);
    check(co_transfer(false, offset, data, RANGE_BYTES) == 0);
    for (size_t i = 0; i < RANGE_BYTES; i++)
        check(data[i] == 0 || data[i] == model[i]);
    memcpy(model, data, RANGE_BYTES);
}

static void co_ask_status(uint64_t offset, const uint8_t *model)
{
    struct block_extent extent;
    check(node_co_status(shared.node, offset, RANGE_BYTES, &extent) == 0);
    for (uint64_t i = 0; i < extent.length && (extent.flags & BLOCK_EXTENT_ZERO); i++)
        check(model[i] == 0);
}

static void co_change(struct random *random, uint64_t offset, uint8_t *model)
{
    uint64_t choice = random_below(random, 20);
    size_t from = random_below(random, RANGE_BYTES);
    size_t length = 1 + random_below(random, RANGE_BYTES - from);
    if (choice < 12) {
        memset(model + from, (int)random_below(random, choice < 2 ? 1 : WIDE_BYTE), length);
        check(co_transfer(true, offset + from, model + from, length) == 0);
    } else if (choice < 15) {
        memset(model + from, 0, length);
        unsigned flags = choice == 12 ? BLOCK_NO_UNMAP : 0;
        check(node_co_zero(shared.node, offset + from, length, flags) == 0);
    } else if (choice < 16) {
        co_discard(offset, model);
    } else if (choice < 17) {
        co_ask_status(offset, model);
    } else if (choice < 18) {
        check(node_co_flush(shared.node) == 0);
    } else {
        stress_co_dawdle(&shared.stress, random);
    }
}

static void actor(void *arg)
{
    struct random random;
    unsigned number = atomic_fetch_add(&shared.numbers, 1);
    (void)arg;
    stress_random(&shared.stress, &random, number);
    for (unsigned round = 0; round < ROUNDS; round++) {
        /* most of the time where the others are too, so that first writes meet */
        unsigned group = random_once_in(&random, 3) ? (unsigned)random_below(&random, GROUPS)
                                                    : round * GROUPS / ROUNDS;
        co_change(&random, offset_of(group, number), models[number][group]);
        co_check(offset_of(group, number), models[number][group]);
    }
    atomic_fetch_add(&shared.ended, 1);
}

/* These write and wipe the same bytes at the same time: whoever reads sees their byte or zeroes. */
static void wide_actor(void *arg)
{
    struct random random;
    uint8_t *data = malloc(WIDE_BYTES);
    (void)arg;
    check(data);
    stress_random(&shared.stress, &random, 1000 + atomic_fetch_add(&shared.wide_numbers, 1));
    for (unsigned round = 0; round < ROUNDS / 4; round++) {
        uint64_t from = random_below(&random, WIDE_BYTES);
        size_t length = 1 + random_below(&random, WIDE_BYTES - from);
        uint64_t choice = random_below(&random, 8);
        if (choice < 2) {
            memset(data, WIDE_BYTE, length);
            check(co_transfer(true, WIDE_BEGIN + from, data, length) == 0);
        } else if (choice < 4) {
            check(node_co_zero(shared.node, WIDE_BEGIN + from, length, 0) == 0);
            check(choice == 2 || node_co_flush(shared.node) == 0);
        } else {
            check(co_transfer(false, WIDE_BEGIN + from, data, length) == 0);
            for (size_t i = 0; i < length; i++)
                check(data[i] == 0 || data[i] == WIDE_BYTE);
        }
    }
    free(data);
    atomic_fetch_add(&shared.ended, 1);
}

static void conductor(void *arg)
{
    struct node_options *options = node_options_new();
    (void)arg;
    check(options);
    memory_disk_options(&shared.disk, options, "file.", "growing");
    check(node_options_set(options, "driver", "gow1", NULL) == 0);
    check(node_options_set(options, "cache-size", "4096", NULL) == 0);
    check(block_co_open(&shared.env, options, &shared.node, NULL) == 0);
    for (unsigned i = 0; i < ACTORS; i++)
        stress_spawn(&shared.stress, i % STRESS_LOOPS, actor, NULL);
    for (unsigned i = 0; i < WIDE_ACTORS; i++)
        stress_spawn(&shared.stress, i % STRESS_LOOPS, wide_actor, NULL);
    while (atomic_load(&shared.ended) < ACTORS + WIDE_ACTORS)
        coroutine_co_pause();
    block_co_node_unref(shared.node);
}

static void check_file(void)
{
    uint8_t data[RANGE_BYTES];
    struct gow_faults faults = gow_check(&shared.disk);
    check(faults.errors == 0);
    check(faults.leaks == 0);
    for (unsigned number = 0; number < ACTORS; number++) {
        for (unsigned group = 0; group < GROUPS; group++) {
            gow_read(&shared.disk, offset_of(group, number), data, RANGE_BYTES);
            check(memcmp(data, models[number][group], RANGE_BYTES) == 0);
        }
    }
}

int main(void)
{
    const struct block_driver *drivers[3] = {memory_drivers[1], &format_gow1};
    stress_init(&shared.stress, "gow1");
    check(block_env_init(&shared.env, shared.stress.loops, STRESS_LOOPS, shared.stress.workers,
                         NULL, drivers, NULL) == 0);
    memory_disk_init(&shared.disk, 0, CAPACITY_BYTES, shared.stress.seed);
    gow_make(&shared.disk, SIZE);
    shared.disk.pauses_max = 2;
    stress_spawn(&shared.stress, 0, conductor, NULL);
    stress_run(&shared.stress);
    check_file();
    memory_disk_fini(&shared.disk);
    block_env_fini(&shared.env);
    stress_fini(&shared.stress);
    return 0;
}
