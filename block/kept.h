/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_KEPT_H
#define BLOCK_KEPT_H

/*
 * Memory of a node's file that outlives the process, and not the boot: who is killed leaves in it
 * what the next one that opens the file must know. It is as durable as the page cache is.
 *
 * The driver "file" has it from the host (posix_kept.c), filters have their child's. Whoever has it
 * must reckon with anything in it that is_found: another version of this program may have left it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct block_node;
struct clock;

struct kept_memory {
    void *base; /* aligned to a page */
    size_t length;
    bool is_found; /* a process that was killed has left it; else it is all zeroes */
    /* When the file was changed last, as this was got, by this clock; 0: nobody knows. */
    uint64_t file_changed_ns;
    struct clock *clock;

    /* The driver's own: ends it. is_done: nobody will need it any more; else the next one finds it.
     * May wait. */
    void (*co_close)(struct kept_memory *kept, bool is_done);
};

/* That of the node's file, `length` bytes, whole pages; nobody else has it then. only_look: to be
 * read alone, and only what was found. -ENOTSUP: there is none for this node; -ENOENT (only_look):
 * nobody has left anything; -EBUSY: another process has it; every error with a sentence. It is
 * closed before the node is. */
int node_co_keep(struct block_node *node, size_t length, bool only_look,
                 struct kept_memory **ret_kept, struct error *err);
/* Takes NULL. */
void kept_co_close(struct kept_memory *kept, bool is_done);

#endif
