/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A cache shared by four loops, over a disk that knows the order: each cell has a word in a table
 * of each class, and one in the data. Actors raise a cell's version in the data, the low, the
 * middle and the high class, in this order; others read, flush, and put things into quarantine.
 *
 * The disk keeps what is durable apart, and refuses a write of a version to a class when the class
 * below does not have at least that version on stable storage. Every reader sees a version between
 * the one before and the one after its read; after a flush every version from before is durable;
 * what was in quarantine runs when its version is durable and no use is open that began before.
 * At any moment the disk and the redo log together have every version.
 */
#include "tests/stress/stress.h"

#include <errno.h>
#include <string.h>

#include "block/driver.h"
#include "block/env.h"
#include "block/node_options.h"
#include "cache/cache.h"
#include "cache/redo_log.h"

#define TABLE_BYTES 512
#define WORDS (TABLE_BYTES / 8)
#define CELLS (40 * WORDS) /* five times what the cache holds of a kind */
#define CLASSES 4          /* the data is the lowest */
#define CLASS_BYTES (CELLS * 8)
#define ACTORS 24
#define ROUNDS 600
#define DATA_CLASS 0
#define LOG_BYTES (REDO_HEADER_BYTES + (32u << 10))
#define PAIRS_CLASS CLASSES /* above all, and pointed to by nobody: see co_pairs() */

struct ordered_disk {
    pthread_mutex_t mutex;
    uint64_t stored[CLASSES + 1][CELLS], durable[CLASSES + 1][CELLS];
};

static struct shared {
    struct stress stress;
    struct block_env env;
    struct ordered_disk disk;
    struct block_node *node, *data_node;
    pthread_mutex_t monitor;
    struct cache *cache;
    uint64_t versions[CELLS]; /* guarded by the monitor; what the high class has */
    atomic_uint numbers, begun, ended;
    atomic_uint_fast64_t clock;
    atomic_uint_fast64_t open_since[ACTORS]; /* 0: no use is open */
    atomic_uint quarantined, released;
    struct redo *redo;
    uint64_t replayed[CLASSES + 1][CELLS]; /* guarded by the monitor */
    unsigned kills, kills_while_broken;
} shared;

static _Alignas(REDO_HEADER_BYTES) uint8_t log_memory[LOG_BYTES];
static const struct redo_identity log_identity;

/* --- the disk -----------------------------------------------------------------------------------
 */

static int disk_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    (void)options, (void)err;
    node->limits = (struct block_limits){.request_alignment = 512, .memory_alignment = 512};
    atomic_store(&node->size_bytes, (uint64_t)(CLASSES + 1) * CLASS_BYTES);
    return 0;
}

static void disk_co_close(struct block_node *node)
{
    (void)node;
}

static void co_hold_up(void)
{
    static _Thread_local unsigned turns;
    for (unsigned i = turns++ % 4; i > 0; i--)
        coroutine_co_pause();
}

static int disk_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    struct ordered_disk *disk = &shared.disk;
    (void)node;
    co_hold_up();
    pthread_mutex_lock(&disk->mutex);
    vec_copy_from(vec, (uint8_t *)disk->stored + offset);
    pthread_mutex_unlock(&disk->mutex);
    co_hold_up();
    return 0;
}

static int disk_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                         unsigned flags)
{
    struct ordered_disk *disk = &shared.disk;
    uint64_t words[WORDS];
    (void)node, (void)flags;
    check(vec->length == sizeof(words));
    vec_copy_to(vec, words);
    co_hold_up();
    unsigned class_index = (unsigned)(offset / CLASS_BYTES);
    size_t first = offset % CLASS_BYTES / 8;
    pthread_mutex_lock(&disk->mutex);
    for (size_t i = 0; i < WORDS; i++) {
        check(class_index == 0 || class_index == PAIRS_CLASS ||
              disk->durable[class_index - 1][first + i] >= words[i]);
        disk->stored[class_index][first + i] = words[i];
    }
    pthread_mutex_unlock(&disk->mutex);
    co_hold_up();
    return 0;
}

