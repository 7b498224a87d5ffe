/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is unlinked is freed later: when the removal of the pointer is durable (invariants 3 and
 * 17a), and every request that may have seen the pointer has ended (17c). Then the host may have
 * the space back (18), and only after that the refcount goes down, so that nobody gets a cluster
 * whose punching is under way (17b).
 */
#include <errno.h>
#include <stdlib.h>

#include "formats/qcow2/writer.h"

/* More than so many that wait: the next one flushes, so that space and memory come back. */
#define WAITING_MAX 4096

struct qcow2_unlinked {
    struct cache_after after;
    struct qcow2_image *image;
    bool is_discard;
    uint64_t host_offset, count; /* of the first cluster; clusters, each one reference less */
    uint64_t compressed_entry;   /* 0: not compressed */
};

/* Where this was the last reference to a cluster that a guest has discarded. A hint: what the host
 * answers does not matter, but that it has answered does. */
static void co_punch(struct qcow2_image *image, uint64_t host_offset)
{
    uint64_t refcount;
    if (qcow2_co_refcount(image, host_offset, &refcount) < 0 || refcount != 1)
        return;
    if (qcow2_is_corrupt(image)) /* found while the count was read */
        return;
    uint64_t size = atomic_load(&image->node->file->size_bytes);
    qcow2_redo_beat(image);
    if (host_offset + image->geometry.cluster_bytes <= size)
        node_co_discard(image->node->file, host_offset, image->geometry.cluster_bytes, 0);
}

static void co_free_unlinked(struct cache_after *after)
{
    struct qcow2_unlinked *unlinked = container_of(after, struct qcow2_unlinked, after);
    struct qcow2_image *image = unlinked->image;
    if (unlinked->compressed_entry)
        clusters_forget(image->clusters, unlinked->compressed_entry);
    node_co_event(image->node, "cluster_free");
    /* Of a corrupt image nobody knows what is free. */
    for (uint64_t i = 0; i < unlinked->count && !qcow2_is_corrupt(image); i++) {
        uint64_t host_offset = unlinked->host_offset + (i << image->geometry.cluster_bits);
        if (unlinked->is_discard && !unlinked->compressed_entry)
            co_punch(image, host_offset);
        qcow2_co_refcount_decrement(image, host_offset); /* else it leaks */
    }
    free(unlinked);
}

struct qcow2_unlinked *qcow2_unlinked_new(struct qcow2_image *image, bool is_discard)
{
    struct qcow2_unlinked *unlinked = malloc(sizeof(*unlinked));
    if (!unlinked)
        return NULL;
    *unlinked = (struct qcow2_unlinked){
        .after = {.co_run = co_free_unlinked}, .image = image, .is_discard = is_discard};
    return unlinked;
}

void qcow2_unlinked_free(struct qcow2_unlinked *unlinked)
{
    free(unlinked);
}

void qcow2_unlink_clusters(struct qcow2_unlinked *unlinked, uint64_t host_offset, uint64_t count)
{
    unlinked->host_offset = host_offset;
    unlinked->count = count;
    cache_after_durable(unlinked->image->cache, &unlinked->after);
}

/* Compressed data lies in one or more clusters, and has a reference to each. */
void qcow2_unlink(struct qcow2_unlinked *unlinked, const struct qcow2_cluster *cluster,
                  uint64_t compressed_entry)
{
    const struct qcow2_geometry *geometry = &unlinked->image->geometry;
    uint64_t first = cluster->host_offset >> geometry->cluster_bits;
    uint64_t last = first;
    if (cluster->is_compressed) {
        unlinked->compressed_entry = compressed_entry;
        last = (cluster->host_offset + cluster->compressed_bytes - 1) >> geometry->cluster_bits;
    }
    qcow2_unlink_clusters(unlinked, first << geometry->cluster_bits, last - first + 1);
}

int qcow2_co_limit_unlinked(struct qcow2_image *image)
{
    pthread_mutex_lock(&image->monitor);
    bool is_too_much = cache_after_count(image->cache) >= WAITING_MAX;
    pthread_mutex_unlock(&image->monitor);
    return is_too_much ? cache_co_flush(image->cache) : 0;
}

void qcow2_abandon_unlinked(struct qcow2_image *image)
{
    struct cache_after *after;
    pthread_mutex_lock(&image->monitor);
    while ((after = cache_abandon_after(image->cache)))
        free(container_of(after, struct qcow2_unlinked, after));
    pthread_mutex_unlock(&image->monitor);
}
