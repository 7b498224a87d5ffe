/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CACHE_REDO_H
#define CACHE_REDO_H

/*
 * The redo log: what was changed in a cache's tables and is not on the disk yet, once more, in
 * memory that the kernel keeps when the process is killed. The next server writes it to the tables
 * at open, so that a kill loses nothing that a client was told is done. It is no journal: the
 * memory is gone after a reboot or a power cut, together with the page cache, and then the order of
 * the rounds (cache.h) is all there is, as without a log.
 *
 * The memory is a header of one page and a ring of records, each the bytes of one change and their
 * place. `head` and `tail` count bytes from the log's begin on and only grow; a record is whole
 * before `tail` moves behind it. So a kill between any two instructions leaves a log that is all
 * the changes up to some moment, and every moment is good: what points is stored after what it
 * points to. A round that has succeeded moves `head` to where `tail` was when it took its copies.
 *
 * The log never holds anybody up and never fails: where the ring has no room it is *broken*, which
 * its header says, and is not replayed: a kill then costs what it costs without a log. The first
 * round that begins after that with an empty log, and succeeds before that is full too, heals it.
 *
 * Why a replay (replay.c) may be cut at any moment, by a kill or a power cut:
 * - First the nodes are flushed. What the tables will point to is durable from there on, and so are
 *   the tables as they are; of each place that is a state which the cache showed at `head` or
 *   later, since what it showed at `head` was made durable by the round that moved it there.
 * - Then each place gets its last state at once, never one in between; a class is durable before
 *   the next one is written. A place of a higher class is at some moment between `head` and `tail`
 *   all the time; so it is enough that the last state of the lower classes is good for each of
 *   these moments. What was added for it is in there. What was taken back (a refcount that went
 *   down) was taken back after a round that made the pointer's removal durable (cache_after), and
 *   that round has moved `head` behind the removal: no moment since then has the pointer.
 * - What lies in a place that is no table any more is not written: cache_co_forget() is a record.
 * - A kill leaves the log as it is; the next server does all of it again, from the same `head`.
 *
 * "Monitor" as in cache.h.
 */

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct cache;
struct clock;
struct redo;

#define REDO_HEADER_BYTES 4096
#define REDO_MEMORY_BYTES_MIN (2 * REDO_HEADER_BYTES)
#define REDO_MEMORY_BYTES_DEFAULT (4u << 20)

/* Whose log it is: bytes that are the format's own, all of them compared. */
#define REDO_IDENTITY_BYTES 64
struct redo_identity {
    uint8_t bytes[REDO_IDENTITY_BYTES];
};

/* A log in this memory, which outlives it; page-aligned, of a multiple of 16 bytes, at least
 * REDO_MEMORY_BYTES_MIN. Nothing of it is changed, it may be mapped to be read alone. -ENOMEM. */
int redo_new(struct redo **ret_redo, void *memory, size_t memory_bytes);
/* The memory stays as it is. No cache has it any more. Takes NULL. */
void redo_free(struct redo *redo);

enum redo_content {
    REDO_FOREIGN, /* no log, or one of another size, of another version, of somebody else */
    REDO_BROKEN,  /* it does not have all */
    REDO_EMPTY,   /* there was nothing that was not on the disk */
    REDO_CHANGES, /* to be replayed; what the records say was not looked at */
};
/* What the memory holds. Before redo_format(), or at any time. Reads the memory alone. */
enum redo_content redo_look(const struct redo *redo, const struct redo_identity *identity);

/* The memory becomes an empty log of that identity; its heartbeat is 0. What it held is lost. A
 * kill in the middle of it leaves a log that is empty or foreign. */
void redo_format(struct redo *redo, const struct redo_identity *identity);

/* When somebody last changed the image through this log, as CLOCK_REALTIME says it, in nanoseconds:
 * a number that the format stores and looks at. From any thread, after redo_format() or a look that
 * did not find it foreign; a plain store. */
void redo_beat(struct redo *redo, uint64_t realtime_ns);
uint64_t redo_heartbeat_ns(const struct redo *redo);
/* When a replay was last about to change the nodes, 0: none was. It is no heartbeat, since a replay
 * may be cut before it has changed anything: then the image is as old as it was. */
uint64_t redo_replay_ns(const struct redo *redo);
/* The same by a clock. Where it has one, the cache beats before each write of a table, and a replay
 * says when: what they change is the log's doing. The clock outlives the log. */
void redo_set_clock(struct redo *redo, struct clock *clock);
void redo_beat_now(struct redo *redo);

/* Monitor. From now on what is changed in the cache's tables goes into the log too, which was made
 * empty by redo_format() or redo_co_replay(). Classes that are postponed are left out: who
 * postpones has another way to find out that they are behind. NULL: not any more; the log stays as
 * it is. What is dirty already is not in it, so it is broken until the next round has succeeded.
 * The cache starts rounds by itself, so that the ring does not become full; cache_co_settle() waits
 * for them, and leaves an empty log when it succeeds. */
void cache_attach_redo(struct cache *cache, struct redo *redo);

/* Monitor. It is broken and nothing heals it, up to the next redo_format(): for an image whose
 * tables turned out to make no sense. cache_refuse_writes() does it. */
void redo_break_for_good(struct redo *redo);

/* Writes the changes of a log that redo_look() called REDO_CHANGES to the nodes of the cache, in
 * the order of its classes, and makes them durable. Nobody uses the cache meanwhile and nothing in
 * it is dirty; it is empty afterwards, as by cache_invalidate(). The log is empty after a success
 * and may be attached; *ret_count is the number of changes.
 * -EBADMSG: the log breaks a rule (a kind or a place that there is not; an end beyond
 * end_limit_bytes of a node): nothing was written, redo_format() makes it of use again. -ENOMEM,
 * and errors of the nodes: the log is as it was, and its changes may be written in part; who opens
 * the image must fail, and the next one tries it again. But a flush that failed breaks the log. */
int redo_co_replay(struct redo *redo, struct cache *cache, uint64_t end_limit_bytes,
                   uint64_t *ret_count, struct error *err);

struct redo_counters {
    uint64_t records; /* since redo_new() */
    uint64_t breaks;
    uint64_t live_bytes; /* of the ring, right now */
};
/* Monitor. */
void redo_counters(const struct redo *redo, struct redo_counters *ret_counters);

#endif
