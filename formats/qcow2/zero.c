/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Zeroes and discards: whole clusters, or subclusters where the image has them, by their entries
 * alone. An entry that says zero is stored before its cluster is freed (invariant 22), and the
 * backing file never shows through.
 *
 * Where an image cannot say zero (version 2 with a backing file; bytes of a cluster; a raw external
 * data file, which must hold the zeroes itself), zeroes are written.
 */
#include <errno.h>
#include <string.h>

#include "block/buffer.h"
#include "block/env.h"
#include "formats/qcow2/writer.h"

#define ZEROES_BYTES ((size_t)64 << 10)

enum aim {
    AIM_ZERO_KEEP,  /* reads as zeroes; what has space keeps it */
    AIM_ZERO_UNMAP, /* reads as zeroes; space is given back */
    AIM_DISCARD,    /* the same, and the host gets it back */
    AIM_UNMAP,      /* nothing is there; the host gets the space back. Whole clusters */
};

static bool is_raw_data_file(const struct qcow2_image *image)
{
    return image->header.autoclear_features & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
}

/* What of [from, to), guest offsets in one cluster, can be said to be zero: its subclusters. */
static uint32_t bits_of(const struct qcow2_geometry *geometry, uint64_t from, uint64_t to)
{
    uint32_t first = qcow2_subcluster_index(geometry, from);
    uint32_t last = qcow2_subcluster_index(geometry, to - 1);
    return (uint32_t)((UINT64_C(2) << last) - (UINT64_C(1) << first));
}

static uint32_t all_bits(const struct qcow2_geometry *geometry)
{
    return geometry->is_extended ? UINT32_MAX : 1;
}

/* Whether it reads as zeroes already, or cannot be made smaller. */
static bool needs_nothing(const struct qcow2_image *image, const struct qcow2_cluster *old,
                          uint32_t bits, enum aim aim)
{
    if (old->is_compressed)
        return false;
    if (aim == AIM_UNMAP)
        return !old->has_host && old->zero_bits == 0;
    if (old->has_host && aim != AIM_ZERO_KEEP)
        return bits != all_bits(&image->geometry) && (old->zero_bits & bits) == bits;
    if ((old->zero_bits & bits) == bits)
        return true;
    return !old->has_host && old->zero_bits == 0 && !image->backing;
}

/* The entry that says so. False: there is none. */
static bool zero_entry(const struct qcow2_image *image, const struct qcow2_cluster *old,
                       uint32_t bits, enum aim aim, struct qcow2_cluster *ret_new)
{
    bool is_whole = bits == all_bits(&image->geometry);
    if (aim == AIM_UNMAP) {
        *ret_new = (struct qcow2_cluster){0};
        return true;
    }
    if (old->is_compressed && !is_whole)
        return false;
    struct qcow2_cluster new = old->is_compressed ? (struct qcow2_cluster){0} : *old;
    new.allocated_bits &= ~bits;
    new.zero_bits |= bits;
    bool may_keep = aim == AIM_ZERO_KEEP && new.has_host &&new.is_copied;
    if (new.zero_bits == all_bits(&image->geometry) && !may_keep) {
        new.has_host = new.is_copied = false;
        new.host_offset = 0;
    }
    if (image->geometry.version < 3) {
        if (image->backing || aim == AIM_ZERO_KEEP)
            return false;
        new = (struct qcow2_cluster){0};
    }
    *ret_new = new;
    return true;
}

/* --- some clusters ------------------------------------------------------------------------------
 */

struct zeroing {
    struct qcow2_look look;
    uint64_t from, to; /* guest offsets, whole subclusters (or the disk's end) */
    enum aim aim;
    struct qcow2_cluster clusters[QCOW2_LOOK_MAX];
    struct qcow2_unlinked *unlinked[QCOW2_LOOK_MAX];
    bool is_changed[QCOW2_LOOK_MAX];
    bool is_any_changed;
};

