/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/formats/qcow2/memory_image.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/endian.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/entry.h"
#include "formats/qcow2/snapshot_table.h"

static uint64_t l1_clusters(const struct qcow2_header *header,
                            const struct qcow2_geometry *geometry)
{
    return qcow2_clusters_of(geometry, (uint64_t)header->l1_size * 8);
}

void memory_image_make(struct memory_disk *disk, const struct memory_image *image)
{
    struct qcow2_geometry geometry;
    struct qcow2_header header = {
        .version = 3,
        .cluster_bits = image->cluster_bits,
        .size = image->disk_bytes,
        .incompatible_features = (image->is_extended ? QCOW2_INCOMPATIBLE_EXTENDED_L2 : 0) |
                                 (image->has_data_file ? QCOW2_INCOMPATIBLE_DATA_FILE : 0),
        .refcount_order = image->refcount_order,
        .header_length = QCOW2_HEADER_OURS_BYTES,
        .refcount_table_clusters = 1,
    };
    qcow2_geometry_init(&geometry, &header);
    header.refcount_table_offset = geometry.cluster_bytes;
    header.l1_table_offset = 3 * geometry.cluster_bytes;
    header.l1_size = (uint32_t)qcow2_l1_entries_needed(&geometry, image->disk_bytes);
    uint64_t clusters = 3 + l1_clusters(&header, &geometry);
    assert(clusters << image->cluster_bits <= disk->capacity_bytes);
    memset(disk->data, 0, disk->capacity_bytes);
    qcow2_header_encode(&header, disk->data);
    store_be64(disk->data + geometry.cluster_bytes, 2 * geometry.cluster_bytes);
    for (uint32_t i = 0; i < clusters; i++)
        qcow2_refcount_set(disk->data + 2 * geometry.cluster_bytes, image->refcount_order, i, 1);
    disk->size_bytes = clusters << image->cluster_bits;
}

/* --- a snapshot ---------------------------------------------------------------------------------
 */

struct taker {
    struct memory_disk *disk;
    struct qcow2_header header;
    struct qcow2_geometry geometry;
};

static void add_users(struct taker *taker, uint64_t offset, uint64_t bytes)
{
    uint8_t *block =
        taker->disk->data + load_be64(taker->disk->data + taker->header.refcount_table_offset);
    uint64_t first = offset >> taker->geometry.cluster_bits;
    uint64_t last = (offset + bytes - 1) >> taker->geometry.cluster_bits;
    assert(last < UINT64_C(1) << taker->geometry.refcount_block_bits);
    for (uint64_t i = first; i <= last; i++) {
        uint64_t count = qcow2_refcount_get(block, taker->geometry.refcount_order, (uint32_t)i);
        qcow2_refcount_set(block, taker->geometry.refcount_order, (uint32_t)i, count + 1);
    }
}

static void clear_copied(uint8_t *entry)
{
    store_be64(entry, load_be64(entry) & ~QCOW2_ENTRY_COPIED);
}

static void share_l2(struct taker *taker, uint8_t *l2)
{
    const struct qcow2_geometry *geometry = &taker->geometry;
    for (uint32_t i = 0; i < geometry->l2_entries; i++) {
        uint8_t *bytes = l2 + (size_t)i * geometry->l2_entry_bytes;
        struct qcow2_cluster cluster;
        const char *why;
        bool is_sound =
            qcow2_l2_decode(geometry, load_be64(bytes),
                            geometry->is_extended ? load_be64(bytes + 8) : 0, &cluster, &why);
        assert(is_sound);
        if (!is_sound || !cluster.has_host || geometry->has_data_file)
            continue;
        add_users(taker, cluster.host_offset,
                  cluster.is_compressed ? cluster.compressed_bytes : geometry->cluster_bytes);
        clear_copied(bytes);
    }
}

