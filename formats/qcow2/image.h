/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_IMAGE_H
#define FORMATS_QCOW2_IMAGE_H

/*
 * Inside the driver "qcow2": an open image, and what its files do for each other. driver.c is the
 * page to read first. Nobody outside formats/qcow2/ includes this.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/driver.h"
#include "cache/cache.h"
#include "cache/clusters.h"
#include "formats/qcow2/entry.h"
#include "formats/qcow2/extension.h"
#include "formats/qcow2/geometry.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/snapshot_table.h"

/* Kinds of tables in the cache; the number is also the class, the place in the order. */
enum qcow2_table_kind {
    QCOW2_TABLE_REFCOUNT_BLOCK,
    QCOW2_TABLE_REFCOUNT_TABLE,
    QCOW2_TABLE_L2,
    QCOW2_TABLE_L1,
    QCOW2_TABLE_KINDS,
};

struct qcow2_bitmaps;
struct qcow2_redo;
struct progress;
struct qcow2_writer;

struct qcow2_cache_sizes {
    uint64_t l2_bytes, refcount_bytes; /* of tables in memory, at most */
    uint64_t l2_entry_bytes;           /* how much of an L2 table is loaded at a time */
    uint64_t clean_interval_s;         /* 0: never */
};

struct qcow2_image {
    pthread_mutex_t monitor; /* guards what is said to be under it, and the cache's tables */
    struct block_node *node;
    struct block_node *data; /* where guest clusters are: node->file, or the external data file */
    struct block_node *backing; /* NULL: none */

    struct qcow2_geometry geometry;
    struct qcow2_header header; /* monitor, once the image is open */
    struct qcow2_extensions extensions;
    uint8_t *first_cluster;      /* the header, its extensions, the backing file's name */
    size_t first_cluster_length; /* shorter than a cluster only where the file is */
    char *backing_name;          /* as stored; NULL: none */
    struct qcow2_snapshots snapshots;

    /* They are others after a change of their sizes, while nothing is in flight; who comes without
     * a request takes the mutex. */
    pthread_mutex_t tables_mutex;
    struct cache *cache;
    struct clusters *clusters; /* decompressed */
    struct qcow2_cache_sizes cache_sizes;

    /* The L1 table that is served: the active one, or a snapshot's (then is_snapshot). It moves
     * while nothing is in flight; who only asks memory may still look at the old one then. */
    _Atomic uint64_t l1_table_offset;
    _Atomic uint32_t l1_size;
    uint32_t l2_slice_bytes; /* what the cache loads of an L2 table at a time */
    bool is_snapshot;
    bool is_lazy; /* refcounts may be written late; only used where it is written */

    struct qcow2_writer *writer;   /* what writing needs; NULL where the image is only read */
    struct qcow2_bitmaps *bitmaps; /* NULL: nobody needed them, or there are none */
    struct qcow2_redo *redo;       /* NULL: it is only read, or nothing is kept */
    bool wants_redo;

    struct progress *progress; /* while it is checked or repaired: a step an L1 entry; or NULL */

    _Atomic bool is_corrupt; /* found out while it was open: nothing is written any more */
};

static inline struct qcow2_image *qcow2_of(const struct block_node *node)
{
    return node->state;
}

/* --- open.c ---------------------------------------------------------------------------------- */

int qcow2_co_open(struct block_node *node, struct node_options *options, struct error *err);
void qcow2_co_close(struct block_node *node);

/* The header and its extensions of the file, into memory of the image's: the first cluster. Nothing
 * else of the image is read. Frees what it took on failure. */
int qcow2_co_load_header(struct qcow2_image *image, struct block_node *file, struct error *err);
/* Memory for one; NULL: there is none. */
struct qcow2_image *qcow2_image_new(struct block_node *node);
void qcow2_image_free(struct qcow2_image *image);

/* --- tables.c: reading tables through the cache -------------------------------------------------
 */

struct qcow2_tables {
    struct cache *cache;
    struct clusters *clusters;
    struct qcow2_cache_sizes sizes;
};

/* What they are without an option. */
struct qcow2_cache_sizes qcow2_default_cache_sizes(const struct qcow2_image *image);
/* The options, with qemu's names: cache-size, l2-cache-size, refcount-cache-size,
 * l2-cache-entry-size, cache-clean-interval. What is not given stays in *sizes as it is, but for
 * what a new cache-size decides. */
int qcow2_take_cache_sizes(const struct qcow2_image *image, struct node_options *options,
                           struct qcow2_cache_sizes *sizes, struct error *err);
/* Memory of these sizes for an image whose children are open. */
int qcow2_tables_init(struct qcow2_image *image, const struct qcow2_cache_sizes *sizes,
                      struct qcow2_tables *ret_tables, struct error *err);
