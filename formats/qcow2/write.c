/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes. What is ours already is written in place, without a claim and without the monitor. The
 * rest goes, some clusters of one kind at a time:
 *
 *     claim the guest clusters | look again | own the L2 table | take host clusters (or use those
 *     that are there) | write data and what is copied around it | link | free the old, later
 *
 * Data is written before it is linked, so a reader sees old or new bytes and nothing else
 * (invariant 23), and a write that fails has changed no mapping: its clusters are given back
 * (invariant 19).
 *
 * What is copied: of a cluster without subclusters all around the guest's bytes; of one with them,
 * up to the next subcluster, unless the old cluster has data that must come along. Subclusters that
 * are ours and have data are never copied over, since another request may write them right now.
 */
#include <assert.h>
#include <errno.h>

#include "common/align.h"
#include "formats/qcow2/writer.h"

/* --- what is ours ------------------------------------------------------------------------------
 */

/* Subclusters of one cluster that [from, to) touches; both are guest offsets in it. */
static uint32_t touched_bits(const struct qcow2_geometry *geometry, uint64_t from, uint64_t to)
{
    uint32_t first = qcow2_subcluster_index(geometry, from);
    uint32_t last = qcow2_subcluster_index(geometry, to - 1);
    return (uint32_t)((UINT64_C(2) << last) - (UINT64_C(1) << first));
}

/* One that is compressed is never said to be copied. */
static bool is_ours(const struct qcow2_cluster *cluster)
{
    return cluster->has_host && cluster->is_copied;
}

static uint64_t cluster_end(const struct qcow2_image *image, uint64_t guest_offset)
{
    return (guest_offset | (image->geometry.cluster_bytes - 1)) + 1;
}

/* How much from guest_offset on is written where it lies, in one piece. */
static uint64_t in_place_bytes(const struct qcow2_image *image, const struct qcow2_look *look,
                               uint64_t guest_offset, uint64_t length, uint64_t *ret_host_offset)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    uint64_t end = guest_offset + length, at = guest_offset;
    for (uint32_t i = 0; i < look->count; i++) {
        const struct qcow2_cluster *cluster = &look->clusters[i];
        uint64_t to = smaller(cluster_end(image, at), end);
        uint32_t touched = touched_bits(geometry, at, to);
        uint64_t host = cluster->host_offset + qcow2_in_cluster(geometry, at);
        if (!is_ours(cluster) || (cluster->allocated_bits & touched) != touched)
            break;
        if (i == 0)
            *ret_host_offset = host;
        else if (host != *ret_host_offset + (at - guest_offset))
            break;
        at = to;
    }
    return at - guest_offset;
}

static int co_write_in_place(struct qcow2_image *image, uint64_t host_offset, uint64_t guest_offset,
                             const struct block_vec *vec)
{
    int ret = image->geometry.has_data_file
                  ? 0
                  : qcow2_co_check_overlap(image, host_offset, vec->length, guest_offset);
    if (ret == 0 && qcow2_is_corrupt(image))
        ret = -EIO;
    if (ret < 0)
        return ret;
    node_co_event(image->node, "write_aio");
    return qcow2_co_write_to(image, image->data, host_offset, vec);
}

/* --- what is not --------------------------------------------------------------------------------
 */

/* Some neighbouring clusters that are written and linked together. */
struct run {
    struct qcow2_look look;
    uint64_t guest_offset, length; /* of the guest's bytes that go there */
    uint32_t count;                /* clusters, the first ones of the look */
    uint64_t host_offset;          /* of the first */
    bool is_new;                   /* host clusters were taken for it */
    bool is_fresh;                 /* and nobody has ever written there */
    struct qcow2_unlinked *unlinked[QCOW2_LOOK_MAX];
};

/* Whether a new cluster must have all that the old one shows. */
static bool must_copy_all(const struct qcow2_geometry *geometry, const struct qcow2_cluster *old)
{
    return !geometry->is_extended || old->is_compressed || old->allocated_bits != 0;
}

/* One that is ours is a run of its own; those that need new clusters make one together. */
static uint32_t count_alike(const struct qcow2_look *look)
{
    uint32_t count = 1;
    if (is_ours(&look->clusters[0]))
        return 1;
    while (count < look->count && !is_ours(&look->clusters[count]))
        count++;
    return count;
}

static int co_take_clusters(struct qcow2_image *image, struct run *run)
{
    const struct qcow2_cluster *first = &run->look.clusters[0];
    uint64_t count = count_alike(&run->look);
    run->count = (uint32_t)count;
    if (is_ours(first)) {
        run->host_offset = first->host_offset;
        return 0;
    }
    if (image->geometry.has_data_file) {
        run->host_offset = run->look.guest_offset;
        return 0;
    }
    int ret = qcow2_co_alloc(image, count, &run->host_offset, &count);
    if (ret < 0)
        return ret;
    run->is_new = true;
    run->is_fresh = qcow2_is_fresh(image, run->host_offset);
    run->count = (uint32_t)count;
    return 0;
}

