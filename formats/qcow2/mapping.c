/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a guest range lies: L1, then L2, then as many neighbours as lie in one piece. Entries are
 * copied out of the cache and looked at afterwards, so that no lock is held while they are.
 */
#include <errno.h>
#include <string.h>

#include "common/endian.h"
#include "formats/qcow2/image.h"

#define ENTRY_BYTES_MAX 16
/* Entries looked at in one go: 128 are 8 MiB of guest data in clusters of 64 KiB. */
#define ENTRIES_MAX 128

/* --- tables -------------------------------------------------------------------------------------
 */

/* How entries are had: with a wait where they are not in memory, or -EAGAIN then. */
typedef int table_reader(struct qcow2_image *image, enum qcow2_table_kind kind,
                         uint64_t host_offset, void *to, size_t length);

static int try_read_table(struct qcow2_image *image, enum qcow2_table_kind kind,
                          uint64_t host_offset, void *to, size_t length)
{
    return cache_try_read(image->cache, kind, host_offset, to, length) ? 0 : -EAGAIN;
}

static int co_read_table(struct qcow2_image *image, enum qcow2_table_kind kind,
                         uint64_t host_offset, void *to, size_t length)
{
    if (cache_try_read(image->cache, kind, host_offset, to, length))
        return 0;
    return cache_co_read(image->cache, kind, host_offset, to, length);
}

/* Whoever may not wait leaves it to the next one to say what is wrong. */
static int complain(struct qcow2_image *image, table_reader *reader, const char *why,
                    const char *table, uint64_t entry_offset, uint64_t guest_offset)
{
    if (reader == try_read_table)
        return -EIO;
    return qcow2_co_corrupt(image, why, table, entry_offset, guest_offset);
}

/* Where the L2 table of a guest offset is; 0: there is none. */
static int find_l2(struct qcow2_image *image, table_reader *reader, uint64_t guest_offset,
                   uint64_t *ret_l2_offset)
{
    uint64_t index = qcow2_l1_index(&image->geometry, guest_offset);
    uint64_t entry_offset =
        atomic_load_explicit(&image->l1_table_offset, memory_order_relaxed) + index * 8;
    uint8_t bytes[8];
    const char *why;
    int ret = reader(image, QCOW2_TABLE_L1, entry_offset, bytes, sizeof(bytes));
    if (ret < 0)
        return ret;
    if (!qcow2_l1_decode(&image->geometry, load_be64(bytes), ret_l2_offset, &why))
        return complain(image, reader, why, "L1", entry_offset, guest_offset);
    /* A new one of ours may be in memory alone. */
    if (!image->writer && *ret_l2_offset >= atomic_load(&image->node->file->size_bytes))
        return complain(image, reader, "an L2 table lies past the end of the file", "L1",
                        entry_offset, guest_offset);
    return 0;
}

/* --- one entry ----------------------------------------------------------------------------------
 */

/* In an external data file a guest cluster lies where the guest sees it. */
static const char *data_file_fault(const struct qcow2_image *image,
                                   const struct qcow2_cluster *cluster, uint64_t guest_offset)
{
    uint64_t guest_cluster = guest_offset & ~(image->geometry.cluster_bytes - 1);
    if (!image->geometry.has_data_file || !cluster->has_host ||
        cluster->host_offset == guest_cluster)
        return NULL;
    return "a cluster is not at its guest offset in the external data file";
}

/* A cluster that begins inside the image's own header is nobody's data. */
const char *qcow2_place_fault(const struct qcow2_image *image, const struct qcow2_cluster *cluster,
                              uint64_t guest_offset)
{
    if (cluster->is_compressed && cluster->host_offset < image->header.header_length)
        return "compressed data lies in the header";
    return data_file_fault(image, cluster, guest_offset);
}

/* The entries of one L2 table from the one of guest_offset on. */
struct window {
    table_reader *reader;
    uint64_t l2_offset;
    uint32_t index, count;
    uint8_t bytes[ENTRIES_MAX * ENTRY_BYTES_MAX];
};

static int decode_at(struct qcow2_image *image, const struct window *window, uint32_t nth,
                     uint64_t guest_offset, struct qcow2_cluster *ret_cluster)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    const uint8_t *bytes = window->bytes + (size_t)nth * geometry->l2_entry_bytes;
    uint64_t bitmap = geometry->is_extended ? load_be64(bytes + 8) : 0;
    const char *why = NULL;
    if (qcow2_l2_decode(geometry, load_be64(bytes), bitmap, ret_cluster, &why))
        why = qcow2_place_fault(image, ret_cluster, guest_offset);
    if (!why)
        return 0;
    uint64_t entry = window->l2_offset + (uint64_t)(window->index + nth) * geometry->l2_entry_bytes;
    return complain(image, window->reader, why, "L2", entry, guest_offset);
}

static bool has_place(enum qcow2_kind kind)
{
    return kind == QCOW2_DATA || kind == QCOW2_ZERO_ALLOCATED;
}

