/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_GOW1_IMAGE_H
#define FORMATS_GOW1_IMAGE_H

/*
 * Inside the driver "gow1": an open image, and what its files do for each other. driver.c is the
 * page to read first. Nobody outside formats/gow1/ includes this.
 *
 * Words: a *disk block* is one of what clients see, a *file block* its place; to *link* is to store
 * a map entry, from which on readers see what was written.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/driver.h"
#include "block/range_lock.h"
#include "cache/cache.h"
#include "formats/gow1/blocks.h"
#include "formats/gow1/header.h"
#include "formats/gow1/info.h"
#include "formats/gow1/survey.h"

/* Kinds of tables in the cache; the number is also the class, the place in the order: `allocated`
 * is durable before an entry that it counts, and so is what was written to the entry's block. */
enum gow1_table_kind {
    GOW1_TABLE_HEADER,
    GOW1_TABLE_MAP,
};

#define GOW1_SLICE_BYTES 4096u /* of the map, in one table of the cache */

/* What writing needs. Under the monitor, but for the lock. */
struct gow1_writer {
    struct range_lock claims;         /* disk blocks that are getting their place */
    struct cache_table *header_table; /* pinned */
    struct gow1_blocks blocks;
    uint64_t opened_bytes; /* the file's length at first: it is never cut shorter */
    uint64_t reached;      /* the file is that long, or about to be made so */
    bool is_extending;
    struct co_queue extenders;
};

struct gow1_image {
    pthread_mutex_t monitor; /* guards what is said to be under it, and the cache's tables */
    struct block_node *node;
    struct gow1_header header; /* `allocated` is the writer's, as long as there is one */
    struct cache *cache;
    struct gow1_writer *writer; /* NULL where the image is only read */

    _Atomic uint32_t entry_limit; /* entries of the map are below it */
    _Atomic bool is_corrupt;      /* found out while it was open: nothing is written any more */
    _Atomic bool has_lent;        /* somebody may still look at blocks where they lie */
    bool may_shrink;              /* the option: a resize may cut off data */
};

static inline struct gow1_image *gow1_of(const struct block_node *node)
{
    return node->state;
}

/* --- open.c ---------------------------------------------------------------------------------- */

int gow1_co_open(struct block_node *node, struct node_options *options, struct error *err);
void gow1_co_close(struct block_node *node);
/* The option "magic", in open and create. */
int gow1_take_magic(struct node_options *options, uint32_t *ret_magic, struct error *err);
/* What follows from the header, and from whether it is written: of its entries, and of its node. */
void gow1_set_limits(struct gow1_image *image);
void gow1_tell_numbers(const struct block_node *node, block_tell_number *tell, void *arg);

/* --- writer.c: an image's begin and end as one that is written ---------------------------------
 */

/* Refuses a map that makes no sense. For gow1_image.writer. */
int gow1_writer_co_new(struct gow1_image *image, struct gow1_writer **ret_writer,
                       struct error *err);
/* Everything to the disk, and the file no longer than it must be. */
int gow1_writer_co_settle(struct gow1_image *image);
/* Takes NULL. */
void gow1_writer_free(struct gow1_image *image, struct gow1_writer *writer);
/* Monitor. A field of the header, to be written before any entry that is linked afterwards. */
void gow1_store_header(struct gow1_image *image, struct gow1_writer *writer, uint32_t at,
                       uint32_t value);

/* --- map.c ----------------------------------------------------------------------------------- */

/* What lies at an offset of the disk, for so many bytes. */
struct gow1_extent {
    bool is_allocated;
    uint64_t length;      /* at least 1 */
    uint64_t file_offset; /* when allocated */
};

/* From disk_offset on, `length` bytes at most, as far as it is free or lies in one piece. -EIO:
 * corrupt. An allocated block stays where it is, so the answer is good for ever; a free one may be
 * allocated by others. */
int gow1_co_map(struct gow1_image *image, uint64_t disk_offset, uint64_t length,
                struct gow1_extent *ret_extent);
/* The same from memory alone; false: it is not there. Never waits. */
bool gow1_map_remembered(struct gow1_image *image, uint64_t disk_offset, uint64_t length,
                         struct gow1_extent *ret_extent);

/* --- the driver's calls: read.c, status.c, write.c, zero.c, resize.c, check.c, reopen.c ---------
 */

int gow1_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec);
int gow1_co_cache(struct block_node *node, uint64_t offset, uint64_t length);
int gow1_lend(struct block_node *node, uint64_t offset, uint64_t length, struct block_loan *loan);
int gow1_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                   struct block_extent *ret_extent);
void gow1_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                            struct block_extent *ret_extent);
int gow1_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                  unsigned flags);
int gow1_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags);
int gow1_co_discard(struct block_node *node, uint64_t offset, uint64_t length);
int gow1_co_flush(struct block_node *node);
int gow1_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err);
int gow1_co_check(struct block_node *node, block_check_report *report, void *arg,
                  struct block_check *ret_check, struct error *err);
int gow1_co_create(struct block_env *env, struct node_options *options, struct error *err);
int gow1_co_reopen_prepare(struct block_node *node, struct block_reopen *reopen, struct error *err);
void gow1_co_reopen_commit(struct block_node *node, struct block_reopen *reopen);
void gow1_co_reopen_abort(struct block_node *node, struct block_reopen *reopen);
int gow1_co_inactivate(struct block_node *node, struct error *err);
int gow1_co_invalidate(struct block_node *node, struct error *err);

/* --- rewrite.c: the map as a whole, past the cache; nothing is in flight ------------------------
 */

/* The first `count` entries; the caller's to free. */
int gow1_co_load_map(struct block_node *file, uint32_t count, uint32_t **ret_entries);
/* Entries [first, end), and then a sync. */
int gow1_co_store_map(struct block_node *file, const uint32_t *entries, uint32_t first,
                      uint32_t end);
int gow1_co_store_header(struct block_node *file, const struct gow1_header *header);
/* Copies blocks of the file to the front until there is no free one between them; durable. The map
 * is sound. Then survey->used_end is used_count. */
int gow1_co_compact(struct block_node *file, uint32_t *entries, uint32_t entry_count,
                    struct gow1_survey *survey);
int gow1_co_copy_block(struct block_node *file, uint32_t from, uint32_t to);
/* The file ends behind that block, unless it cannot be resized or is shorter. */
void gow1_co_cut_file(struct block_node *file, uint64_t end);

/* --- repair.c -------------------------------------------------------------------------------- */

enum gow1_repair_what {
    GOW1_REPAIR_NOTHING,
    GOW1_REPAIR_LEAKS, /* blocks that nobody has are given back to the host */
    GOW1_REPAIR_ALL,   /* and entries that make no sense are put right */
};

/* The image in a file that can be written and that nobody uses; *header is what it has afterwards.
 */
int gow1_co_repair(struct block_node *file, struct gow1_header *header, enum gow1_repair_what what,
                   struct error *err);

#endif
