/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/host.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>

#include "block/node_options.h"
#include "common/align.h"
#include "common/list.h"

#define FD_BASE 200000 /* never a descriptor that the kernel gave */
#define FD_DIRECT 1    /* of a role there are two: buffered, and this */

const char *const crash_host_fault_names[CRASH_HOST_FAULTS] = {
    [CRASH_HOST_NONE] = "none",
    [CRASH_HOST_INTERRUPTED] = "interrupted",
    [CRASH_HOST_SHORT] = "short",
    [CRASH_HOST_ODD] = "odd",
};

static struct crash_host *host_of(struct host_files *files)
{
    return container_of(files, struct crash_host, files);
}

static bool is_direct(int fd)
{
    return (fd - FD_BASE) & FD_DIRECT;
}

static struct crash_disk *disk_of(struct crash_host *host, int fd)
{
    unsigned role = (unsigned)(fd - FD_BASE) / 2;
    assert(role < CRASH_ROLES && host->disks[role]);
    return host->disks[role];
}

/* --- what goes wrong ----------------------------------------------------------------------------
 */

static bool is_hit(struct crash_host *host)
{
    uint64_t number = ++host->calls;
    return host->fail_at > 0 &&
           (number == host->fail_at || (number > host->fail_at && host->is_sticky));
}

static bool is_interrupted(struct crash_host *host)
{
    if (host->fault != CRASH_HOST_INTERRUPTED || !is_hit(host))
        return false;
    host->was_interrupted = !host->was_interrupted;
    host->hits += host->was_interrupted;
    return host->was_interrupted;
}

/* How much of a transfer is made: less than length, where it can be cut. */
static uint64_t cut(struct crash_host *host, uint64_t length, bool in_sectors)
{
    uint64_t unit = in_sectors || host->fault == CRASH_HOST_SHORT ? CRASH_SECTOR : 1;
    if ((host->fault != CRASH_HOST_SHORT && host->fault != CRASH_HOST_ODD) || length <= unit ||
        !is_hit(host))
        return length;
    host->hits++;
    return (1 + random_below(&host->random, (length - 1) / unit)) * unit;
}

void crash_host_arm(struct crash_host *host, enum crash_host_fault fault, uint64_t fail_at,
                    bool is_sticky, uint64_t seed)
{
    host->fault = fault;
    host->fail_at = fail_at;
    host->is_sticky = is_sticky;
    host->calls = host->hits = 0;
    host->was_interrupted = false;
    random_seed(&host->random, seed);
}

/* --- changes ------------------------------------------------------------------------------------
 */

/* Begins, takes effect and ends in one moment. iov: of a write. */
static void change_disk(struct crash_disk *disk, struct crash_change change,
                        const struct iovec *iov)
{
    uint8_t *data = NULL;
    uint32_t number = 0;
    change.disk = disk->number;
    if (disk->tape)
        number = crash_tape_begin(disk->tape, change, &data);
    for (uint64_t done = 0, part; iov && done < change.length; iov++, done += part) {
        part = iov->iov_len < change.length - done ? iov->iov_len : change.length - done;
        crash_disk_store(disk, change.offset + done, iov->iov_base, part);
        if (data)
            memcpy(data + done, iov->iov_base, part);
    }
    if (change.kind == CRASH_ZERO)
        crash_disk_store(disk, change.offset, NULL, change.length);
    else if (change.kind == CRASH_SIZE)
        crash_disk_set_size(disk, change.length);
    if (disk->tape) {
        crash_tape_effect(disk->tape, number);
        crash_tape_end(disk->tape, number);
    }
}

/* --- calls --------------------------------------------------------------------------------------
 */

static int host_open(struct host_files *files, const char *path, int flags, unsigned mode)
{
    struct crash_host *host = host_of(files);
    unsigned role;
    (void)mode;
    if (sscanf(path, "disk-%u", &role) != 1 || role >= CRASH_ROLES || !host->disks[role])
        return -ENOENT;
    if (is_interrupted(host))
        return -EINTR;
    return FD_BASE + (int)(2 * role) + (flags & O_DIRECT ? FD_DIRECT : 0);
}

static int host_close(struct host_files *files, int fd)
{
    (void)files, (void)fd;
    return 0;
}

static int host_info(struct host_files *files, int fd, struct host_file_info *ret_info)
{
    const struct crash_disk *disk = disk_of(host_of(files), fd);
    *ret_info = (struct host_file_info){.kind = HOST_FILE_REGULAR,
                                        .size_bytes = disk->size_bytes,
                                        .device = 1,
                                        .inode = 1 + (uint64_t)(fd - FD_BASE) / 2,
                                        .allocated_bytes = disk->size_bytes,
                                        .io_size_bytes = 4096,
                                        .direct_offset_alignment = CRASH_SECTOR,
                                        .direct_memory_alignment = CRASH_SECTOR};
    return 0;
}

