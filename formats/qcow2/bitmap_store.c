/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Persistent bitmaps go to the file: marked as in use before the first change of the disk, and
 * stored when the image is closed. bitmaps.h has the order, and why it is made in place.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/endian.h"
#include "common/log.h"
#include "formats/qcow2/bitmaps.h"
#include "formats/qcow2/writer.h"

#define TABLE_PIECE_BYTES 4096

static int co_write(const struct qcow2_image *image, uint64_t host_offset, void *bytes,
                    size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, bytes, length);
    if (qcow2_is_corrupt(image)) /* clusters that are freed meanwhile may have shown it */
        return -EIO;
    return qcow2_co_write_to(image, image->node->file, host_offset, &vec);
}

/* --- the directory ------------------------------------------------------------------------------
 */

/* Durable afterwards. The entries of the kept bitmaps alone were changed. */
static int co_write_directory(const struct qcow2_bitmaps *bitmaps)
{
    struct block_node *file = bitmaps->image->node->file;
    uint64_t from = UINT64_MAX, end = 0;
    for (uint32_t i = 0; i < bitmaps->kept_count; i++) {
        const struct qcow2_bitmap *bitmap = bitmaps->kept[i];
        uint64_t entry_end = bitmap->directory_at + bitmap->entry.entry_bytes;
        from = bitmap->directory_at < from ? bitmap->directory_at : from;
        end = entry_end > end ? entry_end : end;
    }
    int ret = co_write(bitmaps->image, bitmaps->directory_offset + from, bitmaps->directory + from,
                       end - from);
    return ret == 0 ? node_co_flush(file) : ret;
}

static void set_in_use(struct qcow2_bitmaps *bitmaps, bool in_use)
{
    for (uint32_t i = 0; i < bitmaps->kept_count; i++) {
        struct qcow2_bitmap *bitmap = bitmaps->kept[i];
        uint32_t flags = bitmap->entry.flags & ~QCOW2_BITMAP_IN_USE;
        bitmap->entry.flags = flags | (in_use ? QCOW2_BITMAP_IN_USE : 0);
        store_be32(bitmaps->directory + bitmap->directory_at + QCOW2_BITMAP_FLAGS_AT,
                   bitmap->entry.flags);
    }
}

int qcow2_bitmaps_co_mark(struct qcow2_bitmaps *bitmaps)
{
    struct qcow2_image *image = bitmaps->image;
    if (atomic_load(&bitmaps->is_marked))
        return 0;
    if (qcow2_is_corrupt(image))
        return -EIO;
    bitmaps->is_to_store = true; /* also where the write fails: a part may be there */
    set_in_use(bitmaps, true);
    int ret = co_write_directory(bitmaps);
    if (ret == 0)
        atomic_store_explicit(&bitmaps->is_marked, true, memory_order_release);
    else if (!atomic_exchange(&bitmaps->has_warned, true))
        log_error("'%s': its bitmaps cannot be marked as in use: %s; nothing is written without "
                  "that",
                  image->node->name, error_text(ret));
    return ret;
}

/* --- clusters -----------------------------------------------------------------------------------
 */

/* One bitmap that is being stored. */
struct store {
    struct qcow2_bitmap *bitmap;
    uint64_t table_offset; /* as it will be */
    uint32_t table_size;
    uint64_t *table;
};

static uint32_t cluster_bits_of(const struct qcow2_image *image)
{
    return image->geometry.cluster_bits;
}

/* One by one, since a table may become smaller later. After a failure, some may be ours. */
static int own_new(struct qcow2_image *image, uint64_t host_offset, uint64_t count)
{
    int ret = 0;
    pthread_mutex_lock(&image->monitor);
    for (uint64_t i = 0; i < count && ret == 0; i++)
        ret = owned_add(image->writer->owned, (host_offset >> cluster_bits_of(image)) + i, 1,
                        QCOW2_OWNER_BITMAPS);
    pthread_mutex_unlock(&image->monitor);
    return ret;
}

