/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * New images. Options, with qemu's names:
 *
 *   filename, size       the image, and its disk's size in bytes (rounded up to 512)
 *   compat               1.1 or v3 (the default), 0.10 or v2
 *   cluster_size         512 to 2M; 64K without it
 *   refcount_bits        1, 2, 4, ... 64; 16 without it
 *   lazy_refcounts, extended_l2    on or off (the default)
 *   compression_type     zlib (the default) or zstd
 *   backing_file, backing_fmt      both or none; the name is stored, the file is not opened
 *   data_file            a second file, made beside the image unless its path is absolute, for the
 * data data_file_raw        on: that file is also a raw image; all L2 tables are made at once
 *   preallocation        off (the default); metadata: all tables are made at once, and the file is
 *                        as long as it can become; falloc, full: it also has its space from the
 *                        host, reserved or filled with zeroes, as the file with the data has
 *
 * The header comes last, so what was not made whole is no image. The parts lie one behind the
 * other: header, refcount table, refcount blocks, L1 table, and with preallocation L2 tables and
 * data.
 *
 * With a backing file, preallocation needs extended_l2: only there can a cluster have its place and
 * show what is below it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/env.h"
#include "block/node_options.h"
#include "common/align.h"
#include "common/endian.h"
#include "formats/qcow2/create.h"
#include "formats/qcow2/entry.h"
#include "formats/qcow2/extension.h"

/* What was asked for. */
struct request {
    const char *filename;
    const char *backing_file, *backing_format, *data_file; /* NULL: none */
    uint64_t cluster_bytes;
    uint64_t refcount_bits;
    bool lazy_refcounts, extended_l2, data_file_raw;
    bool has_tables;      /* any preallocation, or data_file_raw */
    const char *of_files; /* preallocation, as the driver file has it */
    struct qcow2_header header;
};

/* Where the parts are, in clusters; filled by plan(). */
struct plan {
    struct qcow2_geometry geometry;
    uint64_t table_at, table_clusters;
    uint64_t blocks_at, block_count;
    uint64_t l1_at, l1_clusters, l1_entries;
    uint64_t l2_at, l2_count; /* none without preallocation */
    uint64_t data_at, data_clusters;
    uint64_t end; /* of all of it */
};

/* --- options ------------------------------------------------------------------------------------
 */

static int take_options(struct node_options *options, struct request *request, struct error *err)
{
    static const char *const compats[] = {"1.1", "v3", "0.10", "v2", NULL};
    static const char *const types[] = {"zlib", "zstd", NULL};
    static const char *const preallocations[] = {"off", "metadata", "falloc", "full", NULL};
    struct qcow2_header *header = &request->header;
    unsigned compat = 0, type = 0, preallocation = 0;
    request->filename = node_options_take(options, "filename");
    request->backing_file = node_options_take(options, "backing_file");
    request->backing_format = node_options_take(options, "backing_fmt");
    request->data_file = node_options_take(options, "data_file");
    header->size = UINT64_MAX;
    int ret = node_options_take_size(options, "size", &header->size, err);
    if (ret == 0)
        ret = node_options_take_choice(options, "compat", compats, &compat, err);
    if (ret == 0)
        ret = node_options_take_size(options, "cluster_size", &request->cluster_bytes, err);
    if (ret == 0)
        ret = node_options_take_size(options, "refcount_bits", &request->refcount_bits, err);
    if (ret == 0)
        ret = node_options_take_bool(options, "lazy_refcounts", &request->lazy_refcounts, err);
    if (ret == 0)
        ret = node_options_take_bool(options, "extended_l2", &request->extended_l2, err);
    if (ret == 0)
        ret = node_options_take_bool(options, "data_file_raw", &request->data_file_raw, err);
    if (ret == 0)
        ret = node_options_take_choice(options, "compression_type", types, &type, err);
    if (ret == 0)
        ret =
            node_options_take_choice(options, "preallocation", preallocations, &preallocation, err);
    header->version = compat < 2 ? 3 : 2;
    header->compression_type = (uint8_t)type;
    request->has_tables = preallocation > 0 || request->data_file_raw;
    request->of_files = preallocation > 1 ? preallocations[preallocation] : "off";
    return ret == 0 ? node_options_check_all_taken(options, "the driver qcow2", err) : ret;
}

