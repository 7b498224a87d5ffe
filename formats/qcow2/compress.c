/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Compressed writes: whole clusters (the last one of the disk as far as the disk goes, with zeroes
 * behind it), deflated by the workers, several of one request side by side. What of a range is no
 * whole cluster, and a cluster that does not become smaller, is written as ever.
 *
 * The compressed bytes lie one behind the other: a host cluster holds as many guest clusters as go
 * in, and has a reference from each. writer->packed_end is where the next one may begin. It is
 * moved on, and the reference counted, in one hold of the monitor, and forgotten when the last
 * reference goes; so the cluster that it is in is in use as long as anything may be added to it.
 *
 * Bytes are written before the L2 entry is stored, and durable before it is (invariant 10). What
 * was mapped there before, in whatever way, is freed as after any other write; QEMU refuses
 * to compress over a cluster that has data.
 */
#include <errno.h>
#include <string.h>

#include "block/buffer.h"
#include "block/env.h"
#include "block/parts.h"
#include "block/workers.h"
#include "common/inflate.h"
#include "formats/qcow2/writer.h"

/* --- a place for the bytes ----------------------------------------------------------------------
 */

static uint64_t packed_end_of(struct qcow2_image *image)
{
    pthread_mutex_lock(&image->monitor);
    uint64_t end = image->writer->packed_end;
    pthread_mutex_unlock(&image->monitor);
    return end;
}

/* From there to the end of the cluster; 0 where there is no such place. */
static uint64_t room_at(const struct qcow2_image *image, uint64_t packed_end)
{
    return packed_end
               ? image->geometry.cluster_bytes - qcow2_in_cluster(&image->geometry, packed_end)
               : 0;
}

/* In a cluster of its own: where most room is left, the next one goes. */
static void begin_cluster(struct qcow2_image *image, uint64_t host_offset, uint32_t length)
{
    pthread_mutex_lock(&image->monitor);
    uint64_t end = host_offset + length;
    if (room_at(image, image->writer->packed_end) < room_at(image, end))
        image->writer->packed_end = end;
    pthread_mutex_unlock(&image->monitor);
}

/* Behind what is there; into a cluster that follows, or into one of its own. */
static int co_take_place(struct qcow2_image *image, uint32_t length, uint64_t *ret_host_offset)
{
    uint64_t end = packed_end_of(image), cluster, count;
    while (room_at(image, end) >= length) {
        int ret = qcow2_co_share_packed(image, end, length);
        if (ret != 0) {
            *ret_host_offset = end;
            return ret < 0 ? ret : 0;
        }
        end = packed_end_of(image);
    }
    int ret = qcow2_co_alloc(image, 1, &cluster, &count);
    if (ret < 0)
        return ret;
    if (end != 0 && cluster == end + room_at(image, end)) {
        ret = qcow2_co_share_packed(image, end, length);
        if (ret < 0)
            qcow2_co_unalloc(image, cluster, 1);
        if (ret != 0) {
            *ret_host_offset = end;
            return ret < 0 ? ret : 0;
        }
    }
    begin_cluster(image, cluster, length);
    *ret_host_offset = cluster;
    return 0;
}

/* What was written there in vain: nothing points to it. */
static void co_give_back(struct qcow2_image *image, uint64_t host_offset, uint32_t length)
{
    uint64_t first = host_offset >> image->geometry.cluster_bits;
    uint64_t last = (host_offset + length - 1) >> image->geometry.cluster_bits;
    qcow2_co_unalloc(image, first << image->geometry.cluster_bits, last - first + 1);
}

/* --- one cluster --------------------------------------------------------------------------------
 */

/* The compressed form of one guest cluster. */
struct packed {
    uint64_t guest_offset;
    uint8_t *bytes;
    uint32_t length;
};

static int co_write_packed(struct qcow2_image *image, const struct packed *packed,
                           uint64_t host_offset)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, packed->bytes, packed->length);
    int ret = qcow2_co_check_overlap(image, host_offset, packed->length, packed->guest_offset);
    node_co_event(image->node, "write_compressed");
    if (ret == 0 && qcow2_is_corrupt(image))
        ret = -EIO;
    return ret == 0 ? qcow2_co_write_to(image, image->node->file, host_offset, &vec) : ret;
}

static int co_link_packed(struct qcow2_image *image, const struct packed *packed,
                          const struct qcow2_look *look, uint64_t host_offset)
{
    struct qcow2_cluster cluster = {
        .is_compressed = true,
        .has_host = true,
        .host_offset = host_offset,
        .compressed_bytes = packed->length,
    };
    struct qcow2_unlinked *unlinked = NULL;
    if (look->clusters[0].has_host && !(unlinked = qcow2_unlinked_new(image, false)))
        return -ENOMEM;
    int ret = qcow2_co_link(image, look, 0, 1, &cluster, &unlinked, true);
    qcow2_unlinked_free(unlinked);
    return ret;
}