static void disown(struct qcow2_image *image, uint64_t host_offset, uint64_t count)
{
    pthread_mutex_lock(&image->monitor);
    for (uint64_t i = 0; i < count; i++)
        owned_remove(image->writer->owned, (host_offset >> cluster_bits_of(image)) + i, 1);
    pthread_mutex_unlock(&image->monitor);
}

/* What nothing in the file points to, and never did. */
static void co_give_back(struct qcow2_image *image, uint64_t host_offset, uint64_t count)
{
    disown(image, host_offset, count);
    qcow2_co_unalloc(image, host_offset, count);
}

/* What nothing in the file points to any more, which is durable. Without memory it is leaked. */
static void release(struct qcow2_image *image, uint64_t host_offset, uint64_t count)
{
    struct qcow2_unlinked *unlinked = qcow2_unlinked_new(image, false);
    disown(image, host_offset, count);
    if (!unlinked)
        return;
    pthread_mutex_lock(&image->monitor);
    qcow2_unlink_clusters(unlinked, host_offset, count);
    pthread_mutex_unlock(&image->monitor);
}

/* So many clusters in one piece. */
static int co_alloc_piece(struct qcow2_image *image, uint64_t count, uint64_t *ret_host_offset)
{
    uint64_t host_offset = 0;
    int ret = qcow2_co_alloc_run(image, count, &host_offset);
    if (ret < 0)
        return ret;
    ret = own_new(image, host_offset, count);
    if (ret < 0)
        co_give_back(image, host_offset, count);
    else
        *ret_host_offset = host_offset;
    return ret;
}

/* --- bits ---------------------------------------------------------------------------------------
 */

enum bits_kind {
    BITS_ZERO,
    BITS_ONES,
    BITS_MIXED,
};

/* The bits of one cluster, into `cluster` where they are of both sorts. */
static enum bits_kind look_at(const struct dirty_bitmap *bits, uint64_t first_byte,
                              uint8_t *cluster, uint64_t cluster_bytes)
{
    uint32_t granularity_bits = dirty_bitmap_granularity_bits(bits);
    uint64_t all_bytes = dirty_bitmap_bytes(dirty_bitmap_size_bytes(bits), granularity_bits);
    uint64_t offset, length;
    if (!dirty_bitmap_next(bits, first_byte * 8 << granularity_bits,
                           cluster_bytes * 8 << granularity_bits, &offset, &length))
        return BITS_ZERO;
    dirty_bitmap_give_bytes(bits, first_byte, cluster, cluster_bytes);
    /* The last cluster's unused bits must be 0. */
    bool is_whole = first_byte + cluster_bytes < all_bytes;
    bool is_ones =
        is_whole && cluster[0] == 0xff && memcmp(cluster, cluster + 1, cluster_bytes - 1) == 0;
    return is_ones ? BITS_ONES : BITS_MIXED;
}

/* To where the bitmap had this piece before, or to a new cluster. */
static int co_store_cluster(struct qcow2_image *image, struct store *store, uint32_t index,
                            uint8_t *cluster)
{
    const struct qcow2_bitmap *bitmap = store->bitmap;
    uint64_t old = index < bitmap->entry.table_size ? bitmap->table[index] : 0;
    int ret = 0;
    if (old > 1)
        store->table[index] = old;
    else
        ret = co_alloc_piece(image, 1, &store->table[index]);
    return ret == 0 ? co_write(image, store->table[index], cluster, image->geometry.cluster_bytes)
                    : ret;
}

static int co_store_bits(struct qcow2_image *image, struct store *store, uint8_t *cluster)
{
    uint64_t cluster_bytes = image->geometry.cluster_bytes;
    int ret = 0;
    for (uint32_t i = 0; i < store->table_size && ret == 0; i++) {
        enum bits_kind kind =
            look_at(store->bitmap->bits, i * cluster_bytes, cluster, cluster_bytes);
        if (kind == BITS_MIXED)
            ret = co_store_cluster(image, store, i, cluster);
        else
            store->table[i] = kind == BITS_ONES;
    }
    return ret;
}

