/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the header says of the image's state: that it is corrupt, that its refcounts are behind.
 *
 * Lazy refcounts: clean -> (the first cluster is taken) the dirty bit is written and durable ->
 * postponing: flushes leave refcount blocks and the refcount table out, and where new clusters are
 * behind the end of the file (write.c, needs_data_first()), they cost a write and a sync less ->
 * (close, read-only, inactive) all is written, then the bit is cleared -> clean. Who finds the bit
 * set counts everything anew: repair.c. Counts that reach the disk before, since the cache wanted
 * room or the table grew, do no harm.
 */
#include <assert.h>

#include "common/endian.h"
#include "formats/qcow2/writer.h"

/* Monitor; given up meanwhile. *ret_wanted is what they become; false: they are that already. */
static bool co_begin_marking(struct qcow2_image *image, uint64_t set, uint64_t clear,
                             uint64_t *ret_wanted)
{
    struct qcow2_writer *writer = image->writer;
    while (writer->is_marking)
        co_queue_wait(&writer->markers, &image->monitor);
    *ret_wanted = (image->header.incompatible_features | set) & ~clear;
    writer->is_marking = *ret_wanted != image->header.incompatible_features;
    return writer->is_marking;
}

int qcow2_co_mark(struct qcow2_image *image, uint64_t set, uint64_t clear)
{
    uint8_t field[8];
    uint64_t wanted;
    assert(image->header.version >= 3);
    pthread_mutex_lock(&image->monitor);
    bool is_mine = co_begin_marking(image, set, clear, &wanted);
    pthread_mutex_unlock(&image->monitor);
    if (!is_mine)
        return 0;
    store_be64(field, wanted);
    int ret = qcow2_co_write_header_bytes(image, QCOW2_HEADER_INCOMPATIBLE, field, sizeof(field));
    pthread_mutex_lock(&image->monitor);
    if (ret == 0)
        image->header.incompatible_features = wanted;
    image->writer->is_marking = false;
    co_queue_wake_all(&image->writer->markers);
    pthread_mutex_unlock(&image->monitor);
    return ret;
}

#define REFCOUNT_CLASSES ((1u << QCOW2_TABLE_REFCOUNT_BLOCK) | (1u << QCOW2_TABLE_REFCOUNT_TABLE))

static void set_postponing(struct qcow2_image *image, bool is_postponing)
{
    pthread_mutex_lock(&image->monitor);
    cache_postpone(image->cache, is_postponing ? REFCOUNT_CLASSES : 0);
    atomic_store(&image->writer->is_postponing, is_postponing);
    pthread_mutex_unlock(&image->monitor);
}

int qcow2_co_postpone_refcounts(struct qcow2_image *image)
{
    if (!image->is_lazy || atomic_load(&image->writer->is_postponing))
        return 0;
    int ret = qcow2_co_mark(image, QCOW2_INCOMPATIBLE_DIRTY, 0);
    if (ret == 0)
        set_postponing(image, true);
    return ret;
}

/* A bit that cannot be cleared costs a repair, and nothing else (invariant 30). */
int qcow2_co_settle(struct qcow2_image *image)
{
    int ret = cache_co_settle(image->cache);
    bool is_dirty = qcow2_header_has(&image->header, QCOW2_INCOMPATIBLE_DIRTY);
    if (ret < 0 || qcow2_is_corrupt(image))
        return ret;
    if (is_dirty) {
        set_postponing(image, false);
        ret = qcow2_co_mark(image, 0, QCOW2_INCOMPATIBLE_DIRTY);
    }
    qcow2_redo_co_rest(image);
    return ret;
}
