/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A qcow2 image shared by four loops: many actors write, zero, discard and read small ranges of
 * their own that lie in the same few clusters, and flush. Each sees what it wrote last; a discard
 * shows the old bytes or zeroes. At the end the image is closed, and a checker that shares nothing
 * with the driver but the codecs finds neither an error nor a leak.
 *
 * The cache is as small as it can be, so tables come and go and rounds of write-back run all the
 * time; clusters that were freed are used again by others at once, so a late write or read of a
 * former owner would show (invariants 17 and 21).
 */
#include "tests/stress/stress.h"

#include <string.h>

#include "block/env.h"
#include "block/node_options.h"
#include "formats/qcow2/driver.h"
#include "tests/unit/block/memory_driver.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define DISK_BYTES (2u << 20)
#define CAPACITY_BYTES (16u << 20)
#define ACTORS 32
#ifndef ROUNDS /* meson.build has less of them for the slow builds */
#define ROUNDS 1500
#endif
#define RANGE_BYTES 900 /* of one actor in each group: several share a cluster */
#define GROUPS (DISK_BYTES / (ACTORS * RANGE_BYTES))

#define WIDE_BEGIN ((uint64_t)GROUPS * ACTORS * RANGE_BYTES)
#define WIDE_BYTES (DISK_BYTES - WIDE_BEGIN)
#define WIDE_BYTE 0xee
#define WIDE_ACTORS 8

static const struct memory_image shapes[] = {
    {.cluster_bits = 9, .refcount_order = 6, .disk_bytes = DISK_BYTES},
    {.cluster_bits = 12, .refcount_order = 1, .disk_bytes = DISK_BYTES},
    {.cluster_bits = 14, .refcount_order = 4, .is_extended = true, .disk_bytes = DISK_BYTES},
};

struct shared {
    struct stress stress;
    struct block_env env;
    struct memory_disk disk;
    struct block_node *node;
    atomic_uint numbers, wide_numbers, ended;
};
static struct shared shared;

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

static void co_change(struct random *random, uint64_t offset, uint8_t *model)
{
    uint64_t choice = random_below(random, 20);
    size_t from = random_below(random, RANGE_BYTES);
    size_t length = 1 + random_below(random, RANGE_BYTES - from);
    if (choice < 12) {
        memset(model + from, (int)random_below(random, WIDE_BYTE), length);
        check(co_transfer(true, offset + from, model + from, length) == 0);
    } else if (choice < 15) {
        memset(model + from, 0, length);
        unsigned flags = choice == 12 ? BLOCK_NO_UNMAP : 0;
        check(node_co_zero(shared.node, offset + from, length, flags) == 0);
    } else if (choice < 17) {
        co_discard(offset, model);
    } else if (choice < 18) {
        check(node_co_flush(shared.node) == 0);
    } else {
        stress_co_dawdle(&shared.stress, random);
    }
}

static void co_wipe(struct random *random, uint8_t (*model)[RANGE_BYTES], unsigned number)
{
    unsigned group = (unsigned)random_below(random, GROUPS);
    uint64_t offset = ((uint64_t)group * ACTORS + number) * RANGE_BYTES;
    co_discard(offset, model[group]);
}

static void actor(void *arg)
{
    static uint8_t models[ACTORS][GROUPS][RANGE_BYTES];
    struct random random;
    unsigned number = atomic_fetch_add(&shared.numbers, 1);
    (void)arg;
    stress_random(&shared.stress, &random, number);
    memset(models[number], 0, sizeof(models[number]));
    for (unsigned round = 0; round < ROUNDS; round++) {
        /* most of the time where the others are too */
        unsigned group = random_once_in(&random, 3) ? (unsigned)random_below(&random, GROUPS)
                                                    : round / 16 % GROUPS;
        uint64_t offset = ((uint64_t)group * ACTORS + number) * RANGE_BYTES;
        co_change(&random, offset, models[number][group]);
        co_check(offset, models[number][group]);
        if (random_once_in(&random, 8))
            co_wipe(&random, models[number], number);
    }
    for (unsigned group = 0; group < GROUPS; group++)
        co_check(((uint64_t)group * ACTORS + number) * RANGE_BYTES, models[number][group]);
    atomic_fetch_add(&shared.ended, 1);
}

/* Past the actors' own ranges there is one that all of these share: they write it, wipe it and read
 * it at the same time, so its clusters change hands while requests that saw them are still under
 * way. Such a read shows their byte or zeroes; such a write does no harm to the next owner. Half of
 * the writes are compressed, so that several clusters share a place, and decompressed ones are
 * remembered while their place changes hands. */

static void wide_actor(void *arg)
{
    struct random random;
    uint8_t *data = malloc(WIDE_BYTES);
    (void)arg;
    check(data);
    stress_random(&shared.stress, &random, 1000 + atomic_fetch_add(&shared.wide_numbers, 1));
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t from = random_below(&random, WIDE_BYTES);
        size_t length = 1 + random_below(&random, WIDE_BYTES - from);
        uint64_t choice = random_below(&random, 8);
        if (choice < 2) {
            struct iovec iov;
            struct block_vec vec = vec_of_buffer(&iov, data, length);
            memset(data, WIDE_BYTE, length);
            check(node_co_write(shared.node, WIDE_BEGIN + from, &vec,
                                choice == 1 ? BLOCK_COMPRESS : 0) == 0);
        } else if (choice < 4) {
            check(node_co_discard(shared.node, WIDE_BEGIN + from, length, 0) == 0);
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
    check(node_options_set(options, "driver", "qcow2", NULL) == 0);
    check(node_options_set(options, "l2-cache-size", "4096", NULL) == 0);
    check(node_options_set(options, "l2-cache-entry-size", "512", NULL) == 0);
    check(node_options_set(options, "refcount-cache-size", "4096", NULL) == 0);
    check(block_co_open(&shared.env, options, &shared.node, NULL) == 0);
    for (unsigned i = 0; i < ACTORS; i++)
        stress_spawn(&shared.stress, i % STRESS_LOOPS, actor, NULL);
    for (unsigned i = 0; i < WIDE_ACTORS; i++)
        stress_spawn(&shared.stress, i % STRESS_LOOPS, wide_actor, NULL);
    while (atomic_load(&shared.ended) < ACTORS + WIDE_ACTORS)
        coroutine_co_pause();
    block_co_node_unref(shared.node);
}

static void run(const struct memory_image *shape)
{
    static const struct block_driver *drivers[3];
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &format_qcow2;
    memset(&shared, 0, sizeof(shared));
    stress_init(&shared.stress, "qcow2");
    check(block_env_init(&shared.env, shared.stress.loops, STRESS_LOOPS, shared.stress.workers,
                         NULL, drivers, NULL) == 0);
    memory_disk_init(&shared.disk, 0, CAPACITY_BYTES, shared.stress.seed);
    memory_image_make(&shared.disk, shape);
    shared.disk.pauses_max = 2;
    shared.disk.kept.is_there = true; /* a redo log goes along */
    stress_spawn(&shared.stress, 0, conductor, NULL);
    stress_run(&shared.stress);
    struct memory_image_faults faults = memory_image_check(&shared.disk);
    check(faults.errors == 0);
    check(faults.leaks == 0);
    memory_disk_fini(&shared.disk);
    block_env_fini(&shared.env);
    stress_fini(&shared.stress);
}

int main(void)
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
        run(&shapes[i]);
    return 0;
}
