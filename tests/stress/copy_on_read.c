/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter copy-on-read under four loops: readers of everything, and writers of whole and partial
 * clusters over a backing file. Checked: a writer reads back its last number, whatever was copied
 * meanwhile; and at the end every byte is what was written last, or the backing file's.
 */
#include "tests/stress/stress.h"

#include <string.h>

#include "block/env.h"
#include "block/filters.h"
#include "common/endian.h"
#include "tests/unit/block/layered_driver.h"
#include "tests/unit/block/memory_driver.h"

#define SLOT 256 /* four writers a cluster */
#define WRITERS 16
#define SLOTS_EACH 16
#define SIZE_BYTES (WRITERS * SLOTS_EACH * SLOT)
#define READERS 8
#define ROUNDS 40
#define OLD 0xabcdef

static const struct block_driver *drivers[] = {&block_filter_copy_on_read, &layered_driver, NULL,
                                               NULL};

struct shared {
    struct stress stress;
    struct block_env env;
    struct memory_disk disk, backing;
    struct block_node *node;
    atomic_uint numbers, ended;
    uint64_t last[WRITERS * SLOTS_EACH]; /* a writer's own slots; OLD: never written */
};

static void co_transfer(struct shared *shared, bool is_write, uint64_t offset, void *data,
                        size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    check((is_write ? node_co_write(shared->node, offset, &vec, 0)
                    : node_co_read(shared->node, offset, &vec)) == 0);
}

/* Slots of all writers lie side by side in each cluster. */
static void writer(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    unsigned number = atomic_fetch_add(&shared->numbers, 1);
    stress_random(&shared->stress, &random, number);
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        uint8_t data[SLOT] = {0};
        uint64_t slot = random_below(&random, SLOTS_EACH) * WRITERS + number;
        store_le64(data, round);
        co_transfer(shared, true, slot * SLOT, data, SLOT);
        shared->last[slot] = round;
        slot = random_below(&random, SLOTS_EACH) * WRITERS + number;
        co_transfer(shared, false, slot * SLOT, data, SLOT);
        check(load_le64(data) == shared->last[slot]);
    }
    atomic_fetch_add(&shared->ended, 1);
}

static void reader(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    uint8_t data[3000];
    stress_random(&shared->stress, &random, 100 + atomic_fetch_add(&shared->numbers, 1));
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t length = 1 + random_below(&random, sizeof(data));
        co_transfer(shared, false, random_below(&random, SIZE_BYTES - length + 1), data, length);
        coroutine_co_pause();
    }
    atomic_fetch_add(&shared->ended, 1);
}

static void director(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    struct node_options *options = node_options_new();
    check(options);
    stress_random(&shared->stress, &random, 5000);
    check(node_options_set(options, "driver", "copy-on-read", NULL) == 0);
    check(node_options_set(options, "file.driver", "layered", NULL) == 0);
    memory_disk_options(&shared->disk, options, "file.file.", "file");
    memory_disk_options(&shared->backing, options, "file.backing.", "file");
    check(block_co_open(&shared->env, options, &shared->node, NULL) == 0);
    for (unsigned i = 0; i < WRITERS; i++)
        stress_spawn(&shared->stress, i % STRESS_LOOPS, writer, shared);
    while (atomic_load(&shared->numbers) < WRITERS)
        coroutine_co_pause();
    for (unsigned i = 0; i < READERS; i++)
        stress_spawn(&shared->stress, i % STRESS_LOOPS, reader, shared);
    while (atomic_load(&shared->ended) < WRITERS + READERS)
        stress_co_dawdle(&shared->stress, &random);
    check(node_co_cache(shared->node, 0, SIZE_BYTES) == 0);
    for (unsigned i = 0; i < SIZE_BYTES / LAYERED_CLUSTER_BYTES; i++)
        check(layered_has(shared->node->file, i));
    block_co_node_unref(shared->node);
}

int main(void)
{
    struct shared *shared = calloc(1, sizeof(*shared));
    check(shared);
    drivers[2] = memory_drivers[0];
    stress_init(&shared->stress, "copy_on_read");
    check(block_env_init(&shared->env, shared->stress.loops, STRESS_LOOPS, shared->stress.workers,
                         NULL, drivers, NULL) == 0);
    memory_disk_init(&shared->disk, SIZE_BYTES, SIZE_BYTES, shared->stress.seed);
    memory_disk_init(&shared->backing, SIZE_BYTES, SIZE_BYTES, shared->stress.seed + 1);
    shared->disk.pauses_max = shared->backing.pauses_max = 2;
    for (unsigned i = 0; i < WRITERS * SLOTS_EACH; i++) {
        shared->last[i] = OLD;
        store_le64(shared->backing.data + (size_t)i * SLOT, OLD);
    }
    stress_spawn(&shared->stress, 0, director, shared);
    stress_run(&shared->stress);
    for (unsigned i = 0; i < WRITERS * SLOTS_EACH; i++)
        check(load_le64(shared->disk.data + (size_t)i * SLOT) == shared->last[i]);
    memory_disk_fini(&shared->disk);
    memory_disk_fini(&shared->backing);
    block_env_fini(&shared->env);
    stress_fini(&shared->stress);
    free(shared);
    return 0;
}