static uint64_t length_of(int fd, const struct iovec *iov, int iov_count, uint64_t offset)
{
    uint64_t length = 0, bits = offset;
    for (int i = 0; i < iov_count; i++) {
        length += iov[i].iov_len;
        bits |= iov[i].iov_len | (uintptr_t)iov[i].iov_base;
    }
    assert(!is_direct(fd) || is_aligned(bits, CRASH_SECTOR));
    return length;
}

static ssize_t host_preadv(struct host_files *files, int fd, const struct iovec *iov, int iov_count,
                           uint64_t offset)
{
    struct crash_host *host = host_of(files);
    const struct crash_disk *disk = disk_of(host, fd);
    uint64_t length = length_of(fd, iov, iov_count, offset);
    uint64_t left = disk->size_bytes > offset ? disk->size_bytes - offset : 0;
    if (is_interrupted(host))
        return -EINTR;
    length = cut(host, length, is_direct(fd));
    length = length < left ? length : left;
    for (uint64_t done = 0, part; done < length; iov++, done += part) {
        part = iov->iov_len < length - done ? iov->iov_len : length - done;
        memcpy(iov->iov_base, disk->bytes + offset + done, part);
    }
    return (ssize_t)length;
}

static ssize_t host_pwritev(struct host_files *files, int fd, const struct iovec *iov,
                            int iov_count, uint64_t offset)
{
    struct crash_host *host = host_of(files);
    struct crash_disk *disk = disk_of(host, fd);
    uint64_t length = length_of(fd, iov, iov_count, offset);
    if (offset + length > disk->room_bytes)
        return -ENOSPC;
    if (is_interrupted(host))
        return -EINTR;
    length = cut(host, length, is_direct(fd));
    struct crash_change change = {.kind = CRASH_WRITE, .offset = offset, .length = length};
    if (length > 0)
        change_disk(disk, change, iov);
    return (ssize_t)length;
}

static int host_sync(struct host_files *files, int fd)
{
    struct crash_host *host = host_of(files);
    struct crash_disk *disk = disk_of(host, fd);
    if (is_interrupted(host))
        return -EINTR;
    change_disk(disk, (struct crash_change){.kind = CRASH_FLUSH}, NULL);
    return 0;
}

static int host_fallocate(struct host_files *files, int fd, int mode, uint64_t offset,
                          uint64_t length)
{
    struct crash_host *host = host_of(files);
    struct crash_disk *disk = disk_of(host, fd);
    uint64_t end = offset + length;
    if (end > disk->room_bytes)
        return -ENOSPC;
    if (is_interrupted(host))
        return -EINTR;
    if (mode & FALLOC_FL_KEEP_SIZE && end > disk->size_bytes)
        end = disk->size_bytes;
    if (offset >= end)
        return 0;
    if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
        change_disk(
            disk,
            (struct crash_change){.kind = CRASH_ZERO, .offset = offset, .length = end - offset},
            NULL);
    else if (end > disk->size_bytes)
        change_disk(disk, (struct crash_change){.kind = CRASH_SIZE, .length = end}, NULL);
    return 0;
}

static int host_truncate(struct host_files *files, int fd, uint64_t size_bytes)
{
    struct crash_host *host = host_of(files);
    struct crash_disk *disk = disk_of(host, fd);
    if (size_bytes > disk->room_bytes)
        return -ENOSPC;
    if (is_interrupted(host))
        return -EINTR;
    change_disk(disk, (struct crash_change){.kind = CRASH_SIZE, .length = size_bytes}, NULL);
    return 0;
}

/* All is data, as file systems say that know no holes. */
static int host_seek(struct host_files *files, int fd, enum host_seek what, uint64_t offset,
                     uint64_t *ret_offset)
{
    struct crash_host *host = host_of(files);
    const struct crash_disk *disk = disk_of(host, fd);
    if (is_interrupted(host))
        return -EINTR;
    if (offset >= disk->size_bytes)
        return -ENXIO;
    *ret_offset = what == HOST_SEEK_DATA ? offset : disk->size_bytes;
    return 0;
}

void crash_host_init(struct crash_host *host)
{
    *host = (struct crash_host){.files = {.name = "disks in memory",
                                          .open = host_open,
                                          .close = host_close,
                                          .info = host_info,
                                          .preadv = host_preadv,
                                          .pwritev = host_pwritev,
                                          .sync = host_sync,
                                          .fallocate = host_fallocate,
                                          .truncate = host_truncate,
                                          .seek = host_seek}};
}

void crash_host_set_options(struct crash_host *host, enum crash_role role, struct crash_disk *disk,
                            bool direct, struct node_options *options, const char *prefix)
{
    char name[16], path[64];
    const char *const wanted[][2] = {{"driver", "file"},
                                     {"filename", name},
                                     {"aio", "sync"},
                                     {"discard", "unmap"},
                                     {"cache.direct", direct ? "on" : "off"}};
    snprintf(name, sizeof(name), "disk-%u", (unsigned)role);
    host->disks[role] = disk;
    for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
        snprintf(path, sizeof(path), "%s%s", prefix, wanted[i][0]);
        if (node_options_set(options, path, wanted[i][1], NULL) < 0)
            crash_die("no memory for options");
    }
}