/* What was stored when it began is durable when it ends; versions only grow. */
static int disk_co_flush(struct block_node *node)
{
    struct ordered_disk *disk = &shared.disk;
    bool is_data = node == shared.data_node;
    unsigned first = is_data ? DATA_CLASS : DATA_CLASS + 1, end = is_data ? first + 1 : CLASSES;
    uint64_t(*seen)[CELLS] = malloc(sizeof(disk->stored));
    check(seen);
    pthread_mutex_lock(&disk->mutex);
    memcpy(seen, disk->stored, sizeof(disk->stored));
    pthread_mutex_unlock(&disk->mutex);
    co_hold_up();
    pthread_mutex_lock(&disk->mutex);
    for (unsigned c = first; c < end; c++) {
        for (size_t i = 0; i < CELLS; i++) {
            if (seen[c][i] > disk->durable[c][i])
                disk->durable[c][i] = seen[c][i];
        }
    }
    pthread_mutex_unlock(&disk->mutex);
    free(seen);
    return 0;
}

static const struct block_driver driver_ordered = {
    .name = "ordered",
    .flags = BLOCK_DRIVER_PROTOCOL,
    .co_open = disk_co_open,
    .co_close = disk_co_close,
    .co_read = disk_co_read,
    .co_write = disk_co_write,
    .co_flush = disk_co_flush,
};

static const struct block_driver *const drivers[] = {&driver_ordered, NULL};

static bool is_durable(unsigned class_index, size_t cell, uint64_t version)
{
    pthread_mutex_lock(&shared.disk.mutex);
    bool is = shared.disk.durable[class_index][cell] >= version;
    pthread_mutex_unlock(&shared.disk.mutex);
    return is;
}

/* --- actors -------------------------------------------------------------------------------------
 */

static uint64_t place_of(unsigned class_index, size_t cell)
{
    return (uint64_t)class_index * CLASS_BYTES + cell * 8;
}

/* Kinds are counted from the class above the data. */
static unsigned kind_of(unsigned class_index)
{
    return class_index - 1;
}

static uint64_t version_of(size_t cell)
{
    pthread_mutex_lock(&shared.monitor);
    uint64_t version = shared.versions[cell];
    pthread_mutex_unlock(&shared.monitor);
    return version;
}

struct quarantine {
    struct cache_after after;
    size_t cell;
    uint64_t version, since;
};

static void co_release(struct cache_after *after)
{
    struct quarantine *quarantine = container_of(after, struct quarantine, after);
    check(is_durable(CLASSES - 1, quarantine->cell, quarantine->version));
    for (unsigned i = 0; i < ACTORS; i++) {
        uint64_t since = atomic_load(&shared.open_since[i]);
        check(since == 0 || since > quarantine->since);
    }
    atomic_fetch_add(&shared.released, 1);
    free(quarantine);
}

/* Monitor. */
static void put_into_quarantine(size_t cell, uint64_t version)
{
    struct quarantine *quarantine = malloc(sizeof(*quarantine));
    check(quarantine);
    *quarantine = (struct quarantine){.after = {.co_run = co_release},
                                      .cell = cell,
                                      .version = version,
                                      .since = atomic_fetch_add(&shared.clock, 1) + 1};
    atomic_fetch_add(&shared.quarantined, 1);
    cache_after_durable(shared.cache, &quarantine->after);
}

/* Each actor has cells of its own, so that its data write is the latest of the cell. A table has
 * cells of all of them. */
static void co_write_data(size_t cell, uint64_t version)
{
    pthread_mutex_lock(&shared.disk.mutex);
    shared.disk.stored[DATA_CLASS][cell] = version;
    pthread_mutex_unlock(&shared.disk.mutex);
    co_hold_up();
    /* As a change of the node, or its flush would be for free. */
    struct node_lane *lane = &shared.data_node->lanes[loop_index(loop_current())];
    atomic_fetch_add(&lane->write_generation, 1);
}

/* From the highest class down, as pins may be taken; changed from the lowest up. */
static void co_raise(struct random *random, size_t cell)
{
    struct cache_table *tables[CLASSES] = {NULL};
    uint64_t version = version_of(cell) + 1;
    unsigned lowest = 1;
    co_write_data(cell, version);
    for (unsigned c = CLASSES - 1; c >= lowest; c--)
        check(cache_co_get(shared.cache, kind_of(c), place_of(c, cell), &tables[c]) == 0);
    size_t from = cell % WORDS * 8;
    pthread_mutex_lock(&shared.monitor);
    for (unsigned c = lowest; c < CLASSES; c++)
        cache_store(shared.cache, tables[c], from, &version, 8);
    cache_needs(shared.cache, tables[lowest], 1);
    shared.versions[cell] = version;
    if (random_once_in(random, 8))
        put_into_quarantine(cell, version);
    for (unsigned c = lowest; c < CLASSES; c++)
        cache_put_locked(shared.cache, tables[c]);
    pthread_mutex_unlock(&shared.monitor);
}

