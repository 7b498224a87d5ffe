/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A partition has no queue of its own: its folder lies in that of its disk, whose queue it shares.
 * Its discard alignment is its own. A file that is not there (an old kernel, no /sys in a
 * container) leaves a value unknown, which costs nothing but a try.
 *
 * The kernel's own limits of one transfer (max_sectors_kb, max_segments) are not asked for: it cuts
 * larger ones itself, and sends the pieces side by side; pieces cut here would go one after the
 * other.
 */
#include "block/device_queue.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/buffer.h"
#include "common/align.h"

/* --- the files under /sys -----------------------------------------------------------------------
 */

static int read_text(struct host_files *files, const char *path, char *text, size_t text_size)
{
    int fd = files->open(files, path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    struct iovec iov = {.iov_base = text, .iov_len = text_size - 1};
    ssize_t count = files->preadv(files, fd, &iov, 1, 0);
    files->close(files, fd);
    if (count < 0)
        return (int)count;
    text[count] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return 0;
}

/* name below the device's folder, or that of the disk it is a part of. */
static bool read_attribute(struct host_files *files, const struct host_file_info *info,
                           const char *name, char *text, size_t text_size)
{
    static const char *const folders[] = {"", "../"};
    char path[128];
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "/sys/dev/block/%" PRIu32 ":%" PRIu32 "/%s%s",
                 info->device_major, info->device_minor, folders[i], name);
        if (read_text(files, path, text, text_size) == 0)
            return true;
    }
    return false;
}