/* Adds the cluster's part of [from, end) to the extent, as far as it goes on as it began. False: it
 * ended inside this cluster. from and end are guest offsets in one cluster. */
static bool extend(const struct qcow2_geometry *geometry, const struct qcow2_cluster *cluster,
                   uint64_t from, uint64_t end, struct qcow2_extent *extent)
{
    while (from < end) {
        uint64_t next = (from | (geometry->subcluster_bytes - 1)) + 1;
        uint64_t piece = (next < end ? next : end) - from;
        enum qcow2_kind kind = qcow2_cluster_kind(cluster, qcow2_subcluster_index(geometry, from));
        uint64_t host = cluster->host_offset + qcow2_in_cluster(geometry, from);
        if (extent->length == 0) {
            extent->kind = kind;
            extent->host_offset = has_place(kind) ? host : 0;
        } else if (kind != extent->kind ||
                   (has_place(kind) && host != extent->host_offset + extent->length)) {
            return false;
        }
        extent->length += piece;
        from += piece;
    }
    return true;
}

static void set_compressed(const struct window *window, const struct qcow2_cluster *cluster,
                           uint64_t length, struct qcow2_extent *extent)
{
    *extent = (struct qcow2_extent){
        .kind = QCOW2_COMPRESSED,
        .length = length,
        .host_offset = cluster->host_offset,
        .compressed_entry = load_be64(window->bytes),
        .compressed_bytes = cluster->compressed_bytes,
    };
}

/* What the window says of [guest_offset, guest_offset + length), from its beginning on. */
static int map_window(struct qcow2_image *image, const struct window *window, uint64_t guest_offset,
                      uint64_t length, struct qcow2_extent *ret_extent)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    struct qcow2_extent extent = {.kind = QCOW2_UNALLOCATED};
    uint64_t at = guest_offset, end = guest_offset + length;
    for (uint32_t i = 0; i < window->count; i++) {
        struct qcow2_cluster cluster;
        uint64_t next = (at | (geometry->cluster_bytes - 1)) + 1;
        uint64_t stop = next < end ? next : end;
        int ret = decode_at(image, window, i, at, &cluster);
        if (ret < 0 && i > 0)
            break; /* what lies before it is good; the rest fails when it is asked for */
        if (ret < 0)
            return ret;
        if (cluster.is_compressed && i == 0) {
            set_compressed(window, &cluster, stop - at, &extent);
            break;
        }
        if (cluster.is_compressed || !extend(geometry, &cluster, at, stop, &extent))
            break;
        at = stop;
    }
    *ret_extent = extent;
    return 0;
}

/* --- the whole way ------------------------------------------------------------------------------
 */

/* As many entries as the range needs, of one piece of the table as the cache holds it. */
static int fill_window(struct qcow2_image *image, uint64_t guest_offset, uint64_t length,
                       struct window *window)
{
    const struct qcow2_geometry *geometry = &image->geometry;
    uint32_t first = qcow2_l2_index(geometry, guest_offset);
    uint32_t per_slice = image->l2_slice_bytes / geometry->l2_entry_bytes;
    uint32_t left = per_slice - (first & (per_slice - 1));
    uint64_t wanted =
        qcow2_clusters_of(geometry, qcow2_in_cluster(geometry, guest_offset) + length);
    window->index = first;
    window->count = left < ENTRIES_MAX ? left : ENTRIES_MAX;
    if (wanted < window->count)
        window->count = (uint32_t)wanted;
    return window->reader(image, QCOW2_TABLE_L2,
                          window->l2_offset + (uint64_t)first * geometry->l2_entry_bytes,
                          window->bytes, (size_t)window->count * geometry->l2_entry_bytes);
}

static int map_by(struct qcow2_image *image, table_reader *reader, uint64_t guest_offset,
                  uint64_t length, struct qcow2_extent *ret_extent)
{
    struct window window;
    window.reader = reader;
    uint64_t reach_bytes = qcow2_l2_reach_bytes(&image->geometry);
    uint64_t in_table = reach_bytes - (guest_offset & (reach_bytes - 1));
    if (length > in_table)
        length = in_table;
    int ret = find_l2(image, reader, guest_offset, &window.l2_offset);
    if (ret < 0)
        return ret;
    if (window.l2_offset == 0) {
        *ret_extent = (struct qcow2_extent){.kind = QCOW2_UNALLOCATED, .length = length};
        return 0;
    }
    ret = fill_window(image, guest_offset, length, &window);
    if (ret < 0)
        return ret;
    return map_window(image, &window, guest_offset, length, ret_extent);
}

int qcow2_co_map(struct qcow2_image *image, uint64_t guest_offset, uint64_t length,
                 struct qcow2_extent *ret_extent)
{
    return map_by(image, co_read_table, guest_offset, length, ret_extent);
}

bool qcow2_map_remembered(struct qcow2_image *image, uint64_t guest_offset, uint64_t length,
                          struct qcow2_extent *ret_extent)
{
    return map_by(image, try_read_table, guest_offset, length, ret_extent) == 0;
}
