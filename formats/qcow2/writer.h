/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_WRITER_H
#define FORMATS_QCOW2_WRITER_H

/*
 * Inside the driver "qcow2": what changes an image. "Invariant N" in these files is one of the
 * numbered invariants of crash consistency in docs/crash-safety.md.
 *
 * Words:
 * - A *claim* is on some guest clusters, or on some L1 entries: who holds it may change how they
 *   are mapped, others wait. Held across waits; a claim on L1 entries is taken with one on clusters
 *   held, never the other way round.
 * - A cluster is *ours* when its L2 entry has COPIED: its refcount is 1, so it is written in place.
 * - To *link* is to store L2 entries: from then on readers see what was written.
 *
 * The order comes from the cache: refcounts, then copied data (cache_needs()), then L2, then L1.
 * What is unlinked is freed by free.c once that is durable and nobody uses it any more.
 */

#include "block/coroutine_lock.h"
#include "cache/owned.h"
#include "common/list.h"
#include "formats/qcow2/image.h"

#define QCOW2_HEADER_SIZE 24           /* where the field is */
#define QCOW2_HEADER_L1 36             /* the count of its entries, and where it is */
#define QCOW2_HEADER_REFCOUNT_TABLE 48 /* where the field is, and the count of its clusters */
#define QCOW2_HEADER_INCOMPATIBLE 72
#define QCOW2_HEADER_AUTOCLEAR 88

enum qcow2_owner {
    QCOW2_OWNER_HEADER = OWNED_NOBODY + 1,
    QCOW2_OWNER_REFCOUNT_TABLE,
    QCOW2_OWNER_REFCOUNT_BLOCK,
    QCOW2_OWNER_L1,
    QCOW2_OWNER_L2,
    QCOW2_OWNER_SNAPSHOTS,
    QCOW2_OWNER_BITMAPS,
};

struct qcow2_claim {
    uint64_t first, end;
    struct list_link link;
    struct co_queue waiters;
};

/* All under the monitor, but for `owned`, which says itself who may do what. */
struct qcow2_writer {
    struct list cluster_claims, l1_claims;
    uint64_t free_hint; /* no host cluster below it is known to be free */
    /* Behind the last cluster that was given back unused: a write that failed may have left bytes
     * there that the file does not count. Read without the monitor. */
    _Atomic uint64_t given_back_end;
    /* Behind the compressed data in a cluster that is in use: more of it may follow. 0: nowhere. */
    uint64_t packed_end;
    bool is_growing; /* somebody makes a refcount block, or a larger table */
    struct co_queue growers;
    _Atomic bool is_postponing; /* refcounts are behind, and the dirty bit says so */
    bool is_marking;            /* somebody writes the incompatible features */
    struct co_queue markers;
    struct owned *owned;
};

/* --- writer.c ----------------------------------------------------------------------------------
 */

/* Makes an open image writable; refuses what cannot be written yet. */
int qcow2_writer_co_open(struct qcow2_image *image, struct error *err);
/* The same in two steps: the first only reads, and leaves nothing behind where it fails; with the
 * second the file itself must be writable. */
int qcow2_writer_co_prepare(struct qcow2_image *image, struct error *err);
int qcow2_writer_co_begin(struct qcow2_image *image, struct error *err);
/* Of an image that is settled, or was never written. */
void qcow2_writer_free(struct qcow2_image *image);
/* Everything to the disk. */
void qcow2_writer_co_close(struct qcow2_image *image);

/* What the cache holds of a refcount block, a refcount table, an L1 table in one piece. */
static inline uint32_t qcow2_slice_bytes(const struct qcow2_image *image)
{
    return image->geometry.cluster_bytes < 4096 ? (uint32_t)image->geometry.cluster_bytes : 4096;
}

/* 0, or -EIO when any of it is metadata: then the image is corrupt. */
int qcow2_co_check_overlap(struct qcow2_image *image, uint64_t host_offset, uint64_t length,
                           uint64_t guest_offset);
