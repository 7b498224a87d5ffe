/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Repair of refcounts. What an image's L1 and L2 tables, snapshots and bitmaps say is taken as
 * true; refcounts and COPIED flags follow from it.
 *
 * Leaks are taken back in place: a count goes down to the references there are, and each write of a
 * block leaves the image no worse (invariant 1). Where a count is too low, all counts are written
 * anew behind the end of the file, COPIED flags are put right, and when that is durable, one write
 * of one sector of the header shows the new table and clears the dirty bit (invariants 6, 7, 12).
 * The old table is free then. A cut at any point before leaves the image as bad as it was.
 */
#include "formats/qcow2/repair.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/align.h"
#include "common/endian.h"
#include "common/log.h"
#include "common/progress.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/refmap.h"

#define HEADER_REFCOUNT_TABLE 48 /* offset, then clusters; in one sector with the features */
#define HEADER_FEATURES_END 80

struct repair {
    struct qcow2_image *image;
    struct block_node *file;
    struct refmap references; /* without those of the old refcount structure when rebuilding */
    uint64_t file_bytes;      /* before anything was written */
    uint8_t *cluster;
};

static int co_write(const struct repair *repair, uint64_t host_offset, void *bytes, size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, bytes, length);
    return node_co_write(repair->file, host_offset, &vec, 0);
}

static uint64_t per_block(const struct repair *repair)
{
    return UINT64_C(1) << repair->image->geometry.refcount_block_bits;
}

/* --- leaks, in place ----------------------------------------------------------------------------
 */

/* Lowers the counts of one block; *ret_lowered is how many. */
static int co_lower_block(const struct repair *repair, uint64_t number, uint64_t block_offset,
                          uint64_t *ret_lowered)
{
    const struct qcow2_geometry *geometry = &repair->image->geometry;
    uint64_t lowered = 0;
    int ret =
        qcow2_co_read_bytes(repair->image, block_offset, repair->cluster, geometry->cluster_bytes);
    if (ret < 0)
        return ret;
    for (uint64_t i = 0; i < per_block(repair); i++) {
        uint64_t count = qcow2_refcount_get(repair->cluster, geometry->refcount_order, (uint32_t)i);
        uint32_t references = refmap_get(&repair->references, number * per_block(repair) + i);
        if (count <= references)
            continue;
        qcow2_refcount_set(repair->cluster, geometry->refcount_order, (uint32_t)i, references);
        lowered++;
    }
    if (lowered > 0)
        ret = co_write(repair, block_offset, repair->cluster, geometry->cluster_bytes);
    *ret_lowered += lowered;
    return ret;
}

static int co_lower_all(const struct repair *repair, uint64_t *ret_lowered)
{
    const struct qcow2_header *header = &repair->image->header;
    uint64_t entries = ((uint64_t)header->refcount_table_clusters << header->cluster_bits) / 8;
    int ret = 0;
    for (uint64_t i = 0; i < entries && ret == 0; i++) {
        uint8_t entry[8];
        uint64_t block_offset;
        const char *why;
        ret = qcow2_co_read_bytes(repair->image, header->refcount_table_offset + i * 8, entry,
                                  sizeof(entry));
        if (ret == 0 &&
            qcow2_refcount_table_decode(&repair->image->geometry, load_be64(entry), &block_offset,
                                        &why) &&
            block_offset != 0 &&
            refmap_get(&repair->references, block_offset >> header->cluster_bits) == 1)
            ret = co_lower_block(repair, i, block_offset, ret_lowered);
    }
    return ret == 0 ? node_co_flush(repair->file) : ret;
}

/* --- all of them anew ---------------------------------------------------------------------------
 */

struct layout {
    uint64_t first; /* index of the new table's first cluster; blocks follow */
    uint64_t table_clusters, table_entries;
    uint64_t block_count;
};

/* The first block number from `number` on that has a cluster in use. */
static bool next_block(const struct repair *repair, uint64_t number, uint64_t *ret_number)
{
    uint64_t index;
    if (!refmap_next(&repair->references, number * per_block(repair), &index))
        return false;
    *ret_number = index / per_block(repair);
    return true;
}

