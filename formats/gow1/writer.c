/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An image that is written: its begin and its end. The map is read once, as a whole: what it says
 * must make sense before anything is built on it, and what it does not use can be used.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/endian.h"
#include "formats/gow1/image.h"

/* --- the map that is there ----------------------------------------------------------------------
 */

static void keep_first(void *arg, const char *sentence)
{
    struct error *first = arg;
    if (first->message[0] == '\0')
        error_set(first, -EINVAL, "%s", sentence);
}

static int refuse(const struct gow1_image *image, const struct error *why, uint32_t faults,
                  struct error *err)
{
    char more[40] = "";
    if (faults > 1)
        snprintf(more, sizeof(more), " (and %u entries more)", (unsigned)(faults - 1));
    return error_set(err, -EINVAL,
                     "cannot open '%.200s' for writing: %s%s; repair it with the option "
                     "repair=all, or serve it with --read-only",
                     image->node->name, why->message, more);
}

/* What nobody has can be given. */
static void find_leaks(struct gow1_blocks *blocks, const struct gow1_survey *survey)
{
    for (uint32_t i = 0; i < blocks->allocated && survey->leaked > 0; i++) {
        if (!gow1_survey_is_used(survey, i))
            gow1_blocks_give_back(blocks, i);
    }
}

static int co_begin_blocks(struct gow1_image *image, struct gow1_blocks *blocks, struct error *err)
{
    struct block_node *file = image->node->file;
    const struct gow1_header *header = &image->header;
    uint64_t file_bytes = atomic_load(&file->size_bytes);
    struct gow1_survey survey = {.used = NULL};
    struct error why = {.message = ""};
    uint32_t *entries = NULL;
    int ret = gow1_co_load_map(file, header->size, &entries);
    if (ret == 0)
        ret =
            gow1_survey_init(&survey, header, entries, header->size, file_bytes, keep_first, &why);
    if (ret == 0)
        ret = gow1_blocks_init(blocks, header->allocated, gow1_file_blocks(file_bytes));
    if (ret < 0)
        error_set(err, ret, "cannot read the map of '%.200s': %s", image->node->name,
                  error_text(ret));
    else if (survey.faults > 0)
        ret = refuse(image, &why, survey.faults, err);
    else
        find_leaks(blocks, &survey);
    free(entries);
    gow1_survey_fini(&survey);
    return ret;
}

/* --- life ---------------------------------------------------------------------------------------
 */

int gow1_writer_co_new(struct gow1_image *image, struct gow1_writer **ret_writer, struct error *err)
{
    struct gow1_writer *writer = calloc(1, sizeof(*writer));
    if (!writer)
        return error_set(err, -ENOMEM, "no memory to open '%.200s'", image->node->name);
    range_lock_init(&writer->claims);
    co_queue_init(&writer->extenders);
    writer->opened_bytes = writer->reached = atomic_load(&image->node->file->size_bytes);
    int ret = co_begin_blocks(image, &writer->blocks, err);
    if (ret == 0) {
        ret = cache_co_get(image->cache, GOW1_TABLE_HEADER, 0, &writer->header_table);
        if (ret < 0)
            error_set(err, ret, "cannot read the header of '%.200s': %s", image->node->name,
                      error_text(ret));
    }
    if (ret < 0) {
        gow1_writer_free(image, writer);
        return ret;
    }
    *ret_writer = writer;
    return 0;
}

void gow1_writer_free(struct gow1_image *image, struct gow1_writer *writer)
{
    if (!writer)
        return;
    cache_put(image->cache, writer->header_table);
    gow1_blocks_fini(&writer->blocks);
    range_lock_fini(&writer->claims);
    free(writer);
}

void gow1_store_header(struct gow1_image *image, struct gow1_writer *writer, uint32_t at,
                       uint32_t value)
{
    uint8_t bytes[4];
    store_le32(bytes, value);
    cache_store(image->cache, writer->header_table, at, bytes, sizeof(bytes));
}

/* Blocks at the end that nobody has, as of a write that failed, are given up. */
static void trim(struct gow1_image *image)
{
    struct gow1_blocks *blocks = &image->writer->blocks;
    pthread_mutex_lock(&image->monitor);
    uint32_t before = blocks->allocated;
    gow1_blocks_trim(blocks);
    if (blocks->allocated != before)
        gow1_store_header(image, image->writer, GOW1_HEADER_ALLOCATED, blocks->allocated);
    pthread_mutex_unlock(&image->monitor);
}

int gow1_writer_co_settle(struct gow1_image *image)
{
    struct gow1_writer *writer = image->writer;
    assert(!writer->is_extending);
    trim(image);
    int ret = cache_co_settle(image->cache);
    uint64_t end = gow1_block_offset(writer->blocks.allocated);
    if (end < writer->opened_bytes)
        end = writer->opened_bytes;
    if (ret == 0 && writer->reached > end) {
        gow1_co_cut_file(image->node->file, end);
        writer->reached = atomic_load(&image->node->file->size_bytes);
    }
    return ret;
}

int gow1_co_flush(struct block_node *node)
{
    struct gow1_image *image = gow1_of(node);
    return image->writer ? cache_co_flush(image->cache) : node_co_flush(node->file);
}