/* --- tables -------------------------------------------------------------------------------------
 */

static uint64_t table_clusters(const struct qcow2_image *image, uint32_t table_size)
{
    return qcow2_clusters_of(&image->geometry, (uint64_t)table_size * 8);
}

/* The table of a disk that has grown may need another place. */
static int co_plan(struct qcow2_image *image, struct store *store, struct qcow2_bitmap *bitmap)
{
    const struct qcow2_bitmap_entry *entry = &bitmap->entry;
    uint64_t size_bytes = dirty_bitmap_size_bytes(bitmap->bits);
    store->bitmap = bitmap;
    store->table_offset = entry->table_offset;
    store->table_size =
        (uint32_t)qcow2_bitmap_table_entries(&image->geometry, size_bytes, entry->granularity_bits);
    store->table = calloc(store->table_size, sizeof(*store->table));
    if (!store->table)
        return -ENOMEM;
    uint64_t clusters = table_clusters(image, store->table_size);
    if (clusters <= table_clusters(image, entry->table_size))
        return 0;
    return co_alloc_piece(image, clusters, &store->table_offset);
}

static int co_store_table(struct qcow2_image *image, const struct store *store)
{
    uint8_t bytes[TABLE_PIECE_BYTES];
    uint32_t per_piece = sizeof(bytes) / 8;
    int ret = 0;
    for (uint32_t first = 0; first < store->table_size && ret == 0; first += per_piece) {
        uint32_t left = store->table_size - first;
        uint32_t count = left < per_piece ? left : per_piece;
        for (uint32_t i = 0; i < count; i++)
            store_be64(bytes + (size_t)i * 8, store->table[first + i]);
        ret = co_write(image, store->table_offset + (uint64_t)first * 8, bytes, (size_t)count * 8);
    }
    return ret;
}

/* Frees what the new table does not have, and makes it the bitmap's. */
static void take_over(struct qcow2_image *image, struct store *store)
{
    struct qcow2_bitmap *bitmap = store->bitmap;
    uint64_t old_clusters = table_clusters(image, bitmap->entry.table_size);
    uint64_t new_clusters = table_clusters(image, store->table_size);
    for (uint32_t i = 0; i < bitmap->entry.table_size; i++) {
        bool is_still = i < store->table_size && store->table[i] == bitmap->table[i];
        if (bitmap->table[i] > 1 && !is_still)
            release(image, bitmap->table[i], 1);
    }
    if (store->table_offset != bitmap->entry.table_offset)
        release(image, bitmap->entry.table_offset, old_clusters);
    else if (new_clusters < old_clusters)
        release(image, store->table_offset + (new_clusters << cluster_bits_of(image)),
                old_clusters - new_clusters);
    free(bitmap->table);
    bitmap->table = store->table;
    store->table = NULL;
    bitmap->entry.table_offset = store->table_offset;
    bitmap->entry.table_size = store->table_size;
}

/* --- all of them --------------------------------------------------------------------------------
 */

/* Nothing in the file points to what was taken. */
static void co_undo(struct qcow2_image *image, const struct store *store)
{
    const struct qcow2_bitmap *bitmap = store->bitmap;
    if (!bitmap)
        return;
    if (store->table_offset != bitmap->entry.table_offset)
        co_give_back(image, store->table_offset, table_clusters(image, store->table_size));
    for (uint32_t i = 0; store->table && i < store->table_size; i++) {
        uint64_t old = i < bitmap->entry.table_size ? bitmap->table[i] : 0;
        if (store->table[i] > 1 && store->table[i] != old)
            co_give_back(image, store->table[i], 1);
    }
}

