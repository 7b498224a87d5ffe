/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_PROBE_H
#define BLOCK_PROBE_H

/*
 * What an image is when nobody said: a format whose driver knows its header, else raw. Serving a
 * known format's file as raw by accident would let a client write over its tables, so a format that
 * is known here and has no driver is refused. Opening an image by its header lets a guest that
 * writes a header into a raw disk choose what the next start opens. So a format that was guessed
 * (node->is_guess) opens no second file, whatever its header names; and formats/raw_guard keeps a
 * client from writing such a header.
 */

#include <stddef.h>

#include "block/driver.h"

struct probe_found {
    const char *name;  /* the format, as -f spells it */
    bool is_supported; /* -f name works here */
};

/* What the head of a file tells; false: nothing that is known. Pure. */
bool probe_head(const struct block_driver *const *drivers, const uint8_t *head, size_t length,
                struct probe_found *ret_found);

/* The driver for the file that options describe under "file": of the format that its head tells, or
 * "raw", said in a warning. -EINVAL for a known format that has no driver, and other errors where
 * it cannot be read. options stay as they are. */
int probe_co_image(struct block_env *env, const char *filename, const struct node_options *options,
                   const char **ret_driver, struct error *err);

#endif
