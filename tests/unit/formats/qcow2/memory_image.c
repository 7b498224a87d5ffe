/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/formats/qcow2/memory_image.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/endian.h"
#include "formats/qcow2/entry.h"

static uint64_t l1_clusters(const struct qcow2_geometry *geometry, uint64_t disk_bytes)
{
    return qcow2_clusters_of(geometry, qcow2_l1_entries_needed(geometry, disk_bytes) * 8);
}

void memory_image_make(struct memory_disk *disk, const struct memory_image *image)
{
    struct qcow2_geometry geometry;
    struct qcow2_header header = {
        .version = 3,
        .cluster_bits = image->cluster_bits,
        .size = image->disk_bytes,
        .incompatible_features = image->is_extended ? QCOW2_INCOMPATIBLE_EXTENDED_L2 : 0,
        .refcount_order = image->refcount_order,
        .header_length = QCOW2_HEADER_OURS_BYTES,
        .refcount_table_clusters = 1,
    };
    qcow2_geometry_init(&geometry, &header);
    header.refcount_table_offset = geometry.cluster_bytes;
    header.l1_table_offset = 3 * geometry.cluster_bytes;
    header.l1_size = (uint32_t)qcow2_l1_entries_needed(&geometry, image->disk_bytes);
    uint64_t clusters = 3 + l1_clusters(&geometry, image->disk_bytes);
    assert(clusters << image->cluster_bits <= disk->capacity_bytes);
    memset(disk->data, 0, disk->capacity_bytes);
    qcow2_header_encode(&header, disk->data);
    store_be64(disk->data + geometry.cluster_bytes, 2 * geometry.cluster_bytes);
    for (uint32_t i = 0; i < clusters; i++)
        qcow2_refcount_set(disk->data + 2 * geometry.cluster_bytes, image->refcount_order, i, 1);
    disk->size_bytes = clusters << image->cluster_bits;
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

static void check_l2(struct check *check, uint64_t l2_offset)
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
        if (!cluster.has_host)
            continue;
        count(check, cluster.host_offset, 1);
        check_copied(check, entry, cluster.host_offset);
    }
}

static void count_references(struct check *check)
{
    const struct qcow2_geometry *geometry = &check->geometry;
    const struct qcow2_header *header = &check->header;
    const uint8_t *data = check->disk->data;
    count(check, 0, 1);
    count(check, header->refcount_table_offset, header->refcount_table_clusters);
    count(check, header->l1_table_offset,
          qcow2_clusters_of(geometry, (uint64_t)header->l1_size * 8));
    uint64_t entries = (uint64_t)header->refcount_table_clusters << (geometry->cluster_bits - 3);
    for (uint64_t i = 0; i < entries; i++) {
        uint64_t block = load_be64(data + header->refcount_table_offset + i * 8);
        if (block != 0)
            count(check, block, 1);
    }
    for (uint64_t i = 0; i < header->l1_size; i++) {
        uint64_t entry = load_be64(data + header->l1_table_offset + i * 8);
        uint64_t l2_offset = entry & QCOW2_ENTRY_OFFSET;
        if (l2_offset == 0)
            continue;
        count(check, l2_offset, 1);
        check_copied(check, entry, l2_offset);
        check_l2(check, l2_offset);
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
