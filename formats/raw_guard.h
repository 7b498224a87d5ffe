/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_RAW_GUARD_H
#define FORMATS_RAW_GUARD_H

/*
 * Keeps a raw image raw that was only taken for raw because its head is of no known format. A
 * client that writes another format's header there would choose how the next start, or another
 * program, opens the file: as an image that names any file of this host as its backing file, say.
 * So whatever would make the head look like that is refused with -EPERM, as qemu does. All else may
 * be written, at any alignment.
 *
 * A change of the head is made alone: two changes that are harmless each could be a header
 * together. Offsets are in the file, since it is the file's head that is looked at next time.
 */

#include "block/driver.h"

struct raw_guard {
    pthread_mutex_t mutex;
    bool is_busy; /* someone changes the head */
    struct co_queue waiters;
    bool refused; /* and said so: one line a node */
};

void raw_guard_init(struct raw_guard *guard);
void raw_guard_fini(struct raw_guard *guard);

/* Whether a change from this offset of the file on touches the head, and must go through here. */
static inline bool raw_guard_concerns(uint64_t offset)
{
    return offset < BLOCK_PROBE_BYTES;
}

/* node_co_write() and node_co_zero() on node->file, or -EPERM. */
int raw_guard_co_write(struct raw_guard *guard, struct block_node *node, uint64_t offset,
                       const struct block_vec *vec, unsigned flags);
int raw_guard_co_zero(struct raw_guard *guard, struct block_node *node, uint64_t offset,
                      uint64_t length, unsigned flags);
/* What is discarded may read as zeroes, which can make a header too: the head is left alone. */
int raw_guard_co_discard(struct block_node *node, uint64_t offset, uint64_t length);

#endif