static void co_read_any(struct random *random)
{
    size_t cell = random_below(random, CELLS);
    unsigned c = 1 + (unsigned)random_below(random, CLASSES - 1);
    uint64_t before = version_of(cell), seen;
    check(cache_co_read(shared.cache, kind_of(c), place_of(c, cell), &seen, 8) == 0);
    check(seen >= before && seen <= version_of(cell));
}

/* All of a table, which changes meanwhile: no word is torn or older than it was before. */
static void co_read_table(struct random *random)
{
    uint64_t words[WORDS], before[WORDS];
    size_t first = random_below(random, CELLS / WORDS) * WORDS;
    unsigned c = 1 + (unsigned)random_below(random, CLASSES - 1);
    pthread_mutex_lock(&shared.monitor);
    memcpy(before, &shared.versions[first], sizeof(before));
    pthread_mutex_unlock(&shared.monitor);
    check(cache_co_read(shared.cache, kind_of(c), place_of(c, first), words, TABLE_BYTES) == 0);
    pthread_mutex_lock(&shared.monitor);
    for (size_t i = 0; i < WORDS; i++)
        check(words[i] >= before[i] && words[i] <= shared.versions[first + i]);
    pthread_mutex_unlock(&shared.monitor);
}

static void co_flush(struct random *random)
{
    size_t cell = random_below(random, CELLS);
    uint64_t before = version_of(cell);
    check(cache_co_flush(shared.cache) == 0);
    for (unsigned c = 0; c < CLASSES; c++)
        check(is_durable(c, cell, before));
}

/* Two words that are changed together are seen together, also when their table comes and goes. */
static void co_pairs(struct random *random)
{
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t pair[2];
        uint64_t place =
            place_of(PAIRS_CLASS, random_below(random, i % 64 > 0 ? 4 : 12 * WORDS) / 2 * 2);
        check(cache_co_read(shared.cache, kind_of(PAIRS_CLASS), place, pair, sizeof(pair)) == 0);
        check(pair[0] == pair[1]);
        if (i % 4 > 0)
            continue;
        struct cache_table *table;
        pair[0] = pair[1] = random_u64(random);
        check(cache_co_get(shared.cache, kind_of(PAIRS_CLASS), place, &table) == 0);
        pthread_mutex_lock(&shared.monitor);
        cache_store(shared.cache, table, place % TABLE_BYTES, pair, sizeof(pair));
        cache_put_locked(shared.cache, table);
        pthread_mutex_unlock(&shared.monitor);
    }
}

/* Monitor. On a copy of the disk. */
static void replay(const struct redo_header *header)
{
    const uint8_t *ring = log_memory + REDO_HEADER_BYTES;
    for (uint64_t position = header->head; position != header->tail;) {
        struct redo_record record;
        const uint8_t *at = ring + position % (LOG_BYTES - REDO_HEADER_BYTES);
        memcpy(&record, at, sizeof(record));
        position += sizeof(record) + (record.length + 15u) / 16 * 16;
        check(record.type == REDO_STORE || record.type == REDO_PAD);
        if (record.type == REDO_STORE)
            memcpy((uint8_t *)shared.replayed + record.node_offset, at + sizeof(record),
                   record.length);
    }
}

/* What would be there after a kill in this moment. */
static void check_kill(void)
{
    pthread_mutex_lock(&shared.monitor);
    shared.kills++;
    if (redo_look(shared.redo, &log_identity) == REDO_BROKEN) {
        shared.kills_while_broken++;
        pthread_mutex_unlock(&shared.monitor);
        return;
    }
    pthread_mutex_lock(&shared.disk.mutex);
    memcpy(shared.replayed, shared.disk.stored, sizeof(shared.replayed));
    pthread_mutex_unlock(&shared.disk.mutex);
    replay((const struct redo_header *)(const void *)log_memory);
    for (unsigned c = DATA_CLASS + 1; c < CLASSES; c++)
        check(memcmp(shared.replayed[c], shared.versions, sizeof(shared.versions)) == 0);
    pthread_mutex_unlock(&shared.monitor);
}

