/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A new size. The map has room for the largest disk, so growing is a number in the header. What is
 * cut off becomes free, and then blocks of the file are moved to the front, so that no more are
 * allocated than the disk has. A disk that is cut off somewhere in this shows zeroes at its old
 * end, or has its new size.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "formats/gow1/image.h"

struct resize {
    struct gow1_image *image;
    struct block_node *file;
    uint32_t size, old_size;
    uint32_t *entries;
    struct gow1_survey survey;
};

/* --- what is refused ----------------------------------------------------------------------------
 */

static int refuse(const struct resize *resize, int code, const char *why, struct error *err)
{
    return error_set(err, code, "cannot resize '%.200s' to %" PRIu64 " bytes: %s",
                     resize->image->node->name, (uint64_t)resize->size << GOW1_BLOCK_BITS, why);
}

static int check_size(const struct block_node *node, uint64_t size_bytes, struct error *err)
{
    if (size_bytes > 0 && size_bytes <= (uint64_t)GOW1_BLOCKS_MAX << GOW1_BLOCK_BITS)
        return 0;
    return error_set(err, size_bytes > 0 ? -EFBIG : -EINVAL,
                     "cannot resize '%.200s' to %" PRIu64
                     " bytes: a gow1 disk has 1 byte to 64 GiB",
                     node->name, size_bytes);
}

/* How many entries from `first` on are not free. */
static uint32_t count_entries(const uint32_t *entries, uint32_t first, uint32_t end)
{
    uint32_t count = 0;
    for (uint32_t i = gow1_next_entry(entries, first, end); i < end;
         i = gow1_next_entry(entries, i + 1, end))
        count++;
    return count;
}

static int check_shrinking(const struct resize *resize, uint32_t lost, struct error *err)
{
    char why[160];
    if (lost > 0 && !resize->image->may_shrink) {
        snprintf(why, sizeof(why),
                 "%" PRIu32 " blocks with data would be cut off; open it with the option "
                 "shrink=on if they may be",
                 lost);
        return refuse(resize, -EPERM, why, err);
    }
    if (atomic_load(&resize->image->has_lent))
        return refuse(resize, -EBUSY,
                      "it has been served since it was opened, and blocks that clients may still "
                      "read would get other content; resize it before it is served",
                      err);
    return 0;
}

/* --- what is done -------------------------------------------------------------------------------
 */

static int co_free_entries(struct resize *resize, uint32_t first, uint32_t end)
{
    if (count_entries(resize->entries, first, end) == 0)
        return 0;
    for (uint32_t i = first; i < end; i++)
        resize->entries[i] = GOW1_FREE;
    return gow1_co_store_map(resize->file, resize->entries, first, end);
}

static int co_store_size(struct resize *resize, uint32_t allocated)
{
    struct gow1_image *image = resize->image;
    pthread_mutex_lock(&image->monitor);
    gow1_store_header(image, image->writer, GOW1_HEADER_SIZE, resize->size);
    gow1_store_header(image, image->writer, GOW1_HEADER_ALLOCATED, allocated);
    pthread_mutex_unlock(&image->monitor);
    return cache_co_flush(image->cache);
}

/* Entries that somebody left behind the end would show. */
static int co_grow(struct resize *resize)
{
    int ret = co_free_entries(resize, resize->old_size, resize->size);
    return ret < 0 ? ret : co_store_size(resize, resize->image->writer->blocks.allocated);
}

static int co_shrink(struct resize *resize)
{
    struct gow1_image *image = resize->image;
    struct gow1_header header = image->header;
    struct gow1_blocks blocks;
    int ret = co_free_entries(resize, resize->size, resize->old_size);
    header.size = resize->size;
    header.allocated = image->writer->blocks.allocated;
    if (ret == 0)
        ret = gow1_survey_init(&resize->survey, &header, resize->entries, resize->size,
                               atomic_load(&resize->file->size_bytes), NULL, NULL);
    if (ret == 0)
        ret = gow1_co_compact(resize->file, resize->entries, resize->size, &resize->survey);
    uint32_t end = resize->survey.used_end;
    if (ret == 0)
        ret = co_store_size(resize, end);
    if (ret < 0)
        return ret;
    gow1_co_cut_file(resize->file, gow1_block_offset(end));
    uint64_t file_bytes = atomic_load(&resize->file->size_bytes);
    ret = gow1_blocks_init(&blocks, end, gow1_file_blocks(file_bytes));
    if (ret < 0)
        return ret;
    gow1_blocks_fini(&image->writer->blocks);
    image->writer->blocks = blocks;
    image->writer->reached = image->writer->opened_bytes = file_bytes;
    atomic_store(&image->entry_limit, end);
    return 0;
}

static int co_resize(struct resize *resize, bool *ret_is_changed, struct error *err)
{
    struct gow1_image *image = resize->image;
    const struct gow1_blocks *blocks = &image->writer->blocks;
    int ret = cache_co_settle(image->cache);
    if (ret == 0)
        ret = gow1_co_load_map(resize->file, GOW1_MAP_ENTRIES, &resize->entries);
    if (ret < 0)
        return refuse(resize, ret, error_text(ret), err);
    uint32_t lost = resize->size < resize->old_size
                        ? count_entries(resize->entries, resize->size, resize->old_size)
                        : 0;
    bool moves = lost > 0 || blocks->allocated > resize->size;
    ret = moves ? check_shrinking(resize, lost, err) : 0;
    if (ret < 0)
        return ret;
    *ret_is_changed = true;
    if (moves)
        ret = co_shrink(resize);
    else if (resize->size > resize->old_size)
        ret = co_grow(resize);
    else
        ret = co_store_size(resize, blocks->allocated);
    cache_invalidate(image->cache);
    return ret < 0 ? refuse(resize, ret, error_text(ret), err) : 0;
}

int gow1_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    struct gow1_image *image = gow1_of(node);
    bool is_changed = false;
    int ret = check_size(node, size_bytes, err);
    if (ret < 0)
        return ret;
    struct resize resize = {
        .image = image,
        .file = node->file,
        .size = gow1_disk_block(size_bytes + GOW1_BLOCK_BYTES - 1),
        .old_size = image->header.size,
    };
    if (atomic_load(&image->is_corrupt))
        return refuse(&resize, -EIO, "it is corrupt", err);
    ret = co_resize(&resize, &is_changed, err);
    gow1_survey_fini(&resize.survey);
    free(resize.entries);
    if (ret < 0) {
        if (is_changed) /* half way: the file has the last word, when it is opened again */
            atomic_store(&image->is_corrupt, true);
        return ret;
    }
    image->header.size = resize.size;
    atomic_store(&node->size_bytes, (uint64_t)resize.size << GOW1_BLOCK_BITS);
    return 0;
}
