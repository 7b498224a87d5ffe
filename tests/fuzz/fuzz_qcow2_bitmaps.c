/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The directory of qcow2's persistent bitmaps and the entries of their tables. Input: a byte for
 * the disk's size, then a directory. Properties: a refusal says something; an entry that is taken
 * is written again as one with the same meaning, and is inside the limits where it can be used.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "block/dirty_bitmap.h"
#include "common/endian.h"
#include "formats/qcow2/bitmap_directory.h"

static void check_round_trip(const struct qcow2_geometry *geometry,
                             const struct qcow2_bitmap_entry *entry, uint64_t disk_bytes)
{
    struct qcow2_bitmap_entry again;
    uint8_t bytes[QCOW2_BITMAP_HEAD_BYTES + QCOW2_BITMAP_NAME_MAX + 8];
    uint32_t length = qcow2_bitmap_encoded_bytes(entry);
    FUZZ_CHECK(length <= entry->entry_bytes && length <= sizeof(bytes));
    FUZZ_CHECK(length == entry->entry_bytes || entry->extra_bytes > 0);
    qcow2_bitmap_entry_encode(entry, bytes);
    FUZZ_CHECK(qcow2_bitmap_entry_decode(geometry, bytes, length, disk_bytes, &again, NULL) == 0);
    FUZZ_CHECK(again.name_bytes == entry->name_bytes);
    FUZZ_CHECK(memcmp(again.name, entry->name, entry->name_bytes) == 0);
    FUZZ_CHECK(again.table_offset == entry->table_offset);
    FUZZ_CHECK(again.table_size == entry->table_size);
    FUZZ_CHECK(again.flags == entry->flags);
    FUZZ_CHECK(again.granularity_bits == entry->granularity_bits);
}

static void check_usable(const struct qcow2_bitmap_entry *entry, uint64_t disk_bytes)
{
    struct error err = {.message = ""};
    if (qcow2_bitmap_entry_check_usable(entry, disk_bytes, &err) < 0)
        FUZZ_CHECK(err.message[0] != '\0');
    else
        FUZZ_CHECK(dirty_bitmap_bytes(disk_bytes, entry->granularity_bits) <=
                   QCOW2_BITMAP_MEMORY_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qcow2_bitmap_entry entry;
    struct qcow2_header header = {.version = 3, .cluster_bits = 12, .refcount_order = 4};
    struct qcow2_geometry geometry;
    struct error err = {.message = ""};
    if (size < 1)
        return 0;
    uint64_t disk_bytes = UINT64_C(1) << data[0] % 50;
    qcow2_geometry_init(&geometry, &header);
    for (size_t at = 1; at < size; at += entry.entry_bytes) {
        int rc =
            qcow2_bitmap_entry_decode(&geometry, data + at, size - at, disk_bytes, &entry, &err);
        if (rc < 0) {
            FUZZ_CHECK(err.message[0] != '\0');
            break;
        }
        FUZZ_CHECK(entry.entry_bytes <= size - at);
        check_usable(&entry, disk_bytes);
        check_round_trip(&geometry, &entry, disk_bytes);
    }
    for (size_t at = 1; at + 8 <= size; at += 8) {
        uint64_t offset = 1;
        bool all_ones;
        const char *why = NULL;
        if (qcow2_bitmap_table_decode(&geometry, load_be64(data + at), &offset, &all_ones, &why))
            FUZZ_CHECK(qcow2_in_cluster(&geometry, offset) == 0 && (offset == 0 || !all_ones));
        else
            FUZZ_CHECK(why && *why);
    }
    return 0;
}
