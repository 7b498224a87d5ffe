/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter record under four loops: writes that overlap, parts of sectors, zeroes, discards and
 * flushes, over disks that let others run in the middle of every call. Checked: the log replays to
 * the image, whatever overlapped; and at each flush that was answered, to all that had been.
 */
#include "tests/stress/stress.h"

#include <string.h>

#include "block/env.h"
#include "block/filters.h"
#include "common/endian.h"
#include "tests/harness/write_log.h"
#include "tests/unit/block/memory_driver.h"

#define SECTOR 512
#define WRITERS 8
#define OWN_SECTORS 8 /* a writer's own, with rising numbers */
#define SHARED_BYTES 4096
#define SHARED_START (WRITERS * OWN_SECTORS * SECTOR)
#define SIZE_BYTES (SHARED_START + SHARED_BYTES)
#define ROUNDS 8 /* in each phase; at its end the log is compared */
#define PHASES 25
#define LOG_CAPACITY (16u << 20)

static const struct block_driver *drivers[] = {&block_filter_record, NULL, NULL, NULL};

struct shared {
    struct stress stress;
    struct block_env env;
    struct memory_disk disk, log;
    struct block_node *node;
    atomic_uint numbers, ended, phase;
    _Atomic uint64_t answered[WRITERS * OWN_SECTORS];
};

static void co_write(struct shared *shared, uint64_t offset, void *data, size_t length,
                     unsigned flags)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    check(node_co_write(shared->node, offset, &vec, flags) == 0);
}

static void writer(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    unsigned number = atomic_fetch_add(&shared->numbers, 1);
    uint64_t phase = atomic_load(&shared->phase);
    stress_random(&shared->stress, &random, phase * WRITERS + number);
    for (uint64_t round = phase * ROUNDS + 1; round <= (phase + 1) * ROUNDS; round++) {
        uint8_t data[3000] = {0};
        unsigned own = number * OWN_SECTORS + (unsigned)random_below(&random, OWN_SECTORS);
        store_le64(data, round);
        co_write(shared, (uint64_t)own * SECTOR, data, SECTOR,
                 random_once_in(&random, 10) ? BLOCK_FUA : 0);
        atomic_store(&shared->answered[own], round);
        /* Parts of sectors keep each other out by read-modify-write; whole ones do not. */
        uint64_t unit = random_once_in(&random, 4) ? 1 : SECTOR;
        uint64_t length = (1 + random_below(&random, sizeof(data) / unit)) * unit;
        uint64_t offset =
            SHARED_START + random_below(&random, (SHARED_BYTES - length) / unit + 1) * unit;
        memset(data, (int)random_below(&random, 256), length);
        switch (random_below(&random, 4)) {
        case 0:
            check(node_co_zero(shared->node, offset, length, 0) == 0);
            break;
        case 1:
            check(node_co_discard(shared->node, offset, length, 0) == 0);
            break;
        default:
            co_write(shared, offset, data, length, 0);
        }
        coroutine_co_pause();
    }
    atomic_fetch_add(&shared->ended, 1);
}

/* The log up to its last counted flush, which came no earlier than the one just answered. */
static void check_flush(struct shared *shared, const uint64_t *answered)
{
    struct write_log log;
    struct write_log_entry entry;
    uint64_t last_flush = 0;
    uint8_t *image = calloc(1, SIZE_BYTES);
    uint8_t *copy = malloc(LOG_CAPACITY);
    check(image && copy);
    pthread_mutex_lock(&shared->log.mutex);
    size_t length = shared->log.size_bytes;
    memcpy(copy, shared->log.data, length);
    pthread_mutex_unlock(&shared->log.mutex);
    check(write_log_open_memory(&log, copy, length, NULL) == 0);
    while (write_log_next(&log, &entry, NULL) > 0) {
        if (entry.flags & LOG_WRITES_FLUSH)
            last_flush = entry.number;
    }
    write_log_rewind(&log);
    check(write_log_replay(&log, last_flush, image, SIZE_BYTES, NULL) == 0);
    for (unsigned i = 0; i < WRITERS * OWN_SECTORS; i++)
        check(load_le64(image + (size_t)i * SECTOR) >= answered[i]);
    free(copy);
    free(image);
}

static void flusher(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    stress_random(&shared->stress, &random, 1000);
    do {
        uint64_t answered[WRITERS * OWN_SECTORS];
        for (unsigned i = 0; i < WRITERS * OWN_SECTORS; i++)
            answered[i] = atomic_load(&shared->answered[i]);
        check(node_co_flush(shared->node) == 0);
        check_flush(shared, answered);
        stress_co_dawdle(&shared->stress, &random);
    } while (atomic_load(&shared->ended) < WRITERS);
    atomic_fetch_add(&shared->ended, 1);
}

static void check_all(struct shared *shared)
{
    struct write_log log;
    uint8_t *image = calloc(1, SIZE_BYTES);
    check(image);
    check(write_log_open_memory(&log, shared->log.data, shared->log.size_bytes, NULL) == 0);
    check(write_log_replay(&log, UINT64_MAX, image, SIZE_BYTES, NULL) == 0);
    check(memcmp(image, shared->disk.data, SIZE_BYTES) == 0);
    free(image);
}

static void director(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    struct node_options *options = node_options_new();
    check(options);
    stress_random(&shared->stress, &random, 5000);
    check(node_options_set(options, "driver", "record", NULL) == 0);
    check(node_options_set(options, "log-super-update-interval", "16", NULL) == 0);
    memory_disk_options(&shared->disk, options, "file.", "growing");
    memory_disk_options(&shared->log, options, "log.", "growing");
    check(block_co_open(&shared->env, options, &shared->node, NULL) == 0);
    for (unsigned phase = 0; phase < PHASES; phase++) {
        atomic_store(&shared->phase, phase);
        atomic_store(&shared->numbers, 0);
        atomic_store(&shared->ended, 0);
        for (unsigned i = 0; i < WRITERS; i++)
            stress_spawn(&shared->stress, i % STRESS_LOOPS, writer, shared);
        stress_spawn(&shared->stress, 1, flusher, shared);
        while (atomic_load(&shared->ended) < WRITERS + 1)
            stress_co_dawdle(&shared->stress, &random);
        check(node_co_flush(shared->node) == 0); /* so that all is counted */
        check_all(shared);
    }
    block_co_node_unref(shared->node);
}

int main(void)
{
    struct shared *shared = calloc(1, sizeof(*shared));
    check(shared);
    drivers[1] = memory_drivers[0];
    drivers[2] = memory_drivers[1];
    stress_init(&shared->stress, "record");
    check(block_env_init(&shared->env, shared->stress.loops, STRESS_LOOPS, shared->stress.workers,
                         NULL, drivers, NULL) == 0);
    memory_disk_init(&shared->disk, SIZE_BYTES, SIZE_BYTES, shared->stress.seed);
    memory_disk_init(&shared->log, 0, LOG_CAPACITY, shared->stress.seed + 1);
    shared->disk.pauses_max = shared->log.pauses_max = 2;
    stress_spawn(&shared->stress, 0, director, shared);
    stress_run(&shared->stress);
    memory_disk_fini(&shared->disk);
    memory_disk_fini(&shared->log);
    block_env_fini(&shared->env);
    stress_fini(&shared->stress);
    free(shared);
    return 0;
}