static int check_sizes(const struct request *request, struct error *err)
{
    const uint64_t cluster = request->cluster_bytes;
    if (!request->filename || !*request->filename)
        return error_set(err, -EINVAL, "a new image needs the option 'filename': its path");
    if (request->header.size == UINT64_MAX)
        return error_set(err, -EINVAL, "the new image '%s' needs the option 'size'",
                         request->filename);
    if (!is_power_of_two(cluster) || cluster < 512 || cluster > (2u << 20))
        return error_set(err, -EINVAL,
                         "cluster_size is %" PRIu64 "; it must be a power of two from 512 to 2M",
                         cluster);
    if (request->extended_l2 && cluster < (1u << QCOW2_CLUSTER_BITS_EXTENDED_MIN))
        return error_set(err, -EINVAL,
                         "cluster_size is %" PRIu64 "; with extended_l2=on it must be 16K or more",
                         cluster);
    if (!is_power_of_two(request->refcount_bits) || request->refcount_bits > 64)
        return error_set(err, -EINVAL,
                         "refcount_bits is %" PRIu64 "; it must be a power of two from 1 to 64",
                         request->refcount_bits);
    return 0;
}

/* What goes with what. */
static int check_together(const struct request *request, struct error *err)
{
    if (request->header.version == 2 &&
        (request->refcount_bits != 16 || request->lazy_refcounts || request->extended_l2 ||
         request->data_file || request->header.compression_type != QCOW2_COMPRESSION_ZLIB))
        return error_set(err, -EINVAL,
                         "refcount_bits other than 16, lazy_refcounts, extended_l2, data_file and "
                         "compression_type=zstd need compat=1.1");
    if (request->data_file_raw && !request->data_file)
        return error_set(err, -EINVAL, "data_file_raw=on needs a data_file");
    if (request->backing_file && !request->backing_format)
        return error_set(err, -EINVAL,
                         "backing_file is given without backing_fmt; say its format as well");
    if (request->backing_format && !request->backing_file)
        return error_set(err, -EINVAL, "backing_fmt is given without backing_file");
    if (request->backing_file && request->data_file_raw)
        return error_set(err, -EINVAL,
                         "a backing_file excludes data_file_raw, which shows the data file alone");
    if (request->backing_file && request->has_tables && !request->extended_l2)
        return error_set(
            err, -EINVAL,
            "a backing_file excludes preallocation, whose clusters would hide it; with "
            "extended_l2=on they do not");
    if (request->backing_file && strlen(request->backing_file) > QCOW2_BACKING_NAME_MAX)
        return error_set(err, -EINVAL, "the name of the backing_file has %zu bytes; at most %d fit",
                         strlen(request->backing_file), QCOW2_BACKING_NAME_MAX);
    if (request->backing_format && strlen(request->backing_format) > QCOW2_BACKING_FORMAT_MAX)
        return error_set(err, -EINVAL, "the backing_fmt has %zu bytes; at most %d fit",
                         strlen(request->backing_format), QCOW2_BACKING_FORMAT_MAX);
    if (request->data_file && strlen(request->data_file) > QCOW2_DATA_FILE_NAME_MAX)
        return error_set(err, -EINVAL, "the name of the data_file has %zu bytes; at most %d fit",
                         strlen(request->data_file), QCOW2_DATA_FILE_NAME_MAX);
    return 0;
}

static uint32_t log2_of(uint64_t power)
{
    return (uint32_t)__builtin_ctzll(power);
}

/* The header's fields, but for the places of the tables. */
static int fill_header(struct request *request, struct error *err)
{
    struct qcow2_header *header = &request->header;
    if (header->size > INT64_MAX - 511)
        return error_set(err, -EFBIG, "the size %" PRIu64 " is too large", header->size);
    header->size = align_up(header->size, 512);
    header->cluster_bits = log2_of(request->cluster_bytes);
    header->refcount_order = log2_of(request->refcount_bits);
    header->header_length = header->version == 2 ? QCOW2_HEADER_V2_BYTES : QCOW2_HEADER_OURS_BYTES;
    if (request->extended_l2)
        header->incompatible_features |= QCOW2_INCOMPATIBLE_EXTENDED_L2;
    if (request->data_file)
        header->incompatible_features |= QCOW2_INCOMPATIBLE_DATA_FILE;
    if (header->compression_type != QCOW2_COMPRESSION_ZLIB)
        header->incompatible_features |= QCOW2_INCOMPATIBLE_COMPRESSION;
    if (request->lazy_refcounts)
        header->compatible_features |= QCOW2_COMPATIBLE_LAZY_REFCOUNTS;
    if (request->data_file_raw)
        header->autoclear_features |= QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    return 0;
}