static void count_blocks(const struct repair *repair, uint64_t *ret_blocks, uint64_t *ret_entries)
{
    uint64_t blocks = 0, number = 0;
    *ret_entries = 1;
    for (; next_block(repair, number, &number); number++) {
        blocks++;
        *ret_entries = number + 1;
    }
    *ret_blocks = blocks;
}

/* The new clusters are used themselves, and may need blocks of their own. */
static int make_layout(struct repair *repair, struct layout *layout)
{
    const struct qcow2_geometry *geometry = &repair->image->geometry;
    uint64_t taken = 0;
    layout->first = qcow2_clusters_of(geometry, repair->file_bytes);
    for (;;) {
        count_blocks(repair, &layout->block_count, &layout->table_entries);
        layout->table_clusters = qcow2_clusters_of(geometry, layout->table_entries * 8);
        if (layout->table_clusters << geometry->cluster_bits > QCOW2_REFCOUNT_TABLE_BYTES_MAX)
            return -EFBIG;
        uint64_t needed = layout->table_clusters + layout->block_count;
        if (taken == needed)
            return 0;
        for (; taken < needed; taken++) {
            if (refmap_add(&repair->references, layout->first + taken) < 0)
                return -ENOMEM;
        }
    }
}

static int co_write_block(const struct repair *repair, uint64_t number, uint64_t at)
{
    const struct qcow2_geometry *geometry = &repair->image->geometry;
    memset(repair->cluster, 0, geometry->cluster_bytes);
    for (uint64_t i = 0; i < per_block(repair); i++) {
        uint32_t references = refmap_get(&repair->references, number * per_block(repair) + i);
        if (references > geometry->refcount_max)
            return -ERANGE;
        qcow2_refcount_set(repair->cluster, geometry->refcount_order, (uint32_t)i, references);
    }
    return co_write(repair, at << geometry->cluster_bits, repair->cluster, geometry->cluster_bytes);
}

static int co_write_structure(const struct repair *repair, const struct layout *layout)
{
    uint32_t bits = repair->image->geometry.cluster_bits;
    uint64_t at = layout->first + layout->table_clusters, number = 0;
    size_t table_bytes = (size_t)(layout->table_clusters << bits);
    uint8_t *table = calloc(1, table_bytes);
    if (!table)
        return -ENOMEM;
    int ret = 0;
    for (; ret == 0 && next_block(repair, number, &number); number++) {
        store_be64(table + number * 8, at << bits);
        ret = co_write_block(repair, number, at++);
    }
    if (ret == 0)
        ret = co_write(repair, layout->first << bits, table, table_bytes);
    free(table);
    return ret;
}

/* --- entries of the active tables ---------------------------------------------------------------
 */

/* A cluster past the end of the file was never written: a crash came first. It reads as zeroes, and
 * from now on says so, since new tables are going to lie there. -EIO: version 2 cannot say it. */
static int make_zero(const struct repair *repair, uint8_t *bytes, struct qcow2_cluster *cluster)
{
    const struct qcow2_geometry *geometry = &repair->image->geometry;
    uint64_t entry, bitmap;
    if (geometry->version < 3 && repair->image->backing)
        return -EIO;
    uint32_t zero_bits = geometry->is_extended ? cluster->zero_bits | cluster->allocated_bits : 1;
    if (cluster->is_compressed)
        zero_bits = geometry->is_extended ? UINT32_MAX : 1;
    *cluster = (struct qcow2_cluster){.zero_bits = geometry->version < 3 ? 0 : zero_bits};
    qcow2_l2_encode(geometry, cluster, &entry, &bitmap);
    store_be64(bytes, entry);
    if (geometry->is_extended)
        store_be64(bytes + 8, bitmap);
    return 0;
}

/* Sets the flag of an entry to what is true; false: it was. */
static bool set_copied(const struct repair *repair, uint8_t *bytes, uint64_t host_offset)
{
    uint64_t entry = load_be64(bytes);
    bool is_one =
        refmap_get(&repair->references, host_offset >> repair->image->geometry.cluster_bits) == 1;
    uint64_t wanted = is_one ? entry | QCOW2_ENTRY_COPIED : entry & ~QCOW2_ENTRY_COPIED;
    store_be64(bytes, wanted);
    return wanted != entry;
}