/* With the cluster claimed. -EFBIG: no entry can say where it lies. */
static int co_store_claimed(struct qcow2_image *image, const struct packed *packed)
{
    struct qcow2_look look;
    uint64_t host_offset = 0, place_max = UINT64_C(1) << image->geometry.compressed_offset_bits;
    int ret = qcow2_co_look(image, packed->guest_offset, 1, &look);
    if (ret == 0)
        ret = qcow2_co_own_l2(image, packed->guest_offset, &look.l2_offset);
    if (ret == 0)
        ret = co_take_place(image, packed->length, &host_offset);
    if (ret < 0)
        return ret;
    ret = host_offset < place_max ? co_write_packed(image, packed, host_offset) : -EFBIG;
    if (ret == 0)
        ret = co_link_packed(image, packed, &look, host_offset);
    if (ret < 0)
        co_give_back(image, host_offset, packed->length);
    return ret;
}

static int co_store(struct qcow2_image *image, const struct packed *packed)
{
    struct qcow2_claim claim;
    uint64_t cluster = packed->guest_offset >> image->geometry.cluster_bits;
    pthread_mutex_lock(&image->monitor);
    qcow2_co_claim(image, &image->writer->cluster_claims, &claim, cluster, cluster + 1);
    pthread_mutex_unlock(&image->monitor);
    int ret = co_store_claimed(image, packed);
    pthread_mutex_lock(&image->monitor);
    qcow2_unclaim(&claim);
    pthread_mutex_unlock(&image->monitor);
    return ret;
}

struct deflate_job {
    enum compression_method method;
    const uint8_t *from;
    size_t from_length;
    uint8_t *to;
    size_t to_length, made;
};

static int deflate_work(void *arg)
{
    struct deflate_job *job = arg;
    return deflate_bytes(job->method, job->from, job->from_length, job->to, job->to_length,
                         &job->made);
}

/* -ENOSPC: it does not become smaller. */
static int co_deflate(struct qcow2_image *image, const uint8_t *plain, struct packed *packed)
{
    struct deflate_job job = {
        .method = image->header.compression_type == QCOW2_COMPRESSION_ZSTD ? COMPRESSION_ZSTD
                                                                           : COMPRESSION_DEFLATE,
        .from = plain,
        .from_length = image->geometry.cluster_bytes,
        .to = packed->bytes,
        .to_length = image->geometry.cluster_bytes - 1,
    };
    int ret = workers_co_run(image->node->env->workers, deflate_work, &job);
    packed->length = (uint32_t)job.made;
    return ret;
}

/* A part of a request: one guest cluster. */
struct part {
    struct qcow2_image *image;
    uint64_t guest_offset;
    struct block_vec vec;
};

static int co_write_part(void *arg)
{
    const struct part *part = arg;
    struct qcow2_image *image = part->image;
    size_t cluster_bytes = image->geometry.cluster_bytes;
    struct buffer_pool *pool = &block_env_local(image->node->env)->buffers;
    struct packed packed = {.guest_offset = part->guest_offset};
    uint8_t *plain = buffer_get(pool, cluster_bytes);
    packed.bytes = buffer_get(pool, cluster_bytes);
    int ret = plain && packed.bytes ? 0 : -ENOMEM;
    if (ret == 0) {
        vec_copy_to(&part->vec, plain);
        memset(plain + part->vec.length, 0, cluster_bytes - part->vec.length);
        ret = co_deflate(image, plain, &packed);
    }
    if (ret == 0)
        ret = co_store(image, &packed);
    buffer_put(pool, plain, cluster_bytes);
    buffer_put(pool, packed.bytes, cluster_bytes);
    if (ret == -ENOSPC || ret == -EFBIG)
        return qcow2_co_write_plain(image, part->guest_offset, &part->vec);
    return ret;
}

/* --- a range ------------------------------------------------------------------------------------
 */

static bool is_whole(const struct qcow2_image *image, const struct part *part)
{
    uint64_t end = part->guest_offset + part->vec.length;
    return qcow2_in_cluster(&image->geometry, part->guest_offset) == 0 &&
           (part->vec.length == image->geometry.cluster_bytes ||
            end == atomic_load(&image->node->size_bytes));
}

static int co_write_parts(struct qcow2_image *image, struct parts *parts, uint64_t guest_offset,
                          const struct block_vec *vec)
{
    int ret = 0;
    for (size_t done = 0; done < vec->length && ret == 0 && !parts_failed(parts);) {
        struct part part = {.image = image, .guest_offset = guest_offset + done};
        uint64_t left_in_cluster =
            image->geometry.cluster_bytes - qcow2_in_cluster(&image->geometry, part.guest_offset);
        size_t left = vec->length - done;
        part.vec = vec_slice(vec, done, left < left_in_cluster ? left : (size_t)left_in_cluster);
        if (is_whole(image, &part))
            parts_co_start(parts, &part);
        else
            ret = qcow2_co_write_plain(image, part.guest_offset, &part.vec);
        done += part.vec.length;
    }
    return ret;
}

int qcow2_co_write_compressed(struct qcow2_image *image, uint64_t guest_offset,
                              const struct block_vec *vec)
{
    struct parts *parts = parts_new(sizeof(struct part), co_write_part);
    if (!parts)
        return -ENOMEM;
    int ret = co_write_parts(image, parts, guest_offset, vec);
    int parts_ret = parts_co_end(parts);
    return ret < 0 ? ret : parts_ret;
}
