/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

/*
 * An image's on-disk tables in memory. The cache knows in which order they must reach the disk, and
 * not what is in them: content is bytes as they lie on the disk, in the disk's byte order.
 *
 * Words:
 * - A *node* is where bytes go and are made durable: a format's children (file, data file).
 * - A *kind* is a sort of tables (L2, refcount blocks): a node, a class, one size, one budget.
 * - A *table* is table_bytes of a kind at one place of its node; a large on-disk table is several
 *   of them, cut from the kind's base on.
 * - A *class* is a place in the order, from 0: whatever was changed in a class is durable before
 *   what was changed in a higher one, by the same moment, is written. (Refcount blocks, refcount
 *   table, L2, L1, header.)
 * - A *round* is one write-back: private copies of all that is dirty, taken in one moment, written
 *   class by class, all of one class in parallel, then one sync of the nodes, then the next class.
 *   So what changes later does not get into it, and it holds nobody up. One round at a time; those
 *   who come meanwhile share the next.
 * - The *monitor* is the image's plain mutex, the format's own. It guards the content of tables and
 *   whatever else the format puts under it, is held for some instructions, never across a wait.
 *   Functions that say "monitor" are called with it held; all others without.
 * - A *use* is the time in which a request relies on what it has read from tables. What a removed
 *   pointer pointed to is free for others when the uses that may have seen it have ended.
 *
 * A table is *clean*, *dirty*, *loading*, *writing* (in a round; may be changed meanwhile, and is
 * dirty again then), or not there. A load that fails leaves nothing behind: all who waited for it
 * get its error, the next one tries again. A write that fails leaves the table dirty, and the next
 * round tries again.
 *
 * Waiting without a circle: a coroutine that holds a pin may ask for a table of a lower class, and
 * for none of its own class or a higher one. Pins are short: not held while guest data moves.
 *
 * Errors are those of the nodes, and -ENOMEM. What is changed in tables cannot fail.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/list.h"

struct block_env;
struct block_node;
struct loop;
struct cache;
struct cache_table; /* pinned: stays where it is until it is put */

#define CACHE_NODES_MAX 2
#define CACHE_KINDS_MAX 8
#define CACHE_CLASSES_MAX 8
#define CACHE_TABLE_BYTES_MIN 512
#define CACHE_TABLE_BYTES_MAX (2u << 20)
#define CACHE_TABLES_MIN 8 /* of each kind, whatever its budget */

struct cache_kind_config {
    const char *name;      /* for messages; a constant */
    unsigned node_index;   /* in cache_config.nodes */
    unsigned class_index;  /* its place in the order */
    uint32_t table_bytes;  /* a power of two */
    uint64_t base;         /* a table begins at base + n * table_bytes of the node */
    uint64_t end;          /* the kind's bytes end here, maybe inside a table; 0: nowhere. What a
                            * table would have behind it is never read, changed or written */
    uint64_t budget_bytes; /* of table content in memory */
    /* Announced to filters below before a table is read or written (node_co_event() in
     * block/driver.h); NULL: nothing is. */
    const char *load_event, *write_event;
};

struct cache_config {
    struct block_env *env;
    pthread_mutex_t *monitor;                  /* the caller's; outlives the cache */
    struct block_node *nodes[CACHE_NODES_MAX]; /* the file first; outlive the cache */
    unsigned node_count;
    struct cache_kind_config kinds[CACHE_KINDS_MAX]; /* named by their index from here on */
    unsigned kind_count;
};

int cache_new(struct cache **ret_cache, const struct cache_config *config, struct error *err);
/* No call is under way, no pin held, no use open, cleaning is off. What is dirty is lost:
 * cache_co_settle() before. Takes NULL. */
void cache_free(struct cache *cache);

/* --- reading -------------------------------------------------------------------------------------
 *
 * node_offset is where the bytes lie in the kind's node; all of the range is in one table.
 */

/* Copies entries as they were at one moment. A hit takes no lock and writes nothing that other
 * loops read. False: not in memory, or being changed right now; nothing was copied. Never waits. */
bool cache_try_read(struct cache *cache, unsigned kind, uint64_t node_offset, void *to,
                    size_t length);
/* The same, and loads the table on a miss. Misses of different tables run in parallel; those who
 * miss the same one share one load. Bytes past the node's end are zeroes. Does not fail because
 * dirty tables fill the memory and cannot be written. */
int cache_co_read(struct cache *cache, unsigned kind, uint64_t node_offset, void *to,
                  size_t length);

/* --- changing ------------------------------------------------------------------------------------
 */

/* The table that holds node_offset, loaded and pinned. */
int cache_co_get(struct cache *cache, unsigned kind, uint64_t node_offset,
                 struct cache_table **ret_table);
/* The same for a place that is newly allocated: nothing is loaded, it is all zeroes and all dirty.
 * Nobody holds a pin on what was there. */
int cache_co_get_new(struct cache *cache, unsigned kind, uint64_t node_offset,
                     struct cache_table **ret_table);
