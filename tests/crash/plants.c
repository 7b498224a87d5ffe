/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/plants.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/loop.h"
#include "cache/owned.h"
#include "cache/redo_log.h"
#include "cache/table.h"
#include "formats/gow1/image.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/writer.h"
#include "tests/crash/crash.h"

#define STASH_MAX 64
#define STORES_LOGGED 5 /* of six */

static struct {
    enum crash_plant active;
    struct cache *cache;       /* the one that was made last */
    unsigned early;            /* decrements and punches that nobody waits for */
    uint64_t stash[STASH_MAX]; /* clusters that were freed: the next ones to be taken */
    unsigned stash_count;
    unsigned stores, tables; /* that were changed, that were made */
} planted;

void crash_plant(enum crash_plant plant)
{
    planted.active = plant;
}

/* Calls of `name` come here, and go on to the real one. */
#define WRAP(type, name, parameters)                         \
    type real_##name parameters __asm__("__real_" #name);    \
    type wrapped_##name parameters __asm__("__wrap_" #name); \
    type wrapped_##name parameters

/* --- the order of the classes -------------------------------------------------------------------
 */

WRAP(int, cache_new,
     (struct cache * *ret_cache, const struct cache_config *config, struct error *err))
{
    struct cache_config wrong = *config;
    planted.stash_count = 0;
    if (planted.active == PLANT_REFCOUNT_AFTER_L2) {
        wrong.kinds[QCOW2_TABLE_REFCOUNT_BLOCK].class_index = QCOW2_TABLE_L1;
        wrong.kinds[QCOW2_TABLE_L1].class_index = QCOW2_TABLE_REFCOUNT_BLOCK;
    } else if (planted.active == PLANT_L1_BEFORE_L2) {
        wrong.kinds[QCOW2_TABLE_L1].class_index = QCOW2_TABLE_L2;
        wrong.kinds[QCOW2_TABLE_L2].class_index = QCOW2_TABLE_L1;
    } else if (planted.active == PLANT_MAP_BEFORE_ALLOCATED) {
        wrong.kinds[GOW1_TABLE_HEADER].class_index = GOW1_TABLE_MAP;
        wrong.kinds[GOW1_TABLE_MAP].class_index = GOW1_TABLE_HEADER;
    }
    int rc = real_cache_new(ret_cache, &wrong, err);
    planted.cache = rc == 0 ? *ret_cache : NULL;
    return rc;
}

WRAP(void, cache_needs, (struct cache * cache, struct cache_table *table, unsigned node_index))
{
    if (planted.active != PLANT_L2_BEFORE_DATA)
        real_cache_needs(cache, table, node_index);
}

WRAP(int, cache_co_flush, (struct cache * cache))
{
    return planted.active == PLANT_LYING_FLUSH ? 0 : real_cache_co_flush(cache);
}

/* --- the quarantine -----------------------------------------------------------------------------
 */

static void free_at_once(void *arg)
{
    struct cache_after *after = arg;
    coroutine_co_pause(); /* the monitor is held right now */
    after->co_run(after);
    planted.early--;
}

WRAP(void, cache_after_durable, (struct cache * cache, struct cache_after *after))
{
    if (planted.active != PLANT_EARLY_DECREMENT) {
        real_cache_after_durable(cache, after);
        return;
    }
    planted.early++;
    if (coroutine_start(coroutine_loop(coroutine_self()), free_at_once, after) < 0)
        crash_die("no memory for a coroutine");
}

static void co_wait_for_early(void)
{
    while (planted.early > 0)
        coroutine_co_pause();
}

WRAP(int, cache_co_settle, (struct cache * cache))
{
    co_wait_for_early();
    int rc = real_cache_co_settle(cache);
    co_wait_for_early();
    return rc;
}

struct punch {
    struct block_node *node;
    uint64_t offset, length;
    unsigned flags;
};

int real_node_co_discard(struct block_node *node, uint64_t offset, uint64_t length,
                         unsigned flags) __asm__("__real_node_co_discard");

static void punch_detached(void *arg)
{
    struct punch *punch = arg;
    real_node_co_discard(punch->node, punch->offset, punch->length, punch->flags);
    free(punch);
    planted.early--;
}

/* Of the format's file, not of what a client asks. */
WRAP(int, node_co_discard,
     (struct block_node * node, uint64_t offset, uint64_t length, unsigned flags))
{
    if (planted.active != PLANT_DETACHED_PUNCH || node->driver == &format_qcow2)
        return real_node_co_discard(node, offset, length, flags);
    struct punch *punch = crash_alloc(sizeof(*punch));
    *punch = (struct punch){node, offset, length, flags};
    planted.early++;
    if (coroutine_start(coroutine_loop(coroutine_self()), punch_detached, punch) < 0)
        crash_die("no memory for a coroutine");
    return 0;
}

WRAP(void, uses_co_grace, (struct cache * cache))
{
    if (planted.active != PLANT_NO_GRACE)
        real_uses_co_grace(cache);
}

