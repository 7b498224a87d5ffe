/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CACHE_TABLE_H
#define CACHE_TABLE_H

/*
 * The cache's own parts: for cache/ alone.
 *
 * States of a table, and who moves it. All but what is marked is guarded by the monitor.
 *
 *     empty    on kind->free, or never used; not in the hash
 *       | load.c: somebody wants it; it is in the hash from here on
 *     loading  bytes come from the node; others wait in `waiters`, pinned
 *       |            \ the read failed
 *       |             failed   out of the hash; the last waiter to leave makes it empty
 *     clean    as on the disk
 *       | dirty.c: changed
 *     dirty    on cache->dirty[class]; [dirty_from, dirty_to) differs from the disk
 *       | writeback.c: a round has taken a private copy
 *     writing  the copy is on its way, or written and not yet durable. When changed meanwhile it is
 *       |      on cache->dirty[class] too, with the range of the new change
 *       | writeback.c: durable: dirty when it is on that list, else clean.
 *       |              failed: dirty, with the copy's range and needs added
 *     clean -> empty: evict.c, when it has no pin
 *
 * Invariants:
 * 1. `sequence` is even exactly while the content is whole (clean, dirty, writing) and not being
 *    changed. Whoever changes content, or takes it away, makes it odd first. So a reader without
 *    the monitor that finds the same even number before and after has read one moment's content.
 * 2. Content is written with the monitor held alone (also what a load brings), in aligned words.
 * 3. A table with pins, or that is loading, dirty or writing, is not evicted.
 * 4. A dirty range is on a list or in a round's copy until it is durable: never nowhere.
 */

#include <stdatomic.h>

#include "block/background.h"
#include "block/coroutine_lock.h"
#include "block/home_timer.h"
#include "cache/cache.h"
#include "cache/redo_log.h"
#include "common/list.h"

enum table_state {
    TABLE_EMPTY,
    TABLE_LOADING,
    TABLE_FAILED,
    TABLE_CLEAN,
    TABLE_DIRTY,
    TABLE_WRITING,
};

#define NO_NUMBER 0 /* of a table that is not in the hash; the others count from 1 */
#define NO_TABLE 0  /* in a chain of the hash; else the table's index plus 1 */

struct cache_table {
    /* Read without the monitor, written with it. */
    _Atomic uint64_t number; /* of its place, from 1 */
    _Atomic uint32_t sequence;
    _Atomic uint32_t next;      /* in its chain of the hash */
    _Atomic uint8_t referenced; /* its second chance; written by readers too */

    uint8_t state;
    unsigned pins;
    int load_rc; /* failed: why */
    uint32_t dirty_from, dirty_to;
    uint64_t needs[CACHE_NODES_MAX]; /* the sync of that node that must be complete before */
    struct cache_kind *kind;
    struct co_queue waiters; /* for the end of loading and writing, or of the last pin */
    struct list_link link;   /* cache->dirty[class], or kind->free */
};

struct cache_kind {
    struct cache_kind_config config;
    struct cache *cache;
    unsigned index;
    uint32_t capacity; /* tables */
    uint32_t touched;  /* those below it have been used at least once */
    /* NULL until the first table is wanted; buckets are the last of them to be there: */
    struct cache_table *tables;
    uint8_t *data; /* capacity * table_bytes, mapped, touched when used */
    _Atomic(_Atomic uint32_t *) buckets;
    unsigned bucket_shift; /* of a 64-bit product */

    uint32_t hand; /* of the clock, in evict.c */
    uint32_t hashed_count, dirty_count;
    uint64_t hashings; /* how often a table came into the hash */
    struct list free;
    struct co_queue room; /* those who found every table pinned */
    uint64_t evictions, loads_failed, writes, writes_failed;
};

struct cache_node {
    struct block_node *node;
    uint64_t syncs_started, syncs_completed; /* numbers; see order.c */
};

/* What belongs to one loop; others only read it. */
struct cache_lane {
    _Atomic uint64_t uses[2]; /* open uses, by parity */
    _Atomic uint64_t hits[CACHE_KINDS_MAX], misses[CACHE_KINDS_MAX];
} __attribute__((aligned(64)));

struct cache_uses {
    pthread_mutex_t mutex; /* of the wait for their end alone */
    struct co_queue waiters;
    _Atomic unsigned epoch;
    _Atomic bool awaited;
};

struct cache_cleaner {
    struct home_timer timer;
    uint64_t interval_ns; /* 0: off */
};