/* Nothing in them is in use or dirty. */
void qcow2_tables_co_fini(struct qcow2_tables *tables);
/* Nothing is in flight: the image has *tables from now on, and *tables what it had. */
void qcow2_tables_co_exchange(struct qcow2_image *image, struct qcow2_tables *tables);
void qcow2_tell_numbers(const struct block_node *node, block_tell_number *tell, void *arg);
void qcow2_tables_co_close(struct qcow2_image *image); /* of one that closes */

/* Raw bytes of the file, at most `length`; what is past its end is zeroes. For what no cache keeps.
 */
int qcow2_co_read_bytes(struct qcow2_image *image, uint64_t host_offset, void *to, size_t length);

/* --- reopen.c ----------------------------------------------------------------------------------
 */

/* lazy-refcounts: what is not given stays. */
int qcow2_take_lazy(const struct qcow2_image *image, struct node_options *options, bool *is_lazy,
                    struct error *err);
int qcow2_co_reopen_prepare(struct block_node *node, struct block_reopen *reopen,
                            struct error *err);
void qcow2_co_reopen_commit(struct block_node *node, struct block_reopen *reopen);
void qcow2_co_reopen_finish(struct block_node *node, struct block_reopen *reopen);
void qcow2_co_reopen_abort(struct block_node *node, struct block_reopen *reopen);

/* --- activity.c --------------------------------------------------------------------------------
 */

int qcow2_co_inactivate(struct block_node *node, struct error *err);
int qcow2_co_invalidate(struct block_node *node, struct error *err);

/* --- mapping.c ------------------------------------------------------------------------------- */

/* What lies at a guest offset, for so many bytes. */
struct qcow2_extent {
    enum qcow2_kind kind;
    uint64_t length;           /* at least 1; of QCOW2_COMPRESSED, inside one cluster */
    uint64_t host_offset;      /* of data and allocated zeroes: where the guest offset lies, in
                                * image->data; of a compressed cluster: where its data begins */
    uint64_t compressed_entry; /* of a compressed cluster: its L2 entry, the key of `clusters` */
    uint32_t compressed_bytes;
};

/* From guest_offset on, `length` bytes at most, as far as it is of one kind and lies in one piece.
 * Inside a use of the cache: the answer is good until that ends. -EIO: corrupt. */
int qcow2_co_map(struct qcow2_image *image, uint64_t guest_offset, uint64_t length,
                 struct qcow2_extent *ret_extent);

/* The same from memory alone; false: it is not there. Never waits. */
bool qcow2_map_remembered(struct qcow2_image *image, uint64_t guest_offset, uint64_t length,
                          struct qcow2_extent *ret_extent);

/* Why a cluster cannot lie where its entry says, or NULL: it can. */
const char *qcow2_place_fault(const struct qcow2_image *image, const struct qcow2_cluster *cluster,
                              uint64_t guest_offset);

/* --- read.c, status.c, corrupt.c: the driver's calls, and -EIO with a line in the log -----------
 */

int qcow2_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec);
int qcow2_co_cache(struct block_node *node, uint64_t offset, uint64_t length);
int qcow2_co_is_own(struct block_node *node, uint64_t offset, uint64_t length, bool *ret_is_own,
                    uint64_t *ret_length);
int qcow2_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                    struct block_extent *ret_extent);

void qcow2_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                             struct block_extent *ret_extent);

/* Something in the image breaks a rule that must hold. Says so once, and marks the image; from then
 * on nothing is written to it. Returns -EIO. Without the monitor. */
int qcow2_co_corrupt(struct qcow2_image *image, const char *why, const char *table,
                     uint64_t host_offset, uint64_t guest_offset);

/* The end of it alone: from now on nothing is written to an image that is open for writing. */
void qcow2_stop_writes(struct qcow2_image *image);

static inline bool qcow2_is_corrupt(const struct qcow2_image *image)
{
    return atomic_load(&image->is_corrupt);
}

/* --- backing.c ------------------------------------------------------------------------------- */

int qcow2_co_open_data_file(struct qcow2_image *image, struct node_options *options,
                            struct error *err);
int qcow2_co_open_backing(struct qcow2_image *image, struct node_options *options,
                          struct error *err);

/* --- snapshot.c ------------------------------------------------------------------------------ */

/* Reads the table of snapshots; at open, when there is any need for it. */
int qcow2_co_load_snapshots(struct qcow2_image *image, struct error *err);
/* Shows the snapshot that -l asks for instead of the disk. */
int qcow2_load_snapshot(struct qcow2_image *image, const char *wanted, struct error *err);

#endif