/* What was written to the image's file is durable. */
int qcow2_co_flush_file(struct qcow2_image *image);
/* One field of the header, written and durable; it lies in one sector (invariant 7). */
int qcow2_co_write_header_bytes(struct qcow2_image *image, uint32_t at, const void *bytes,
                                size_t length);
/* The same for a field that memory has with its old value. Where it cannot be written, nobody knows
 * which of the two the disk has: the old one is written back, and where that fails too, nothing is
 * written to the image any more. */
int qcow2_co_replace_header_bytes(struct qcow2_image *image, uint32_t at, const void *bytes,
                                  const void *old_bytes, size_t length);

/* --- redo.c ------------------------------------------------------------------------------------
 */

/* The option redo-log. */
int qcow2_take_redo(struct qcow2_image *image, struct node_options *options, struct error *err);
/* Of an image that is to be written, before anything in its tables is looked at: what the last one
 * left is written to them, and there is an empty log, where there can be one. */
int qcow2_redo_co_open(struct qcow2_image *image, struct error *err);
/* From now on the cache's changes go there; nothing in it is dirty. */
void qcow2_redo_attach(struct qcow2_image *image);
/* Not any more: there will be another cache. Of an image that is settled. */
void qcow2_redo_co_detach(struct qcow2_image *image);
/* What the image could not settle stays for the next one. */
void qcow2_redo_co_close(struct qcow2_image *image);
/* What was written could not be made durable: the old tables are the better ones. */
void qcow2_redo_give_up(struct qcow2_image *image);
/* Whether the log has been told from anything else by the header's bit. */
bool qcow2_redo_has_bit(const struct qcow2_image *image);
/* The bit goes: nothing is in memory alone. */
void qcow2_redo_co_rest(struct qcow2_image *image);
/* Of an image that is only read: whether it would be another one if it were opened for writing. */
bool qcow2_redo_co_is_left(const struct qcow2_image *image);

void qcow2_redo_co_mark(struct qcow2_image *image);
void qcow2_redo_beat_of(const struct qcow2_redo *redo);

/* Before and after each request that changes the image. */
static inline void qcow2_redo_co_begin(struct qcow2_image *image)
{
    if (image->redo)
        qcow2_redo_co_mark(image);
}
/* Right before the image's file is changed. */
static inline void qcow2_redo_beat(const struct qcow2_image *image)
{
    if (image->redo)
        qcow2_redo_beat_of(image->redo);
}
static inline int qcow2_co_write_to(const struct qcow2_image *image, struct block_node *node,
                                    uint64_t host_offset, const struct block_vec *vec)
{
    if (node == image->node->file)
        qcow2_redo_beat(image);
    return node_co_write(node, host_offset, vec, 0);
}

/* --- state.c -----------------------------------------------------------------------------------
 */

/* Sets and clears bits of the incompatible features that say in which state the image is (version
 * 3); durable afterwards. One at a time; nothing is written where nothing changes. */
int qcow2_co_mark(struct qcow2_image *image, uint64_t set, uint64_t clear);

/* Before a cluster is taken: where refcounts are lazy, they are behind from now on. The dirty bit
 * is durable first (invariant 11). */
int qcow2_co_postpone_refcounts(struct qcow2_image *image);
/* Everything to the disk, what waits to be freed and refcounts too, and the dirty bit cleared.
 * Nothing is in flight. */
int qcow2_co_settle(struct qcow2_image *image);

/* --- reopen.c, activity.c ----------------------------------------------------------------------
 */

/* Bitmaps stored, and qcow2_co_settle(). */
int qcow2_co_make_clean(struct qcow2_image *image, struct error *err);

/* --- claim.c -----------------------------------------------------------------------------------
 */

/* Monitor; given up meanwhile. Whether it had to wait: things may be different now. */
bool qcow2_co_claim(struct qcow2_image *image, struct list *claims, struct qcow2_claim *claim,
                    uint64_t first, uint64_t end);
/* Monitor. */
void qcow2_unclaim(struct qcow2_claim *claim);

/* --- refcount.c, refcount_grow.c ---------------------------------------------------------------
 */

