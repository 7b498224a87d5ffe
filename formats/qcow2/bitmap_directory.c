/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/bitmap_directory.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "block/dirty_bitmap.h"
#include "common/align.h"
#include "common/endian.h"

#define TYPE_DIRTY_TRACKING 1
#define GRANULARITY_BITS_MIN 9
#define GRANULARITY_BITS_MAX 31
#define GRANULARITY_BITS_LARGEST 63
#define FLAGS_RESERVED (~UINT32_C(7))
#define TABLE_ALL_ONES UINT64_C(1)
#define TABLE_RESERVED UINT64_C(0xff000000000001fe)

uint64_t qcow2_bitmap_table_entries(const struct qcow2_geometry *geometry, uint64_t disk_bytes,
                                    uint32_t granularity_bits)
{
    return qcow2_clusters_of(geometry, dirty_bitmap_bytes(disk_bytes, granularity_bits));
}

/* What is wrong with the fixed fields, but for the sizes that depend on the disk. */
static int check_fields(const uint8_t *bytes, struct error *err)
{
    uint32_t flags = load_be32(bytes + QCOW2_BITMAP_FLAGS_AT);
    uint32_t name_bytes = load_be16(bytes + 18);
    if (name_bytes == 0 || name_bytes > QCOW2_BITMAP_NAME_MAX)
        return error_set(err, -EINVAL,
                         "a bitmap's name_size is %" PRIu32 "; it must be from 1 to %d", name_bytes,
                         QCOW2_BITMAP_NAME_MAX);
    if (flags & FLAGS_RESERVED)
        return error_set(err, -EINVAL, "a bitmap's flags are 0x%" PRIx32 "; bits 3 to 31 must be 0",
                         flags);
    if (bytes[16] != TYPE_DIRTY_TRACKING)
        return error_set(err, -EINVAL, "a bitmap's type is %u; 1 (dirty tracking) is known",
                         bytes[16]);
    if (bytes[17] > GRANULARITY_BITS_LARGEST)
        return error_set(err, -EINVAL, "a bitmap's granularity_bits is %u; it must be at most %d",
                         bytes[17], GRANULARITY_BITS_LARGEST);
    return 0;
}

static int check_table(const struct qcow2_geometry *geometry,
                       const struct qcow2_bitmap_entry *entry, uint64_t disk_bytes,
                       struct error *err)
{
    uint64_t entries = qcow2_bitmap_table_entries(geometry, disk_bytes, entry->granularity_bits);
    if (qcow2_in_cluster(geometry, entry->table_offset) != 0 || entry->table_offset == 0 ||
        entry->table_offset > QCOW2_HOST_BYTES_MAX)
        return error_set(err, -EINVAL,
                         "the bitmap '%.*s' has the bitmap_table_offset 0x%" PRIx64
                         "; it must be a multiple of the cluster size, and not 0",
                         QCOW2_BITMAP_NAME(entry), entry->table_offset);
    if (entry->table_size == 0 || entry->table_size > QCOW2_BITMAP_TABLE_ENTRIES_MAX)
        return error_set(err, -EFBIG,
                         "the bitmap '%.*s' has a bitmap_table_size of %" PRIu32
                         " entries; it must be from 1 to %" PRIu32,
                         QCOW2_BITMAP_NAME(entry), entry->table_size,
                         QCOW2_BITMAP_TABLE_ENTRIES_MAX);
    /* One that was not saved may be of the disk's old size. */
    if (!(entry->flags & QCOW2_BITMAP_IN_USE) && entry->table_size != entries)
        return error_set(err, -EINVAL,
                         "the bitmap '%.*s' has a bitmap_table_size of %" PRIu32
                         " entries; for this disk it must be %" PRIu64,
                         QCOW2_BITMAP_NAME(entry), entry->table_size, entries);
    return 0;
}