struct cache {
    struct block_env *env;
    pthread_mutex_t *monitor;
    struct cache_node nodes[CACHE_NODES_MAX];
    unsigned node_count;
    struct cache_kind kinds[CACHE_KINDS_MAX];
    unsigned kind_count;
    struct cache_lane *lanes; /* env->loop_count of them */
    struct cache_uses uses;
    struct cache_cleaner cleaner;

    /* Guarded by the monitor: */
    struct list dirty[CACHE_CLASSES_MAX];
    unsigned postponed; /* classes that a flush leaves out */
    unsigned want_all;  /* how many wait for a round that leaves nothing out */

    bool round_running;
    uint64_t rounds_started, rounds_done; /* numbers of rounds */
    int done_rc;                          /* of the last one */
    struct co_queue round_waiters;
    int refused_rc; /* not 0: nothing is written any more */
    uint64_t rounds_failed, syncs;

    struct list after_new;   /* wait for the next round */
    struct list after_ready; /* durable; wait for the uses to end */
    unsigned after_count;
    bool reaper_running;
    struct background reaper;
    struct co_queue reaper_waiters;

    struct redo *redo;    /* NULL: there is none */
    bool trimmer_running; /* a round for the sake of the log; see order.c */
    struct background trimmer;
    struct co_queue trimmer_waiters;
};

/* --- table.c: where a table is, and its content --- */

uint64_t table_number(const struct cache_kind *kind, uint64_t node_offset, size_t length,
                      size_t *ret_from);
/* Monitor. The kind has memory for its tables. 0 or -ENOMEM. */
int table_make_room(struct cache_kind *kind);
uint8_t *table_data(const struct cache_table *table);
/* How much of the table the kind has: all of it but where the kind ends inside. */
uint32_t table_length(const struct cache_table *table);
/* Monitor. NULL: not in the hash. */
struct cache_table *table_find(const struct cache_kind *kind, uint64_t number);
void table_hash(struct cache_table *table, uint64_t number);
void table_unhash(struct cache_table *table);
/* Content: invariant 1 and 2. bytes NULL: zeroes. */
void table_begin_change(struct cache_table *table);
void table_fill(struct cache_table *table, size_t from, const void *bytes, size_t length);
void table_end_change(struct cache_table *table);

struct cache_lane *cache_lane(struct cache *cache);
static inline void lane_count(_Atomic uint64_t *counter)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + 1, memory_order_relaxed);
}

/* --- evict.c: room for a table --- */

/* Monitor. An empty table that is on no list; NULL: none without waiting. */
struct cache_table *evict_take(struct cache_kind *kind);
/* Monitor; given up meanwhile. Waits until there may be one. */
int evict_co_make_room(struct cache_kind *kind);
/* Monitor. It was read or waited for in vain, or is dropped: not in the hash any more. */
void evict_release(struct cache_table *table);
/* Monitor. Whether so much is dirty that a miss should write it back first. */
bool evict_is_dirty_enough(const struct cache_kind *kind);

/* --- dirty.c --- */

/* Monitor. */
void dirty_mark(struct cache *cache, struct cache_table *table, uint32_t from, uint32_t to);
void dirty_unmark(struct cache_table *table);
/* Monitor. The log that the kind's changes go into; NULL: none. */
struct redo *dirty_redo(const struct cache_kind *kind);

/* --- order.c: rounds and syncs --- */

/* Monitor; given up meanwhile. A round that leaves nothing out and starts from now on has ended;
 * its result. */
int order_co_round_of_all(struct cache *cache);
int order_co_sync(struct cache *cache, unsigned node_index);
/* Monitor; given up meanwhile. Starts a round in the background where the log wants one. */
void order_start_trimmer(struct cache *cache);

/* --- writeback.c: one round --- */

/* Monitor; given up meanwhile. classes: a set (1 << class_index) of those to write. */
int writeback_co_round(struct cache *cache, unsigned classes);

/* --- after.c --- */

/* Monitor. The round that took `list` has succeeded, or not. */
void after_round_ended(struct cache *cache, struct list *list, int rc);
/* Monitor; given up meanwhile. Starts the reaper where there is something for it. */
void after_start_reaper(struct cache *cache);
/* Monitor; given up meanwhile. Nothing is ready and the reaper is gone. In no use. */
void after_co_drain(struct cache *cache);

/* --- uses.c --- */

void uses_init(struct cache_uses *uses);
void uses_fini(struct cache *cache);
/* Waits until every use that is open now has ended. */
void uses_co_grace(struct cache *cache);

#endif
