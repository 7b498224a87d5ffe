/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Walks: the header and its tables, the disk's L1 and L2, those of each snapshot, the bitmaps, the
 * refcounts' own tables. Then each cluster's references are compared with its refcount. A table
 * that many point to is read as often: an image cannot make that worse than one read for each entry
 * that it has.
 */
#include "formats/qcow2/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/checked.h"
#include "common/align.h"
#include "common/endian.h"
#include "common/progress.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/refmap.h"
#include "formats/qcow2/writer.h"

#define REPORTS_MAX 100

struct walk {
    struct qcow2_image *image;
    struct refmap references;
    struct qcow2_check check;
    uint64_t file_bytes;
    uint8_t *l1, *l2;     /* a piece of an L1 or other table of pointers, and an L2 table */
    uint8_t *block;       /* a refcount block, that of block_index */
    uint64_t block_index; /* UINT64_MAX: none is loaded */
    uint8_t *blocks;      /* a cluster of the refcount table, the one of that number */
    uint64_t blocks_piece;
    qcow2_check_report *report;
    void *arg;
    unsigned reports;
};

/* --- what was found -----------------------------------------------------------------------------
 */

__attribute__((format(printf, 3, 4))) static void found(struct walk *walk, uint64_t *count,
                                                        const char *format, ...)
{
    char sentence[256];
    va_list list;
    (*count)++;
    if (!walk->report || walk->reports++ >= REPORTS_MAX)
        return;
    va_start(list, format);
    vsnprintf(sentence, sizeof(sentence), format, list);
    va_end(list);
    walk->report(walk->arg, sentence);
}

static bool co_load(struct walk *walk, const char *what, uint64_t host_offset, void *to,
                    size_t length)
{
    int ret = qcow2_co_read_bytes(walk->image, host_offset, to, length);
    if (ret < 0)
        found(walk, &walk->check.unreadable, "%s at 0x%" PRIx64 " cannot be read: %s", what,
              host_offset, error_text(ret));
    return ret == 0;
}

