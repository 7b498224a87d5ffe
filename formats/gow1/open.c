/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening: the header is read and every rule of it checked. An image that is only read is served
 * then, and its map looked at as it is needed; one that is written has its whole map looked at
 * first (writer.c). Options:
 *
 *   magic                  what the header begins with, as a number; without it "GOW1"
 *   repair                 leaks or all: repaired before it is written; see repair.c
 *   shrink                 on: a resize may cut off data
 *   cache-size             how much of the map is kept in memory; all of it without it
 *   cache-clean-interval   what was not used for so many seconds is given back; 600 without it
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "block/env.h"
#include "block/node_options.h"
#include "common/align.h"
#include "common/log.h"
#include "formats/gow1/image.h"

#define CLEAN_INTERVAL_S_DEFAULT 600

/* --- options ------------------------------------------------------------------------------------
 */

struct settings {
    uint32_t magic;
    enum gow1_repair_what repair;
    uint64_t cache_bytes, clean_interval_s;
};

int gow1_take_magic(struct node_options *options, uint32_t *ret_magic, struct error *err)
{
    const char *text = node_options_take(options, "magic");
    char *end;
    if (!text)
        return 0;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 0);
    if (*text < '0' || *text > '9' || *end || errno || number > UINT32_MAX)
        return node_options_refuse(options, "magic", -EINVAL, err,
                                   "cannot be '%.100s'; say a number of 32 bits, as 0x31574f47",
                                   text);
    *ret_magic = (uint32_t)number;
    return 0;
}

static int take_repair(const struct block_node *node, struct node_options *options,
                       enum gow1_repair_what *ret_what, struct error *err)
{
    static const char *const names[] = {
        [GOW1_REPAIR_NOTHING] = "off",
        [GOW1_REPAIR_LEAKS] = "leaks",
        [GOW1_REPAIR_ALL] = "all",
        NULL,
    };
    unsigned what = GOW1_REPAIR_NOTHING;
    int ret = node_options_take_choice(options, "repair", names, &what, err);
    if (ret == 0 && what != GOW1_REPAIR_NOTHING && node->read_only)
        ret = error_set(err, -EROFS, "'%.200s' is repaired only where it is opened for writing",
                        node->name);
    if (ret == 0)
        *ret_what = (enum gow1_repair_what)what;
    return ret;
}

static int take_settings(struct gow1_image *image, struct node_options *options,
                         struct settings *settings, struct error *err)
{
    *settings = (struct settings){
        .magic = GOW1_MAGIC,
        .cache_bytes = GOW1_MAP_BYTES,
        .clean_interval_s = CLEAN_INTERVAL_S_DEFAULT,
    };
    int ret = gow1_take_magic(options, &settings->magic, err);
    if (ret == 0)
        ret = take_repair(image->node, options, &settings->repair, err);
    if (ret == 0)
        ret = node_options_take_bool(options, "shrink", &image->may_shrink, err);
    if (ret == 0)
        ret = node_options_take_size(options, "cache-size", &settings->cache_bytes, err);
    if (ret == 0)
        ret = node_options_take_size(options, "cache-clean-interval", &settings->clean_interval_s,
                                     err);
    if (settings->cache_bytes > GOW1_MAP_BYTES)
        settings->cache_bytes = GOW1_MAP_BYTES; /* there is no more */
    return ret;
}

/* --- the header ---------------------------------------------------------------------------------
 */

static int co_load_header(struct block_node *file, uint32_t magic, struct gow1_header *header,
                          struct error *err)
{
    uint8_t bytes[GOW1_HEADER_BYTES];
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, bytes, sizeof(bytes));
    uint64_t file_bytes = atomic_load(&file->size_bytes);
    if (file_bytes < GOW1_HEADER_BYTES)
        return error_set(err, -EINVAL,
                         "the file is truncated: it has %" PRIu64
                         " bytes, and the header's fields alone have %d",
                         file_bytes, GOW1_HEADER_BYTES);
    int ret = node_co_read(file, 0, &vec);
    if (ret < 0)
        return error_set(err, ret, "cannot read its header: %s", error_text(ret));
    gow1_header_decode(bytes, header);
    return gow1_header_check(header, magic, file_bytes, err);
}

/* Puts the image's name before a sentence that does not have it. */
static int name_image(const struct block_node *file, int code, const struct error *why,
                      struct error *err)
{
    return error_set(err, code, "cannot open '%.200s': %s", file->name, why->message);
}