static int co_fix_l2(const struct repair *repair, uint64_t l2_offset)
{
    const struct qcow2_geometry *geometry = &repair->image->geometry;
    bool is_changed = false;
    int ret =
        qcow2_co_read_bytes(repair->image, l2_offset, repair->cluster, geometry->cluster_bytes);
    for (uint32_t i = 0; i < geometry->l2_entries && ret == 0; i++) {
        uint8_t *bytes = repair->cluster + (size_t)i * geometry->l2_entry_bytes;
        uint64_t bitmap = geometry->is_extended ? load_be64(bytes + 8) : 0;
        struct qcow2_cluster cluster;
        const char *why;
        if (geometry->has_data_file ||
            !qcow2_l2_decode(geometry, load_be64(bytes), bitmap, &cluster, &why) ||
            !cluster.has_host)
            continue;
        if (cluster.host_offset >= repair->file_bytes) {
            ret = make_zero(repair, bytes, &cluster);
            is_changed = true;
        } else if (!cluster.is_compressed) {
            is_changed |= set_copied(repair, bytes, cluster.host_offset);
        }
    }
    if (ret == 0 && is_changed)
        ret = co_write(repair, l2_offset, repair->cluster, geometry->cluster_bytes);
    return ret;
}

static int co_fix_entries(const struct repair *repair)
{
    const struct qcow2_header *header = &repair->image->header;
    int ret = 0;
    for (uint32_t i = 0; i < header->l1_size && ret == 0; i++) {
        uint64_t entry_offset = header->l1_table_offset + (uint64_t)i * 8;
        uint8_t entry[8];
        uint64_t l2_offset;
        const char *why;
        ret = qcow2_co_read_bytes(repair->image, entry_offset, entry, sizeof(entry));
        if (ret < 0 ||
            !qcow2_l1_decode(&repair->image->geometry, load_be64(entry), &l2_offset, &why) ||
            l2_offset == 0 || l2_offset >= repair->file_bytes)
            continue;
        if (set_copied(repair, entry, l2_offset))
            ret = co_write(repair, entry_offset, entry, sizeof(entry));
        if (ret == 0)
            ret = co_fix_l2(repair, l2_offset);
    }
    return ret;
}

/* --- the header ---------------------------------------------------------------------------------
 */

/* The refcount table's place and the features, in one write of one sector. */
static int co_write_header(const struct repair *repair)
{
    const struct qcow2_image *image = repair->image;
    uint8_t *bytes = image->first_cluster;
    size_t end = image->header.version == 2 ? HEADER_REFCOUNT_TABLE + 12 : HEADER_FEATURES_END;
    qcow2_header_encode(&image->header, bytes);
    int ret = co_write(repair, HEADER_REFCOUNT_TABLE, bytes + HEADER_REFCOUNT_TABLE,
                       end - HEADER_REFCOUNT_TABLE);
    return ret == 0 ? node_co_flush(repair->file) : ret;
}

static int co_rebuild(struct repair *repair)
{
    struct qcow2_header *header = &repair->image->header;
    struct layout layout = {.first = 0};
    int ret = co_fix_entries(repair);
    if (ret == 0) /* no entry may point past the end of the file when something is written there */
        ret = node_co_flush(repair->file);
    if (ret == 0)
        ret = make_layout(repair, &layout);
    if (ret == 0)
        ret = co_write_structure(repair, &layout);
    if (ret == 0)
        ret = node_co_flush(repair->file);
    if (ret < 0)
        return ret;
    header->refcount_table_offset = layout.first << repair->image->geometry.cluster_bits;
    header->refcount_table_clusters = (uint32_t)layout.table_clusters;
    header->incompatible_features &= ~QCOW2_INCOMPATIBLE_DIRTY;
    return co_write_header(repair);
}

/* Nothing is wrong any more (invariant 13). */
static int co_clear_corrupt(const struct repair *repair, struct error *err)
{
    struct qcow2_header *header = &repair->image->header;
    if (!qcow2_header_has(header, QCOW2_INCOMPATIBLE_CORRUPT))
        return 0;
    header->incompatible_features &= ~QCOW2_INCOMPATIBLE_CORRUPT;
    int ret = co_write_header(repair);
    return ret == 0 ? 0
                    : error_set(err, ret, "cannot write the header of '%s': %s",
                                repair->image->node->name, error_text(ret));
}