/* One more reference to each cluster of the range. */
static int refer(struct walk *walk, const char *what, uint64_t host_offset, uint64_t length)
{
    uint32_t bits = walk->image->geometry.cluster_bits;
    if (length == 0)
        return 0;
    /* The last cluster of the file may be there in part. */
    if (!range_is_inside(host_offset, 1, walk->file_bytes) ||
        host_offset + length > walk->file_bytes + walk->image->geometry.cluster_bytes) {
        found(walk, &walk->check.errors, "%s at 0x%" PRIx64 " lies past the end of the file", what,
              host_offset);
        return 0;
    }
    for (uint64_t i = host_offset >> bits; i <= (host_offset + length - 1) >> bits; i++) {
        if (refmap_add(&walk->references, i) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* How many of a table's entries begin inside of the file; what is past its end reads as zeroes. A
 * hostile image has thousands of tables of millions of entries in a few kilobytes. */
static uint64_t entries_in_file(const struct walk *walk, uint64_t host_offset, uint64_t entries)
{
    uint64_t left = host_offset < walk->file_bytes ? walk->file_bytes - host_offset : 0;
    return smaller(entries, left / 8 + (left % 8 != 0));
}

/* --- refcounts ----------------------------------------------------------------------------------
 */

/* An entry of the refcount table. */
static bool co_load_block_entry(struct walk *walk, uint64_t index, uint64_t *ret_entry)
{
    uint32_t bits = walk->image->geometry.cluster_bits;
    uint64_t piece = index >> (bits - 3);
    if (piece != walk->blocks_piece) {
        walk->blocks_piece = UINT64_MAX;
        if (!co_load(walk, "the refcount table",
                     walk->image->header.refcount_table_offset + (piece << bits), walk->blocks,
                     walk->image->geometry.cluster_bytes))
            return false;
        walk->blocks_piece = piece;
    }
    *ret_entry = load_be64(walk->blocks + (index - (piece << (bits - 3))) * 8);
    return true;
}

/* What the image says of a cluster; 0 where it has no count, or one that cannot be read. */
static uint64_t co_refcount(struct walk *walk, uint64_t host_offset)
{
    const struct qcow2_image *image = walk->image;
    const struct qcow2_geometry *geometry = &image->geometry;
    uint64_t index = qcow2_refcount_table_index(geometry, host_offset);
    uint64_t entries =
        ((uint64_t)image->header.refcount_table_clusters << geometry->cluster_bits) / 8;
    uint64_t entry, block_offset;
    const char *why;
    if (index >= entries)
        return 0;
    if (index != walk->block_index) {
        walk->block_index = UINT64_MAX;
        if (!co_load_block_entry(walk, index, &entry) ||
            !qcow2_refcount_table_decode(geometry, entry, &block_offset, &why) ||
            block_offset == 0 || block_offset >= walk->file_bytes ||
            !co_load(walk, "a refcount block", block_offset, walk->block, geometry->cluster_bytes))
            return 0;
        walk->block_index = index;
    }
    return qcow2_refcount_get(walk->block, geometry->refcount_order,
                              qcow2_refcount_block_index(geometry, host_offset));
}

static void co_check_copied(struct walk *walk, const char *what, uint64_t entry, uint64_t offset)
{
    bool is_copied = entry & QCOW2_ENTRY_COPIED;
    uint64_t refcount = co_refcount(walk, offset);
    if (is_copied != (refcount == 1))
        found(walk, &walk->check.errors,
              "%s at 0x%" PRIx64 " is %smarked as copied, and its refcount is %" PRIu64, what,
              offset, is_copied ? "" : "not ", refcount);
}

/* --- L1 and L2 ----------------------------------------------------------------------------------
 */

static int co_walk_cluster(struct walk *walk, uint64_t entry, uint64_t bitmap, bool is_active,
                           uint64_t guest_offset)
{
    const struct qcow2_geometry *geometry = &walk->image->geometry;
    struct qcow2_cluster cluster;
    const char *why = NULL;
    if (qcow2_l2_decode(geometry, entry, bitmap, &cluster, &why))
        why = qcow2_place_fault(walk->image, &cluster, guest_offset);
    if (why) {
        found(walk, &walk->check.errors, "the L2 entry 0x%" PRIx64 " of 0x%" PRIx64 ": %s", entry,
              guest_offset, why);
        return 0;
    }
    if (!cluster.is_compressed && (entry & QCOW2_L2_RESERVED))
        found(walk, &walk->check.errors,
              "the L2 entry 0x%" PRIx64 " of 0x%" PRIx64 " has reserved bits", entry, guest_offset);
    if (cluster.is_compressed && (entry & QCOW2_ENTRY_COPIED))
        found(walk, &walk->check.errors,
              "the compressed cluster of 0x%" PRIx64 " is marked as copied", guest_offset);
    if (is_active) {
        walk->check.compressed_clusters += cluster.is_compressed;
        walk->check.data_clusters += cluster.has_host && !cluster.is_compressed;
    }
    if (!cluster.has_host || geometry->has_data_file)
        return 0;
    if (cluster.is_compressed)
        return refer(walk, "compressed data", cluster.host_offset, cluster.compressed_bytes);
    if (is_active)
        co_check_copied(walk, "the cluster", entry, cluster.host_offset);
    return refer(walk, "a cluster", cluster.host_offset, geometry->cluster_bytes);
}

static int co_walk_l2(struct walk *walk, uint64_t l2_offset, bool is_active, uint64_t guest_offset)
{
    const struct qcow2_geometry *geometry = &walk->image->geometry;
    int ret = 0;
    if (!co_load(walk, "an L2 table", l2_offset, walk->l2, geometry->cluster_bytes))
        return 0;
    for (uint32_t i = 0; i < geometry->l2_entries && ret == 0; i++) {
        const uint8_t *bytes = walk->l2 + (size_t)i * geometry->l2_entry_bytes;
        uint64_t bitmap = geometry->is_extended ? load_be64(bytes + 8) : 0;
        uint64_t entry = load_be64(bytes);
        if (entry != 0 || bitmap != 0)
            ret = co_walk_cluster(walk, entry, bitmap, is_active,
                                  guest_offset + ((uint64_t)i << geometry->cluster_bits));
    }
    return ret;
}

static int co_walk_l1_entry(struct walk *walk, uint64_t entry, bool is_active,
                            uint64_t guest_offset)
{
    const struct qcow2_geometry *geometry = &walk->image->geometry;
    uint64_t l2_offset;
    const char *why;
    if (!qcow2_l1_decode(geometry, entry, &l2_offset, &why)) {
        found(walk, &walk->check.errors, "the L1 entry 0x%" PRIx64 " of 0x%" PRIx64 ": %s", entry,
              guest_offset, why);
        return 0;
    }
    if (entry & QCOW2_L1_RESERVED)
        found(walk, &walk->check.errors,
              "the L1 entry 0x%" PRIx64 " of 0x%" PRIx64 " has reserved bits", entry, guest_offset);
    if (l2_offset == 0)
        return 0;
    int ret = refer(walk, "an L2 table", l2_offset, geometry->cluster_bytes);
    if (ret < 0 || l2_offset >= walk->file_bytes)
        return ret;
    if (is_active)
        co_check_copied(walk, "the L2 table", entry, l2_offset);
    return co_walk_l2(walk, l2_offset, is_active, guest_offset);
}

static int co_walk_l1(struct walk *walk, uint64_t l1_offset, uint32_t l1_size, bool is_active)
{
    const struct qcow2_geometry *geometry = &walk->image->geometry;
    uint32_t per_piece = (uint32_t)(geometry->cluster_bytes / 8);
    const char *what = is_active ? "the L1 table" : "a snapshot's L1 table";
    int ret = refer(walk, what, l1_offset, (uint64_t)l1_size * 8);
    uint32_t there = (uint32_t)entries_in_file(walk, l1_offset, l1_size);
    progress_step(walk->image->progress, l1_size - there);
    for (uint32_t i = 0; i < there && ret == 0; i++) {
        uint32_t left = there - i;
        if (i % per_piece == 0 && !co_load(walk, what, l1_offset + (uint64_t)i * 8, walk->l1,
                                           (size_t)(left < per_piece ? left : per_piece) * 8))
            return 0;
        uint64_t entry = load_be64(walk->l1 + (size_t)(i % per_piece) * 8);
        progress_step(walk->image->progress, 1);
        if (entry != 0)
            ret = co_walk_l1_entry(walk, entry, is_active,
                                   (uint64_t)i * qcow2_l2_reach_bytes(geometry));
    }
    return ret;
}

/* --- bitmaps ------------------------------------------------------------------------------------
 */

static int co_walk_bitmap_table(struct walk *walk, const struct qcow2_bitmap_entry *bitmap)
{
    const struct qcow2_geometry *geometry = &walk->image->geometry;
    uint32_t per_piece = (uint32_t)(geometry->cluster_bytes / 8);
    int ret =
        refer(walk, "a bitmap's table", bitmap->table_offset, (uint64_t)bitmap->table_size * 8);
    uint32_t there = (uint32_t)entries_in_file(walk, bitmap->table_offset, bitmap->table_size);
    for (uint32_t i = 0; i < there && ret == 0; i++) {
        uint32_t left = there - i;
        uint64_t offset;
        bool all_ones;
        const char *why;
        if (i % per_piece == 0 &&
            !co_load(walk, "a bitmap's table", bitmap->table_offset + (uint64_t)i * 8, walk->l1,
                     (size_t)(left < per_piece ? left : per_piece) * 8))
            return 0;
        uint64_t entry = load_be64(walk->l1 + (size_t)(i % per_piece) * 8);
        if (!qcow2_bitmap_table_decode(geometry, entry, &offset, &all_ones, &why))
            found(walk, &walk->check.errors, "the bitmap '%.*s': %s", QCOW2_BITMAP_NAME(bitmap),
                  why);
        else if (offset != 0)
            ret = refer(walk, "a bitmap's cluster", offset, geometry->cluster_bytes);
    }
    return ret;
}

/* What cannot be decoded refers to clusters that nobody knows, as what cannot be read. */
static int co_walk_directory(struct walk *walk, const uint8_t *directory)
{
    const struct qcow2_image *image = walk->image;
    const struct qcow2_bitmaps_extension *bitmaps = &image->extensions.bitmaps;
    struct error why;
    uint64_t at = 0;
    int ret = 0;
    for (uint32_t i = 0; i < bitmaps->nb_bitmaps && ret == 0; i++) {
        struct qcow2_bitmap_entry bitmap;
        if (qcow2_bitmap_entry_decode(&image->geometry, directory + at,
                                      bitmaps->directory_size - at, image->header.size, &bitmap,
                                      &why) < 0) {
            found(walk, &walk->check.unreadable, "%s", why.message);
            return 0;
        }
        ret = co_walk_bitmap_table(walk, &bitmap);
        at += bitmap.entry_bytes;
    }
    return ret;
}

/* Only what the autoclear bit says is there. */
static int co_walk_bitmaps(struct walk *walk)
{
    const struct qcow2_image *image = walk->image;
    const struct qcow2_bitmaps_extension *bitmaps = &image->extensions.bitmaps;
    if (!image->extensions.has_bitmaps ||
        !(image->header.autoclear_features & QCOW2_AUTOCLEAR_BITMAPS))
        return 0;
    if (!range_is_inside(bitmaps->directory_offset, bitmaps->directory_size, walk->file_bytes)) {
        found(walk, &walk->check.unreadable, "the bitmap directory lies past the end of the file");
        return 0;
    }
    int ret =
        refer(walk, "the bitmap directory", bitmaps->directory_offset, bitmaps->directory_size);
    uint8_t *directory = malloc(bitmaps->directory_size + 1);
    if (!directory)
        ret = -ENOMEM;
    if (ret == 0 && bitmaps->directory_size > 0 &&
        co_load(walk, "the bitmap directory", bitmaps->directory_offset, directory,
                bitmaps->directory_size))
        ret = co_walk_directory(walk, directory);
    free(directory);
    return ret;
}

/* --- the whole image ----------------------------------------------------------------------------
 */

static int co_walk_refcounts(struct walk *walk)
{
    const struct qcow2_image *image = walk->image;
    const struct qcow2_geometry *geometry = &image->geometry;
    uint64_t table_bytes = (uint64_t)image->header.refcount_table_clusters
                           << geometry->cluster_bits;
    uint32_t per_piece = (uint32_t)(geometry->cluster_bytes / 8);
    int ret = refer(walk, "the refcount table", image->header.refcount_table_offset, table_bytes);
    uint64_t there = entries_in_file(walk, image->header.refcount_table_offset, table_bytes / 8);
    for (uint64_t i = 0; i < there && ret == 0; i++) {
        uint64_t offset;
        const char *why;
        if (i % per_piece == 0 &&
            !co_load(walk, "the refcount table", image->header.refcount_table_offset + i * 8,
                     walk->l1, geometry->cluster_bytes))
            return 0;
        uint64_t entry = load_be64(walk->l1 + (size_t)(i % per_piece) * 8);
        if (entry == 0)
            continue;
        if (!qcow2_refcount_table_decode(geometry, entry, &offset, &why))
            found(walk, &walk->check.errors, "the refcount table's entry %" PRIu64 ": %s", i, why);
        else if (entry & QCOW2_REFCOUNT_TABLE_RESERVED)
            found(walk, &walk->check.errors,
                  "the refcount table's entry %" PRIu64 " has reserved bits", i);
        else
            ret = refer(walk, "a refcount block", offset, geometry->cluster_bytes);
    }
    return ret;
}

static int co_walk_snapshots(struct walk *walk)
{
    const struct qcow2_snapshots *snapshots = &walk->image->snapshots;
    int ret = refer(walk, "the snapshot table", walk->image->header.snapshots_offset,
                    snapshots->table_bytes);
    for (uint32_t i = 0; i < snapshots->count && ret == 0; i++) {
        const struct qcow2_snapshot *snapshot = &snapshots->all[i];
        ret = co_walk_l1(walk, snapshot->l1_table_offset, snapshot->l1_size, false);
    }
    return ret;
}

static void compare(struct walk *walk, uint64_t index, uint64_t refcount)
{
    uint32_t references = refmap_get(&walk->references, index);
    if (refcount < references)
        found(walk, &walk->check.errors,
              "the cluster at 0x%" PRIx64 " is used %" PRIu32
              " times, and its refcount is %" PRIu64,
              index << walk->image->geometry.cluster_bits, references, refcount);
    else if (refcount > references)
        found(walk, &walk->check.leaks,
              "leaked: the cluster at 0x%" PRIx64 " is used %" PRIu32
              " times, and its refcount is %" PRIu64,
              index << walk->image->geometry.cluster_bits, references, refcount);
}

/* All clusters of the file that have a count, then what is used and has none. A count of what lies
 * past the end of the file takes no space, and QEMU passes over it as well. */
static void co_compare_all(struct walk *walk)
{
    const struct qcow2_image *image = walk->image;
    uint32_t bits = image->geometry.cluster_bits;
    uint64_t per_block = UINT64_C(1) << image->geometry.refcount_block_bits;
    uint64_t entries = ((uint64_t)image->header.refcount_table_clusters << bits) / 8;
    for (uint64_t n = 0; n < entries && n * per_block << bits < walk->file_bytes; n++) {
        uint64_t first = n * per_block;
        co_refcount(walk, first << bits);
        if (walk->block_index != n)
            continue; /* no block: seen below, if anything is used there */
        for (uint64_t i = 0; i < per_block && (first + i) << bits < walk->file_bytes; i++)
            compare(walk, first + i,
                    qcow2_refcount_get(walk->block, image->geometry.refcount_order, (uint32_t)i));
    }
    for (uint64_t at = 0, index; refmap_next(&walk->references, at, &index); at = index + 1) {
        walk->check.end_offset = (index + 1) << bits;
        uint64_t n = qcow2_refcount_table_index(&image->geometry, index << bits);
        co_refcount(walk, index << bits);
        if (walk->block_index != n)
            compare(walk, index, 0);
    }
}

/* Whatever refers to clusters, but for the refcounts' own tables. */
static int co_walk_uses(struct walk *walk)
{
    const struct qcow2_image *image = walk->image;
    int ret = refer(walk, "the header", 0, 1);
    if (ret == 0)
        ret = co_walk_l1(walk, image->header.l1_table_offset, image->header.l1_size, true);
    if (ret == 0)
        ret = co_walk_snapshots(walk);
    return ret == 0 ? co_walk_bitmaps(walk) : ret;
}

static int walk_init(struct walk *walk, struct qcow2_image *image)
{
    size_t cluster_bytes = image->geometry.cluster_bytes;
    *walk = (struct walk){
        .image = image,
        .file_bytes = atomic_load(&image->node->file->size_bytes),
        .block_index = UINT64_MAX,
        .l1 = malloc(cluster_bytes),
        .l2 = malloc(cluster_bytes),
        .block = malloc(cluster_bytes),
        .blocks = malloc(cluster_bytes),
        .blocks_piece = UINT64_MAX,
    };
    refmap_init(&walk->references);
    return walk->l1 && walk->l2 && walk->block && walk->blocks ? 0 : -ENOMEM;
}

static void walk_fini(struct walk *walk)
{
    free(walk->l1);
    free(walk->l2);
    free(walk->block);
    free(walk->blocks);
    refmap_fini(&walk->references);
}

static int check_failed(const struct qcow2_image *image, int code, struct error *err)
{
    return error_set(err, code, "cannot check '%s': %s", image->node->name, error_text(code));
}

int qcow2_image_co_check(struct qcow2_image *image, qcow2_check_report *report, void *arg,
                         struct qcow2_check *ret_check, struct error *err)
{
    struct walk walk;
    int ret = walk_init(&walk, image);
    walk.report = report;
    walk.arg = arg;
    if (ret == 0)
        ret = co_walk_uses(&walk);
    if (ret == 0)
        ret = co_walk_refcounts(&walk);
    if (ret == 0)
        co_compare_all(&walk);
    if (ret == 0)
        *ret_check = walk.check;
    walk_fini(&walk);
    return ret == 0 ? 0 : check_failed(image, ret, err);
}

int qcow2_co_check(struct block_node *node, qcow2_check_report *report, void *arg,
                   struct qcow2_check *ret_check, struct error *err)
{
    struct qcow2_image *image = qcow2_of(node);
    int ret = image->writer ? qcow2_co_settle(image) : 0;
    if (ret < 0)
        return check_failed(image, ret, err);
    return qcow2_image_co_check(image, report, arg, ret_check, err);
}

int qcow2_image_co_count(struct qcow2_image *image, bool with_refcounts,
                         struct refmap *ret_references, struct error *err)
{
    struct walk walk;
    int ret = walk_init(&walk, image);
    if (ret == 0)
        ret = co_walk_uses(&walk);
    if (ret == 0 && with_refcounts)
        ret = co_walk_refcounts(&walk);
    if (ret == 0 && walk.check.unreadable > 0)
        ret = -EIO; /* what it refers to is not known */
    if (ret == 0) {
        *ret_references = walk.references;
        refmap_init(&walk.references);
    }
    walk_fini(&walk);
    return ret == 0 ? 0 : check_failed(image, ret, err);
}
