/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening: the first cluster is read and every rule of it checked before anything that it names is
 * touched; then the other files, the snapshots, the tables' cache. No table is loaded, so a disk of
 * any size opens at once. Options:
 *
 *   backing.*, data-file.*   the other files, instead of what the image names
 *   load-snapshot            show this internal snapshot; see snapshot_table.h
 *   repair                   leaks or all: repaired before it is written; see repair.c
 *   lazy-refcounts           on or off, instead of what the image says; see state.c
 *   redo-log                 off: what is not flushed is lost with the process; see redo.c
 *   cache-size and others    see tables.c
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/node_options.h"
#include "common/log.h"
#include "formats/qcow2/bitmaps.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/repair.h"
#include "formats/qcow2/writer.h"

#define HEAD_BYTES 4096 /* read first; more where the image has more */

/* --- the header ---------------------------------------------------------------------------------
 */

static int co_read_head(struct qcow2_image *image, struct block_node *file, size_t length,
                        struct error *err)
{
    struct iovec iov;
    uint8_t *bytes = realloc(image->first_cluster, length);
    if (!bytes)
        return error_set(err, -ENOMEM, "no memory for its header of %zu bytes", length);
    image->first_cluster = bytes;
    image->first_cluster_length = length;
    struct block_vec vec = vec_of_buffer(&iov, bytes, length);
    int ret = length > 0 ? node_co_read(file, 0, &vec) : 0;
    return ret < 0 ? error_set(err, ret, "cannot read its header: %s", error_text(ret)) : 0;
}

static int take_backing_name(struct qcow2_image *image, struct error *err)
{
    const struct qcow2_header *header = &image->header;
    if (header->backing_file_offset == 0)
        return 0;
    const uint8_t *name = image->first_cluster + header->backing_file_offset;
    /* It is in the first cluster, and the refcount table, which is in the file, behind that. */
    assert(header->backing_file_offset + header->backing_file_size <= image->first_cluster_length);
    if (memchr(name, '\0', header->backing_file_size))
        return error_set(err, -EINVAL, "the name of its backing file has a 0 in it");
    image->backing_name = strndup((const char *)name, header->backing_file_size);
    return image->backing_name ? 0 : error_set(err, -ENOMEM, "no memory for its backing file");
}

static int co_load_header(struct qcow2_image *image, struct block_node *file, struct error *err)
{
    uint64_t file_bytes = atomic_load(&file->size_bytes);
    struct qcow2_header *header = &image->header;
    int ret =
        co_read_head(image, file, file_bytes < HEAD_BYTES ? (size_t)file_bytes : HEAD_BYTES, err);
    if (ret == 0)
        ret = qcow2_header_decode(image->first_cluster, image->first_cluster_length, header, err);
    if (ret < 0)
        return ret;
    uint64_t cluster_bytes = UINT64_C(1) << header->cluster_bits;
    if (image->first_cluster_length < cluster_bytes)
        ret = co_read_head(image, file,
                           (size_t)(file_bytes < cluster_bytes ? file_bytes : cluster_bytes), err);
    else
        image->first_cluster_length = (size_t)cluster_bytes;
    if (ret == 0)
        ret = qcow2_extensions_decode(image->first_cluster, image->first_cluster_length, header,
                                      &image->extensions, err);
    if (ret == 0)
        ret = qcow2_features_check(image->first_cluster, header, &image->extensions, err);
    if (ret == 0)
        ret = qcow2_header_check(header, file_bytes, err);
    if (ret == 0)
        ret = take_backing_name(image, err);
    if (ret == 0)
        qcow2_geometry_init(&image->geometry, header);
    return ret;
}

/* Puts the image's name before a sentence that does not have it. */
static int name_image(const struct block_node *file, int code, const struct error *why,
                      struct error *err)
{
    return error_set(err, code, "cannot open '%.200s': %s", file->name, why->message);
}

int qcow2_co_load_header(struct qcow2_image *image, struct block_node *file, struct error *err)
{
    struct error why;
    int ret = co_load_header(image, file, &why);
    return ret < 0 ? name_image(file, ret, &why, err) : 0;
}

/* --- the whole image ----------------------------------------------------------------------------
 */

int qcow2_check_state(const struct qcow2_image *image, enum qcow2_repair_what repair,
                      struct error *err)
{
    const struct block_node *node = image->node;
    if (qcow2_header_has(&image->header, QCOW2_INCOMPATIBLE_CORRUPT)) {
        if (!node->read_only && repair != QCOW2_REPAIR_ALL)
            return error_set(err, -EACCES,
                             "cannot open '%s' for writing: it is marked as corrupt (incompatible "
                             "feature bit 1); repair it with the option repair=all or with "
                             "qemu-img check -r all, or serve it with --read-only",
                             node->name);
        if (node->read_only)
            log_warning("'%s' is marked as corrupt; what is read may be wrong", node->name);
    }
    if (qcow2_header_has(&image->header, QCOW2_INCOMPATIBLE_DIRTY) && node->read_only)
        log_warning("'%s' was not closed properly (its dirty bit is set); it is served as it is",
                    node->name);
    if (node->read_only && qcow2_redo_co_is_left(image))
        log_warning("'%s': its server was killed; it is served as it was flushed last, until it is "
                    "opened for writing once",
                    node->name);
    if ((image->header.autoclear_features & QCOW2_AUTOCLEAR_BITMAPS) &&
        !image->extensions.has_bitmaps)
        log_warning("'%s' says that it has bitmaps and has none", node->name);
    return 0;
}

