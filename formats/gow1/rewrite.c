/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The map as a whole, past the cache: for an opening, a check, a repair and a resize, when nothing
 * is in flight and the cache has nothing of it that the file has not.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/endian.h"
#include "formats/gow1/image.h"

#define PIECE_ENTRIES 16384u /* of the map, in one transfer: 64 KiB */

static int co_transfer(struct block_node *file, bool is_write, uint64_t offset, void *data,
                       size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    return is_write ? node_co_write(file, offset, &vec, 0) : node_co_read(file, offset, &vec);
}

/* --- the map ------------------------------------------------------------------------------------
 */

/* Between the file's order of bytes and ours, in place; mostly they are the same. */
static void swap_bytes(uint32_t *entries, uint32_t count)
{
    bool is_same = le32toh(1) == 1;
    for (uint32_t i = 0; i < count && !is_same; i++)
        entries[i] = le32toh(entries[i]);
}

int gow1_co_load_map(struct block_node *file, uint32_t count, uint32_t **ret_entries)
{
    uint32_t *entries = malloc((size_t)count * 4 + 1);
    int ret = entries ? 0 : -ENOMEM;
    assert(count <= GOW1_MAP_ENTRIES);
    for (uint32_t at = 0; at < count && ret == 0; at += PIECE_ENTRIES) {
        uint32_t piece = count - at < PIECE_ENTRIES ? count - at : PIECE_ENTRIES;
        ret = co_transfer(file, false, gow1_entry_offset(at), entries + at, (size_t)piece * 4);
    }
    if (ret < 0) {
        free(entries);
        return ret;
    }
    swap_bytes(entries, count);
    *ret_entries = entries;
    return 0;
}

int gow1_co_store_map(struct block_node *file, const uint32_t *entries, uint32_t first,
                      uint32_t end)
{
    uint32_t *copy = malloc((size_t)PIECE_ENTRIES * 4);
    int ret = copy ? 0 : -ENOMEM;
    for (uint32_t at = first; at < end && ret == 0; at += PIECE_ENTRIES) {
        uint32_t piece = end - at < PIECE_ENTRIES ? end - at : PIECE_ENTRIES;
        memcpy(copy, entries + at, (size_t)piece * 4);
        swap_bytes(copy, piece);
        ret = co_transfer(file, true, gow1_entry_offset(at), copy, (size_t)piece * 4);
    }
    free(copy);
    return ret == 0 ? node_co_flush(file) : ret;
}

/* --- the rest -----------------------------------------------------------------------------------
 */

int gow1_co_store_header(struct block_node *file, const struct gow1_header *header)
{
    uint8_t bytes[GOW1_HEADER_BYTES];
    gow1_header_encode(header, bytes);
    int ret = co_transfer(file, true, 0, bytes, sizeof(bytes));
    return ret == 0 ? node_co_flush(file) : ret;
}

int gow1_co_copy_block(struct block_node *file, uint32_t from, uint32_t to)
{
    void *bytes = malloc(GOW1_BLOCK_BYTES);
    int ret = bytes ? 0 : -ENOMEM;
    if (ret == 0)
        ret = co_transfer(file, false, gow1_block_offset(from), bytes, GOW1_BLOCK_BYTES);
    if (ret == 0)
        ret = co_transfer(file, true, gow1_block_offset(to), bytes, GOW1_BLOCK_BYTES);
    free(bytes);
    return ret;
}

/* Both an entry's old place and its new one have its bytes until the header says that the file is
 * shorter, so a cut in between shows the same disk, with leaks. */
int gow1_co_compact(struct block_node *file, uint32_t *entries, uint32_t entry_count,
                    struct gow1_survey *survey)
{
    uint32_t end = survey->used_count, free_block = 0;
    uint32_t first_moved = entry_count, moved_end = 0;
    int ret = 0;
    for (uint32_t i = gow1_next_entry(entries, 0, entry_count); i < entry_count && ret == 0;
         i = gow1_next_entry(entries, i + 1, entry_count)) {
        if (entries[i] < end)
            continue;
        while (gow1_survey_is_used(survey, free_block))
            free_block++;
        assert(free_block < end);
        ret = gow1_co_copy_block(file, entries[i], free_block);
        entries[i] = free_block++;
        first_moved = i < first_moved ? i : first_moved;
        moved_end = i + 1;
    }
    if (ret == 0 && moved_end > 0)
        ret = node_co_flush(file);
    if (ret == 0 && moved_end > 0)
        ret = gow1_co_store_map(file, entries, first_moved, moved_end);
    survey->used_end = end;
    return ret;
}

void gow1_co_cut_file(struct block_node *file, uint64_t end)
{
    bool may_be_cut = file->driver->flags & BLOCK_DRIVER_GROWS;
    if (may_be_cut && atomic_load(&file->size_bytes) > end)
        node_co_resize(file, end, NULL); /* space alone: what fails here is tried again */
}
