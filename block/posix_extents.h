/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_POSIX_EXTENTS_H
#define BLOCK_POSIX_EXTENTS_H

/*
 * Some ranges of a file that are known to hold data, so that a large read does not ask the file
 * system each time. Only data is remembered: taking a hole for data costs a few zeroes, taking data
 * for a hole loses it, and another process may write into a hole at any time.
 *
 * Shared by all loops under one plain mutex: what is done under it is a search by halves among a
 * thousand pairs of numbers, taken once for a request of 64 KiB or more, or where something is
 * found out or forgotten, moving some of them. (A sequence count would save the lock for readers,
 * and cost the writers a protocol; it is not worth it for that.) A thousand, since a client that
 * copies a sparse image asks for the status of a long stretch, and then reads the data of it: what
 * it was told is still known when it reads.
 *
 * A finding may be old when it arrives: between the look at the file system and the adding, the
 * range may have been punched out. So a looker takes the generation first, and adds nothing when
 * somebody has forgotten something since.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define POSIX_EXTENTS_MAX 1024

struct posix_extent {
    uint64_t start, end;
};

struct posix_extents {
    pthread_mutex_t mutex;
    struct posix_extent known[POSIX_EXTENTS_MAX]; /* by their places; none touches another */
    unsigned count;
    unsigned next_victim;
    uint64_t generation;
};

void posix_extents_init(struct posix_extents *extents);
void posix_extents_fini(struct posix_extents *extents);

/* Whether offset lies in known data, and where that ends. */
bool posix_extents_find(struct posix_extents *extents, uint64_t offset, uint64_t *ret_end);

uint64_t posix_extents_generation(struct posix_extents *extents);
/* [start, end) holds data, as seen when the generation was taken. */
void posix_extents_add(struct posix_extents *extents, uint64_t generation, uint64_t start,
                       uint64_t end);
/* [start, end) may have become a hole; called when that is done, not before. */
void posix_extents_forget(struct posix_extents *extents, uint64_t start, uint64_t end);

#endif
