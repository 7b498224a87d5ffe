/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_BITMAPS_H
#define FORMATS_QCOW2_BITMAPS_H

/*
 * Inside the driver "qcow2": the persistent bitmaps of an open image (specification: "Bitmaps").
 *
 * Words:
 * - A bitmap is *enabled* when the image says auto: whoever writes to the disk keeps it true.
 * - It is *inconsistent* when in_use was set at the open: somebody wrote and did not store it. It
 *   stays in the image as it is, for a person to remove, and nobody is shown it.
 * - It is *kept* when it is in memory and will be stored: in an image that is written, every
 * enabled bitmap that is not inconsistent. One that is not enabled is loaded when somebody asks for
 * it, and stays what it is in the file.
 * - The kept ones are *marked* when the image says in_use of them, durably.
 *
 * Who changes what, and in which order (invariant 26):
 * - The first change of the disk marks them, before it is made. So an image that is opened for
 *   writing and left alone is not touched, and one that is cut off after a write has in_use.
 * - Storing: while in_use is set nobody relies on bits and tables, so both are written where they
 *   lie: a store takes no space but for bits that had none, and a full disk does not fail it. Each
 *   step is durable before the next: the disk's own data and tables, the bits, and the refcounts of
 *   clusters that are new (invariant 2); table entries, each of which is good as it was and as it
 *   will be; in_use goes. What no entry points to any more is freed after that (invariant 3).
 * - A store that fails, or that comes after a failed flush, leaves in_use set (invariant 30).
 */

#include "block/dirty_bitmap.h"
#include "block/observer.h"
#include "block/range_lock.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/image.h"

struct qcow2_bitmap {
    struct qcow2_bitmap_entry entry; /* as the image has it; its name points into the directory */
    uint64_t directory_at;           /* where the entry begins in the directory */
    struct dirty_bitmap *bits;       /* NULL: not loaded */
    struct dirty_bitmap *resized;    /* between prepare and commit or abort of a new size */
    bool is_kept;
    bool is_enabled;
    /* Of a kept one: as it lies in the file, 8 bytes an entry, in this machine's byte order: an
     * offset, or 0, or 1 for all ones. */
    uint64_t *table;
};

struct qcow2_bitmaps {
    struct qcow2_image *image;
    uint8_t *directory; /* as in the file */
    uint64_t directory_offset, directory_bytes;
    struct qcow2_bitmap *all;
    uint32_t count;
    struct qcow2_bitmap **kept;
    uint32_t kept_count;
    uint64_t memory_bytes; /* of the bits that are loaded */

    struct range_lock lock; /* one loads, marks, stores or resizes at a time */
    struct block_observer observer;
    bool is_observing;
    bool is_shown;           /* somebody has the bits of one: they must stay where they are */
    bool is_to_store;        /* the file may say in_use of the kept ones */
    _Atomic bool is_marked;  /* it does, durably */
    _Atomic bool has_warned; /* that they cannot be marked */
};

/* --- bitmaps.c ----------------------------------------------------------------------------------
 */

/* image->bitmaps, from the directory in its file; no bits. NULL where there are none, also where
 * the image says that they are out of date. */
int qcow2_bitmaps_co_load_directory(struct qcow2_image *image, struct block_node *file,
                                    struct error *err);
/* Of an image that is being made writable, for the first time or again: loads and keeps the enabled
 * bitmaps, and warns of the inconsistent ones. Writes nothing. Refuses what would become untrue.
 * Nothing where there are none. */
int qcow2_bitmaps_co_prepare(struct qcow2_image *image, struct error *err);
/* And keeps them true from now on. Not while the node is held by this coroutine. */
void qcow2_bitmaps_co_begin(struct qcow2_image *image);
/* From now on nothing is observed, and no memory is held: after qcow2_bitmaps_co_store(). Nothing
 * is in flight. */
void qcow2_bitmaps_co_close(struct qcow2_image *image);
/* The driver's call. */
int qcow2_co_find_bitmap(struct block_node *node, const char *name,
                         const struct dirty_bitmap **ret_bitmap, struct error *err);

/* The disk is going to have another size; nothing is in flight from before the first to after the
 * last. prepare does all that can fail, and leaves everything as it was but for in_use; -ENOTSUP,
 * -EFBIG: a bitmap cannot have that size. Then comes commit, when the header has the new size, or
 * abort. Their bits are stored with the new size. Nothing where there are no bitmaps. */
int qcow2_bitmaps_co_prepare_resize(struct qcow2_image *image, uint64_t size_bytes,
                                    struct error *err);
void qcow2_bitmaps_commit_resize(struct qcow2_image *image);
void qcow2_bitmaps_abort_resize(struct qcow2_image *image);

/* --- bitmap_load.c ------------------------------------------------------------------------------
 */

/* Loads the bits, unless they are there, and on demand the table. A sentence begins with the
 * bitmap's name. */
int qcow2_bitmap_co_load(struct qcow2_bitmaps *bitmaps, struct qcow2_bitmap *bitmap,
                         bool with_table, struct error *err);

/* --- bitmap_store.c -----------------------------------------------------------------------------
 */

/* The image says in_use of the kept bitmaps afterwards. */
int qcow2_bitmaps_co_mark(struct qcow2_bitmaps *bitmaps);
/* What was marked is stored, and said not to be in use. Nothing is in flight. For closing,
 * inactivating and reopening; what is written afterwards marks them again. */
int qcow2_bitmaps_co_store(struct qcow2_image *image);

#endif
