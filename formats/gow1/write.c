/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes. Where a disk block has its place, it is written there, without a claim and without the
 * monitor. A first write goes, some neighbouring blocks at a time:
 *
 *     claim the disk blocks | look again | take file blocks: `allocated` | make the file reach
 *     behind them | write | link
 *
 * What is around the bytes of a partial first write is zeroes because the file was never longer;
 * where it was, they are written along. The cache puts on the disk first `allocated`, and what was
 * written to the file, and then the map: so after a cut an entry never points to another block's
 * bytes, nor past the end. A write that fails has linked nothing; its blocks are given back.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "block/buffer.h"
#include "block/env.h"
#include "common/align.h"
#include "common/endian.h"
#include "formats/gow1/image.h"

#define RUN_MAX 32u /* blocks that get their places together: 2 MiB */
#define AHEAD 64u   /* blocks that the file is made longer by */
#define ENTRIES_PER_SLICE (GOW1_SLICE_BYTES / 4)

/* --- places -------------------------------------------------------------------------------------
 */

/* Monitor; given up meanwhile. The file reaches behind those blocks, and some more: one byte is
 * written there, so that it stays sparse. */
static int co_extend(struct gow1_image *image, uint32_t end_block)
{
    struct gow1_writer *writer = image->writer;
    uint8_t zero = 0;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &zero, 1);
    int ret = 0;
    while (writer->reached < gow1_block_offset(end_block) && ret == 0) {
        if (writer->is_extending) {
            co_queue_wait(&writer->extenders, &image->monitor);
            continue;
        }
        /* No more are ever needed than the disk has. */
        uint64_t end = gow1_block_offset((uint32_t)smaller(end_block + AHEAD, image->header.size));
        writer->is_extending = true;
        pthread_mutex_unlock(&image->monitor);
        ret = node_co_write(image->node->file, end - 1, &vec, 0);
        pthread_mutex_lock(&image->monitor);
        writer->is_extending = false;
        if (ret == 0)
            writer->reached = end;
        co_queue_wake_all(&writer->extenders);
    }
    return ret;
}

static void give_back(struct gow1_image *image, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        gow1_blocks_give_back(&image->writer->blocks, first + i);
}

/* Some neighbouring disk blocks that get their places together. */
struct run {
    uint64_t disk_offset, length; /* of the bytes that go there */
    uint32_t first, count;        /* disk blocks */
    struct gow1_taken taken;      /* their places */
};

static bool is_whole_blocks(const struct run *run)
{
    return gow1_in_block(run->disk_offset) == 0 && gow1_in_block(run->length) == 0;
}

/* Takes places for at most as many as the run has: it may be shorter afterwards. */
static int co_take(struct gow1_image *image, struct run *run)
{
    struct gow1_writer *writer = image->writer;
    int ret = 0;
    pthread_mutex_lock(&image->monitor);
    uint32_t before = writer->blocks.allocated;
    run->taken = gow1_blocks_take(&writer->blocks, run->count);
    if (!run->taken.is_fresh && !is_whole_blocks(run) && run->taken.count > 1) {
        give_back(image, run->taken.first + 1, run->taken.count - 1);
        run->taken.count = 1; /* its edges are written along */
    }
    run->count = run->taken.count;
    if (writer->blocks.allocated != before) {
        gow1_store_header(image, writer, GOW1_HEADER_ALLOCATED, writer->blocks.allocated);
        atomic_store(&image->entry_limit, writer->blocks.allocated);
    }
    if (run->taken.is_fresh)
        ret = co_extend(image, run->taken.first + run->taken.count);
    if (ret < 0)
        give_back(image, run->taken.first, run->taken.count);
    pthread_mutex_unlock(&image->monitor);
    run->length = smaller(run->length, ((uint64_t)(run->first + run->count) << GOW1_BLOCK_BITS) -
                                           run->disk_offset);
    return ret;
}

/* --- first writes -------------------------------------------------------------------------------
 */

/* All of one block, zeroes around the bytes. */
static int co_write_padded(struct gow1_image *image, const struct run *run,
                           const struct block_vec *vec)
{
    struct iovec iov;
    struct buffer_pool *pool = &block_env_local(image->node->env)->buffers;
    uint8_t *block = buffer_get(pool, GOW1_BLOCK_BYTES);
    if (!block)
        return -ENOMEM;
    memset(block, 0, GOW1_BLOCK_BYTES);
    vec_copy_to(vec, block + gow1_in_block(run->disk_offset));
    struct block_vec whole = vec_of_buffer(&iov, block, GOW1_BLOCK_BYTES);
    int ret = node_co_write(image->node->file, gow1_block_offset(run->taken.first), &whole, 0);
    buffer_put(pool, block, GOW1_BLOCK_BYTES);
    return ret;
}

static int co_write_data(struct gow1_image *image, const struct run *run,
                         const struct block_vec *vec)
{
    if (!run->taken.is_fresh && !is_whole_blocks(run))
        return co_write_padded(image, run, vec);
    uint64_t at = gow1_block_offset(run->taken.first) + gow1_in_block(run->disk_offset);
    return node_co_write(image->node->file, at, vec, 0);
}

