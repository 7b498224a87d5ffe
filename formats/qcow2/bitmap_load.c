/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A persistent bitmap comes into memory: its table, then the clusters of bits that the table names.
 * Sizes were checked against the disk's and the limits; where things lie is checked here.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/checked.h"
#include "common/endian.h"
#include "formats/qcow2/bitmaps.h"

#define TABLE_PIECE_BYTES 4096

struct load {
    struct qcow2_bitmaps *bitmaps;
    const struct qcow2_bitmap *bitmap;
    struct dirty_bitmap *bits;
    uint64_t *table;
    uint8_t *cluster;
};

static int failed(const struct load *load, const char *what, int code, struct error *err)
{
    return error_set(err, code, "the bitmap '%.*s' cannot be read: %s: %s",
                     QCOW2_BITMAP_NAME(&load->bitmap->entry), what, error_text(code));
}

/* --- the table ----------------------------------------------------------------------------------
 */

static int take_entry(const struct load *load, uint32_t index, uint64_t entry, struct error *err)
{
    const struct qcow2_image *image = load->bitmaps->image;
    const char *why = "it lies past the end of the file";
    uint64_t offset = 0;
    bool all_ones = false;
    bool is_good = qcow2_bitmap_table_decode(&image->geometry, entry, &offset, &all_ones, &why);
    if (!is_good || (offset != 0 && offset >= atomic_load(&image->node->file->size_bytes)))
        return error_set(err, -EINVAL,
                         "the bitmap '%.*s' cannot be read: entry %" PRIu32
                         " of its table is 0x%" PRIx64 ": %s",
                         QCOW2_BITMAP_NAME(&load->bitmap->entry), index, entry, why);
    load->table[index] = all_ones ? 1 : offset;
    return 0;
}

static int co_load_table(struct load *load, struct error *err)
{
    const struct qcow2_bitmap_entry *entry = &load->bitmap->entry;
    uint8_t bytes[TABLE_PIECE_BYTES];
    uint64_t table_bytes = (uint64_t)entry->table_size * 8;
    int ret = 0;
    if (!range_is_inside(entry->table_offset, table_bytes,
                         atomic_load(&load->bitmaps->image->node->file->size_bytes)))
        return error_set(err, -EINVAL,
                         "the bitmap '%.*s' cannot be read: its table at 0x%" PRIx64
                         " lies past the end of the file",
                         QCOW2_BITMAP_NAME(entry), entry->table_offset);
    load->table = calloc(entry->table_size, sizeof(*load->table));
    if (!load->table)
        return failed(load, "its table", -ENOMEM, err);
    for (uint64_t at = 0; at < table_bytes && ret == 0; at += sizeof(bytes)) {
        uint64_t left = table_bytes - at;
        size_t length = left < sizeof(bytes) ? (size_t)left : sizeof(bytes);
        ret = qcow2_co_read_bytes(load->bitmaps->image, entry->table_offset + at, bytes, length);
        if (ret < 0)
            return failed(load, "its table", ret, err);
        for (size_t i = 0; i < length && ret == 0; i += 8)
            ret = take_entry(load, (uint32_t)((at + i) / 8), load_be64(bytes + i), err);
    }
    return ret;
}

/* --- the bits -----------------------------------------------------------------------------------
 */

static int co_load_cluster(struct load *load, uint32_t index, struct error *err)
{
    uint64_t cluster_bytes = load->bitmaps->image->geometry.cluster_bytes;
    uint32_t granularity_bits = load->bitmap->entry.granularity_bits;
    uint64_t place = load->table[index];
    uint64_t first_byte = index * cluster_bytes;
    if (place == 1) {
        dirty_bitmap_set(load->bits, first_byte * 8 << granularity_bits,
                         cluster_bytes * 8 << granularity_bits);
        return 0;
    }
    int ret = qcow2_co_read_bytes(load->bitmaps->image, place, load->cluster, cluster_bytes);
    if (ret < 0)
        return failed(load, "its bits", ret, err);
    dirty_bitmap_take_bytes(load->bits, first_byte, load->cluster, cluster_bytes);
    return 0;
}

static int co_load_bits(struct load *load, struct error *err)
{
    const struct qcow2_image *image = load->bitmaps->image;
    const struct qcow2_bitmap_entry *entry = &load->bitmap->entry;
    if (dirty_bitmap_new(&load->bits, image->header.size, entry->granularity_bits) < 0)
        return failed(load, "its bits", -ENOMEM, err);
    load->cluster = malloc(image->geometry.cluster_bytes);
    int ret = load->cluster ? 0 : failed(load, "its bits", -ENOMEM, err);
    for (uint32_t i = 0; i < entry->table_size && ret == 0; i++) {
        if (load->table[i] != 0)
            ret = co_load_cluster(load, i, err);
    }
    free(load->cluster);
    return ret;
}

static int check_memory(const struct qcow2_bitmaps *bitmaps, const struct qcow2_bitmap *bitmap,
                        struct error *err)
{
    uint64_t size_bytes = bitmaps->image->header.size;
    uint64_t bytes = dirty_bitmap_bytes(size_bytes, bitmap->entry.granularity_bits);
    int ret = qcow2_bitmap_entry_check_usable(&bitmap->entry, size_bytes, err);
    if (ret == 0 && bytes > QCOW2_BITMAP_MEMORY_MAX - bitmaps->memory_bytes)
        ret =
            error_set(err, -EFBIG,
                      "the bitmap '%.*s' takes %" PRIu64 " bytes, and others of the image %" PRIu64
                      "; together at most %" PRIu64 " are supported",
                      QCOW2_BITMAP_NAME(&bitmap->entry), bytes, bitmaps->memory_bytes,
                      QCOW2_BITMAP_MEMORY_MAX);
    return ret;
}

int qcow2_bitmap_co_load(struct qcow2_bitmaps *bitmaps, struct qcow2_bitmap *bitmap,
                         bool with_table, struct error *err)
{
    struct load load = {.bitmaps = bitmaps, .bitmap = bitmap};
    assert(!bitmap->table && !(bitmap->entry.flags & QCOW2_BITMAP_IN_USE));
    int ret = bitmap->bits ? 0 : check_memory(bitmaps, bitmap, err);
    if (ret == 0)
        ret = co_load_table(&load, err);
    if (ret == 0 && !bitmap->bits)
        ret = co_load_bits(&load, err);
    if (ret < 0) {
        dirty_bitmap_free(load.bits);
        free(load.table);
        return ret;
    }
    if (load.bits) {
        bitmap->bits = load.bits;
        bitmaps->memory_bytes +=
            dirty_bitmap_bytes(bitmaps->image->header.size, bitmap->entry.granularity_bits);
    }
    if (with_table)
        bitmap->table = load.table;
    else
        free(load.table);
    return 0;
}