/* Up to count_max free clusters in a row, now with a refcount of 1. */
int qcow2_co_alloc(struct qcow2_image *image, uint64_t count_max, uint64_t *ret_host_offset,
                   uint64_t *ret_count);
/* What qcow2_co_alloc() gave and nothing points to (invariant 19). */
void qcow2_co_unalloc(struct qcow2_image *image, uint64_t host_offset, uint64_t count);
/* Whether nobody has ever written there: what is not written now reads as zeroes. */
bool qcow2_is_fresh(const struct qcow2_image *image, uint64_t host_offset);
int qcow2_co_refcount(struct qcow2_image *image, uint64_t host_offset, uint64_t *ret_refcount);
/* Another user for the cluster that packed_end is in, as long as that is writer->packed_end, which
 * moves on by length. 1: done; 0: it has moved, or there can be no more users. */
int qcow2_co_share_packed(struct qcow2_image *image, uint64_t packed_end, uint64_t length);
/* One less. -EIO where it is 0 already: corrupt. */
int qcow2_co_refcount_decrement(struct qcow2_image *image, uint64_t host_offset);

/* Where the refcount block of this index is, 0 for none (also past the table's end). */
int qcow2_co_find_refcount_block(struct qcow2_image *image, uint64_t table_index,
                                 uint64_t *ret_block_offset);
/* There is a refcount block of this index afterwards. */
int qcow2_co_make_refcount_block(struct qcow2_image *image, uint64_t table_index);
int qcow2_co_grow_refcount_table(struct qcow2_image *image, uint64_t table_index);
/* `count` clusters in a row, which need not be below one refcount block, with a refcount of 1. */
int qcow2_co_alloc_in_new_blocks(struct qcow2_image *image, uint64_t count,
                                 uint64_t *ret_host_offset);

/* --- refcount_run.c ------------------------------------------------------------------------------
 */

/* `count` clusters in a row, with a refcount of 1. */
int qcow2_co_alloc_run(struct qcow2_image *image, uint64_t count, uint64_t *ret_host_offset);

/* --- refcount_shrink.c ---------------------------------------------------------------------------
 */

/* The last refcount blocks, as far as they count nothing but themselves, are given up. Nothing else
 * changes the image; nothing is dirty. */
int qcow2_co_drop_refcount_blocks(struct qcow2_image *image);
/* Where the last cluster ends that is in use. */
int qcow2_co_used_end(struct qcow2_image *image, uint64_t *ret_host_offset);

/* --- free.c ------------------------------------------------------------------------------------
 */

/* A cluster that is going to be unlinked; made before, so that unlinking cannot fail. */
struct qcow2_unlinked;
struct qcow2_unlinked *qcow2_unlinked_new(struct qcow2_image *image, bool is_discard);
/* Takes NULL. */
void qcow2_unlinked_free(struct qcow2_unlinked *unlinked);
/* Monitor. It was, in this hold of the monitor: the entry was removed that pointed to this. */
void qcow2_unlink(struct qcow2_unlinked *unlinked, const struct qcow2_cluster *cluster,
                  uint64_t compressed_entry);
/* Monitor. Clusters that nothing in the image points to any more, which is durable. */
void qcow2_unlink_clusters(struct qcow2_unlinked *unlinked, uint64_t host_offset, uint64_t count);
/* At most so many are kept waiting; more than that and a flush is led. */
int qcow2_co_limit_unlinked(struct qcow2_image *image);
/* After a cache that could not be settled. */
void qcow2_abandon_unlinked(struct qcow2_image *image);

/* --- link.c ------------------------------------------------------------------------------------
 */

#define QCOW2_LOOK_MAX 32

/* Some neighbouring guest clusters, as their L2 entries say. */
struct qcow2_look {
    uint64_t guest_offset; /* of the first cluster */
    uint32_t count;
    uint64_t l2_offset; /* 0: there is no table yet, all are unallocated */
    bool is_l2_ours;
    struct qcow2_cluster clusters[QCOW2_LOOK_MAX];
    uint64_t entries[QCOW2_LOOK_MAX];
};