static void actor(void *arg)
{
    struct random random;
    struct cache_use use;
    (void)arg;
    unsigned number = atomic_fetch_add(&shared.numbers, 1);
    stress_random(&shared.stress, &random, number);
    for (unsigned round = 0; round < ROUNDS; round++) {
        cache_use_begin(shared.cache, &use);
        atomic_store(&shared.open_since[number], atomic_fetch_add(&shared.clock, 1) + 1);
        uint64_t choice = random_below(&random, 17);
        if (choice < 8)
            co_raise(&random, random_below(&random, CELLS / ACTORS) * ACTORS + number);
        else if (choice < 12)
            co_read_any(&random);
        else if (choice < 14)
            co_read_table(&random);
        else if (choice < 15)
            co_flush(&random);
        else if (choice < 16)
            stress_co_dawdle(&shared.stress, &random);
        else
            co_pairs(&random);
        atomic_store(&shared.open_since[number], 0);
        cache_use_end(shared.cache, &use);
        if (random_once_in(&random, 50))
            cache_clean(shared.cache);
        if (random_once_in(&random, 50))
            check_kill();
    }
    atomic_fetch_add(&shared.ended, 1);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static struct block_node *co_open(void)
{
    struct block_node *node;
    struct node_options *options = node_options_new();
    check(options && node_options_set(options, "driver", "ordered", NULL) == 0);
    check(block_co_open(&shared.env, options, &node, NULL) == 0);
    return node;
}

static void co_begin(void)
{
    struct cache_config config = {
        .env = &shared.env, .monitor = &shared.monitor, .node_count = 2, .kind_count = CLASSES};
    config.nodes[0] = shared.node = co_open();
    config.nodes[1] = shared.data_node = co_open();
    for (unsigned c = 1; c <= PAIRS_CLASS; c++)
        config.kinds[kind_of(c)] = (struct cache_kind_config){.name = "cells",
                                                              .class_index = c,
                                                              .table_bytes = TABLE_BYTES,
                                                              .base = place_of(c, 0),
                                                              .budget_bytes = 1};
    check(cache_new(&shared.cache, &config, NULL) == 0);
    check(redo_new(&shared.redo, log_memory, LOG_BYTES) == 0);
    redo_format(shared.redo, &log_identity);
    pthread_mutex_lock(&shared.monitor);
    cache_attach_redo(shared.cache, shared.redo);
    pthread_mutex_unlock(&shared.monitor);
    cache_start_cleaning(shared.cache, 1);
}

static void co_end(void)
{
    cache_co_stop_cleaning(shared.cache);
    check(cache_co_settle(shared.cache) == 0);
    for (unsigned c = 0; c < CLASSES; c++) {
        for (size_t i = 0; i < CELLS; i++)
            check(shared.disk.durable[c][i] == shared.versions[i]);
    }
    check(atomic_load(&shared.quarantined) > 0);
    check(atomic_load(&shared.quarantined) == atomic_load(&shared.released));
    check(redo_look(shared.redo, &log_identity) == REDO_EMPTY);
    check(shared.kills_while_broken < shared.kills);
    cache_free(shared.cache);
    redo_free(shared.redo);
    block_co_node_unref(shared.node);
    block_co_node_unref(shared.data_node);
}

static void conductor(void *arg)
{
    (void)arg;
    co_begin();
    for (unsigned i = 0; i < ACTORS; i++)
        stress_spawn(&shared.stress, i % STRESS_LOOPS, actor, NULL);
    while (atomic_load(&shared.ended) < ACTORS)
        coroutine_co_pause();
    co_end();
}

int main(void)
{
    stress_init(&shared.stress, "cache");
    check(block_env_init(&shared.env, shared.stress.loops, STRESS_LOOPS, shared.stress.workers,
                         NULL, drivers, NULL) == 0);
    pthread_mutex_init(&shared.monitor, NULL);
    pthread_mutex_init(&shared.disk.mutex, NULL);
    stress_spawn(&shared.stress, 0, conductor, NULL);
    stress_run(&shared.stress);
    block_env_fini(&shared.env);
    pthread_mutex_destroy(&shared.monitor);
    pthread_mutex_destroy(&shared.disk.mutex);
    stress_fini(&shared.stress);
    return 0;
}