static uint64_t take_at_end(struct taker *taker, uint64_t bytes)
{
    uint64_t clusters = qcow2_clusters_of(&taker->geometry, bytes);
    uint64_t offset = qcow2_clusters_of(&taker->geometry, taker->disk->size_bytes)
                      << taker->geometry.cluster_bits;
    taker->disk->size_bytes = offset + (clusters << taker->geometry.cluster_bits);
    assert(taker->disk->size_bytes <= taker->disk->capacity_bytes);
    add_users(taker, offset, bytes);
    return offset;
}

void memory_image_add_snapshot(struct memory_disk *disk)
{
    struct taker taker = {.disk = disk};
    int rc = qcow2_header_decode(disk->data, 4096, &taker.header, NULL);
    assert(rc == 0 && taker.header.nb_snapshots == 0);
    (void)rc;
    qcow2_geometry_init(&taker.geometry, &taker.header);
    uint8_t *l1 = disk->data + taker.header.l1_table_offset;
    for (uint32_t i = 0; i < taker.header.l1_size; i++) {
        uint64_t l2_offset = load_be64(l1 + (size_t)i * 8) & QCOW2_ENTRY_OFFSET;
        if (l2_offset == 0)
            continue;
        add_users(&taker, l2_offset, taker.geometry.cluster_bytes);
        share_l2(&taker, disk->data + l2_offset);
        clear_copied(l1 + (size_t)i * 8);
    }
    uint64_t l1_bytes = (uint64_t)taker.header.l1_size * 8;
    struct qcow2_snapshot snapshot = {
        .l1_table_offset = take_at_end(&taker, l1_bytes),
        .l1_size = taker.header.l1_size,
        .disk_bytes = taker.header.size,
        .id = "1",
        .name = "then",
    };
    memcpy(disk->data + snapshot.l1_table_offset, l1, l1_bytes);
    taker.header.nb_snapshots = 1;
    taker.header.snapshots_offset = take_at_end(&taker, qcow2_snapshot_encoded_bytes(&snapshot));
    qcow2_snapshot_encode(&snapshot, disk->data + taker.header.snapshots_offset);
    qcow2_header_encode(&taker.header, disk->data);
}

/* --- bitmaps ------------------------------------------------------------------------------------
 */

#define EXTENSION_OFFSET QCOW2_HEADER_OURS_BYTES
#define EXTENSION_BYTES 24
#define ENTRY_BYTES_MAX 256
#define BITMAPS_MAX 16

/* What of the header and its one extension is needed. */
struct bitmaps {
    struct qcow2_geometry geometry;
    uint64_t disk_bytes;
    uint32_t count; /* 0: there are none */
    uint64_t directory_offset, directory_bytes;
};

static struct bitmaps bitmaps_of(const struct memory_disk *disk)
{
    struct bitmaps bitmaps = {.count = 0};
    struct qcow2_header header;
    const uint8_t *extension = disk->data + EXTENSION_OFFSET;
    int rc = qcow2_header_decode(disk->data, 4096, &header, NULL);
    assert(rc == 0);
    qcow2_geometry_init(&bitmaps.geometry, &header);
    bitmaps.disk_bytes = header.size;
    if (!(header.autoclear_features & QCOW2_AUTOCLEAR_BITMAPS))
        return bitmaps;
    assert(load_be32(extension) == QCOW2_EXTENSION_BITMAPS);
    assert(load_be32(extension + 4) == EXTENSION_BYTES);
    bitmaps.count = load_be32(extension + 8);
    bitmaps.directory_bytes = load_be64(extension + 16);
    bitmaps.directory_offset = load_be64(extension + 24);
    return bitmaps;
}