/* What shall become of the look's clusters. -ENOTSUP: no entry can say it. */
static int plan(struct qcow2_image *image, struct zeroing *zeroing)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    /* Of the last cluster nothing lies behind the disk's end that should stay. */
    bool is_to_end = zeroing->to == atomic_load(&image->node->size_bytes);
    uint64_t to = is_to_end ? UINT64_MAX : zeroing->to;
    for (uint32_t i = 0; i < zeroing->look.count; i++) {
        const struct qcow2_cluster *old = &zeroing->look.clusters[i];
        struct qcow2_cluster *new = &zeroing->clusters[i];
        uint64_t begin = zeroing->look.guest_offset + ((uint64_t)i << geometry->cluster_bits);
        uint64_t end = begin + geometry->cluster_bytes;
        uint32_t bits =
            bits_of(geometry, zeroing->from > begin ? zeroing->from : begin, to < end ? to : end);
        *new = *old;
        if (needs_nothing(image, old, bits, zeroing->aim))
            continue;
        if (!zero_entry(image, old, bits, zeroing->aim, new))
            return -ENOTSUP;
        zeroing->is_changed[i] = zeroing->is_any_changed = true;
        bool is_unlinked = old->has_host && !new->has_host && !geometry->has_data_file;
        if (!is_unlinked)
            continue;
        zeroing->unlinked[i] = qcow2_unlinked_new(image, zeroing->aim != AIM_ZERO_KEEP);
        if (!zeroing->unlinked[i])
            return -ENOMEM;
    }
    return 0;
}

static int co_link_changed(struct qcow2_image *image, struct zeroing *zeroing)
{
    int ret = qcow2_co_own_l2(image, zeroing->look.guest_offset, &zeroing->look.l2_offset);
    for (uint32_t i = 0; i < zeroing->look.count && ret == 0; i++) {
        uint32_t count = 0;
        while (i + count < zeroing->look.count && zeroing->is_changed[i + count])
            count++;
        if (count > 0)
            ret = qcow2_co_link(image, &zeroing->look, i, count, &zeroing->clusters[i],
                                &zeroing->unlinked[i], false);
        i += count;
    }
    return ret;
}

/* As much of the range as can be looked at together: zeroing->to says up to where. */
static int co_zero_some(struct qcow2_image *image, struct zeroing *zeroing)
{
    struct qcow2_claim claim;
    uint32_t bits = image->geometry.cluster_bits;
    uint64_t first = zeroing->from >> bits;
    uint64_t end = ((zeroing->to - 1) >> bits) + 1;
    if (end > first + QCOW2_LOOK_MAX)
        end = first + QCOW2_LOOK_MAX;
    if (zeroing->to > end << bits)
        zeroing->to = end << bits;
    pthread_mutex_lock(&image->monitor);
    qcow2_co_claim(image, &image->writer->cluster_claims, &claim, first, end);
    pthread_mutex_unlock(&image->monitor);
    int ret = qcow2_co_look(image, zeroing->from, zeroing->to - zeroing->from, &zeroing->look);
    uint64_t look_end = zeroing->look.guest_offset + ((uint64_t)zeroing->look.count << bits);
    if (zeroing->to > look_end)
        zeroing->to = look_end;
    if (ret == 0)
        ret = plan(image, zeroing);
    if (ret == 0 && zeroing->is_any_changed)
        ret = co_link_changed(image, zeroing);
    for (uint32_t i = 0; i < QCOW2_LOOK_MAX; i++)
        qcow2_unlinked_free(zeroing->unlinked[i]);
    pthread_mutex_lock(&image->monitor);
    qcow2_unclaim(&claim);
    pthread_mutex_unlock(&image->monitor);
    return ret;
}

/* Zeroes that no entry says: written, as a guest would. */
int qcow2_co_write_zeroes(struct qcow2_image *image, uint64_t from, uint64_t to)
{
    struct buffer_pool *pool = &block_env_local(image->node->env)->buffers;
    uint8_t *zeroes = buffer_get(pool, ZEROES_BYTES);
    int ret = zeroes ? 0 : -ENOMEM;
    if (zeroes)
        memset(zeroes, 0, ZEROES_BYTES);
    for (uint64_t at = from; at < to && ret == 0; at += ZEROES_BYTES) {
        struct iovec iov;
        size_t length = to - at < ZEROES_BYTES ? (size_t)(to - at) : ZEROES_BYTES;
        struct block_vec vec = vec_of_buffer(&iov, zeroes, length);
        ret = qcow2_co_write(image->node, at, &vec, 0);
    }
    buffer_put(pool, zeroes, ZEROES_BYTES);
    return ret;
}

