/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CACHE_CLUSTERS_H
#define CACHE_CLUSTERS_H

/*
 * Decompressed clusters in memory, up to a budget of bytes, so that a small read does not inflate a
 * whole cluster each time. Read only: what a key stands for never changes while it is in here; who
 * frees the compressed bytes forgets the key.
 *
 * A key is the format's: qcow2 uses the compressed L2 entry itself (place and length).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct clusters;
struct cluster; /* pinned until it is put */

/* budget_bytes below one cluster: nothing is kept, but those who want the same at the same time
 * still share it. 0 or -ENOMEM. */
int clusters_new(struct clusters **ret_clusters, size_t cluster_bytes, uint64_t budget_bytes);
/* Nothing is pinned. Takes NULL. */
void clusters_free(struct clusters *clusters);

/* The cluster of that key, pinned. Where it is not in memory, co_fill(arg, key, buffer) is called
 * to fill buffer (cluster_bytes, page-aligned), once for all who want it at the same time; when it
 * fails, all of them get its error and nothing is kept. -ENOMEM. */
typedef int clusters_co_fill(void *arg, uint64_t key, uint8_t *buffer);
int clusters_co_get(struct clusters *clusters, uint64_t key, clusters_co_fill *co_fill, void *arg,
                    struct cluster **ret_cluster);
const uint8_t *cluster_data(const struct cluster *cluster);
/* Takes NULL. */
void clusters_put(struct clusters *clusters, struct cluster *cluster);

/* Who gets that key from now on fills it anew; who has it pinned keeps it. */
void clusters_forget(struct clusters *clusters, uint64_t key);
void clusters_forget_all(struct clusters *clusters);

struct clusters_counters {
    uint64_t hits, misses, evictions;
    uint64_t bytes; /* in memory right now, pinned ones too */
};
void clusters_counters(struct clusters *clusters, struct clusters_counters *ret_counters);

#endif