static uint64_t take_clusters(struct memory_disk *disk, const struct bitmaps *bitmaps,
                              uint64_t bytes)
{
    const struct qcow2_geometry *geometry = &bitmaps->geometry;
    uint64_t offset = disk->size_bytes;
    uint64_t first = offset >> geometry->cluster_bits, count = qcow2_clusters_of(geometry, bytes);
    assert(first + count <= UINT64_C(1) << geometry->refcount_block_bits);
    assert((first + count) << geometry->cluster_bits <= disk->capacity_bytes);
    for (uint64_t i = first; i < first + count; i++)
        qcow2_refcount_set(disk->data + 2 * geometry->cluster_bytes, geometry->refcount_order,
                           (uint32_t)i, 1);
    disk->size_bytes += count << geometry->cluster_bits;
    return offset;
}

/* Returns the entry's bytes. */
static uint32_t put_entry(struct memory_disk *disk, const struct bitmaps *bitmaps,
                          const struct memory_bitmap *bitmap, uint8_t *to)
{
    struct qcow2_bitmap_entry entry = {
        .flags = bitmap->flags,
        .granularity_bits = bitmap->granularity_bits,
        .name = bitmap->name,
        .name_bytes = (uint32_t)strlen(bitmap->name),
    };
    entry.table_size = (uint32_t)qcow2_bitmap_table_entries(&bitmaps->geometry, bitmaps->disk_bytes,
                                                            bitmap->granularity_bits);
    entry.table_offset = take_clusters(disk, bitmaps, (uint64_t)entry.table_size * 8);
    qcow2_bitmap_entry_encode(&entry, to);
    store_be32(to + 20, bitmap->extra_bytes);
    memset(to + QCOW2_BITMAP_HEAD_BYTES, 0xee, bitmap->extra_bytes);
    memcpy(to + QCOW2_BITMAP_HEAD_BYTES + bitmap->extra_bytes, entry.name, entry.name_bytes);
    return (QCOW2_BITMAP_HEAD_BYTES + bitmap->extra_bytes + entry.name_bytes + 7) & ~7u;
}

void memory_image_add_bitmaps(struct memory_disk *disk, const struct memory_bitmap *list,
                              uint32_t count)
{
    struct bitmaps bitmaps = bitmaps_of(disk);
    uint8_t *extension = disk->data + EXTENSION_OFFSET;
    uint8_t directory[ENTRY_BYTES_MAX * BITMAPS_MAX];
    uint32_t bytes = 0;
    assert(count <= BITMAPS_MAX);
    for (uint32_t i = 0; i < count; i++)
        bytes += put_entry(disk, &bitmaps, &list[i], directory + bytes);
    uint64_t offset = take_clusters(disk, &bitmaps, bytes);
    memcpy(disk->data + offset, directory, bytes);
    store_be32(extension, QCOW2_EXTENSION_BITMAPS);
    store_be32(extension + 4, EXTENSION_BYTES);
    store_be32(extension + 8, count);
    store_be64(extension + 16, bytes);
    store_be64(extension + 24, offset);
    disk->data[95] |= QCOW2_AUTOCLEAR_BITMAPS;
}

static uint32_t decode_entry(const struct memory_disk *disk, const struct bitmaps *bitmaps,
                             uint64_t at, struct qcow2_bitmap_entry *entry)
{
    int rc = qcow2_bitmap_entry_decode(
        &bitmaps->geometry, disk->data + bitmaps->directory_offset + at,
        (size_t)(bitmaps->directory_bytes - at), bitmaps->disk_bytes, entry, NULL);
    assert(rc == 0);
    return entry->entry_bytes;
}

uint8_t *memory_image_bitmap_entry(const struct memory_disk *disk, const char *name)
{
    struct bitmaps bitmaps = bitmaps_of(disk);
    uint64_t at = 0;
    for (uint32_t i = 0; i < bitmaps.count; i++) {
        struct qcow2_bitmap_entry entry;
        uint32_t bytes = decode_entry(disk, &bitmaps, at, &entry);
        if (entry.name_bytes == strlen(name) && memcmp(entry.name, name, entry.name_bytes) == 0)
            return disk->data + bitmaps.directory_offset + at;
        at += bytes;
    }
    assert(!"there is such a bitmap");
    return NULL;
}

