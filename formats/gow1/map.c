/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a range of the disk lies in the file: as many neighbours as lie in one piece. Entries are
 * copied out of the cache and looked at afterwards, so that no lock is held while they are.
 */
#include <errno.h>
#include <inttypes.h>

#include "common/endian.h"
#include "common/log.h"
#include "formats/gow1/image.h"

/* Entries looked at in one go: 8 MiB of the disk. */
#define ENTRIES_MAX 128
#define ENTRIES_PER_SLICE (GOW1_SLICE_BYTES / 4)

/* How entries are had: with a wait where they are not in memory, or -EAGAIN then. */
typedef int map_reader(struct gow1_image *image, uint64_t file_offset, void *to, size_t length);

static int try_read_map(struct gow1_image *image, uint64_t file_offset, void *to, size_t length)
{
    return cache_try_read(image->cache, GOW1_TABLE_MAP, file_offset, to, length) ? 0 : -EAGAIN;
}

static int co_read_map(struct gow1_image *image, uint64_t file_offset, void *to, size_t length)
{
    return cache_co_read(image->cache, GOW1_TABLE_MAP, file_offset, to, length);
}

/* An entry that points nowhere: a line in the log, and no write any more; what can be read still
 * is. The other exports go on. */
static int corrupt(struct gow1_image *image, uint32_t disk_block, uint32_t entry)
{
    if (!atomic_exchange(&image->is_corrupt, true))
        log_error("'%s': the image is corrupt: map[%" PRIu32 "] is %" PRIu32
                  ", and there are %" PRIu32
                  " blocks in the file; what depends on that cannot be read, and nothing is "
                  "written any more; open it for writing with repair=all",
                  image->node->name, disk_block, entry, atomic_load(&image->entry_limit));
    return -EIO;
}

/* Entries of some neighbouring disk blocks, of one slice. */
struct window {
    uint32_t first, count;
    uint8_t bytes[ENTRIES_MAX * 4];
};

static int fill_window(struct gow1_image *image, map_reader *reader, uint64_t disk_offset,
                       uint64_t length, struct window *window)
{
    uint32_t first = gow1_disk_block(disk_offset);
    uint64_t wanted = gow1_disk_block(disk_offset + length - 1) - first + 1;
    uint32_t left = ENTRIES_PER_SLICE - first % ENTRIES_PER_SLICE;
    window->first = first;
    window->count = left < ENTRIES_MAX ? left : ENTRIES_MAX;
    if (wanted < window->count)
        window->count = (uint32_t)wanted;
    return reader(image, gow1_entry_offset(first), window->bytes, (size_t)window->count * 4);
}

static int map_by(struct gow1_image *image, map_reader *reader, uint64_t disk_offset,
                  uint64_t length, struct gow1_extent *ret_extent)
{
    struct window window;
    int ret = fill_window(image, reader, disk_offset, length, &window);
    if (ret < 0)
        return ret;
    uint32_t limit = atomic_load_explicit(&image->entry_limit, memory_order_relaxed);
    uint32_t begin = load_le32(window.bytes), count = 0;
    if (begin != GOW1_FREE && begin >= limit)
        return corrupt(image, window.first, begin);
    do {
        count++;
        uint32_t next = begin == GOW1_FREE ? GOW1_FREE : begin + count;
        if (count == window.count || load_le32(window.bytes + (size_t)count * 4) != next)
            break;
    } while (begin == GOW1_FREE || begin + count < limit);
    uint64_t reach = ((uint64_t)count << GOW1_BLOCK_BITS) - gow1_in_block(disk_offset);
    *ret_extent = (struct gow1_extent){
        .is_allocated = begin != GOW1_FREE,
        .length = reach < length ? reach : length,
        .file_offset =
            begin == GOW1_FREE ? 0 : gow1_block_offset(begin) + gow1_in_block(disk_offset),
    };
    return 0;
}

int gow1_co_map(struct gow1_image *image, uint64_t disk_offset, uint64_t length,
                struct gow1_extent *ret_extent)
{
    return map_by(image, co_read_map, disk_offset, length, ret_extent);
}

bool gow1_map_remembered(struct gow1_image *image, uint64_t disk_offset, uint64_t length,
                         struct gow1_extent *ret_extent)
{
    return map_by(image, try_read_map, disk_offset, length, ret_extent) == 0;
}
