/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is data and what is a hole, by SEEK_DATA and SEEK_HOLE; found data is remembered
 * (posix_extents.h says why data alone), so that reading a large file from end to end does not ask
 * for each request.
 *
 * The kernel has most of the answers in memory, but may have to read some from the disk, ask a
 * server, or wait for another thread's write. So a worker asks first, and the loop itself as long
 * as that is quick (posix_pace.h) and no thread of ours changes the file: the hand-over is ten
 * times what the two calls take, and qemu-img waits for the answer, hole by hole, before it asks
 * for the next. Many at once take turns with the sends and the sockets, as writes do
 * (posix_transfer.c).
 *
 * Space that was allocated and not written yet is a hole to SEEK_DATA. It reads as zeroes, and that
 * is what counts; that it takes space is not seen from here.
 */
#include <errno.h>

#include "block/coroutine.h"
#include "block/env.h"
#include "block/loop.h"
#include "block/loop_backlog.h"
#include "block/posix.h"
#include "block/workers.h"

#define QUICK_NS 200000 /* for a look at up to BLOCK_EXTENTS_MAX extents */

static const struct block_extent all_data = {.length = UINT64_MAX, .flags = BLOCK_EXTENT_ALLOCATED};

static struct block_extent trimmed(struct block_extent extent, uint64_t length)
{
    if (extent.length > length)
        extent.length = length;
    return extent;
}

static bool find_remembered(struct posix_file *file, uint64_t offset,
                            struct block_extent *ret_extent)
{
    uint64_t end;
    if (!posix_extents_find(&file->data, offset, &end))
        return false;
    *ret_extent = (struct block_extent){
        .length = end - offset,
        .flags = BLOCK_EXTENT_ALLOCATED,
    };
    return true;
}

struct seek_job {
    struct posix_file *file;
    struct clock *clock;
    uint64_t offset, end; /* what is asked for */
    unsigned count_max;
    struct block_extents *extents;
    uint64_t took_ns; /* result */
};

static int seek_again(struct posix_file *file, enum host_seek what, uint64_t offset,
                      uint64_t *ret_offset)
{
    int ret;
    do {
        ret = file->files->seek(file->files, file->fd, what, offset, ret_offset);
    } while (ret == -EINTR);
    return ret;
}

/* Where data ends that begins at data_offset; it is remembered. */
static int find_end(struct posix_file *file, uint64_t generation, uint64_t data_offset,
                    uint64_t *ret_hole)
{
    int ret = seek_again(file, HOST_SEEK_HOLE, data_offset, ret_hole);
    if (ret == 0 && *ret_hole > data_offset)
        posix_extents_add(&file->data, generation, data_offset, *ret_hole);
    return ret;
}

/* The extent at offset, as long as it is. Who asks beyond a hole will ask for the data behind it
 * next, and finds it remembered. */
static int seek_one(const struct seek_job *job, uint64_t generation, uint64_t offset,
                    struct block_extent *ret_extent)
{
    struct posix_file *file = job->file;
    uint64_t data, hole;
    if (find_remembered(file, offset, ret_extent))
        return 0;
    int ret = seek_again(file, HOST_SEEK_DATA, offset, &data);
    if (ret == -ENXIO || (ret == 0 && data > offset)) {
        /* No data from here to the end: a hole, however long one asks. */
        uint64_t length = ret == 0 ? data - offset : UINT64_MAX;
        *ret_extent = (struct block_extent){.length = length, .flags = BLOCK_EXTENT_ZERO};
        if (ret == 0 && data < job->end)
            find_end(file, generation, data, &hole);
        return 0;
    }
    if (ret == 0)
        ret = find_end(file, generation, offset, &hole);
    if (ret < 0)
        return ret;
    /* Where it changed between the two looks: data is never a wrong answer. */
    *ret_extent = (struct block_extent){
        .length = hole > offset ? hole - offset : 1,
        .flags = BLOCK_EXTENT_ALLOCATED,
    };
    return 0;
}

/* What fails behind the first extent is found out when it is asked for. */
static int seek_all(struct seek_job *job)
{
    uint64_t generation = posix_extents_generation(&job->file->data);
    uint64_t offset = job->offset;
    unsigned count = 0;
    while (count < job->count_max && offset < job->end) {
        struct block_extent found;
        int ret = seek_one(job, generation, offset, &found);
        if (ret < 0)
            return count > 0 ? 0 : ret;
        found = trimmed(found, job->end - offset);
        job->extents->all[count++] = found;
        job->extents->count = count;
        offset += found.length;
    }
    return 0;
}

static int seek_work(void *arg)
{
    struct seek_job *job = arg;
    uint64_t began_ns = job->clock->now_ns(job->clock);
    int ret = seek_all(job);
    job->took_ns = job->clock->now_ns(job->clock) - began_ns;
    return ret;
}

static bool may_seek_in_loop(const struct posix_file *file)
{
    return posix_is_quick(&file->seeks) &&
           atomic_load_explicit(&file->changes_under_way, memory_order_relaxed) == 0;
}

static int co_seek(struct block_node *node, struct seek_job *job)
{
    struct posix_file *file = job->file;
    struct loop *loop = loop_current();
    int ret;
    loop_backlog_grew(loop);
    while (may_seek_in_loop(file) && !loop_has_room(loop))
        coroutine_co_pause();
    loop_backlog_fell(loop, 1);
    if (may_seek_in_loop(file)) {
        ret = seek_work(job);
        loop_count_work(loop, job->took_ns);
        posix_note_in_loop(&file->seeks, job->took_ns <= QUICK_NS);
    } else {
        ret = workers_co_run(node->env->workers, seek_work, job);
        posix_note_by_worker(&file->seeks, job->took_ns <= QUICK_NS);
    }
    return ret;
}

/* Memory answers what it can; the host is asked for all that follows. */
static int co_find(struct block_node *node, uint64_t offset, uint64_t length, unsigned count_max,
                   struct block_extents *extents)
{
    struct posix_file *file = posix_of(node);
    struct seek_job job = {
        .file = file,
        .clock = loop_clock(loop_current()),
        .offset = offset,
        .end = offset + length,
        .count_max = count_max,
        .extents = extents,
    };
    bool is_one = find_remembered(file, offset, &extents->all[0]);
    if (!is_one)
        extents->all[0] = all_data;
    extents->all[0] = trimmed(extents->all[0], length);
    extents->count = 1;
    if ((is_one && (count_max == 1 || extents->all[0].length == length)) ||
        atomic_load_explicit(&file->no_seek, memory_order_relaxed))
        return 0;
    int ret = co_seek(node, &job);
    if (ret != -EINVAL && ret != -EOPNOTSUPP)
        return ret;
    atomic_store_explicit(&file->no_seek, true, memory_order_relaxed);
    return 0;
}

int posix_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                    struct block_extent *ret_extent)
{
    struct block_extents extents;
    int ret = co_find(node, offset, length, 1, &extents);
    if (ret == 0)
        *ret_extent = extents.all[0];
    return ret;
}

int posix_co_statuses(struct block_node *node, uint64_t offset, uint64_t length,
                      struct block_extents *ret_extents)
{
    return co_find(node, offset, length, BLOCK_EXTENTS_MAX, ret_extents);
}

void posix_status_remembered(struct block_node *node, uint64_t offset, uint64_t length,
                             struct block_extent *ret_extent)
{
    struct block_extent extent = all_data;
    find_remembered(posix_of(node), offset, &extent);
    *ret_extent = trimmed(extent, length);
}