static int co_link(struct gow1_image *image, const struct run *run)
{
    uint8_t bytes[RUN_MAX * 4];
    struct cache_table *table;
    uint64_t at = gow1_entry_offset(run->first);
    for (uint32_t i = 0; i < run->count; i++)
        store_le32(bytes + (size_t)i * 4, run->taken.first + i);
    node_co_event(image->node, "l2_update");
    int ret = cache_co_get(image->cache, GOW1_TABLE_MAP, at, &table);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&image->monitor);
    cache_store(image->cache, table, at - cache_table_offset(table), bytes, (size_t)run->count * 4);
    cache_needs(image->cache, table, 0);
    cache_put_locked(image->cache, table);
    pthread_mutex_unlock(&image->monitor);
    return 0;
}

/* With its blocks claimed, and free. vec begins with the run's bytes. */
static int co_write_run(struct gow1_image *image, struct run *run, const struct block_vec *vec)
{
    node_co_event(image->node, "cluster_alloc");
    int ret = co_take(image, run);
    if (ret < 0)
        return ret;
    struct block_vec part = vec_slice(vec, 0, (size_t)run->length);
    node_co_event(image->node, "write_aio");
    ret = co_write_data(image, run, &part);
    if (ret == 0)
        ret = co_link(image, run);
    if (ret < 0) {
        pthread_mutex_lock(&image->monitor);
        give_back(image, run->taken.first, run->taken.count);
        pthread_mutex_unlock(&image->monitor);
    }
    return ret;
}

static bool is_zero_part(const struct block_vec *vec, uint64_t from, uint64_t to)
{
    struct block_vec part = vec_slice(vec, (size_t)from, (size_t)(to - from));
    return vec_is_zero(&part);
}

/* How much of the front of vec, which goes to free blocks, lies in blocks that have something in
 * them (*ret_is_zero false), or that would get zeroes alone. */
static uint64_t measure(uint64_t disk_offset, const struct block_vec *vec, bool *ret_is_zero)
{
    uint64_t end = smaller(vec->length, GOW1_BLOCK_BYTES - gow1_in_block(disk_offset));
    *ret_is_zero = is_zero_part(vec, 0, end);
    while (end < vec->length) {
        uint64_t next = smaller(vec->length, end + GOW1_BLOCK_BYTES);
        if (is_zero_part(vec, end, next) != *ret_is_zero)
            break;
        end = next;
    }
    return end;
}

/* With [first, end) of the disk's blocks claimed. 0 written: they have places meanwhile. */
static int co_write_claimed(struct gow1_image *image, uint64_t disk_offset,
                            const struct block_vec *vec, size_t *ret_written)
{
    struct gow1_extent extent;
    bool is_zero;
    int ret = gow1_co_map(image, disk_offset, vec->length, &extent);
    if (ret < 0 || extent.is_allocated)
        return ret;
    struct block_vec part = vec_slice(vec, 0, (size_t)extent.length);
    struct run run = {
        .disk_offset = disk_offset,
        .length = measure(disk_offset, &part, &is_zero),
        .first = gow1_disk_block(disk_offset),
    };
    if (!is_zero) {
        run.count = gow1_disk_block(disk_offset + run.length - 1) - run.first + 1;
        ret = co_write_run(image, &run, &part);
    }
    if (ret == 0)
        *ret_written = (size_t)run.length;
    return ret;
}

static int co_write_first(struct gow1_image *image, uint64_t disk_offset,
                          const struct block_vec *vec, size_t *ret_written)
{
    struct locked_range claim;
    uint32_t first = gow1_disk_block(disk_offset);
    uint32_t end = gow1_disk_block(disk_offset + vec->length - 1) + 1;
    uint32_t slice_end = (first / ENTRIES_PER_SLICE + 1) * ENTRIES_PER_SLICE;
    end = (uint32_t)smaller(smaller(end, slice_end), first + RUN_MAX);
    uint64_t length = smaller(vec->length, ((uint64_t)end << GOW1_BLOCK_BITS) - disk_offset);
    struct block_vec claimed = vec_slice(vec, 0, (size_t)length);
    *ret_written = 0;
    range_lock_co_take(&image->writer->claims, &claim, first, end - first, true);
    int ret = co_write_claimed(image, disk_offset, &claimed, ret_written);
    range_lock_release(&image->writer->claims, &claim);
    return ret;
}

/* --- all writes ---------------------------------------------------------------------------------
 */

/* Some bytes from the front of vec. */
static int co_write_some(struct gow1_image *image, uint64_t disk_offset,
                         const struct block_vec *vec, size_t *ret_written)
{
    struct gow1_extent extent;
    int ret = gow1_co_map(image, disk_offset, vec->length, &extent);
    if (ret < 0)
        return ret;
    struct block_vec part = vec_slice(vec, 0, (size_t)extent.length);
    if (!extent.is_allocated)
        return co_write_first(image, disk_offset, &part, ret_written);
    node_co_event(image->node, "write_aio");
    *ret_written = part.length;
    return node_co_write(image->node->file, extent.file_offset, &part, 0);
}

int gow1_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                  unsigned flags)
{
    struct gow1_image *image = gow1_of(node);
    size_t written = 0;
    int ret = atomic_load(&image->is_corrupt) ? -EIO : 0;
    assert(flags == 0); /* FUA is a flush after it: see the driver's flags */
    (void)flags;
    for (size_t done = 0; done < vec->length && ret == 0; done += written) {
        struct block_vec rest = vec_slice(vec, done, vec->length - done);
        ret = co_write_some(image, offset + done, &rest, &written);
    }
    return ret;
}