/* What will be unlinked: made now, so that linking cannot fail for want of memory. */
static int prepare_unlinking(struct qcow2_image *image, struct run *run)
{
    for (uint32_t i = 0; i < run->count && run->is_new; i++) {
        if (!run->look.clusters[i].has_host)
            continue;
        run->unlinked[i] = qcow2_unlinked_new(image, false);
        if (!run->unlinked[i])
            return -ENOMEM;
    }
    return 0;
}

static uint64_t cluster_guest_offset(const struct qcow2_image *image, const struct run *run,
                                     uint32_t index)
{
    return run->look.guest_offset + ((uint64_t)index << image->geometry.cluster_bits);
}

/* From where on the first cluster is written: all before the guest's bytes, up to a subcluster, or
 * nothing. */
static uint64_t copy_from(const struct qcow2_image *image, const struct run *run)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    const struct qcow2_cluster *old = &run->look.clusters[0];
    uint64_t at = run->guest_offset;
    if (!is_ours(old) && must_copy_all(geometry, old))
        return run->look.guest_offset;
    if (is_ours(old) && qcow2_cluster_kind(old, qcow2_subcluster_index(geometry, at)) == QCOW2_DATA)
        return at;
    return at & ~(geometry->subcluster_bytes - 1);
}

/* And up to where the last one is. */
static uint64_t copy_to(const struct qcow2_image *image, const struct run *run)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    const struct qcow2_cluster *old = &run->look.clusters[run->count - 1];
    uint64_t end = run->guest_offset + run->length;
    if (!is_ours(old) && must_copy_all(geometry, old))
        return cluster_end(image, end - 1);
    if (is_ours(old) &&
        qcow2_cluster_kind(old, qcow2_subcluster_index(geometry, end - 1)) == QCOW2_DATA)
        return end;
    return ((end - 1) | (geometry->subcluster_bytes - 1)) + 1;
}

static int co_write_run(struct qcow2_image *image, const struct run *run,
                        const struct block_vec *vec)
{
    struct qcow2_cow cow = {
        .guest_from = copy_from(image, run),
        .guest_to = copy_to(image, run),
        .guest_offset = run->guest_offset,
        .skips_zeroes = run->is_fresh,
    };
    /* A raw data file has no byte more than the disk; what makes it grow writes behind its end. */
    uint64_t end = run->guest_offset + run->length;
    uint64_t size = atomic_load(&image->node->size_bytes);
    if (size < end)
        size = end;
    if (image->geometry.has_data_file && cow.guest_to > size)
        cow.guest_to = size;
    cow.host_offset = run->host_offset + (cow.guest_from - run->look.guest_offset);
    return qcow2_co_write_cow(image, &cow, vec);
}

/* The entry of one cluster of the run, once its data is there. */
static struct qcow2_cluster new_entry(const struct qcow2_image *image, const struct run *run,
                                      uint32_t index)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    const struct qcow2_cluster *old = &run->look.clusters[index];
    uint64_t begin = cluster_guest_offset(image, run, index);
    uint64_t from = run->guest_offset > begin ? run->guest_offset : begin;
    uint64_t to = smaller(run->guest_offset + run->length, begin + geometry->cluster_bytes);
    uint32_t all = geometry->is_extended ? UINT32_MAX : 1;
    uint32_t written = touched_bits(geometry, from, to);
    if (!is_ours(old) && must_copy_all(geometry, old))
        written = all;
    return (struct qcow2_cluster){
        .is_copied = true,
        .has_host = true,
        .host_offset = run->host_offset + ((uint64_t)index << geometry->cluster_bits),
        .allocated_bits = (is_ours(old) ? old->allocated_bits : 0) | written,
        .zero_bits = old->zero_bits & ~written,
    };
}

/* Invariants 8 and 9. Where nobody has written to the new clusters, and zeroes were shown, a cut
 * before the data shows them still. But a pointer past the end of the file may be left then, and is
 * an error until a repair has seen it: so only where a cut brings one, with refcounts that are
 * late. */
static bool needs_data_first(const struct qcow2_image *image, const struct run *run)
{
    if (!run->is_fresh || !atomic_load(&image->writer->is_postponing))
        return true;
    for (uint32_t i = 0; i < run->count; i++) {
        const struct qcow2_cluster *old = &run->look.clusters[i];
        bool is_zero = old->zero_bits == (image->geometry.is_extended ? UINT32_MAX : 1);
        bool is_nothing = !old->has_host && old->zero_bits == 0 && !image->backing;
        if (!is_zero && !is_nothing)
            return true;
    }
    return false;
}

