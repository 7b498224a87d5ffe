/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_PROBE_H
#define BLOCK_PROBE_H

/*
 * What an image is when nobody said: either a known format, and then it is refused until the person
 * names it, or raw. Serving a known format's file as raw by accident would let a client write over
 * its tables; opening it by its header would let a guest that writes a header into a raw disk
 * choose what the next start opens. So a guess never opens anything but raw, and opens no second
 * file; and formats/raw_guard keeps a client from writing such a header.
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

/* 0: the file that options describe under "file" is of no known format, said in a warning. -EINVAL
 * when it is, and other errors where it cannot be read. options stay as they are. */
int probe_co_image(struct block_env *env, const char *filename, const struct node_options *options,
                   struct error *err);

#endif