/* Its count stays 1 all the time: it is only handed from one owner to the next, too early. */
WRAP(void, qcow2_unlink,
     (struct qcow2_unlinked * unlinked, const struct qcow2_cluster *cluster,
      uint64_t compressed_entry))
{
    bool is_taken = planted.active == PLANT_EARLY_REUSE && cluster->is_copied &&
                    !cluster->is_compressed && planted.stash_count < STASH_MAX;
    if (!is_taken) {
        real_qcow2_unlink(unlinked, cluster, compressed_entry);
        return;
    }
    planted.stash[planted.stash_count++] = cluster->host_offset;
    qcow2_unlinked_free(unlinked);
}

WRAP(int, qcow2_co_alloc,
     (struct qcow2_image * image, uint64_t count_max, uint64_t *ret_host_offset,
      uint64_t *ret_count))
{
    if (planted.stash_count == 0)
        return real_qcow2_co_alloc(image, count_max, ret_host_offset, ret_count);
    *ret_host_offset = planted.stash[--planted.stash_count];
    *ret_count = 1;
    return 0;
}

WRAP(struct gow1_taken, gow1_blocks_take, (struct gow1_blocks * blocks, uint32_t count_max))
{
    struct gow1_taken taken = real_gow1_blocks_take(blocks, count_max);
    taken.is_fresh |= planted.active == PLANT_STALE_BLOCK;
    return taken;
}

/* --- what is written ----------------------------------------------------------------------------
 */

WRAP(int, qcow2_co_replace_header_bytes,
     (struct qcow2_image * image, uint32_t at, const void *bytes, const void *old_bytes,
      size_t length))
{
    size_t first = length > 8 ? 8 : length;
    if (planted.active != PLANT_TORN_HEADER || first == length)
        return real_qcow2_co_replace_header_bytes(image, at, bytes, old_bytes, length);
    int rc = real_qcow2_co_replace_header_bytes(image, at, bytes, old_bytes, first);
    return rc == 0 ? real_qcow2_co_replace_header_bytes(
                         image, at + (uint32_t)first, (const uint8_t *)bytes + first,
                         (const uint8_t *)old_bytes + first, length - first)
                   : rc;
}

/* The table that a round writes there, itself and not the copy. */
static uint8_t *live_bytes(const struct block_node *node, uint64_t offset, size_t length)
{
    struct cache *cache = planted.cache;
    for (unsigned i = 0; i < cache->kind_count; i++) {
        struct cache_kind *kind = &cache->kinds[i];
        if (cache->nodes[kind->config.node_index].node != node)
            continue;
        uint64_t from = offset % kind->config.table_bytes;
        struct cache_table *table = table_find(kind, offset / kind->config.table_bytes + 1);
        if (table && table->state == TABLE_WRITING && from + length <= kind->config.table_bytes)
            return table_data(table) + from;
    }
    return NULL;
}

WRAP(int, node_co_write,
     (struct block_node * node, uint64_t offset, const struct block_vec *vec, unsigned flags))
{
    struct iovec iov;
    uint8_t *live = planted.active == PLANT_CHANGING_SLOT && planted.cache
                        ? live_bytes(node, offset, vec->length)
                        : NULL;
    if (!live)
        return real_node_co_write(node, offset, vec, flags);
    struct block_vec changing = vec_of_buffer(&iov, live, vec->length);
    return real_node_co_write(node, offset, &changing, flags);
}

/* --- the redo log -------------------------------------------------------------------------------
 */

WRAP(void, redo_store,
     (struct redo * redo, unsigned kind, uint64_t node_offset, const void *bytes, size_t length))
{
    if (planted.active != PLANT_STORE_NOT_LOGGED || planted.stores++ % (STORES_LOGGED + 1) != 0)
        real_redo_store(redo, kind, node_offset, bytes, length);
}

WRAP(void, redo_forget,
     (struct redo * redo, unsigned node_index, uint64_t node_offset, uint64_t length))
{
    if (planted.active != PLANT_FORGET_NOT_LOGGED)
        real_redo_forget(redo, node_index, node_offset, length);
}

WRAP(void, redo_round_begins, (struct redo * redo))
{
    real_redo_round_begins(redo);
    if (planted.active == PLANT_EARLY_TRIM)
        redo_round_ended(redo, 0);
}

/* Tables are only forgotten that soon where something has failed. */
WRAP(int, owned_add, (struct owned * owned, uint64_t first, uint64_t count, unsigned owner))
{
    if (planted.active == PLANT_FORGET_NOT_LOGGED && planted.tables++ % 2 == 0)
        return -ENOMEM;
    return real_owned_add(owned, first, count, owner);
}

static void turn_classes(struct cache *cache)
{
    for (unsigned i = 0; i < cache->kind_count; i++) {
        struct cache_kind_config *config = &cache->kinds[i].config;
        config->class_index = CACHE_CLASSES_MAX - 1 - config->class_index;
    }
}

WRAP(int, redo_co_replay,
     (struct redo * redo, struct cache *cache, uint64_t end_limit_bytes, uint64_t *ret_count,
      struct error *err))
{
    if (planted.active == PLANT_REPLAY_BACKWARD)
        turn_classes(cache);
    int rc = real_redo_co_replay(redo, cache, end_limit_bytes, ret_count, err);
    if (planted.active == PLANT_REPLAY_BACKWARD)
        turn_classes(cache);
    return rc;
}