/* --- the plan -----------------------------------------------------------------------------------
 */

/* Refcount blocks count themselves and their table, so the numbers are found by going round until
 * they fit; each round adds less than a tenth of the one before. */
static void plan_refcounts(struct plan *plan, uint64_t other_clusters)
{
    const struct qcow2_geometry *geometry = &plan->geometry;
    uint64_t per_block = UINT64_C(1) << geometry->refcount_block_bits;
    uint64_t blocks = 0, table = 0;
    for (;;) {
        uint64_t total = other_clusters + blocks + table;
        uint64_t blocks_needed = total / per_block + (total % per_block != 0);
        if (blocks_needed == blocks)
            break;
        blocks = blocks_needed;
        table = qcow2_clusters_of(geometry, blocks * 8);
    }
    plan->block_count = blocks;
    plan->table_clusters = table;
}

static int make_plan(const struct request *request, struct plan *plan, struct error *err)
{
    const struct qcow2_header *header = &request->header;
    struct qcow2_geometry *geometry = &plan->geometry;
    memset(plan, 0, sizeof(*plan));
    qcow2_geometry_init(geometry, header);
    uint64_t l1_entries = qcow2_l1_entries_needed(geometry, header->size);
    if (l1_entries > QCOW2_L1_BYTES_MAX / 8)
        return error_set(err, -EFBIG,
                         "a disk of %" PRIu64 " bytes is too large for a cluster_size of %" PRIu64
                         "; choose a larger one",
                         header->size, geometry->cluster_bytes);
    plan->l1_entries = l1_entries > 0 ? l1_entries : 1; /* a place to grow from */
    plan->l1_clusters = qcow2_clusters_of(geometry, plan->l1_entries * 8);
    if (request->has_tables) {
        plan->l2_count = l1_entries;
        plan->data_clusters =
            geometry->has_data_file ? 0 : qcow2_clusters_of(geometry, header->size);
    }
    plan_refcounts(plan, 1 + plan->l1_clusters + plan->l2_count + plan->data_clusters);
    if (plan->table_clusters > QCOW2_REFCOUNT_TABLE_BYTES_MAX >> geometry->cluster_bits)
        return error_set(err, -EFBIG,
                         "so many clusters of %" PRIu64
                         " bytes cannot be counted; choose a larger cluster_size",
                         geometry->cluster_bytes);
    plan->table_at = 1;
    plan->blocks_at = plan->table_at + plan->table_clusters;
    plan->l1_at = plan->blocks_at + plan->block_count;
    plan->l2_at = plan->l1_at + plan->l1_clusters;
    plan->data_at = plan->l2_at + plan->l2_count;
    plan->end = plan->data_at + plan->data_clusters;
    return 0;
}

/* --- writing ------------------------------------------------------------------------------------
 */

struct maker {
    const struct request *request;
    const struct plan *plan;
    struct block_node *file;
    uint8_t *cluster; /* one, to be written */
};

static int co_write_cluster(const struct maker *maker, uint64_t index)
{
    struct iovec iov;
    size_t length = (size_t)maker->plan->geometry.cluster_bytes;
    struct block_vec vec = vec_of_buffer(&iov, maker->cluster, length);
    return node_co_write(maker->file, index << maker->plan->geometry.cluster_bits, &vec, 0);
}

/* A table of `count` entries of 8 bytes over some clusters, each the place of one of the clusters
 * from `target` on. */
static int co_write_pointers(const struct maker *maker, uint64_t at, uint64_t clusters,
                             uint64_t target, uint64_t count, uint64_t flags)
{
    const struct qcow2_geometry *geometry = &maker->plan->geometry;
    uint64_t per_cluster = geometry->cluster_bytes / 8;
    int ret = 0;
    for (uint64_t i = 0; i < clusters && ret == 0; i++) {
        memset(maker->cluster, 0, geometry->cluster_bytes);
        for (uint64_t n = 0; n < per_cluster && i * per_cluster + n < count; n++)
            store_be64(maker->cluster + n * 8,
                       ((target + i * per_cluster + n) << geometry->cluster_bits) | flags);
        ret = co_write_cluster(maker, at + i);
    }
    return ret;
}