static bool read_number(struct host_files *files, const struct host_file_info *info,
                        const char *name, uint64_t *ret_number)
{
    char text[32], *end;
    if (!read_attribute(files, info, name, text, sizeof(text)) || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    *ret_number = number;
    return true;
}

static enum device_cache read_cache(struct host_files *files, const struct host_file_info *info)
{
    char text[32];
    if (!read_attribute(files, info, "queue/write_cache", text, sizeof(text)))
        return DEVICE_CACHE_UNKNOWN;
    if (strcmp(text, "write through") == 0)
        return DEVICE_CACHE_NONE;
    return strcmp(text, "write back") == 0 ? DEVICE_CACHE_VOLATILE : DEVICE_CACHE_UNKNOWN;
}

/* A granularity that does not fit the device's own blocks is of no use. */
static void read_granularity(struct host_files *files, const struct host_file_info *info,
                             struct device_queue *queue)
{
    uint64_t granularity = 0, alignment = 0;
    read_number(files, info, "queue/discard_granularity", &granularity);
    read_number(files, info, "discard_alignment", &alignment);
    if (granularity <= queue->logical_bytes || granularity > UINT32_MAX ||
        granularity % queue->logical_bytes != 0)
        return;
    alignment %= granularity;
    if (alignment % queue->logical_bytes != 0)
        return;
    queue->discard_granularity_bytes = granularity;
    queue->discard_alignment_bytes = alignment;
}

static void read_attributes(struct host_files *files, const struct host_file_info *info,
                            struct device_queue *queue)
{
    uint64_t number;
    queue->cache = read_cache(files, info);
    read_granularity(files, info, queue);
    queue->has_discard =
        !read_number(files, info, "queue/discard_max_bytes", &number) || number > 0;
    queue->has_zeroes =
        read_number(files, info, "queue/write_zeroes_max_bytes", &number) && number > 0;
}

/* --- ioctls -------------------------------------------------------------------------------------
 */

static int ask(struct host_files *files, int fd, unsigned long request, void *argument)
{
    int ret;
    do {
        ret = files->ioctl(files, fd, request, argument);
    } while (ret == -EINTR);
    return ret < 0 ? ret : 0;
}

int device_queue_size(struct host_files *files, int fd, uint32_t logical_bytes, uint64_t *ret_bytes)
{
    uint64_t bytes = 0;
    int ret = ask(files, fd, BLKGETSIZE64, &bytes);
    if (ret == 0)
        *ret_bytes = align_down(bytes, logical_bytes);
    return ret;
}

/* Block sizes are a nicety of kernels since 2.6.32, but for the logical one. */
static int read_block_sizes(struct host_files *files, int fd, struct device_queue *queue)
{
    int logical = 0;
    unsigned physical = 0, optimal = 0;
    int ret = ask(files, fd, BLKSSZGET, &logical);
    if (ret < 0)
        return ret;
    if (logical <= 0 || !is_power_of_two((uint64_t)logical))
        return -ERANGE;
    queue->logical_bytes = (uint32_t)logical;
    ask(files, fd, BLKPBSZGET, &physical);
    ask(files, fd, BLKIOOPT, &optimal);
    bool is_sensible = is_power_of_two(physical) && physical > queue->logical_bytes;
    queue->physical_bytes = is_sensible ? physical : queue->logical_bytes;
    queue->optimal_bytes = optimal;
    return 0;
}

static int read_ioctls(struct host_files *files, int fd, struct device_queue *queue)
{
    int read_only = 0;
    int ret = read_block_sizes(files, fd, queue);
    if (ret == 0)
        ret = device_queue_size(files, fd, queue->logical_bytes, &queue->size_bytes);
    if (ret == 0)
        ret = ask(files, fd, BLKROGET, &read_only);
    queue->read_only = read_only != 0;
    return ret;
}

/* --- all of it ----------------------------------------------------------------------------------
 */

int device_queue_read(struct host_files *files, int fd, const struct host_file_info *info,
                      const char *path, struct device_queue *ret_queue, struct error *err)
{
    struct device_queue queue = {0};
    if (!files->ioctl)
        return error_set(err, -ENOTSUP, "cannot open '%s': this host has no devices", path);
    int ret = read_ioctls(files, fd, &queue);
    if (ret < 0)
        return error_set(err, ret, "cannot open '%s': the device does not say how large it is: %s",
                         path, error_text(ret));
    if (queue.logical_bytes > BUFFER_ALIGNMENT)
        return error_set(err, -ENOTSUP,
                         "cannot open '%s': its logical blocks have %" PRIu32
                         " bytes; the most that is served is %d",
                         path, queue.logical_bytes, BUFFER_ALIGNMENT);
    read_attributes(files, info, &queue);
    *ret_queue = queue;
    return 0;
}

/* A device is used in its own blocks, through the page cache too: so a part of a block is read,
 * changed and written where requests are kept apart (block/align), and zeroes and discards, which
 * the kernel takes in whole blocks alone, are always whole ones. */
struct block_limits device_queue_limits(const struct device_queue *queue)
{
    struct block_limits limits = {
        .request_alignment = queue->logical_bytes,
        .memory_alignment = queue->logical_bytes,
        .preferred_bytes = queue->physical_bytes,
    };
    /* A RAID of three disks likes what is no power of two; NBD cannot say that. */
    if (is_power_of_two(queue->optimal_bytes) && queue->optimal_bytes > queue->physical_bytes)
        limits.preferred_bytes = queue->optimal_bytes;
    return limits;
}

static uint64_t round_down(uint64_t value, uint64_t step)
{
    return value - value % step;
}

bool device_queue_discardable(const struct device_queue *queue, uint64_t *offset, uint64_t *length)
{
    uint64_t granularity = queue->discard_granularity_bytes;
    uint64_t first = queue->discard_alignment_bytes;
    uint64_t start = *offset, end = *offset + *length;
    if (granularity == 0)
        return *length > 0;
    /* Counted from the first whole granule, which may lie behind the start. */
    start =
        start <= first ? first : first + round_down(start - first + granularity - 1, granularity);
    if (end < queue->size_bytes) /* at the device's end a part of a granule is all there is of it */
        end = end <= first ? first : first + round_down(end - first, granularity);
    if (start >= end)
        return false;
    *offset = start;
    *length = end - start;
    return true;
}
