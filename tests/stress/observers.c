/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Points in time of a node that four loops write to: an observer copies the old bytes of a cluster
 * away before it changes for the first time. Writers of whole blocks and of parts of them, zeroes
 * and discards; other observers come and go under the same load, and their memory with them.
 *
 * Checked, point for point: the copies, and for clusters that never changed the disk, are what the
 * disk was when the point was taken. A writer that did not wait for a copy under way, a change that
 * no observer saw, and one that was seen by half of it all show as other bytes.
 */
#include "tests/stress/stress.h"

#include <string.h>

#include "block/env.h"
#include "block/observer.h"
#include "tests/unit/block/memory_driver.h"

#define BLOCK_BYTES 512
#define CLUSTER_BYTES 2048
#define CLUSTERS 64
#define SIZE_BYTES (CLUSTERS * CLUSTER_BYTES)
#define WRITERS 12
#define POINTS 40
#define CHANGES_A_POINT 150 /* by all writers, at least, before a point is looked at */

enum cluster_state { CLUSTER_UNTOUCHED, CLUSTER_COPYING, CLUSTER_COPIED };

struct point {
    struct block_observer observer;
    uint8_t then[SIZE_BYTES]; /* what the disk was */
    uint8_t copies[SIZE_BYTES];
    pthread_mutex_t mutex; /* guards all below */
    enum cluster_state states[CLUSTERS];
    struct co_queue copying;
};

struct shared {
    struct stress stress;
    struct block_env env;
    struct memory_disk disk;
    struct block_node *node;
    struct block_backend *backend;
    atomic_uint numbers, changes, ended;
    atomic_bool stop;
};

/* --- the point ------------------------------------------------------------------------------- */

static void point_co_copy(struct point *point, struct block_node *node, unsigned cluster)
{
    struct iovec iov;
    uint64_t offset = (uint64_t)cluster * CLUSTER_BYTES;
    pthread_mutex_lock(&point->mutex);
    while (point->states[cluster] == CLUSTER_COPYING)
        co_queue_wait(&point->copying, &point->mutex);
    bool mine = point->states[cluster] == CLUSTER_UNTOUCHED;
    if (mine)
        point->states[cluster] = CLUSTER_COPYING;
    pthread_mutex_unlock(&point->mutex);
    if (!mine)
        return;
    struct block_vec vec = vec_of_buffer(&iov, point->copies + offset, CLUSTER_BYTES);
    check(observer_co_read(node, offset, &vec) == 0);
    pthread_mutex_lock(&point->mutex);
    point->states[cluster] = CLUSTER_COPIED;
    co_queue_wake_all(&point->copying);
    pthread_mutex_unlock(&point->mutex);
}

static int point_co_before(struct block_observer *observer, struct block_node *node,
                           enum block_change change, uint64_t offset, uint64_t length)
{
    struct point *point = container_of(observer, struct point, observer);
    (void)change;
    for (uint64_t i = offset / CLUSTER_BYTES; i * CLUSTER_BYTES < offset + length; i++)
        point_co_copy(point, node, (unsigned)i);
    return 0;
}

static struct point *point_co_take(struct shared *shared)
{
    struct point *point = calloc(1, sizeof(*point));
    check(point);
    point->observer.co_before = point_co_before;
    pthread_mutex_init(&point->mutex, NULL);
    co_queue_init(&point->copying);
    block_co_backend_drain(shared->backend);
    memcpy(point->then, shared->disk.data, SIZE_BYTES);
    observer_co_add(shared->node, &point->observer);
    block_backend_resume(shared->backend);
    return point;
}

/* Returns how many clusters were copied. */
static unsigned point_co_end(struct shared *shared, struct point *point)
{
    unsigned copied = 0;
    block_co_backend_drain(shared->backend);
    observer_co_remove(shared->node, &point->observer);
    for (unsigned i = 0; i < CLUSTERS; i++) {
        size_t offset = (size_t)i * CLUSTER_BYTES;
        check(point->states[i] != CLUSTER_COPYING);
        bool is_copied = point->states[i] == CLUSTER_COPIED;
        const uint8_t *now = is_copied ? point->copies : shared->disk.data;
        check(memcmp(point->then + offset, now + offset, CLUSTER_BYTES) == 0);
        copied += is_copied;
    }
    block_backend_resume(shared->backend);
    pthread_mutex_destroy(&point->mutex);
    free(point);
    return copied;
}

/* --- actors ---------------------------------------------------------------------------------- */

