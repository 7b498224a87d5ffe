/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_FILTER_H
#define BLOCK_FILTER_H

/*
 * For drivers that stand above an image and show its bytes, each at its own offset: they limit,
 * watch or break what passes. A filter puts these functions into its table and replaces those in
 * which it has something to do; its own part there is a call of the one here.
 *
 * Its flags are FILTER_FLAGS: it takes FUA and growing writes as they come, and the child sees to
 * them. A filter that answers a write without its child must honour BLOCK_FUA itself then. A child
 * that cannot grow refuses what lies past its end (-ENOSPC), and so does the filter.
 *
 * node->size_bytes is the child's size as far as this node has seen it: at the opening, after each
 * write and zero that passed the end, and after a resize.
 */

#include "block/driver.h"

#define FILTER_FLAGS (BLOCK_DRIVER_FILTER | BLOCK_DRIVER_GROWS | BLOCK_DRIVER_FUA)

/* Opens the child "file" as node->file, and takes its size and limits over; node->state stays as it
 * is. A filter with options of its own calls this from its co_open, first or last. */
int filter_co_open(struct block_node *node, struct node_options *options, struct error *err);
/* The same for a filter whose main child has another key. */
int filter_co_open_key(struct block_node *node, struct node_options *options, const char *key,
                       struct error *err);
/* The key of a filter's main child: "file", or one of qemu's older names, "image" and "raw", where
 * something is said below that. */
const char *filter_child_key(const struct node_options *options);
/* For a filter without node->state. */
void filter_co_close(struct block_node *node);

int filter_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec);
int filter_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                    unsigned flags);
int filter_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags);
int filter_co_discard(struct block_node *node, uint64_t offset, uint64_t length);
int filter_co_cache(struct block_node *node, uint64_t offset, uint64_t length);
int filter_co_flush(struct block_node *node);
int filter_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                     struct block_extent *ret_extent);
void filter_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                              struct block_extent *ret_extent);
/* Reads that are lent pass the filter's co_read by: only for one that has nothing to do with reads.
 */
int filter_lend(struct block_node *node, uint64_t offset, uint64_t length, struct block_loan *loan);

int filter_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err);
bool filter_has_zero_init(struct block_node *node);
int filter_co_stored_size(struct block_node *node, uint64_t *ret_size_bytes);
/* None of its own options can be changed; its limits become the child's. */
int filter_co_reopen_prepare(struct block_node *node, struct block_reopen *reopen,
                             struct error *err);
void filter_co_reopen_commit(struct block_node *node, struct block_reopen *reopen);

/* What a filter has that adds nothing of its own here: resize, reopen and has_zero_init by the
 * child. */
extern const struct block_driver_admin filter_admin;

/* After a change of node->file that a filter made by another way than the functions above: the node
 * is at least as large as what was written, [0, end). */
void filter_grew_to(struct block_node *node, uint64_t end);

#endif
