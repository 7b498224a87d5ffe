/* SPDX-License-Identifier: BSD-3-Clause */
#include "cache/clusters.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "block/coroutine_lock.h"
#include "common/list.h"

/*
 * Clusters by key, in a hash of lists and in one list by age of last use. One mutex for all of it:
 * a hit holds it for a few instructions, and what it saves is an inflation.
 *
 * States: filling (in the hash; the others wait, pinned) -> filled (in the hash and, while nobody
 * has it pinned, in `idle`) -> gone. A fill that fails, or a key that is forgotten, takes a cluster
 * out of the hash at once; it is freed with its last pin.
 *
 * Only what is idle is evicted, the longest unused first; so what is in memory exceeds the budget
 * by no more than what is pinned right now.
 */

#define BUCKETS 256
#define CLUSTER_ALIGNMENT 4096

struct cluster {
    struct list_link bucket_link; /* off it: nobody finds it any more */
    struct list_link idle_link;
    uint64_t key;
    unsigned pins;
    bool is_filling;
    int rc; /* of the fill */
    struct co_queue waiters;
    uint8_t *data;
};

struct clusters {
    pthread_mutex_t mutex;
    size_t cluster_bytes, memory_bytes; /* of one: as asked for, and as allocated */
    uint64_t budget_bytes;
    struct list buckets[BUCKETS];
    struct list idle; /* the longest unused first */
    struct clusters_counters counters;
};

int clusters_new(struct clusters **ret_clusters, size_t cluster_bytes, uint64_t budget_bytes)
{
    assert(cluster_bytes > 0);
    struct clusters *clusters = calloc(1, sizeof(*clusters));
    if (!clusters)
        return -ENOMEM;
    clusters->cluster_bytes = cluster_bytes;
    clusters->memory_bytes =
        (cluster_bytes + CLUSTER_ALIGNMENT - 1) / CLUSTER_ALIGNMENT * CLUSTER_ALIGNMENT;
    clusters->budget_bytes = budget_bytes;
    pthread_mutex_init(&clusters->mutex, NULL);
    for (unsigned i = 0; i < BUCKETS; i++)
        list_init(&clusters->buckets[i]);
    list_init(&clusters->idle);
    *ret_clusters = clusters;
    return 0;
}

static struct list *bucket_of(struct clusters *clusters, uint64_t key)
{
    return &clusters->buckets[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 56];
}

/* The mutex is held. It is on no list. */
static void destroy(struct clusters *clusters, struct cluster *cluster)
{
    assert(cluster->pins == 0 && !link_is_listed(&cluster->bucket_link));
    clusters->counters.bytes -= clusters->memory_bytes;
    free(cluster->data);
    free(cluster);
}

/* The mutex is held. */
static void hide(struct clusters *clusters, struct cluster *cluster)
{
    list_remove(&cluster->bucket_link);
    list_remove(&cluster->idle_link);
    if (cluster->pins == 0)
        destroy(clusters, cluster);
}

/* The mutex is held. */
static void shrink(struct clusters *clusters)
{
    struct list_link *link;
    while (clusters->counters.bytes > clusters->budget_bytes &&
           (link = list_first(&clusters->idle))) {
        clusters->counters.evictions++;
        hide(clusters, container_of(link, struct cluster, idle_link));
    }
}

void clusters_forget_all(struct clusters *clusters)
{
    pthread_mutex_lock(&clusters->mutex);
    for (unsigned i = 0; i < BUCKETS; i++) {
        list_for_each (link, &clusters->buckets[i])
            hide(clusters, container_of(link, struct cluster, bucket_link));
    }
    pthread_mutex_unlock(&clusters->mutex);
}

void clusters_free(struct clusters *clusters)
{
    if (!clusters)
        return;
    clusters_forget_all(clusters);
    assert(clusters->counters.bytes == 0);
    pthread_mutex_destroy(&clusters->mutex);
    free(clusters);
}

