/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_NODE_H
#define BLOCK_NODE_H

/* A node's life; block/graph makes and opens them. */

#include "block/driver.h"

/* Ends of ranges are rounded up to blocks of any driver's alignment without a thought of overflow,
 * and offsets fit the kernel's signed ones. */
#define NODE_SIZE_MAX (INT64_MAX - (INT64_C(1) << 30))
#define NODE_REQUEST_ALIGNMENT_MAX (2u << 20)

static inline uint64_t node_size(const struct block_node *node)
{
    return atomic_load(&node->size_bytes);
}

/* Not opened yet; with one reference. NULL when there is no memory. */
struct block_node *node_new(struct block_env *env, const struct block_driver *driver,
                            const struct block_node *parent);
/* Calls the driver's co_close if it was opened, lets the children go, frees. */
void node_co_free(struct block_node *node);

/* Calls hurry_begin (hurry_end) of the node's driver and of all below. The node is open. */
void node_hurry_begin(struct block_node *node);
void node_hurry_end(struct block_node *node);

/* -ELOOP: `node`, which is being opened, is to serve a file that a node above it serves already: a
 * chain of images goes in a circle, or one file is to hold two things. From any thread. */
int node_check_circle(const struct block_node *node, const char *path, uint64_t device,
                      uint64_t inode, struct error *err);

/* What a message calls the node: its own name, or else that of its file or driver. */
static inline const char *node_label(const struct block_node *node)
{
    return *node->node_name ? node->node_name : node->name;
}

/* The name of the file or driver; a copy is made. */
int node_set_name(struct block_node *node, const char *name);

#endif