int gow1_co_info(struct block_node *file, uint32_t magic, struct gow1_header *ret_header,
                 struct error *err)
{
    struct error why;
    struct gow1_header header;
    int ret = co_load_header(file, magic, &header, &why);
    if (ret < 0)
        return name_image(file, ret, &why, err);
    *ret_header = header;
    return 0;
}

/* --- the whole image ----------------------------------------------------------------------------
 */

static int open_cache(struct gow1_image *image, const struct settings *settings, struct error *err)
{
    struct cache_config config = {
        .env = image->node->env,
        .monitor = &image->monitor,
        .nodes = {image->node->file},
        .node_count = 1,
        .kinds =
            {
                [GOW1_TABLE_HEADER] = {.name = "header",
                                       .class_index = GOW1_TABLE_HEADER,
                                       .table_bytes = CACHE_TABLE_BYTES_MIN,
                                       .end = GOW1_HEADER_BYTES},
                [GOW1_TABLE_MAP] = {.name = "map",
                                    .class_index = GOW1_TABLE_MAP,
                                    .table_bytes = GOW1_SLICE_BYTES,
                                    .base = GOW1_MAP_OFFSET,
                                    .budget_bytes = settings->cache_bytes},
            },
        .kind_count = 2,
    };
    int ret = cache_new(&image->cache, &config, err);
    if (ret == 0)
        cache_start_cleaning(image->cache, settings->clean_interval_s);
    return ret;
}

void gow1_set_limits(struct gow1_image *image)
{
    struct block_node *node = image->node;
    uint32_t limit = image->header.allocated;
    uint32_t blocks = gow1_file_blocks(atomic_load(&node->file->size_bytes));
    if (!image->writer && blocks < limit)
        limit = blocks;
    atomic_store(&image->entry_limit, limit);
    atomic_store(&node->size_bytes, (uint64_t)image->header.size << GOW1_BLOCK_BITS);
    node->limits = (struct block_limits){
        .request_alignment = 1,
        .memory_alignment = 1,
        .preferred_bytes = node->file->limits.preferred_bytes,
    };
}

static int co_open_image(struct gow1_image *image, struct node_options *options, struct error *err)
{
    struct block_node *node = image->node;
    struct settings settings;
    struct error why;
    int ret = take_settings(image, options, &settings, err);
    if (ret == 0)
        ret = gow1_co_info(node->file, settings.magic, &image->header, err);
    if (ret == 0 && settings.repair != GOW1_REPAIR_NOTHING)
        ret = gow1_co_repair(node->file, &image->header, settings.repair, err);
    if (ret < 0)
        return ret;
    ret = gow1_header_check_allocated(&image->header, &why);
    if (ret < 0)
        return name_image(node->file, ret, &why, err);
    ret = open_cache(image, &settings, err);
    if (ret == 0 && !node->read_only)
        ret = gow1_writer_co_new(image, &image->writer, err);
    if (ret == 0)
        gow1_set_limits(image);
    return ret;
}

static void co_free_image(struct gow1_image *image)
{
    gow1_writer_free(image, image->writer);
    if (image->cache)
        cache_co_stop_cleaning(image->cache);
    cache_free(image->cache);
    pthread_mutex_destroy(&image->monitor);
    free(image);
}

int gow1_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    int ret = block_co_open_child(node, options, "file", &node->file, err);
    if (ret < 0)
        return ret;
    struct gow1_image *image = calloc(1, sizeof(*image));
    if (!image)
        return error_set(err, -ENOMEM, "no memory to open '%.200s'", node->name);
    pthread_mutex_init(&image->monitor, NULL);
    image->node = node;
    ret = co_open_image(image, options, err);
    if (ret < 0) {
        co_free_image(image);
        return ret;
    }
    node->state = image;
    return 0;
}

void gow1_co_close(struct block_node *node)
{
    struct gow1_image *image = gow1_of(node);
    int ret = image->writer ? gow1_writer_co_settle(image) : 0;
    if (ret < 0)
        log_error("'%s': its map could not be written: %s; what was not flushed before may be lost",
                  node->name, error_text(ret));
    co_free_image(image);
    node->state = NULL;
}

void gow1_tell_numbers(const struct block_node *node, block_tell_number *tell, void *arg)
{
    const struct gow1_image *image = node->state;
    struct cache_counters map;
    cache_kind_counters(image->cache, GOW1_TABLE_MAP, &map);
    tell(arg, "map_cache_hits", map.hits);
    tell(arg, "map_cache_misses", map.misses);
    tell(arg, "map_cache_evictions", map.evictions);
}