/* Lets the pin go. Without the monitor; cache_put_locked() with it. Takes NULL. */
void cache_put(struct cache *cache, struct cache_table *table);
void cache_put_locked(struct cache *cache, struct cache_table *table);

/* Where the pinned table begins in its node. */
uint64_t cache_table_offset(const struct cache_table *table);

/* Monitor. Bytes [from, from + length) of a pinned table. */
void cache_load(const struct cache_table *table, size_t from, void *to, size_t length);
/* Monitor. Changes them and makes them dirty. What they point to in a lower class was changed
 * before, in this or an earlier hold of the monitor. */
void cache_store(struct cache *cache, struct cache_table *table, size_t from, const void *bytes,
                 size_t length);
/* Monitor. What the table's last change points to was written to that node (copied data, compressed
 * data), and that write has ended: it becomes durable before the table is written. */
void cache_needs(struct cache *cache, struct cache_table *table, unsigned node_index);

/* The tables inside [node_offset, node_offset + length) are not that any more (their cluster is
 * going to be freed): they are dropped, changes too. Waits while one of them is being written or
 * loaded, so that no late write of it comes. Nobody holds a pin on them; the pointer to them is
 * removed already. */
void cache_co_forget(struct cache *cache, unsigned kind, uint64_t node_offset, uint64_t length);

/* --- durability ----------------------------------------------------------------------------------
 */

/* Everything changed in tables before, in classes that are not postponed, and everything written to
 * the nodes before, is durable afterwards. */
int cache_co_flush(struct cache *cache);
/* The same, of postponed classes too. */
int cache_co_flush_all(struct cache *cache);
/* Postponed classes too, and runs what waits for durability; nothing is dirty and nothing waits
 * afterwards. For closing, inactivating, reopening: no use is open, nobody changes tables. */
int cache_co_settle(struct cache *cache);

/* Monitor. These classes (1 << class_index) are left out of flushes from now on, and have no order
 * against the others: qcow2's lazy refcounts. They are written by cache_co_settle(), or where room
 * must be made. */
void cache_postpone(struct cache *cache, unsigned classes);

/* Monitor. From now on no table is written any more: whatever would have to be, fails with this
 * code; what is in memory stays as it is. For an image whose tables turned out to make no sense. */
void cache_refuse_writes(struct cache *cache, int code);

/* Monitor. Whether any table has changes that no completed round holds. */
bool cache_is_dirty(const struct cache *cache);

/*
 * The quarantine. What was done in tables must be durable, and who saw the tables as they were must
 * have ended, before what they pointed to may be given to others, and before its refcount goes
 * down: co_run() is called after both, in a coroutine of the cache, on some loop. It may wait, get
 * and change tables, and free itself; it may not flush. A round that fails leaves it waiting.
 */
struct cache_after {
    void (*co_run)(struct cache_after *after);
    struct list_link link; /* the cache's own */
};
/* Monitor. For all that is changed in tables up to now. Does not start a round by itself. */
void cache_after_durable(struct cache *cache, struct cache_after *after);
/* Monitor. How many wait. */
unsigned cache_after_count(const struct cache *cache);
/* Monitor. Takes one of those that wait off, for its owner to free: for closing after a round that
 * failed. NULL: none is left. cache_co_settle() has returned. */
struct cache_after *cache_abandon_after(struct cache *cache);

/* A use; lives on the stack of the request that reads tables and relies on what they say. Begins
 * before the first read of a table, ends after the last I/O to where it pointed. Begin and end on
 * the same loop; costs two atomic additions on the loop's own cache line. */
struct cache_use {
    unsigned char parity;
};
void cache_use_begin(struct cache *cache, struct cache_use *use);
void cache_use_end(struct cache *cache, struct cache_use *use);

/* Everything that is clean and not pinned is dropped; for when somebody else may have changed the
 * file. Nothing is dirty. */
void cache_invalidate(struct cache *cache);

/* --- memory and counters -------------------------------------------------------------------------
 */

/* From now on, what was not asked for during one or two intervals is dropped and its memory given
 * back (qemu's cache-clean-interval). Called on a loop; 0 is off. */
void cache_start_cleaning(struct cache *cache, uint64_t interval_s);
/* Off; waits for what is being cleaned. The environment's first loop turns. */
void cache_co_stop_cleaning(struct cache *cache);
/* One pass of it; for tests, and for when memory is short. */
void cache_clean(struct cache *cache);

/* Sums over the loops; each alone is exact. */
struct cache_counters {
    uint64_t hits, misses; /* of cache_try_read() that failed, none; of all others */
    uint64_t loads_failed, evictions;
    uint64_t writes, writes_failed; /* of tables, in rounds */
    uint64_t tables, dirty_tables;  /* in memory right now */
};
void cache_kind_counters(struct cache *cache, unsigned kind, struct cache_counters *ret_counters);
struct cache_round_counters {
    uint64_t rounds, rounds_failed, syncs;
};
void cache_round_counters(struct cache *cache, struct cache_round_counters *ret_counters);

#endif
