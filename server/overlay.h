/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef SERVER_OVERLAY_H
#define SERVER_OVERLAY_H

/*
 * -s: what clients write goes to a temporary qcow2 image above the one that is served, which is
 * only read. Its file, in $TMPDIR, has no name from the beginning on, so it is gone with the
 * process, however that ends.
 */

#include "common/error.h"

struct block_node;
struct config;

struct overlay {
    int fd; /* the file; -1: there is none */
};

void overlay_init(struct overlay *overlay);
/* *node, the open image, becomes the overlay above it, which has it from then on. On failure it
 * stays what it is. May wait. */
int overlay_co_put_above(struct overlay *overlay, const struct config *config,
                         struct block_node **node, struct error *err);
/* The node is closed. */
void overlay_fini(struct overlay *overlay);

#endif
