/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A graph shared by four loops: whole blocks written by plain requests, parts of the same blocks by
 * read-modify-write, flushes, exclusive requests and drains, all at once over a disk that lets
 * others run in the middle of every call.
 *
 * Checked: after a block was written whole with one number, it shows that number or the part
 * writers' marks, and never an older number: that would be a read-modify-write that put old bytes
 * back. No driver call runs while an exclusive request or a drain holds the node. A backend can be
 * freed while its last requests end on other loops.
 */
#include "tests/stress/stress.h"

#include <string.h>

#include "block/env.h"
#include "block/tracked.h"
#include "tests/unit/block/memory_driver.h"

#define BLOCK_BYTES 512
#define WORDS (BLOCK_BYTES / 8)
#define BLOCKS 8
#define ROUNDS 2000
#define PART_WRITERS_PER_BLOCK 3
#define LAST_READS 60
#define MARK (UINT64_C(1) << 63)

struct shared {
    struct stress stress;
    struct block_env env;
    struct memory_disk disk;
    struct block_node *top;
    struct block_backend *backend;
    atomic_uint numbers;      /* hands every actor one */
    atomic_uint actors_ended; /* of this phase */
};

static void co_transfer(struct shared *shared, bool is_write, uint64_t offset, void *data,
                        size_t length, unsigned flags)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    int rc = is_write ? block_co_write(shared->backend, offset, &vec, flags)
                      : block_co_read(shared->backend, offset, &vec);
    check(rc == 0);
}

static unsigned actor_random(struct shared *shared, struct random *random)
{
    unsigned number = atomic_fetch_add(&shared->numbers, 1);
    stress_random(&shared->stress, random, number);
    return number;
}

static void whole_writer(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    uint64_t words[WORDS];
    uint64_t offset = actor_random(shared, &random) % BLOCKS * (uint64_t)BLOCK_BYTES;
    for (uint64_t number = 1; number <= ROUNDS; number++) {
        for (unsigned i = 0; i < WORDS; i++)
            words[i] = number;
        co_transfer(shared, true, offset, words, BLOCK_BYTES,
                    random_once_in(&random, 8) ? BLOCK_FUA : 0);
        co_transfer(shared, false, offset, words, BLOCK_BYTES, 0);
        for (unsigned i = 0; i < WORDS; i++)
            check(words[i] == number || (words[i] & MARK));
    }
    atomic_fetch_add(&shared->actors_ended, 1);
}

/* Writes some words of one block, or the last of one and the first of the next. */
static void part_writer(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    uint64_t words[WORDS];
    unsigned number = actor_random(shared, &random);
    for (unsigned i = 0; i < WORDS; i++)
        words[i] = MARK | number;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t first = 1 + random_below(&random, WORDS * BLOCKS - 12);
        uint64_t count = 1 + random_below(&random, 10);
        co_transfer(shared, true, first * 8, words, count * 8, 0);
        if (random_once_in(&random, 10))
            stress_co_dawdle(&shared->stress, &random);
    }
    atomic_fetch_add(&shared->actors_ended, 1);
}

static void flusher(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    actor_random(shared, &random);
    for (unsigned i = 0; i < ROUNDS; i++) {
        check(block_co_flush(shared->backend) == 0);
        stress_co_dawdle(&shared->stress, &random);
    }
    atomic_fetch_add(&shared->actors_ended, 1);
}

/* Flushes are not tracked; everything else is. */
static void check_quiet(struct shared *shared, bool flushes_too)
{
    struct memory_disk *disk = &shared->disk;
    pthread_mutex_lock(&disk->mutex);
    check(disk->active_count == (flushes_too ? 0 : disk->active_flush_count));
    pthread_mutex_unlock(&disk->mutex);
}

