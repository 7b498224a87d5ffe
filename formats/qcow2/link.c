/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The mapping, for those who change it: entries are looked at, L2 tables made ours, new entries
 * stored. All with a claim on the guest clusters held.
 *
 * A new L2 table: its cluster is counted, then it is filled in the cache, then the L1 entry is
 * stored (invariant 4; the classes of the cache keep that order on the disk). One that a snapshot
 * has too is copied in the same way.
 */
#include <assert.h>
#include <errno.h>

#include "common/endian.h"
#include "formats/qcow2/writer.h"

#define ENTRY_BYTES_MAX 16
#define L2_PIECE_BYTES 4096 /* copied at a time */

static uint64_t l1_entry_offset(const struct qcow2_image *image, uint64_t guest_offset)
{
    return atomic_load_explicit(&image->l1_table_offset, memory_order_relaxed) +
           qcow2_l1_index(&image->geometry, guest_offset) * 8;
}

int qcow2_co_read_l1(struct qcow2_image *image, uint64_t guest_offset, uint64_t *ret_l2_offset,
                     bool *ret_is_ours)
{
    uint8_t bytes[8];
    const char *why;
    uint64_t at = l1_entry_offset(image, guest_offset);
    int ret = cache_co_read(image->cache, QCOW2_TABLE_L1, at, bytes, sizeof(bytes));
    if (ret < 0)
        return ret;
    uint64_t entry = load_be64(bytes);
    if (!qcow2_l1_decode(&image->geometry, entry, ret_l2_offset, &why))
        return qcow2_co_corrupt(image, why, "L1", at, guest_offset);
    *ret_is_ours = entry & QCOW2_ENTRY_COPIED;
    return 0;
}

/* --- looking ------------------------------------------------------------------------------------
 */

static int decode(struct qcow2_image *image, struct qcow2_look *look, uint32_t nth, uint64_t at,
                  const uint8_t *bytes)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    struct qcow2_cluster *cluster = &look->clusters[nth];
    uint64_t guest_offset = look->guest_offset + ((uint64_t)nth << geometry->cluster_bits);
    const char *why = NULL;
    look->entries[nth] = load_be64(bytes);
    uint64_t bitmap = geometry->is_extended ? load_be64(bytes + 8) : 0;
    if (qcow2_l2_decode(geometry, look->entries[nth], bitmap, cluster, &why))
        why = qcow2_place_fault(image, cluster, guest_offset);
    return why ? qcow2_co_corrupt(image, why, "L2", at, guest_offset) : 0;
}

static int co_look_at_entries(struct qcow2_image *image, struct qcow2_look *look)
{
    uint8_t bytes[QCOW2_LOOK_MAX * ENTRY_BYTES_MAX];
    uint32_t entry_bytes = image->geometry.l2_entry_bytes;
    uint64_t at = look->l2_offset +
                  (uint64_t)qcow2_l2_index(&image->geometry, look->guest_offset) * entry_bytes;
    int ret =
        cache_co_read(image->cache, QCOW2_TABLE_L2, at, bytes, (size_t)look->count * entry_bytes);
    for (uint32_t i = 0; i < look->count && ret == 0; i++)
        ret =
            decode(image, look, i, at + (uint64_t)i * entry_bytes, bytes + (size_t)i * entry_bytes);
    return ret;
}

int qcow2_co_look(struct qcow2_image *image, uint64_t guest_offset, uint64_t length,
                  struct qcow2_look *ret_look)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    uint32_t per_piece = image->l2_slice_bytes / geometry->l2_entry_bytes;
    uint32_t index = qcow2_l2_index(geometry, guest_offset);
    uint32_t left = per_piece - (index & (per_piece - 1));
    uint64_t in_cluster = qcow2_in_cluster(geometry, guest_offset);
    uint64_t count = qcow2_clusters_of(geometry, in_cluster + length);
    count = count < left ? count : left;
    *ret_look = (struct qcow2_look){
        .guest_offset = guest_offset - in_cluster,
        .count = count < QCOW2_LOOK_MAX ? (uint32_t)count : QCOW2_LOOK_MAX,
    };
    int ret = qcow2_co_read_l1(image, guest_offset, &ret_look->l2_offset, &ret_look->is_l2_ours);
    if (ret == 0 && ret_look->l2_offset != 0)
        ret = co_look_at_entries(image, ret_look);
    return ret;
}