/* Every cluster up to the end has one user. */
static int co_write_refcounts(const struct maker *maker)
{
    const struct plan *plan = maker->plan;
    uint64_t per_block = UINT64_C(1) << plan->geometry.refcount_block_bits;
    int ret = 0;
    for (uint64_t i = 0; i < plan->block_count && ret == 0; i++) {
        memset(maker->cluster, 0, plan->geometry.cluster_bytes);
        for (uint64_t n = 0; n < per_block && i * per_block + n < plan->end; n++)
            qcow2_refcount_set(maker->cluster, plan->geometry.refcount_order, (uint32_t)n, 1);
        ret = co_write_cluster(maker, plan->blocks_at + i);
    }
    return ret;
}

/* All guest clusters have their place: here, or at the same offset of the data file. Subclusters
 * are not allocated, as with qemu, but where the data file is what is to be read. */
static int co_write_l2(const struct maker *maker)
{
    const struct plan *plan = maker->plan;
    const struct qcow2_geometry *geometry = &plan->geometry;
    uint64_t guest_clusters = qcow2_clusters_of(geometry, maker->request->header.size);
    uint64_t first = geometry->has_data_file ? 0 : plan->data_at;
    uint32_t allocated = !geometry->is_extended          ? 1
                         : maker->request->data_file_raw ? UINT32_MAX
                                                         : 0;
    int ret = 0;
    for (uint64_t i = 0; i < plan->l2_count && ret == 0; i++) {
        memset(maker->cluster, 0, geometry->cluster_bytes);
        for (uint32_t n = 0; n < geometry->l2_entries; n++) {
            uint64_t guest = i * geometry->l2_entries + n;
            struct qcow2_cluster cluster = {
                .is_copied = true,
                .has_host = true,
                .host_offset = (first + guest) << geometry->cluster_bits,
                .allocated_bits = allocated,
            };
            uint64_t entry, bitmap;
            if (guest >= guest_clusters)
                break;
            qcow2_l2_encode(geometry, &cluster, &entry, &bitmap);
            store_be64(maker->cluster + (size_t)n * geometry->l2_entry_bytes, entry);
            if (geometry->is_extended)
                store_be64(maker->cluster + (size_t)n * geometry->l2_entry_bytes + 8, bitmap);
        }
        ret = co_write_cluster(maker, plan->l2_at + i);
    }
    return ret;
}

static int co_write_header(const struct maker *maker, struct error *err)
{
    const struct request *request = maker->request;
    const struct plan *plan = maker->plan;
    struct qcow2_header header = request->header;
    struct qcow2_header_writer writer;
    uint32_t bits = plan->geometry.cluster_bits;
    header.refcount_table_offset = plan->table_at << bits;
    header.refcount_table_clusters = (uint32_t)plan->table_clusters;
    header.l1_table_offset = plan->l1_at << bits;
    header.l1_size = (uint32_t)plan->l1_entries;
    memset(maker->cluster, 0, plan->geometry.cluster_bytes);
    qcow2_header_writer_init(&writer, maker->cluster, plan->geometry.cluster_bytes,
                             header.header_length);
    if (request->backing_format)
        qcow2_header_writer_extension(&writer, QCOW2_EXTENSION_BACKING_FORMAT,
                                      request->backing_format, strlen(request->backing_format));
    if (request->data_file)
        qcow2_header_writer_extension(&writer, QCOW2_EXTENSION_DATA_FILE, request->data_file,
                                      strlen(request->data_file));
    if (header.version > 2)
        qcow2_header_writer_feature_names(&writer);
    int ret = qcow2_header_writer_finish(&writer, &header, request->backing_file);
    if (ret < 0)
        return error_set(err, -EINVAL,
                         "the names of the other files do not fit into the header, which is a "
                         "cluster of %" PRIu64 " bytes; choose a larger cluster_size",
                         plan->geometry.cluster_bytes);
    return co_write_cluster(maker, 0);
}