uint32_t memory_image_bitmap_flags(const struct memory_disk *disk, const char *name)
{
    return load_be32(memory_image_bitmap_entry(disk, name) + QCOW2_BITMAP_FLAGS_AT);
}

bool memory_image_bitmap_get(const struct memory_disk *disk, const char *name, uint64_t granule)
{
    struct bitmaps bitmaps = bitmaps_of(disk);
    uint64_t table = load_be64(memory_image_bitmap_entry(disk, name));
    uint64_t entry =
        load_be64(disk->data + table + (granule / 8 >> bitmaps.geometry.cluster_bits) * 8);
    if (entry <= 1)
        return entry;
    return disk->data[entry + qcow2_in_cluster(&bitmaps.geometry, granule / 8)] >> granule % 8 & 1;
}

/* --- the checker --------------------------------------------------------------------------------
 */

struct check {
    const struct memory_disk *disk;
    struct qcow2_header header;
    struct qcow2_geometry geometry;
    uint64_t cluster_count; /* that are looked at: of the disk's capacity */
    uint64_t *references;
    struct memory_image_faults faults;
};

static void fault(struct check *check, const char *what, uint64_t offset)
{
    check->faults.errors++;
    printf("check: %s at 0x%llx\n", what, (unsigned long long)offset);
}

static void count(struct check *check, uint64_t offset, uint64_t clusters)
{
    uint64_t first = offset >> check->geometry.cluster_bits;
    for (uint64_t i = first; i < first + clusters; i++) {
        if (i >= check->cluster_count)
            fault(check, "a pointer out of the disk", i << check->geometry.cluster_bits);
        else
            check->references[i]++;
    }
}

static uint64_t refcount_of(const struct check *check, uint64_t cluster)
{
    const struct qcow2_geometry *geometry = &check->geometry;
    uint64_t index = cluster >> geometry->refcount_block_bits;
    uint64_t entries = (uint64_t)check->header.refcount_table_clusters
                       << (geometry->cluster_bits - 3);
    if (index >= entries)
        return 0;
    uint64_t block = load_be64(check->disk->data + check->header.refcount_table_offset + index * 8);
    if (block == 0)
        return 0;
    return qcow2_refcount_get(check->disk->data + block, geometry->refcount_order,
                              (uint32_t)(cluster & ((1u << geometry->refcount_block_bits) - 1)));
}

static void check_copied(struct check *check, uint64_t entry, uint64_t offset)
{
    bool is_one = refcount_of(check, offset >> check->geometry.cluster_bits) == 1;
    if (!(entry & QCOW2_ENTRY_COPIED) != !is_one)
        fault(check, "COPIED is not true", offset);
}

static void check_l2(struct check *check, uint64_t l2_offset, bool is_active)
{
    const struct qcow2_geometry *geometry = &check->geometry;
    for (uint32_t i = 0; i < geometry->l2_entries; i++) {
        const uint8_t *bytes =
            check->disk->data + l2_offset + (uint64_t)i * geometry->l2_entry_bytes;
        uint64_t entry = load_be64(bytes);
        uint64_t bitmap = geometry->is_extended ? load_be64(bytes + 8) : 0;
        struct qcow2_cluster cluster;
        const char *why;
        if (!qcow2_l2_decode(geometry, entry, bitmap, &cluster, &why)) {
            fault(check, why, l2_offset + (uint64_t)i * geometry->l2_entry_bytes);
            continue;
        }
        if (!cluster.has_host || geometry->has_data_file)
            continue;
        if (cluster.is_compressed) {
            uint64_t last =
                (cluster.host_offset + cluster.compressed_bytes - 1) >> geometry->cluster_bits;
            count(check, cluster.host_offset,
                  last - (cluster.host_offset >> geometry->cluster_bits) + 1);
            check->faults.compressed++;
            continue;
        }
        count(check, cluster.host_offset, 1);
        if (is_active)
            check_copied(check, entry, cluster.host_offset);
    }
}