/* --- L2 tables ----------------------------------------------------------------------------------
 */

/* All of a new table in the cache: zeroes, or the content of the old one. */
static int co_fill_l2(struct qcow2_image *image, uint64_t l2_offset, uint64_t old_offset)
{
    uint8_t bytes[L2_PIECE_BYTES];
    uint32_t piece =
        image->l2_slice_bytes < L2_PIECE_BYTES ? image->l2_slice_bytes : L2_PIECE_BYTES;
    for (uint64_t at = 0; at < image->geometry.cluster_bytes; at += image->l2_slice_bytes) {
        struct cache_table *table;
        int ret = cache_co_get_new(image->cache, QCOW2_TABLE_L2, l2_offset + at, &table);
        if (ret < 0)
            return ret;
        cache_put(image->cache, table);
    }
    for (uint64_t at = 0; at < image->geometry.cluster_bytes && old_offset != 0; at += piece) {
        struct cache_table *table;
        node_co_event(image->node, "l2_alloc_cow_read");
        int ret = cache_co_read(image->cache, QCOW2_TABLE_L2, old_offset + at, bytes, piece);
        if (ret == 0)
            ret = cache_co_get(image->cache, QCOW2_TABLE_L2, l2_offset + at, &table);
        if (ret < 0)
            return ret;
        pthread_mutex_lock(&image->monitor);
        cache_store(image->cache, table, l2_offset + at - cache_table_offset(table), bytes, piece);
        cache_put_locked(image->cache, table);
        pthread_mutex_unlock(&image->monitor);
    }
    return 0;
}

static int co_hook_l2(struct qcow2_image *image, uint64_t guest_offset, uint64_t l2_offset,
                      uint64_t old_offset, struct qcow2_unlinked *unlinked)
{
    struct cache_table *table;
    uint8_t bytes[8];
    uint64_t at = l1_entry_offset(image, guest_offset);
    store_be64(bytes, l2_offset | QCOW2_ENTRY_COPIED);
    int ret = cache_co_get(image->cache, QCOW2_TABLE_L1, at, &table);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&image->monitor);
    ret = owned_add(image->writer->owned, l2_offset >> image->geometry.cluster_bits, 1,
                    QCOW2_OWNER_L2);
    if (ret == 0) {
        cache_store(image->cache, table, at - cache_table_offset(table), bytes, sizeof(bytes));
        if (old_offset != 0) { /* a snapshot's now, or nobody's */
            owned_remove(image->writer->owned, old_offset >> image->geometry.cluster_bits, 1);
            qcow2_unlink_clusters(unlinked, old_offset, 1);
        }
    }
    cache_put_locked(image->cache, table);
    pthread_mutex_unlock(&image->monitor);
    return ret;
}

static int co_make_l2(struct qcow2_image *image, uint64_t guest_offset, uint64_t old_offset,
                      uint64_t *ret_l2_offset)
{
    uint64_t l2_offset, count;
    struct qcow2_unlinked *unlinked = old_offset ? qcow2_unlinked_new(image, false) : NULL;
    if (old_offset && !unlinked)
        return -ENOMEM;
    int ret = qcow2_co_alloc(image, 1, &l2_offset, &count);
    if (ret < 0) {
        qcow2_unlinked_free(unlinked);
        return ret;
    }
    node_co_event(image->node, "l2_alloc_write");
    ret = co_fill_l2(image, l2_offset, old_offset);
    if (ret == 0)
        ret = co_hook_l2(image, guest_offset, l2_offset, old_offset, unlinked);
    if (ret < 0) {
        qcow2_unlinked_free(unlinked);
        cache_co_forget(image->cache, QCOW2_TABLE_L2, l2_offset, image->geometry.cluster_bytes);
        qcow2_co_unalloc(image, l2_offset, 1);
        return ret;
    }
    *ret_l2_offset = l2_offset;
    return 0;
}