static int co_load_snapshots(struct qcow2_image *image, struct node_options *options,
                             struct error *err)
{
    struct error why;
    const char *wanted = node_options_take(options, "load-snapshot");
    if (wanted && !image->node->read_only)
        return error_set(err, -EROFS,
                         "a snapshot of '%s' can only be read; serve it with --read-only",
                         image->node->name);
    int ret = image->header.nb_snapshots > 0 ? qcow2_co_load_snapshots(image, &why) : 0;
    if (ret == 0 && wanted)
        ret = qcow2_load_snapshot(image, wanted, &why);
    return ret < 0 ? name_image(image->node->file, ret, &why, err) : 0;
}

static int take_repair(const struct qcow2_image *image, struct node_options *options,
                       enum qcow2_repair_what *ret_what, struct error *err)
{
    static const char *const names[] = {
        [QCOW2_REPAIR_NOTHING] = "off",
        [QCOW2_REPAIR_LEAKS] = "leaks",
        [QCOW2_REPAIR_ALL] = "all",
        NULL,
    };
    unsigned what = QCOW2_REPAIR_NOTHING;
    int ret = node_options_take_choice(options, "repair", names, &what, err);
    if (ret == 0 && what != QCOW2_REPAIR_NOTHING && image->node->read_only)
        ret = error_set(err, -EROFS, "'%s' is repaired only where it is opened for writing",
                        image->node->name);
    if (ret == 0)
        *ret_what = (enum qcow2_repair_what)what;
    return ret;
}

static int co_open_tables(struct qcow2_image *image, struct node_options *options,
                          struct error *err)
{
    struct qcow2_cache_sizes sizes = qcow2_default_cache_sizes(image);
    struct qcow2_tables tables;
    int ret = qcow2_take_cache_sizes(image, options, &sizes, err);
    if (ret == 0)
        ret = qcow2_co_open_data_file(image, options, err);
    if (ret == 0)
        ret = qcow2_co_open_backing(image, options, err);
    if (ret == 0)
        ret = qcow2_tables_init(image, &sizes, &tables, err);
    if (ret == 0)
        qcow2_tables_co_exchange(image, &tables);
    return ret;
}

static int co_open_image(struct qcow2_image *image, struct node_options *options, struct error *err)
{
    struct block_node *node = image->node;
    enum qcow2_repair_what repair = QCOW2_REPAIR_NOTHING;
    int ret = qcow2_co_load_header(image, node->file, err);
    if (ret == 0)
        ret = take_repair(image, options, &repair, err);
    if (ret == 0)
        ret = qcow2_check_state(image, repair, err);
    image->is_lazy = image->header.compatible_features & QCOW2_COMPATIBLE_LAZY_REFCOUNTS;
    if (ret == 0)
        ret = qcow2_take_lazy(image, options, &image->is_lazy, err);
    if (ret == 0)
        ret = qcow2_take_redo(image, options, err);
    if (ret < 0)
        return ret;
    atomic_store(&node->size_bytes, image->header.size);
    image->l1_table_offset = image->header.l1_table_offset;
    image->l1_size = image->header.l1_size;
    ret = co_load_snapshots(image, options, err);
    if (ret == 0)
        ret = co_open_tables(image, options, err);
    if (ret == 0 && !node->read_only)
        ret = qcow2_redo_co_open(image, err);
    if (ret == 0 && !node->read_only)
        ret = qcow2_image_co_repair_at_open(image, repair, err);
    if (ret == 0 && !node->read_only)
        ret = qcow2_writer_co_open(image, err);
    return ret;
}

struct qcow2_image *qcow2_image_new(struct block_node *node)
{
    struct qcow2_image *image = calloc(1, sizeof(*image));
    if (!image)
        return NULL;
    pthread_mutex_init(&image->monitor, NULL);
    pthread_mutex_init(&image->tables_mutex, NULL);
    image->node = node;
    return image;
}

void qcow2_image_free(struct qcow2_image *image)
{
    qcow2_snapshots_fini(&image->snapshots);
    free(image->backing_name);
    free(image->first_cluster);
    pthread_mutex_destroy(&image->tables_mutex);
    pthread_mutex_destroy(&image->monitor);
    free(image);
}

int qcow2_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    int ret = block_co_open_child(node, options, "file", &node->file, err);
    if (ret < 0)
        return ret;
    struct qcow2_image *image = qcow2_image_new(node);
    if (!image)
        return error_set(err, -ENOMEM, "no memory to open '%s'", node->name);
    ret = co_open_image(image, options, err);
    if (ret < 0) {
        qcow2_writer_co_close(image);
        qcow2_redo_co_close(image);
        qcow2_bitmaps_co_close(image);
        qcow2_tables_co_close(image);
        qcow2_image_free(image);
        return ret;
    }
    node->state = image;
    node->limits = (struct block_limits){
        .request_alignment = 1,
        .memory_alignment = 1,
        .preferred_bytes = node->file->limits.preferred_bytes,
        .compress_bytes =
            image->geometry.has_data_file ? 0 : (uint32_t)image->geometry.cluster_bytes,
    };
    return 0;
}

void qcow2_co_close(struct block_node *node)
{
    struct qcow2_image *image = qcow2_of(node);
    qcow2_writer_co_close(image);
    qcow2_bitmaps_co_close(image);
    qcow2_tables_co_close(image);
    qcow2_image_free(image);
    node->state = NULL;
}
