/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_NODE_NAMES_H
#define BLOCK_NODE_NAMES_H

/*
 * Names that a person gives to nodes: the option "node-name" of every node, as qemu's. A name
 * belongs to one node of the environment, from before its driver opens it until it is freed.
 */

#include <pthread.h>

#include "common/error.h"
#include "common/list.h"

#define NODE_NAME_MAX 31 /* bytes, without the 0 at the end; qemu's */

struct block_node;
struct node_options;

/* One list an environment (block_env). Any thread. */
struct node_names {
    pthread_mutex_t mutex;
    struct list list; /* struct block_node.names_link */
};

void node_names_init(struct node_names *names);
/* Every node was freed. */
void node_names_fini(struct node_names *names);

/* Takes the option, if it is there, and gives the name to the node. -EINVAL: it is no name, or
 * another node has it. */
int node_names_take(struct block_node *node, struct node_options *options, struct error *err);
/* The node is open: from now on graph_find_node() finds it. */
void node_names_publish(struct block_node *node);
/* For block/node: the name is free again. Nobody refers to the node, so it is not found any more.
 */
void node_names_remove(struct block_node *node);

#endif