int qcow2_bitmap_entry_decode(const struct qcow2_geometry *geometry, const uint8_t *bytes,
                              size_t length, uint64_t disk_bytes,
                              struct qcow2_bitmap_entry *ret_entry, struct error *err)
{
    if (length < QCOW2_BITMAP_HEAD_BYTES)
        return error_set(err, -EINVAL, "its bitmap directory ends in an entry");
    int ret = check_fields(bytes, err);
    if (ret < 0)
        return ret;
    struct qcow2_bitmap_entry entry = {
        .table_offset = load_be64(bytes + QCOW2_BITMAP_TABLE_OFFSET_AT),
        .table_size = load_be32(bytes + QCOW2_BITMAP_TABLE_SIZE_AT),
        .flags = load_be32(bytes + QCOW2_BITMAP_FLAGS_AT),
        .granularity_bits = bytes[17],
        .name_bytes = load_be16(bytes + 18),
        .extra_bytes = load_be32(bytes + 20),
    };
    uint64_t name_at = QCOW2_BITMAP_HEAD_BYTES + (uint64_t)entry.extra_bytes;
    uint64_t entry_bytes = align_up(name_at + entry.name_bytes, 8);
    if (entry_bytes > length)
        return error_set(err, -EINVAL, "its bitmap directory ends in an entry");
    entry.entry_bytes = (uint32_t)entry_bytes;
    entry.name = (const char *)bytes + name_at;
    if (memchr(entry.name, '\0', entry.name_bytes))
        return error_set(err, -EINVAL, "the name of the bitmap '%.*s' has a 0 in it",
                         QCOW2_BITMAP_NAME(&entry));
    ret = check_table(geometry, &entry, disk_bytes, err);
    if (ret == 0)
        *ret_entry = entry;
    return ret;
}

int qcow2_bitmap_entry_check_usable(const struct qcow2_bitmap_entry *entry, uint64_t disk_bytes,
                                    struct error *err)
{
    uint64_t data_bytes = dirty_bitmap_bytes(disk_bytes, entry->granularity_bits);
    if (entry->extra_bytes != 0 && !(entry->flags & QCOW2_BITMAP_EXTRA_DATA_COMPATIBLE))
        return error_set(err, -ENOTSUP,
                         "the bitmap '%.*s' has %" PRIu32 " bytes of extra data that this version "
                         "does not know, and must not be used without (extra_data_compatible)",
                         QCOW2_BITMAP_NAME(entry), entry->extra_bytes);
    if (entry->granularity_bits < GRANULARITY_BITS_MIN ||
        entry->granularity_bits > GRANULARITY_BITS_MAX)
        return error_set(err, -ENOTSUP,
                         "the bitmap '%.*s' has the granularity_bits %" PRIu32
                         "; %d to %d are supported",
                         QCOW2_BITMAP_NAME(entry), entry->granularity_bits, GRANULARITY_BITS_MIN,
                         GRANULARITY_BITS_MAX);
    if (data_bytes > QCOW2_BITMAP_MEMORY_MAX)
        return error_set(err, -EFBIG,
                         "the bitmap '%.*s' with granularity_bits %" PRIu32 " takes %" PRIu64
                         " bytes; at most %" PRIu64 " are supported",
                         QCOW2_BITMAP_NAME(entry), entry->granularity_bits, data_bytes,
                         QCOW2_BITMAP_MEMORY_MAX);
    return 0;
}

uint32_t qcow2_bitmap_encoded_bytes(const struct qcow2_bitmap_entry *entry)
{
    return (uint32_t)align_up(QCOW2_BITMAP_HEAD_BYTES + entry->name_bytes, 8);
}

void qcow2_bitmap_entry_encode(const struct qcow2_bitmap_entry *entry, uint8_t *bytes)
{
    memset(bytes, 0, qcow2_bitmap_encoded_bytes(entry));
    store_be64(bytes + QCOW2_BITMAP_TABLE_OFFSET_AT, entry->table_offset);
    store_be32(bytes + QCOW2_BITMAP_TABLE_SIZE_AT, entry->table_size);
    store_be32(bytes + QCOW2_BITMAP_FLAGS_AT, entry->flags);
    bytes[16] = TYPE_DIRTY_TRACKING;
    bytes[17] = (uint8_t)entry->granularity_bits;
    store_be16(bytes + 18, (uint16_t)entry->name_bytes);
    memcpy(bytes + QCOW2_BITMAP_HEAD_BYTES, entry->name, entry->name_bytes);
}

bool qcow2_bitmap_table_decode(const struct qcow2_geometry *geometry, uint64_t entry,
                               uint64_t *ret_offset, bool *ret_all_ones, const char **ret_why)
{
    uint64_t offset = entry & QCOW2_ENTRY_OFFSET;
    bool all_ones = entry & TABLE_ALL_ONES;
    if (entry & TABLE_RESERVED)
        *ret_why = "a bitmap table's entry has reserved bits";
    else if (qcow2_in_cluster(geometry, offset) != 0)
        *ret_why = "a bitmap's cluster is no multiple of the cluster size";
    else if (all_ones && offset != 0)
        *ret_why = "a bitmap table's entry has a cluster and says all ones";
    else {
        *ret_offset = offset;
        *ret_all_ones = all_ones;
        return true;
    }
    return false;
}