/* Bits, and the refcounts of what is new, are durable afterwards, and so is all of the disk. */
static int co_store_all_bits(struct qcow2_bitmaps *bitmaps, struct store *stores)
{
    struct qcow2_image *image = bitmaps->image;
    uint8_t *cluster = malloc(image->geometry.cluster_bytes);
    int ret = cluster ? 0 : -ENOMEM;
    for (uint32_t i = 0; i < bitmaps->kept_count && ret == 0; i++) {
        ret = co_plan(image, &stores[i], bitmaps->kept[i]);
        if (ret == 0)
            ret = co_store_bits(image, &stores[i], cluster);
    }
    free(cluster);
    return ret == 0 ? cache_co_flush(image->cache) : ret;
}

/* A table's place, then its size: where an entry lies in two sectors, these are in one each. With
 * the old size, the beginning of the new table is as good as the old one. */
static int co_store_places(struct qcow2_bitmaps *bitmaps, const struct store *stores)
{
    bool has_moved = false;
    for (uint32_t i = 0; i < bitmaps->kept_count; i++) {
        const struct qcow2_bitmap *bitmap = bitmaps->kept[i];
        has_moved |= stores[i].table_offset != bitmap->entry.table_offset;
        store_be64(bitmaps->directory + bitmap->directory_at + QCOW2_BITMAP_TABLE_OFFSET_AT,
                   stores[i].table_offset);
    }
    return has_moved ? co_write_directory(bitmaps) : 0;
}

static int co_store_tables(struct qcow2_bitmaps *bitmaps, const struct store *stores)
{
    struct qcow2_image *image = bitmaps->image;
    int ret = 0;
    for (uint32_t i = 0; i < bitmaps->kept_count && ret == 0; i++)
        ret = co_store_table(image, &stores[i]);
    if (ret == 0)
        ret = qcow2_co_flush_file(image);
    if (ret == 0)
        ret = co_store_places(bitmaps, stores);
    if (ret < 0)
        return ret;
    for (uint32_t i = 0; i < bitmaps->kept_count; i++)
        store_be32(bitmaps->directory + bitmaps->kept[i]->directory_at + QCOW2_BITMAP_TABLE_SIZE_AT,
                   stores[i].table_size);
    set_in_use(bitmaps, false);
    return co_write_directory(bitmaps);
}

static int co_store(struct qcow2_bitmaps *bitmaps, struct store *stores)
{
    struct qcow2_image *image = bitmaps->image;
    int ret = co_store_all_bits(bitmaps, stores);
    for (uint32_t i = 0; i < bitmaps->kept_count && ret < 0; i++)
        co_undo(image, &stores[i]);
    if (ret < 0)
        return ret;
    /* From here on an entry in the file may be the old or the new one: what fails leaks. */
    ret = co_store_tables(bitmaps, stores);
    if (ret < 0) {
        atomic_store(&bitmaps->is_marked, false); /* the file may have lost the mark */
        set_in_use(bitmaps, true);
        return ret;
    }
    for (uint32_t i = 0; i < bitmaps->kept_count; i++)
        take_over(image, &stores[i]);
    bitmaps->is_to_store = false;
    atomic_store(&bitmaps->is_marked, false);
    return 0;
}

int qcow2_bitmaps_co_store(struct qcow2_image *image)
{
    struct qcow2_bitmaps *bitmaps = image->bitmaps;
    struct locked_range range;
    if (!bitmaps || !bitmaps->is_to_store)
        return 0;
    if (qcow2_is_corrupt(image))
        return -EIO;
    struct store *stores = calloc(bitmaps->kept_count, sizeof(*stores));
    if (!stores)
        return -ENOMEM;
    range_lock_co_take(&bitmaps->lock, &range, 0, 1, true);
    int ret = co_store(bitmaps, stores);
    range_lock_release(&bitmaps->lock, &range);
    for (uint32_t i = 0; i < bitmaps->kept_count; i++)
        free(stores[i].table);
    free(stores);
    return ret;
}