static void exclusive(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    actor_random(shared, &random);
    for (unsigned i = 0; i < ROUNDS / 10; i++) {
        struct tracked_request request;
        struct block_node *file = shared->top->file;
        tracked_co_begin_exclusive(file, &request);
        for (unsigned turns = 0; turns < 3; turns++) {
            check_quiet(shared, false);
            coroutine_co_pause();
        }
        tracked_end(file, &request, false);
        stress_co_dawdle(&shared->stress, &random);
    }
    atomic_fetch_add(&shared->actors_ended, 1);
}

static void drainer(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    actor_random(shared, &random);
    for (unsigned i = 0; i < ROUNDS / 10; i++) {
        block_co_backend_drain(shared->backend);
        for (unsigned turns = 0; turns < 3; turns++) {
            check_quiet(shared, true);
            coroutine_co_pause();
        }
        block_backend_resume(shared->backend);
        stress_co_dawdle(&shared->stress, &random);
    }
    atomic_fetch_add(&shared->actors_ended, 1);
}

static void last_reader(void *arg)
{
    struct shared *shared = arg;
    uint64_t word;
    co_transfer(shared, false, 8, &word, sizeof(word), 0);
    atomic_fetch_add(&shared->actors_ended, 1);
}

static void spawn(struct shared *shared, unsigned count, coroutine_entry *entry)
{
    for (unsigned i = 0; i < count; i++)
        stress_spawn(&shared->stress, i % STRESS_LOOPS, entry, shared);
}

static void co_wait_for(struct shared *shared, unsigned count)
{
    struct random random;
    random_seed(&random, 1);
    while (atomic_load(&shared->actors_ended) < count)
        stress_co_dawdle(&shared->stress, &random);
    atomic_store(&shared->actors_ended, 0);
}

static void director(void *arg)
{
    struct shared *shared = arg;
    struct node_options *options = node_options_new();
    check(options && node_options_set(options, "driver", "pass", NULL) == 0);
    memory_disk_options(&shared->disk, options, "file.", "file");
    check(block_co_open(&shared->env, options, &shared->top, NULL) == 0);
    check(block_backend_new(&shared->backend, shared->top, false, NULL) == 0);

    /* One whole writer a block: they are spawned first, and have the first numbers. */
    unsigned parts = BLOCKS * PART_WRITERS_PER_BLOCK;
    spawn(shared, BLOCKS, whole_writer);
    while (atomic_load(&shared->numbers) < BLOCKS)
        coroutine_co_pause();
    spawn(shared, parts, part_writer);
    spawn(shared, STRESS_LOOPS, flusher);
    spawn(shared, 2, exclusive);
    spawn(shared, 2, drainer);
    co_wait_for(shared, BLOCKS + parts + STRESS_LOOPS + 4);

    memory_disk_hold(&shared->disk, 1u << MEMORY_READ);
    spawn(shared, LAST_READS, last_reader);
    memory_disk_co_wait_held(&shared->disk, LAST_READS);
    memory_disk_release(&shared->disk);
    check(block_co_backend_free(shared->backend) == 0);
    co_wait_for(shared, LAST_READS);
    block_co_node_unref(shared->top);
}

int main(void)
{
    struct shared *shared = calloc(1, sizeof(*shared));
    check(shared);
    stress_init(&shared->stress, "block");
    check(block_env_init(&shared->env, shared->stress.loops, STRESS_LOOPS, shared->stress.workers,
                         NULL, memory_drivers, NULL) == 0);
    memory_disk_init(&shared->disk, BLOCKS * BLOCK_BYTES, BLOCKS * BLOCK_BYTES,
                     shared->stress.seed);
    shared->disk.limits.request_alignment = BLOCK_BYTES;
    shared->disk.pauses_max = 2;

    stress_spawn(&shared->stress, 0, director, shared);
    stress_run(&shared->stress);

    check(shared->disk.active_count == 0);
    memory_disk_fini(&shared->disk);
    block_env_fini(&shared->env);
    stress_fini(&shared->stress);
    free(shared);
    return 0;
}
