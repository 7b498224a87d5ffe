/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_BLOCK_MEMORY_KEPT_H
#define TESTS_UNIT_BLOCK_MEMORY_KEPT_H

/*
 * The kept memory (block/kept.h) of a disk in memory, and the clock of its file. What a process
 * that is killed leaves, a test keeps aside with memory_kept_save(), lets the node close, and puts
 * back.
 */

#include "block/kept.h"
#include "common/clock.h"

struct memory_kept {
    struct kept_memory kept;
    bool is_there;  /* the disk has such memory at all; false at first */
    bool is_open;   /* somebody has it */
    uint8_t *bytes; /* NULL: nobody has left anything */
    struct clock clock;
    uint64_t now_ns, file_changed_ns;
};

void memory_kept_init(struct memory_kept *memory);
void memory_kept_fini(struct memory_kept *memory);

int memory_kept_open(struct memory_kept *memory, size_t length, bool only_look,
                     struct kept_memory **ret_kept, struct error *err);

/* A copy of what is in it, for free(). */
void *memory_kept_save(const struct memory_kept *memory);
/* Nobody has it. */
void memory_kept_put_back(struct memory_kept *memory, const void *bytes, size_t length);

#endif
