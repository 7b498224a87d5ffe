/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_RESIZE_H
#define FORMATS_QCOW2_RESIZE_H

/*
 * A new size for the disk of an open image. Beyond what a new size says alone, as every driver's
 * co_resize has it (block_co_resize()), more can be asked for.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct block_node;

struct qcow2_resize {
    uint64_t size_bytes; /* rounded up to 512 */
    bool may_shrink;     /* what lies beyond the new size is lost; without this it is refused */
    bool has_tables;     /* preallocation=metadata, of what is added */
};

/* The node's driver is qcow2, and nobody shrinks a node above it at the same time. Waits until
 * nothing is in flight. -EPERM: read-only. -EINVAL: it would shrink. -ENOTSUP: an image that cannot
 * be resized as it is (snapshots in version 2, a bitmap that cannot have that size). -EFBIG. After
 * an error of the disk the size is the old one; of a shrink that failed, what lies beyond the new
 * size may be lost already. May wait. */
int qcow2_co_resize_as(struct block_node *node, const struct qcow2_resize *resize,
                       struct error *err);

/* The driver's co_resize: it may shrink; no tables. Nothing is in flight. */
int qcow2_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err);

#endif