/* --- the call -----------------------------------------------------------------------------------
 */

static int co_repair(struct repair *repair, enum qcow2_repair_what what,
                     const struct qcow2_check *found, struct error *err)
{
    uint64_t lowered = 0;
    int ret = 0;
    bool rebuilds =
        what == QCOW2_REPAIR_ALL &&
        (found->errors > 0 || qcow2_header_has(&repair->image->header, QCOW2_INCOMPATIBLE_DIRTY));
    refmap_init(&repair->references);
    if (rebuilds || found->leaks > 0)
        ret = qcow2_image_co_count(repair->image, !rebuilds, &repair->references, err);
    if (ret == 0 && rebuilds)
        ret = co_rebuild(repair);
    else if (ret == 0 && found->leaks > 0)
        ret = co_lower_all(repair, &lowered);
    refmap_fini(&repair->references);
    return ret;
}

int qcow2_image_co_repair(struct qcow2_image *image, enum qcow2_repair_what what,
                          qcow2_check_report *report, void *arg, struct qcow2_check *ret_before,
                          struct qcow2_check *ret_after, struct error *err)
{
    const char *name = image->node->name;
    struct repair repair = {
        .image = image,
        .file = image->node->file,
        .file_bytes = atomic_load(&image->node->file->size_bytes),
    };
    if (repair.file->read_only)
        return error_set(err, -EPERM, "cannot repair '%s': it is open read-only", name);
    int ret = qcow2_image_co_check(image, report, arg, ret_before, err);
    if (ret < 0)
        return ret;
    if (ret_before->unreadable > 0)
        return error_set(err, -EIO,
                         "cannot repair '%s': %" PRIu64
                         " of its tables cannot be read, so it is not known what is in use",
                         name, ret_before->unreadable);
    repair.cluster = malloc(image->geometry.cluster_bytes);
    ret = repair.cluster ? co_repair(&repair, what, ret_before, err) : -ENOMEM;
    free(repair.cluster);
    cache_invalidate(image->cache);
    if (ret < 0)
        return error_set(err, ret, "cannot repair '%s': %s", name,
                         ret == -ERANGE ? "a cluster has more references than its refcount can say"
                                        : error_text(ret));
    ret = qcow2_image_co_check(image, NULL, NULL, ret_after, err);
    if (ret == 0 && ret_after->errors == 0 && ret_after->unreadable == 0)
        ret = co_clear_corrupt(&repair, err);
    return ret;
}

/* Three walks at most: what is wrong, what is in use, what is left. */
static uint64_t count_steps(const struct qcow2_image *image)
{
    uint64_t entries = image->header.l1_size;
    for (uint32_t i = 0; i < image->snapshots.count; i++)
        entries += image->snapshots.all[i].l1_size;
    return 3 * entries;
}

int qcow2_image_co_repair_at_open(struct qcow2_image *image, enum qcow2_repair_what what,
                                  struct error *err)
{
    struct qcow2_check before, after;
    struct progress progress;
    const char *name = image->node->name;
    if (qcow2_header_has(&image->header, QCOW2_INCOMPATIBLE_DIRTY)) {
        log_warning("'%s' was not closed properly (its dirty bit is set); it is repaired", name);
        what = QCOW2_REPAIR_ALL;
    }
    if (what == QCOW2_REPAIR_NOTHING)
        return 0;
    progress_start(&progress, "repairs", name, count_steps(image));
    image->progress = &progress;
    int ret = qcow2_image_co_repair(image, what, NULL, NULL, &before, &after, err);
    image->progress = NULL;
    progress_end(&progress);
    if (ret < 0)
        return ret;
    log_warning("'%s' had %" PRIu64 " errors and %" PRIu64 " leaked clusters; after the repair it "
                "has %" PRIu64 " and %" PRIu64,
                name, before.errors, before.leaks, after.errors, after.leaks);
    if ((after.errors == 0 && after.unreadable == 0) || what != QCOW2_REPAIR_ALL)
        return 0;
    return error_set(err, -EIO,
                     "cannot open '%s' for writing: %" PRIu64
                     " errors are left after its repair; look at them with qemu-img check, or "
                     "serve it with --read-only",
                     name, after.errors);
}
