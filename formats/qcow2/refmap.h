/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_REFMAP_H
#define FORMATS_QCOW2_REFMAP_H

/*
 * How often each host cluster is referred to, counted while an image is walked. Memory grows with
 * the clusters that are referred to, in chunks, not with the size of the file: a small image can
 * call itself any size.
 */

#include <stdbool.h>
#include <stdint.h>

struct refmap {
    struct refmap_chunk **slots; /* a hash table of chunks; NULL: empty */
    uint64_t slot_count, chunk_count;
};

#define REFMAP_COUNT_MAX UINT32_MAX /* a count stays there */

void refmap_init(struct refmap *map);
void refmap_fini(struct refmap *map);
/* One more reference to the cluster with this index. 0 or -ENOMEM. */
int refmap_add(struct refmap *map, uint64_t cluster_index);
uint32_t refmap_get(const struct refmap *map, uint64_t cluster_index);
/* The first index from `from` on that is referred to; false: none is. Asking for all of them one
 * after the other costs a walk over the chunks each time a chunk ends. */
bool refmap_next(const struct refmap *map, uint64_t from, uint64_t *ret_cluster_index);

#endif