static void check_l1(struct check *check, uint64_t l1_offset, uint32_t l1_size, bool is_active)
{
    for (uint64_t i = 0; i < l1_size; i++) {
        uint64_t entry = load_be64(check->disk->data + l1_offset + i * 8);
        uint64_t l2_offset = entry & QCOW2_ENTRY_OFFSET;
        if (l2_offset == 0)
            continue;
        count(check, l2_offset, 1);
        if (is_active)
            check_copied(check, entry, l2_offset);
        check_l2(check, l2_offset, is_active);
    }
}

/* The one of memory_image_add_snapshot(), if there is one. */
static void check_snapshot(struct check *check)
{
    const uint8_t *entry = check->disk->data + check->header.snapshots_offset;
    if (check->header.nb_snapshots == 0)
        return;
    count(check, check->header.snapshots_offset, 1);
    count(check, load_be64(entry),
          qcow2_clusters_of(&check->geometry, (uint64_t)load_be32(entry + 8) * 8));
    check_l1(check, load_be64(entry), load_be32(entry + 8), false);
}

static void count_references(struct check *check)
{
    const struct qcow2_geometry *geometry = &check->geometry;
    const struct qcow2_header *header = &check->header;
    const uint8_t *data = check->disk->data;
    count(check, 0, 1);
    count(check, header->refcount_table_offset, header->refcount_table_clusters);
    count(check, header->l1_table_offset, l1_clusters(header, geometry));
    uint64_t entries = (uint64_t)header->refcount_table_clusters << (geometry->cluster_bits - 3);
    for (uint64_t i = 0; i < entries; i++) {
        uint64_t block = load_be64(data + header->refcount_table_offset + i * 8);
        if (block != 0)
            count(check, block, 1);
    }
    check_l1(check, header->l1_table_offset, header->l1_size, true);
    check_snapshot(check);
}

static void count_bitmaps(struct check *check)
{
    struct bitmaps bitmaps = bitmaps_of(check->disk);
    uint64_t at = 0;
    count(check, bitmaps.directory_offset,
          qcow2_clusters_of(&check->geometry, bitmaps.directory_bytes));
    for (uint32_t i = 0; i < bitmaps.count; i++) {
        struct qcow2_bitmap_entry entry;
        at += decode_entry(check->disk, &bitmaps, at, &entry);
        count(check, entry.table_offset,
              qcow2_clusters_of(&check->geometry, (uint64_t)entry.table_size * 8));
        for (uint32_t n = 0; n < entry.table_size; n++) {
            uint64_t offset;
            bool all_ones;
            const char *why;
            if (!qcow2_bitmap_table_decode(
                    &check->geometry, load_be64(check->disk->data + entry.table_offset + n * 8),
                    &offset, &all_ones, &why))
                fault(check, why, entry.table_offset + n * 8);
            else if (offset != 0)
                count(check, offset, 1);
        }
    }
}

struct memory_image_faults memory_image_check(const struct memory_disk *disk)
{
    struct check check = {.disk = disk};
    if (qcow2_header_decode(disk->data, 4096, &check.header, NULL) < 0) {
        fault(&check, "no header", 0);
        return check.faults;
    }
    qcow2_geometry_init(&check.geometry, &check.header);
    check.cluster_count = disk->capacity_bytes >> check.header.cluster_bits;
    check.references = calloc(check.cluster_count, sizeof(uint64_t));
    assert(check.references);
    count_references(&check);
    count_bitmaps(&check);
    for (uint64_t i = 0; i < check.cluster_count; i++) {
        uint64_t refcount = refcount_of(&check, i);
        if (refcount < check.references[i])
            fault(&check, "the refcount is too small", i << check.header.cluster_bits);
        else if (refcount > check.references[i])
            check.faults.leaks++;
    }
    free(check.references);
    return check.faults;
}