static int co_link_run(struct qcow2_image *image, struct run *run)
{
    struct qcow2_cluster clusters[QCOW2_LOOK_MAX];
    for (uint32_t i = 0; i < run->count; i++)
        clusters[i] = new_entry(image, run, i);
    return qcow2_co_link(image, &run->look, 0, run->count, clusters, run->unlinked,
                         needs_data_first(image, run));
}

/* With the clusters claimed. *ret_written: so much of vec, from its front. */
static int co_write_claimed(struct qcow2_image *image, struct run *run, const struct block_vec *vec,
                            size_t *ret_written)
{
    int ret = qcow2_co_own_l2(image, run->guest_offset, &run->look.l2_offset);
    if (ret == 0)
        ret = co_take_clusters(image, run);
    if (ret < 0)
        return ret;
    uint64_t run_end = cluster_guest_offset(image, run, run->count);
    run->length = smaller(vec->length, run_end - run->guest_offset);
    struct block_vec part = vec_slice(vec, 0, (size_t)run->length);
    ret = prepare_unlinking(image, run);
    if (ret == 0)
        ret = co_write_run(image, run, &part);
    if (ret == 0)
        ret = co_link_run(image, run);
    for (uint32_t i = 0; i < run->count; i++)
        qcow2_unlinked_free(run->unlinked[i]);
    if (ret < 0 && run->is_new)
        qcow2_co_unalloc(image, run->host_offset, run->count);
    if (ret == 0)
        *ret_written = (size_t)run->length;
    return ret;
}

/* Claims what the look covers; 0 written where things have changed meanwhile: look again. */
static int co_write_elsewhere(struct qcow2_image *image, uint64_t guest_offset,
                              const struct block_vec *vec, size_t *ret_written)
{
    struct run run = {.guest_offset = guest_offset};
    struct qcow2_claim claim;
    uint64_t host_offset;
    uint32_t bits = image->geometry.cluster_bits;
    uint64_t first = guest_offset >> bits;
    uint64_t end = ((guest_offset + vec->length - 1) >> bits) + 1;
    pthread_mutex_lock(&image->monitor);
    qcow2_co_claim(image, &image->writer->cluster_claims, &claim, first,
                   smaller(end, first + QCOW2_LOOK_MAX));
    pthread_mutex_unlock(&image->monitor);
    *ret_written = 0;
    uint64_t claimed = smaller(vec->length, (claim.end << bits) - guest_offset);
    int ret = qcow2_co_look(image, guest_offset, claimed, &run.look);
    if (ret == 0 && in_place_bytes(image, &run.look, guest_offset, claimed, &host_offset) == 0)
        ret = co_write_claimed(image, &run, vec, ret_written);
    pthread_mutex_lock(&image->monitor);
    qcow2_unclaim(&claim);
    pthread_mutex_unlock(&image->monitor);
    return ret;
}

/* Some bytes from the front of vec. */
static int co_write_some(struct qcow2_image *image, uint64_t guest_offset,
                         const struct block_vec *vec, size_t *ret_written)
{
    struct qcow2_look look;
    uint64_t host_offset;
    int ret = qcow2_co_look(image, guest_offset, vec->length, &look);
    if (ret < 0)
        return ret;
    uint64_t length = in_place_bytes(image, &look, guest_offset, vec->length, &host_offset);
    if (length == 0)
        return co_write_elsewhere(image, guest_offset, vec, ret_written);
    struct block_vec part = vec_slice(vec, 0, (size_t)length);
    *ret_written = (size_t)length;
    return co_write_in_place(image, host_offset, guest_offset, &part);
}

int qcow2_co_write_plain(struct qcow2_image *image, uint64_t guest_offset,
                         const struct block_vec *vec)
{
    size_t written = 0;
    int ret = 0;
    for (size_t done = 0; done < vec->length && ret == 0; done += written) {
        struct block_vec rest = vec_slice(vec, done, vec->length - done);
        ret = co_write_some(image, guest_offset + done, &rest, &written);
    }
    return ret;
}

int qcow2_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                   unsigned flags)
{
    struct qcow2_image *image = qcow2_of(node);
    struct cache_use use;
    int ret = qcow2_is_corrupt(image) ? -EIO : qcow2_co_limit_unlinked(image);
    assert((flags & ~(unsigned)BLOCK_COMPRESS) == 0); /* FUA is a flush after it */
    if (ret < 0)
        return ret;
    qcow2_redo_co_begin(image);
    cache_use_begin(image->cache, &use);
    ret = flags & BLOCK_COMPRESS ? qcow2_co_write_compressed(image, offset, vec)
                                 : qcow2_co_write_plain(image, offset, vec);
    cache_use_end(image->cache, &use);
    if (!image->geometry.has_data_file) /* it may have waited for the disk */
        qcow2_redo_beat(image);
    return ret;
}
