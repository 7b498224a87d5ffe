/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_GRAPH_H
#define BLOCK_GRAPH_H

#include "block/driver.h"

/* NULL when env has none of that name. */
const struct block_driver *graph_find_driver(const struct block_env *env, const char *name);
/* The drivers of images, without the protocol drivers below them: for messages and -f. The error
 * names the format and lists those there are. */
int graph_check_format(const struct block_env *env, const char *format, struct error *err);

/* The protocol driver for this path of the host: "file", or a device's. */
const char *graph_co_protocol_of(const struct block_env *env, const char *path);

/* What is said of a node by options and not of its child is set for the child. */
int graph_pass_down(const struct node_options *options, struct node_options *child,
                    struct error *err);
/* For who has no use for it: a format, a protocol driver without files. */
void graph_take_passed_down(struct node_options *options);

/* The open node that a person called so ("node-name"), as a reference of the caller's, who lets it
 * go by block_co_node_unref(). NULL: there is none. Any thread; does not wait. */
struct block_node *graph_find_node(struct block_env *env, const char *name);

#endif
