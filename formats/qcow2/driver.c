/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The format "qcow2": clusters of a disk, anywhere in a file, found by two levels of tables; with
 * snapshots, compression, a backing file for what was never written. The specification is
 * docs/interop/qcow2.rst of QEMU; what we support of it is in docs/formats/qcow2.md.
 *
 * Pure, bytes in and structs out, each with its fuzz target: layout.h (the numbers), header,
 * extension, geometry, entry, snapshot_table, bitmap_directory.
 *
 * Operations: open (and what it needs: backing, snapshot, tables), mapping (a guest range is looked
 * up), read, status; writer (what writing needs, and the metadata it must not hit), claim,
 * refcount, cow, link, write, compress, zero, free; redo (what a kill leaves); state and corrupt
 * (what the header says of the image); reopen, activity (the open image changes, or goes to another
 * server); resize (l1_grow, preallocate, refcount_run, refcount_shrink); bitmaps (bitmap_load,
 * bitmap_store: the persistent ones); create, check, repair, info. image.h is what they share,
 * writer.h what those share that change an image. A read and a write go
 *
 *     read -> mapping -> cache (L1, then L2) -> read -> the child that has the bytes
 *     write -> claim -> refcount -> cow -> the child -> link -> cache; later: free
 *
 * Everything of the image's file is reached through the node's child "file", of the cache's tables
 * through cache/; an image makes no system call.
 */
#include "formats/qcow2/driver.h"

#include "common/endian.h"
#include "formats/qcow2/bitmaps.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/create.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/resize.h"
#include "formats/qcow2/writer.h"

static int qcow2_probe(const uint8_t *head, size_t length)
{
    return length >= 8 && load_be32(head) == QCOW2_MAGIC && load_be32(head + 4) >= 2 ? 100 : 0;
}

static int qcow2_admin_co_check(struct block_node *node, block_check_report *report, void *arg,
                                struct block_check *ret_check, struct error *err)
{
    struct qcow2_check check;
    int ret = qcow2_co_check(node, report, arg, &check, err);
    if (ret == 0)
        *ret_check = (struct block_check){
            .errors = check.errors,
            .leaks = check.leaks,
            .unreadable = check.unreadable,
            .data_blocks = check.data_clusters,
            .compressed_blocks = check.compressed_clusters,
            .end_offset = check.end_offset,
        };
    return ret;
}

/* The points that a filter below can hook, with qemu's names; docs/filters.md says where each is.
 */
static const char *const qcow2_events[] = {"l1_update",
                                           "l1_grow_alloc_table",
                                           "l1_grow_write_table",
                                           "l1_grow_activate_table",
                                           "l2_load",
                                           "l2_update",
                                           "l2_alloc_cow_read",
                                           "l2_alloc_write",
                                           "read_aio",
                                           "read_backing_aio",
                                           "read_compressed",
                                           "write_aio",
                                           "write_compressed",
                                           "cow_read",
                                           "cow_write",
                                           "reftable_load",
                                           "reftable_grow",
                                           "reftable_update",
                                           "refblock_load",
                                           "refblock_update",
                                           "refblock_alloc",
                                           "refblock_alloc_hookup",
                                           "refblock_alloc_write_blocks",
                                           "refblock_alloc_switch_table",
                                           "cluster_alloc",
                                           "cluster_free",
                                           NULL};

static const struct block_driver_admin qcow2_admin = {
    .events = qcow2_events,
    .co_check = qcow2_admin_co_check,
    .co_create = qcow2_co_create,
    .co_inactivate = qcow2_co_inactivate,
    .co_invalidate = qcow2_co_invalidate,
    .co_reopen_prepare = qcow2_co_reopen_prepare,
    .co_reopen_commit = qcow2_co_reopen_commit,
    .co_reopen_finish = qcow2_co_reopen_finish,
    .co_reopen_abort = qcow2_co_reopen_abort,
    .co_resize = qcow2_co_resize,
    .co_find_bitmap = qcow2_co_find_bitmap,
    .tell_numbers = qcow2_tell_numbers,
};

const struct block_driver format_qcow2 = {
    .name = "qcow2",
    .probe = qcow2_probe,
    .co_open = qcow2_co_open,
    .co_close = qcow2_co_close,
    .co_read = qcow2_co_read,
    .co_write = qcow2_co_write,
    .co_zero = qcow2_co_zero,
    .co_discard = qcow2_co_discard,
    .co_flush = qcow2_co_flush,
    .co_cache = qcow2_co_cache,
    .co_status = qcow2_co_status,
    .co_is_own = qcow2_co_is_own,
    .status_remembered = qcow2_status_remembered,
    .admin = &qcow2_admin,
};
