/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An image opened again: with other rights, or other options. What can be changed are read-only,
 * the sizes of the caches, and lazy-refcounts; the files have options of their own.
 *
 * prepare: an image that is written is made clean, so that nothing of it is in memory alone when it
 * becomes read-only, or its tables are dropped (bitmaps, the dirty bit too: invariants 11, 30). New
 * tables are made beside the old ones. One that becomes writable is looked through as at an open,
 * but not repaired: its file cannot be written yet. commit exchanges; finish writes what an open
 * for writing writes to the header.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/node_options.h"
#include "common/log.h"
#include "formats/qcow2/bitmaps.h"
#include "formats/qcow2/writer.h"

/* reopen->state. */
struct qcow2_reopening {
    bool is_lazy;
    bool becomes_writable;
    struct qcow2_tables tables; /* with a cache: others than now */
};

int qcow2_take_lazy(const struct qcow2_image *image, struct node_options *options, bool *is_lazy,
                    struct error *err)
{
    int ret = node_options_take_bool(options, "lazy-refcounts", is_lazy, err);
    if (ret == 0 && *is_lazy && image->header.version < 3)
        ret = node_options_refuse(options, "lazy-refcounts", -EINVAL, err,
                                  "cannot be on for '%.200s': its version is 2, and version 3 is "
                                  "needed",
                                  image->node->name);
    return ret;
}

/* --- what is asked for --------------------------------------------------------------------------
 */

static int take_changes(struct qcow2_image *image, const struct block_reopen *reopen,
                        struct qcow2_reopening *reopening, struct error *err)
{
    struct qcow2_cache_sizes sizes = image->cache_sizes;
    reopening->is_lazy = image->is_lazy;
    reopening->becomes_writable = image->node->read_only && !reopen->read_only;
    int ret = qcow2_take_lazy(image, reopen->options, &reopening->is_lazy, err);
    if (ret == 0)
        ret = qcow2_take_cache_sizes(image, reopen->options, &sizes, err);
    if (ret == 0 && memcmp(&sizes, &image->cache_sizes, sizeof(sizes)) != 0)
        ret = qcow2_tables_init(image, &sizes, &reopening->tables, err);
    return ret;
}

static int refuse_writing(const struct qcow2_image *image, const char *why, struct error *err)
{
    return error_set(err, -EACCES, "'%.200s' stays read-only: %s", image->node->name, why);
}

static int check_may_be_written(const struct qcow2_image *image, struct error *err)
{
    if (image->is_snapshot)
        return refuse_writing(image, "what is shown is a snapshot, which can only be read", err);
    if (qcow2_is_corrupt(image) || qcow2_header_has(&image->header, QCOW2_INCOMPATIBLE_CORRUPT))
        return refuse_writing(image, "it is corrupt; repair it with qemu-img check -r all", err);
    if (qcow2_header_has(&image->header, QCOW2_INCOMPATIBLE_DIRTY))
        return refuse_writing(image,
                              "it was not closed properly (its dirty bit is set), and is repaired "
                              "only when it is opened for writing from the beginning",
                              err);
    if (qcow2_redo_co_is_left(image))
        return refuse_writing(image,
                              "its server was killed, and what that had not written is written "
                              "only when it is opened for writing from the beginning",
                              err);
    return 0;
}

int qcow2_co_make_clean(struct qcow2_image *image, struct error *err)
{
    int ret = qcow2_bitmaps_co_store(image);
    if (ret < 0)
        return error_set(err, ret, "'%.200s' is left as it is: its bitmaps could not be stored: %s",
                         image->node->name, error_text(ret));
    ret = qcow2_co_settle(image);
    return ret < 0 ? error_set(err, ret,
                               "'%.200s' is left as it is: its tables could not be written: %s",
                               image->node->name, error_text(ret))
                   : 0;
}

/* --- the calls ----------------------------------------------------------------------------------
 */

static int co_prepare(struct qcow2_image *image, const struct block_reopen *reopen,
                      struct qcow2_reopening *reopening, struct error *err)
{
    int ret = take_changes(image, reopen, reopening, err);
    if (ret == 0 && image->writer)
        ret = qcow2_co_make_clean(image, err);
    if (ret == 0 && reopening->becomes_writable)
        ret = check_may_be_written(image, err);
    if (ret == 0 && reopening->becomes_writable)
        ret = qcow2_writer_co_prepare(image, err);
    return ret;
}

int qcow2_co_reopen_prepare(struct block_node *node, struct block_reopen *reopen, struct error *err)
{
    struct qcow2_reopening *reopening = calloc(1, sizeof(*reopening));
    if (!reopening)
        return error_set(err, -ENOMEM, "no memory to open '%.200s' again", node->name);
    int ret = co_prepare(qcow2_of(node), reopen, reopening, err);
    if (ret < 0) {
        qcow2_tables_co_fini(&reopening->tables);
        free(reopening);
        return ret;
    }
    reopen->state = reopening;
    return 0;
}

/* This cannot fail any more, so who cannot be written is as a corrupt image is. */
static void co_begin_writing(struct qcow2_image *image)
{
    struct error err;
    int ret = qcow2_redo_co_open(image, &err); /* nothing to replay is left, as was looked */
    if (ret == 0)
        ret = qcow2_writer_co_begin(image, &err);
    if (ret == 0)
        return;
    log_error("'%s' cannot be written after all: %s", image->node->name, err.message);
    qcow2_stop_writes(image);
}

void qcow2_co_reopen_commit(struct block_node *node, struct block_reopen *reopen)
{
    struct qcow2_image *image = qcow2_of(node);
    struct qcow2_reopening *reopening = reopen->state;
    bool may_write = !qcow2_is_corrupt(image);
    if (reopening->tables.cache) {
        qcow2_redo_co_detach(image);
        qcow2_tables_co_exchange(image, &reopening->tables);
        qcow2_redo_attach(image);
    }
    image->is_lazy = reopening->is_lazy;
    if (reopen->read_only) {
        qcow2_redo_co_close(image);
        qcow2_writer_free(image);
    } else if (!may_write)
        qcow2_stop_writes(image); /* the new tables too */
    node->limits.preferred_bytes = node->file->limits.preferred_bytes;
    qcow2_tables_co_fini(&reopening->tables);
}

void qcow2_co_reopen_finish(struct block_node *node, struct block_reopen *reopen)
{
    struct qcow2_reopening *reopening = reopen->state;
    if (reopening->becomes_writable)
        co_begin_writing(qcow2_of(node));
    free(reopening);
}

void qcow2_co_reopen_abort(struct block_node *node, struct block_reopen *reopen)
{
    struct qcow2_reopening *reopening = reopen->state;
    if (reopening->becomes_writable)
        qcow2_writer_free(qcow2_of(node));
    qcow2_tables_co_fini(&reopening->tables);
    free(reopening);
}