int qcow2_co_own_l2(struct qcow2_image *image, uint64_t guest_offset, uint64_t *ret_l2_offset)
{
    struct qcow2_claim claim;
    uint64_t index = qcow2_l1_index(&image->geometry, guest_offset);
    uint64_t l2_offset;
    bool is_ours = false;
    int ret = qcow2_co_read_l1(image, guest_offset, &l2_offset, &is_ours);
    if (ret < 0)
        return ret;
    if (l2_offset != 0 && is_ours) {
        *ret_l2_offset = l2_offset;
        return 0;
    }
    pthread_mutex_lock(&image->monitor);
    qcow2_co_claim(image, &image->writer->l1_claims, &claim, index, index + 1);
    pthread_mutex_unlock(&image->monitor);
    ret = qcow2_co_read_l1(image, guest_offset, &l2_offset, &is_ours);
    if (ret == 0 && (l2_offset == 0 || !is_ours))
        ret = co_make_l2(image, guest_offset, l2_offset, &l2_offset);
    pthread_mutex_lock(&image->monitor);
    qcow2_unclaim(&claim);
    pthread_mutex_unlock(&image->monitor);
    if (ret == 0)
        *ret_l2_offset = l2_offset;
    return ret;
}

static int co_unhook_l2(struct qcow2_image *image, uint64_t guest_offset, uint64_t l2_offset,
                        struct qcow2_unlinked *unlinked)
{
    static const uint8_t nothing[8];
    struct cache_table *table;
    uint64_t at = l1_entry_offset(image, guest_offset);
    int ret = cache_co_get(image->cache, QCOW2_TABLE_L1, at, &table);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&image->monitor);
    cache_store(image->cache, table, at - cache_table_offset(table), nothing, sizeof(nothing));
    owned_remove(image->writer->owned, l2_offset >> image->geometry.cluster_bits, 1);
    qcow2_unlink_clusters(unlinked, l2_offset, 1);
    cache_put_locked(image->cache, table);
    pthread_mutex_unlock(&image->monitor);
    /* Before its cluster is somebody else's. */
    cache_co_forget(image->cache, QCOW2_TABLE_L2, l2_offset, image->geometry.cluster_bytes);
    return 0;
}

int qcow2_co_drop_l2(struct qcow2_image *image, uint64_t guest_offset)
{
    uint64_t l2_offset;
    bool is_ours;
    int ret = qcow2_co_read_l1(image, guest_offset, &l2_offset, &is_ours);
    if (ret < 0 || l2_offset == 0)
        return ret;
    struct qcow2_unlinked *unlinked = qcow2_unlinked_new(image, true);
    if (!unlinked)
        return -ENOMEM;
    ret = co_unhook_l2(image, guest_offset, l2_offset, unlinked);
    if (ret < 0)
        qcow2_unlinked_free(unlinked);
    return ret;
}

/* --- storing ------------------------------------------------------------------------------------
 */

int qcow2_co_link(struct qcow2_image *image, const struct qcow2_look *look, uint32_t first,
                  uint32_t count, const struct qcow2_cluster *clusters,
                  struct qcow2_unlinked **unlinked, bool needs_data)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    uint8_t bytes[QCOW2_LOOK_MAX * ENTRY_BYTES_MAX];
    struct cache_table *table;
    uint64_t guest_offset = look->guest_offset + ((uint64_t)first << geometry->cluster_bits);
    uint64_t at = look->l2_offset +
                  (uint64_t)qcow2_l2_index(geometry, guest_offset) * geometry->l2_entry_bytes;
    assert(look->l2_offset != 0 && count > 0 && first + count <= look->count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t entry, bitmap;
        qcow2_l2_encode(geometry, &clusters[i], &entry, &bitmap);
        store_be64(bytes + (size_t)i * geometry->l2_entry_bytes, entry);
        if (geometry->is_extended)
            store_be64(bytes + (size_t)i * geometry->l2_entry_bytes + 8, bitmap);
    }
    int ret = cache_co_get(image->cache, QCOW2_TABLE_L2, at, &table);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&image->monitor);
    if (qcow2_is_corrupt(image)) { /* it would never reach the disk */
        cache_put_locked(image->cache, table);
        pthread_mutex_unlock(&image->monitor);
        return -EIO;
    }
    cache_store(image->cache, table, at - cache_table_offset(table), bytes,
                (size_t)count * geometry->l2_entry_bytes);
    if (needs_data) /* invariants 8 to 10 */
        cache_needs(image->cache, table, geometry->has_data_file ? 1 : 0);
    for (uint32_t i = 0; i < count; i++) {
        if (unlinked[i])
            qcow2_unlink(unlinked[i], &look->clusters[first + i], look->entries[first + i]);
        unlinked[i] = NULL;
    }
    cache_put_locked(image->cache, table);
    pthread_mutex_unlock(&image->monitor);
    return 0;
}