/* The tables are on the disk before the header says that there is an image. */
static int co_write_all(const struct maker *maker, struct error *err)
{
    const struct plan *plan = maker->plan;
    uint64_t end_bytes = plan->end << plan->geometry.cluster_bits;
    int ret = co_write_pointers(maker, plan->table_at, plan->table_clusters, plan->blocks_at,
                                plan->block_count, 0);
    if (ret == 0)
        ret = co_write_refcounts(maker);
    if (ret == 0)
        ret = co_write_pointers(maker, plan->l1_at, plan->l1_clusters, plan->l2_at, plan->l2_count,
                                QCOW2_ENTRY_COPIED);
    if (ret == 0)
        ret = co_write_l2(maker);
    if (ret == 0 && atomic_load(&maker->file->size_bytes) < end_bytes)
        ret = node_co_resize(maker->file, end_bytes, err);
    if (ret == 0)
        ret = node_co_flush(maker->file);
    if (ret == 0)
        ret = co_write_header(maker, err);
    if (ret == 0)
        ret = node_co_flush(maker->file);
    return ret;
}

/* --- files --------------------------------------------------------------------------------------
 */

/* Beside the image, where whoever opens it looks for it. NULL: no memory. */
static char *data_file_path(const struct request *request)
{
    const char *slash = strrchr(request->filename, '/');
    int directory = *request->data_file == '/' || !slash ? 0 : (int)(slash - request->filename) + 1;
    char *path;
    return asprintf(&path, "%.*s%s", directory, request->filename, request->data_file) < 0 ? NULL
                                                                                           : path;
}

/* The image's file, empty or with the space of all its clusters. */
static int co_create_image_file(struct block_env *env, const struct request *request,
                                const struct plan *plan, struct error *err)
{
    bool is_sparse = strcmp(request->of_files, "off") == 0;
    uint64_t size_bytes = is_sparse ? 0 : plan->end << plan->geometry.cluster_bits;
    return block_co_create_file_as(env, request->filename, size_bytes, request->of_files, err);
}

/* The space of a file that nobody needs now. */
static void co_give_back(struct block_env *env, const char *path)
{
    struct block_node *file;
    if (block_co_open_file(env, path, &file, NULL) < 0)
        return;
    node_co_resize(file, 0, NULL);
    block_co_node_unref(file);
}

static int co_make_image(struct block_env *env, const struct request *request,
                         const struct plan *plan, struct error *err)
{
    struct maker maker = {.request = request, .plan = plan};
    struct error why = {.message = ""};
    int ret = co_create_image_file(env, request, plan, err);
    if (ret == 0)
        ret = block_co_open_file(env, request->filename, &maker.file, err);
    if (ret < 0)
        return ret;
    maker.cluster = malloc(plan->geometry.cluster_bytes);
    ret = maker.cluster ? co_write_all(&maker, &why) : -ENOMEM;
    if (ret < 0)
        node_co_resize(maker.file, 0, NULL); /* so that nobody takes it for an image */
    free(maker.cluster);
    block_co_node_unref(maker.file);
    if (ret < 0)
        return error_set(err, ret, "cannot make '%.200s': %s", request->filename,
                         *why.message ? why.message : error_text(ret));
    return 0;
}

/* The data file is the larger one, so it comes first. */
static int co_make(struct block_env *env, const struct request *request, const struct plan *plan,
                   struct error *err)
{
    if (!request->data_file)
        return co_make_image(env, request, plan, err);
    char *path = data_file_path(request);
    if (!path)
        return error_set(err, -ENOMEM, "no memory to make '%s'", request->data_file);
    int ret = block_co_create_file_as(env, path, request->header.size, request->of_files, err);
    if (ret == 0) {
        ret = co_make_image(env, request, plan, err);
        if (ret < 0)
            co_give_back(env, path);
    }
    free(path);
    return ret;
}

int qcow2_co_create(struct block_env *env, struct node_options *options, struct error *err)
{
    struct request request = {.cluster_bytes = 65536, .refcount_bits = 16};
    struct plan plan;
    int ret = take_options(options, &request, err);
    if (ret == 0)
        ret = check_sizes(&request, err);
    if (ret == 0)
        ret = check_together(&request, err);
    if (ret == 0)
        ret = fill_header(&request, err);
    if (ret == 0)
        ret = make_plan(&request, &plan, err);
    return ret == 0 ? co_make(env, &request, &plan, err) : ret;
}