/* --- a whole range ------------------------------------------------------------------------------
 */

/* The whole units inside of [offset, offset + length); the disk's end ends one. */
static void inner_range(const struct qcow2_image *image, uint64_t unit, uint64_t offset,
                        uint64_t length, uint64_t *ret_from, uint64_t *ret_to)
{
    uint64_t end = offset + length;
    uint64_t from = (offset + unit - 1) & ~(unit - 1);
    uint64_t to = end & ~(unit - 1);
    if (end == atomic_load(&image->node->size_bytes))
        to = end;
    *ret_from = from;
    *ret_to = to > from ? to : from;
}

/* Up to where it was done; -ENOTSUP: then the rest must be written. */
static int co_zero_range(struct qcow2_image *image, uint64_t from, uint64_t to, enum aim aim,
                         uint64_t *ret_to)
{
    int ret = 0;
    *ret_to = from;
    while (*ret_to < to && ret == 0) {
        struct zeroing zeroing = {.from = *ret_to, .to = to, .aim = aim};
        ret = qcow2_co_limit_unlinked(image);
        struct cache_use use;
        cache_use_begin(image->cache, &use);
        if (ret == 0)
            ret = co_zero_some(image, &zeroing);
        cache_use_end(image->cache, &use);
        if (ret == 0)
            *ret_to = zeroing.to;
    }
    return ret;
}

int qcow2_co_unmap(struct qcow2_image *image, uint64_t guest_from, uint64_t guest_to)
{
    uint64_t done;
    return co_zero_range(image, guest_from, guest_to, AIM_UNMAP, &done);
}

int qcow2_co_empty(struct qcow2_image *image, uint64_t guest_from, uint64_t guest_to)
{
    uint64_t done;
    bool can_say_zero = image->geometry.version >= 3 && image->backing;
    return co_zero_range(image, guest_from, guest_to, can_say_zero ? AIM_DISCARD : AIM_UNMAP,
                         &done);
}

int qcow2_co_make_zero(struct qcow2_image *image, uint64_t guest_from, uint64_t guest_to)
{
    uint64_t done;
    int ret = co_zero_range(image, guest_from, guest_to, AIM_ZERO_UNMAP, &done);
    return ret == -ENOTSUP ? qcow2_co_write_zeroes(image, done, guest_to) : ret;
}

int qcow2_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    struct qcow2_image *image = qcow2_of(node);
    enum aim aim = flags & BLOCK_NO_UNMAP ? AIM_ZERO_KEEP : AIM_ZERO_UNMAP;
    uint64_t from, to, done, end = offset + length;
    if (qcow2_is_corrupt(image))
        return -EIO;
    if (is_raw_data_file(image) || (image->geometry.version < 3 && image->backing))
        return -ENOTSUP;
    inner_range(image, image->geometry.subcluster_bytes, offset, length, &from, &to);
    if (from >= to)
        return -ENOTSUP;
    if ((flags & BLOCK_FAST) && (from != offset || to != end))
        return -ENOTSUP;
    qcow2_redo_co_begin(image);
    int ret = qcow2_co_write_zeroes(image, offset, from);
    if (ret < 0)
        return ret;
    ret = co_zero_range(image, from, to, aim, &done);
    if (ret == -ENOTSUP) {
        if ((flags & BLOCK_FAST) && done == from)
            return -ENOTSUP;
        ret = qcow2_co_write_zeroes(image, done, to);
    }
    return ret == 0 ? qcow2_co_write_zeroes(image, to, end) : ret;
}

/* Whole clusters; a hint, so the rest is left. */
int qcow2_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct qcow2_image *image = qcow2_of(node);
    uint64_t from, to, done;
    if (qcow2_is_corrupt(image))
        return -EIO;
    if (is_raw_data_file(image) || (image->geometry.version < 3 && image->backing))
        return 0;
    inner_range(image, image->geometry.cluster_bytes, offset, length, &from, &to);
    qcow2_redo_co_begin(image);
    return co_zero_range(image, from, to, AIM_DISCARD, &done);
}