static void writer(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    uint8_t data[2 * CLUSTER_BYTES];
    unsigned number = atomic_fetch_add(&shared->numbers, 1);
    stress_random(&shared->stress, &random, number);
    while (!atomic_load(&shared->stop)) {
        uint64_t unit = random_once_in(&random, 2) ? BLOCK_BYTES : 1;
        uint64_t length = (1 + random_below(&random, sizeof(data) / unit)) * unit;
        uint64_t offset = random_below(&random, (SIZE_BYTES - length) / unit + 1) * unit;
        struct iovec iov;
        struct block_vec vec = vec_of_buffer(&iov, data, length);
        unsigned kind = (unsigned)random_below(&random, 8);
        int rc;
        memset(data, (int)random_below(&random, 255) + 1, length);
        if (kind == 0)
            rc = block_co_zero(shared->backend, offset, length, 0);
        else if (kind == 1)
            rc = block_co_discard(shared->backend, offset, length, 0);
        else
            rc = block_co_write(shared->backend, offset, &vec, 0);
        check(rc == 0);
        atomic_fetch_add(&shared->changes, 1);
        coroutine_co_pause();
    }
    atomic_fetch_add(&shared->ended, 1);
}

/* Observers that only count, and whose memory goes as soon as they are removed. */
struct passer {
    struct block_observer observer;
    atomic_uint inside;
};

static int passer_co_before(struct block_observer *observer, struct block_node *node,
                            enum block_change change, uint64_t offset, uint64_t length)
{
    struct passer *passer = container_of(observer, struct passer, observer);
    (void)node, (void)change, (void)offset, (void)length;
    atomic_fetch_add(&passer->inside, 1);
    coroutine_co_pause();
    atomic_fetch_sub(&passer->inside, 1);
    return 0;
}

static void come_and_go(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    stress_random(&shared->stress, &random, 1000 + atomic_fetch_add(&shared->numbers, 1));
    while (!atomic_load(&shared->stop)) {
        struct passer *passer = calloc(1, sizeof(*passer));
        check(passer);
        passer->observer.co_before = passer_co_before;
        observer_co_add(shared->node, &passer->observer);
        stress_co_dawdle(&shared->stress, &random);
        observer_co_remove(shared->node, &passer->observer);
        check(atomic_load(&passer->inside) == 0);
        free(passer);
        stress_co_dawdle(&shared->stress, &random);
    }
    atomic_fetch_add(&shared->ended, 1);
}

static void director(void *arg)
{
    struct shared *shared = arg;
    struct random random;
    struct node_options *options = node_options_new();
    unsigned copied = 0;
    check(options);
    stress_random(&shared->stress, &random, 5000);
    memory_disk_options(&shared->disk, options, "", "file");
    check(block_co_open(&shared->env, options, &shared->node, NULL) == 0);
    check(block_backend_new(&shared->backend, shared->node, false, NULL) == 0);
    for (unsigned i = 0; i < WRITERS; i++)
        stress_spawn(&shared->stress, i % STRESS_LOOPS, writer, shared);
    for (unsigned i = 0; i < 2; i++)
        stress_spawn(&shared->stress, 1 + i, come_and_go, shared);

    for (unsigned i = 0; i < POINTS; i++) {
        struct point *point = point_co_take(shared);
        unsigned until = atomic_load(&shared->changes) + CHANGES_A_POINT;
        while (atomic_load(&shared->changes) < until)
            stress_co_dawdle(&shared->stress, &random);
        copied += point_co_end(shared, point);
    }
    check(copied > POINTS);
    printf("%u points, %u clusters copied, %u changes\n", POINTS, copied,
           atomic_load(&shared->changes));
    atomic_store(&shared->stop, true);
    while (atomic_load(&shared->ended) < WRITERS + 2)
        stress_co_dawdle(&shared->stress, &random);
    check(block_co_backend_free(shared->backend) == 0);
    block_co_node_unref(shared->node);
}

int main(void)
{
    struct shared *shared = calloc(1, sizeof(*shared));
    check(shared);
    stress_init(&shared->stress, "observers");
    check(block_env_init(&shared->env, shared->stress.loops, STRESS_LOOPS, shared->stress.workers,
                         NULL, memory_drivers, NULL) == 0);
    memory_disk_init(&shared->disk, SIZE_BYTES, SIZE_BYTES, shared->stress.seed);
    shared->disk.limits.request_alignment = BLOCK_BYTES;
    shared->disk.limits.transfer_bytes_max = CLUSTER_BYTES;
    shared->disk.pauses_max = 2;
    stress_spawn(&shared->stress, 0, director, shared);
    stress_run(&shared->stress);
    memory_disk_fini(&shared->disk);
    block_env_fini(&shared->env);
    stress_fini(&shared->stress);
    free(shared);
    return 0;
}
