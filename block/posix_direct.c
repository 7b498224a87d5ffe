/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What O_DIRECT wants of offsets, lengths and memory. Linux 6.1 and newer say so (statx, in
 * host_file_info) for most file systems. Elsewhere it is found by trial: the smallest read that is
 * not refused. An empty file refuses nothing, so there 4096 is taken, which suits every disk sold.
 *
 * memory_alignment is never below request_alignment, though newer kernels allow that: a request is
 * cut at the ends of its buffers (POSIX_IOVECS_MAX), and must be aligned where it is cut.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/posix.h"
#include "common/align.h"

#define ALIGNMENT_MIN 512u
#define ALIGNMENT_SAFE 4096u
#define ALIGNMENT_MAX 4096u /* of the pool's buffers, too */

static bool read_is_taken(struct host_files *files, int fd, void *memory, size_t length)
{
    struct iovec iov = {.iov_base = memory, .iov_len = length};
    ssize_t count;
    do {
        count = files->preadv(files, fd, &iov, 1, 0);
    } while (count == -EINTR);
    return count != -EINVAL; /* -EIO is a bad block, and says nothing about the alignment */
}

/* 0 when every alignment is refused. */
static uint32_t try_alignments(struct host_files *files, int fd, char *memory, uint32_t memory_from,
                               size_t length)
{
    for (uint32_t alignment = ALIGNMENT_MIN; alignment <= ALIGNMENT_MAX; alignment *= 2) {
        if (read_is_taken(files, fd, memory + (memory_from ? alignment : 0),
                          length ? length : alignment))
            return alignment;
    }
    return 0;
}

static int probe_by_trial(struct host_files *files, int fd, uint32_t *ret_request,
                          uint32_t *ret_memory)
{
    char *memory = aligned_alloc(2 * ALIGNMENT_MAX, 2 * ALIGNMENT_MAX);
    if (!memory)
        return -ENOMEM;
    uint32_t request = try_alignments(files, fd, memory, 0, 0);
    /* memory + a is a multiple of a and of nothing larger */
    uint32_t address = request ? try_alignments(files, fd, memory, 1, request) : 0;
    free(memory);
    if (!address)
        return -EINVAL;
    *ret_request = request;
    *ret_memory = address;
    return 0;
}

static bool is_plausible(uint32_t alignment)
{
    return is_power_of_two(alignment) && alignment <= ALIGNMENT_MAX;
}

int posix_probe_direct(struct host_files *files, int fd, const struct host_file_info *info,
                       const char *path, struct block_limits *ret_limits, struct error *err)
{
    uint32_t request = ALIGNMENT_SAFE, memory = ALIGNMENT_SAFE;
    if (is_plausible(info->direct_offset_alignment) &&
        is_plausible(info->direct_memory_alignment)) {
        request = info->direct_offset_alignment;
        memory = info->direct_memory_alignment;
    } else if (info->size_bytes > 0) {
        int ret = probe_by_trial(files, fd, &request, &memory);
        if (ret < 0)
            return error_set(err, ret,
                             "cannot open '%s' with cache=none: O_DIRECT reads of any alignment up "
                             "to %u fail (%s); use --cache=writeback",
                             path, ALIGNMENT_MAX, error_text(ret));
    }
    ret_limits->request_alignment = request;
    ret_limits->memory_alignment = memory > request ? memory : request;
    return 0;
}