/* The clusters of [guest_offset, guest_offset + length), as far as one piece of one L2 table holds
 * them and QCOW2_LOOK_MAX reaches. */
int qcow2_co_look(struct qcow2_image *image, uint64_t guest_offset, uint64_t length,
                  struct qcow2_look *ret_look);
/* Where the L2 table of guest_offset is, 0 for none, and whether it is ours. */
int qcow2_co_read_l1(struct qcow2_image *image, uint64_t guest_offset, uint64_t *ret_l2_offset,
                     bool *ret_is_ours);
/* Where the L2 table of guest_offset is, that is ours: made or copied where there is none. */
int qcow2_co_own_l2(struct qcow2_image *image, uint64_t guest_offset, uint64_t *ret_l2_offset);
/* The L2 table of guest_offset is there no more; all its entries are empty. Nothing else changes
 * the image. */
int qcow2_co_drop_l2(struct qcow2_image *image, uint64_t guest_offset);
/* Stores `count` entries for the look's clusters from `first` on, and unlinks the old ones where
 * unlinked[i] is not NULL (it is used up then). needs_data: what is linked was written just now. */
int qcow2_co_link(struct qcow2_image *image, const struct qcow2_look *look, uint32_t first,
                  uint32_t count, const struct qcow2_cluster *clusters,
                  struct qcow2_unlinked **unlinked, bool needs_data);

/* --- cow.c -------------------------------------------------------------------------------------
 */

/* A write of guest bytes, widened to what must be copied around them: all of it lies in one piece
 * of image->data. */
struct qcow2_cow {
    uint64_t guest_from, guest_to; /* what is written */
    uint64_t guest_offset;         /* where the guest's bytes begin, of vec->length */
    uint64_t host_offset;          /* of guest_from */
    bool skips_zeroes;             /* what would be copied as zeroes reads so already */
};
int qcow2_co_write_cow(struct qcow2_image *image, const struct qcow2_cow *cow,
                       const struct block_vec *vec);

/* --- compress.c ----------------------------------------------------------------------------------
 */

/* Inside of a use. What of the range is whole clusters is stored compressed, where that is smaller.
 */
int qcow2_co_write_compressed(struct qcow2_image *image, uint64_t guest_offset,
                              const struct block_vec *vec);
/* write.c's: inside of a use too. */
int qcow2_co_write_plain(struct qcow2_image *image, uint64_t guest_offset,
                         const struct block_vec *vec);

/* --- write.c, zero.c, writer.c: the driver's calls -----------------------------------------------
 */

int qcow2_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                   unsigned flags);
int qcow2_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags);
int qcow2_co_discard(struct block_node *node, uint64_t offset, uint64_t length);
int qcow2_co_flush(struct block_node *node);

/* For a resize; nothing else is in flight. */
/* Whole clusters (but at the table's end) are mapped no more: the backing file shows there. */
int qcow2_co_unmap(struct qcow2_image *image, uint64_t guest_from, uint64_t guest_to);
/* Whole clusters have no space any more and read as zeroes; in version 2, which cannot say so, the
 * backing file shows there. */
int qcow2_co_empty(struct qcow2_image *image, uint64_t guest_from, uint64_t guest_to);
/* Subclusters read as zeroes, by their entries where the image can say so. */
int qcow2_co_make_zero(struct qcow2_image *image, uint64_t guest_from, uint64_t guest_to);
/* Any bytes. */
int qcow2_co_write_zeroes(struct qcow2_image *image, uint64_t guest_from, uint64_t guest_to);

/* --- l1_grow.c, preallocate.c: parts of a resize -------------------------------------------------
 */

/* The L1 table has so many entries at least; it moves. */
int qcow2_co_grow_l1(struct qcow2_image *image, uint64_t entries);
/* Whole clusters of the disk that are not mapped get their place now; they read as zeroes. */
int qcow2_co_preallocate(struct qcow2_image *image, uint64_t guest_from, uint64_t guest_to);

#endif