/* The mutex is held. */
static struct cluster *find(struct clusters *clusters, uint64_t key)
{
    list_for_each (link, bucket_of(clusters, key)) {
        struct cluster *cluster = container_of(link, struct cluster, bucket_link);
        if (cluster->key == key)
            return cluster;
    }
    return NULL;
}

/* The mutex is held. */
static struct cluster *new_cluster(struct clusters *clusters, uint64_t key)
{
    struct cluster *cluster = calloc(1, sizeof(*cluster));
    uint8_t *data = aligned_alloc(CLUSTER_ALIGNMENT, clusters->memory_bytes);
    if (!cluster || !data) {
        free(cluster);
        free(data);
        return NULL;
    }
    cluster->data = data;
    cluster->key = key;
    cluster->pins = 1;
    cluster->is_filling = true;
    link_init(&cluster->idle_link);
    co_queue_init(&cluster->waiters);
    list_prepend(bucket_of(clusters, key), &cluster->bucket_link);
    clusters->counters.bytes += clusters->memory_bytes;
    return cluster;
}

/* The mutex is held. */
static void unpin(struct clusters *clusters, struct cluster *cluster)
{
    assert(cluster->pins > 0);
    if (--cluster->pins > 0)
        return;
    if (!link_is_listed(&cluster->bucket_link))
        destroy(clusters, cluster);
    else
        list_append(&clusters->idle, &cluster->idle_link);
    shrink(clusters);
}

/* The mutex is held. */
static int co_await_fill(struct clusters *clusters, struct cluster *cluster)
{
    cluster->pins++;
    list_remove(&cluster->idle_link);
    while (cluster->is_filling)
        co_queue_wait(&cluster->waiters, &clusters->mutex);
    int rc = cluster->rc;
    if (rc < 0)
        unpin(clusters, cluster);
    return rc;
}

/* The mutex is held, and given up for the fill. */
static int co_fill_cluster(struct clusters *clusters, struct cluster *cluster,
                           clusters_co_fill *co_fill, void *arg)
{
    pthread_mutex_unlock(&clusters->mutex);
    int rc = co_fill(arg, cluster->key, cluster->data);
    pthread_mutex_lock(&clusters->mutex);
    cluster->is_filling = false;
    cluster->rc = rc;
    co_queue_wake_all(&cluster->waiters);
    if (rc < 0) {
        list_remove(&cluster->bucket_link);
        unpin(clusters, cluster);
    }
    return rc;
}

int clusters_co_get(struct clusters *clusters, uint64_t key, clusters_co_fill *co_fill, void *arg,
                    struct cluster **ret_cluster)
{
    int rc;
    pthread_mutex_lock(&clusters->mutex);
    struct cluster *cluster = find(clusters, key);
    if (cluster) {
        clusters->counters.hits++;
        rc = co_await_fill(clusters, cluster);
    } else {
        clusters->counters.misses++;
        cluster = new_cluster(clusters, key);
        rc = cluster ? co_fill_cluster(clusters, cluster, co_fill, arg) : -ENOMEM;
    }
    if (rc == 0)
        *ret_cluster = cluster;
    pthread_mutex_unlock(&clusters->mutex);
    return rc;
}

const uint8_t *cluster_data(const struct cluster *cluster)
{
    return cluster->data;
}

void clusters_put(struct clusters *clusters, struct cluster *cluster)
{
    if (!cluster)
        return;
    pthread_mutex_lock(&clusters->mutex);
    unpin(clusters, cluster);
    pthread_mutex_unlock(&clusters->mutex);
}

void clusters_forget(struct clusters *clusters, uint64_t key)
{
    pthread_mutex_lock(&clusters->mutex);
    struct cluster *cluster = find(clusters, key);
    if (cluster)
        hide(clusters, cluster);
    pthread_mutex_unlock(&clusters->mutex);
}

void clusters_counters(struct clusters *clusters, struct clusters_counters *ret_counters)
{
    pthread_mutex_lock(&clusters->mutex);
    *ret_counters = clusters->counters;
    pthread_mutex_unlock(&clusters->mutex);
}
