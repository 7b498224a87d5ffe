/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_plant.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/align.h"
#include "common/list.h"

#define SECTOR 512

const char *const sim_plant_names[PLANT_COUNT] = {
    [PLANT_NONE] = "none",
    [PLANT_STALE_READ] = "stale-read",
    [PLANT_LOST_WRITE] = "lost-write",
    [PLANT_MISPLACED_WRITE] = "misplaced-write",
    [PLANT_SHORT_WRITE] = "short-write",
    [PLANT_LYING_SYNC] = "lying-sync",
    [PLANT_WIDE_ZERO] = "wide-zero",
    [PLANT_FALSE_HOLE] = "false-hole",
    [PLANT_LOST_BYTE] = "lost-byte",
    [PLANT_LOST_SYNC] = "lost-sync",
    [PLANT_HIDDEN_WRITE_ERROR] = "hidden-write-error",
    [PLANT_HIDDEN_SYNC_ERROR] = "hidden-sync-error",
    [PLANT_RETRIED_SYNC] = "retried-sync",
    [PLANT_FORGOTTEN_FAILURE] = "forgotten-failure",
};

static struct sim_planted_files *planted_of(struct host_files *files)
{
    return container_of(files, struct sim_planted_files, files);
}

static struct host_files *below(struct host_files *files)
{
    return &planted_of(files)->disk->files;
}

/* Whether the bug shows itself in this call. */
static bool strikes(struct host_files *files, enum sim_plant plant)
{
    struct sim_planted_files *planted = planted_of(files);
    return planted->plant == plant && random_once_in(&planted->random, planted->once_in);
}

static struct sim_file *file_of(struct host_files *files, int fd)
{
    return planted_of(files)->disk->fds[fd - SIM_DISK_FD_BASE].file;
}

static ssize_t total(const struct iovec *iov, int iov_count)
{
    size_t length = 0;
    for (int i = 0; i < iov_count; i++)
        length += iov[i].iov_len;
    return (ssize_t)length;
}

static int planted_open(struct host_files *files, const char *path, int flags, unsigned mode)
{
    return below(files)->open(below(files), path, flags, mode);
}

static int planted_close(struct host_files *files, int fd)
{
    return below(files)->close(below(files), fd);
}

static int planted_info(struct host_files *files, int fd, struct host_file_info *ret_info)
{
    return below(files)->info(below(files), fd, ret_info);
}

static ssize_t planted_preadv(struct host_files *files, int fd, const struct iovec *iov,
                              int iov_count, uint64_t offset)
{
    ssize_t done = below(files)->preadv(below(files), fd, iov, iov_count, offset);
    if (done <= 0 || !strikes(files, PLANT_STALE_READ))
        return done;
    size_t length = iov[0].iov_len < (size_t)done ? iov[0].iov_len : (size_t)done;
    if (length > SECTOR)
        length = SECTOR;
    memcpy(iov[0].iov_base, file_of(files, fd)->durable + offset, length);
    return done;
}

static ssize_t write_half(struct host_files *files, int fd, const struct iovec *iov, int iov_count,
                          uint64_t offset)
{
    struct iovec first = {.iov_base = iov[0].iov_base, .iov_len = iov[0].iov_len / 2};
    if (first.iov_len % SECTOR != 0 && first.iov_len > SECTOR)
        first.iov_len = align_down(first.iov_len, SECTOR);
    ssize_t done = below(files)->pwritev(below(files), fd, &first, 1, offset);
    return done < 0 ? done : total(iov, iov_count);
}

static ssize_t planted_pwritev(struct host_files *files, int fd, const struct iovec *iov,
                               int iov_count, uint64_t offset)
{
    if (strikes(files, PLANT_LOST_WRITE))
        return total(iov, iov_count);
    if (strikes(files, PLANT_SHORT_WRITE))
        return write_half(files, fd, iov, iov_count, offset);
    uint64_t size = file_of(files, fd)->size_bytes;
    bool fits = offset + SECTOR + (uint64_t)total(iov, iov_count) <= size;
    if (fits && strikes(files, PLANT_MISPLACED_WRITE))
        offset += SECTOR;
    ssize_t done = below(files)->pwritev(below(files), fd, iov, iov_count, offset);
    if (done < 0 && done != -EINTR && planted_of(files)->plant == PLANT_HIDDEN_WRITE_ERROR)
        return total(iov, iov_count);
    return done;
}

static int planted_sync(struct host_files *files, int fd)
{
    struct sim_planted_files *planted = planted_of(files);
    if (strikes(files, PLANT_LYING_SYNC))
        return 0;
    if (planted->plant == PLANT_LOST_SYNC && planted->syncs-- == 0)
        return 0;
    int ret = below(files)->sync(below(files), fd);
    if (ret == 0 || ret == -EINTR)
        return ret;
    if (planted->plant == PLANT_HIDDEN_SYNC_ERROR)
        return 0;
    if (planted->plant == PLANT_RETRIED_SYNC)
        return below(files)->sync(below(files), fd);
    return ret;
}

static int planted_fallocate(struct host_files *files, int fd, int mode, uint64_t offset,
                             uint64_t length)
{
    uint64_t end = align_up(offset + length, SECTOR);
    if (mode != 0 && end <= file_of(files, fd)->size_bytes && strikes(files, PLANT_WIDE_ZERO))
        length = end - offset;
    return below(files)->fallocate(below(files), fd, mode, offset, length);
}

static int planted_truncate(struct host_files *files, int fd, uint64_t size_bytes)
{
    return below(files)->truncate(below(files), fd, size_bytes);
}

static int planted_seek(struct host_files *files, int fd, enum host_seek what, uint64_t offset,
                        uint64_t *ret_offset)
{
    if (strikes(files, PLANT_FALSE_HOLE)) {
        if (what == HOST_SEEK_DATA)
            return -ENXIO;
        *ret_offset = offset;
        return 0;
    }
    return below(files)->seek(below(files), fd, what, offset, ret_offset);
}

static int planted_unlink(struct host_files *files, const char *path)
{
    return below(files)->unlink(below(files), path);
}

static uint64_t draw_syncs(const struct sim *sim)
{
    struct random random = sim_random(sim, "lost sync", 0);
    return draw_scaled(&random, 1, 16) - 1;
}

bool sim_plant_needs_fault(enum sim_plant plant)
{
    return plant >= PLANT_HIDDEN_WRITE_ERROR && plant <= PLANT_FORGOTTEN_FAILURE;
}

enum sim_fault_kind sim_plant_fault(enum sim_plant plant)
{
    return plant == PLANT_HIDDEN_WRITE_ERROR ? FAULT_WRITE : FAULT_SYNC;
}

void sim_plant_init(struct sim_planted_files *planted, struct sim_disk *disk, enum sim_plant plant)
{
    assert(plant < PLANT_COUNT);
    *planted = (struct sim_planted_files){
        .files = {.name = "planted",
                  .open = planted_open,
                  .close = planted_close,
                  .info = planted_info,
                  .preadv = planted_preadv,
                  .pwritev = planted_pwritev,
                  .sync = planted_sync,
                  .fallocate = planted_fallocate,
                  .truncate = planted_truncate,
                  .seek = planted_seek,
                  .unlink = planted_unlink},
        .disk = disk,
        .plant = plant,
        .random = sim_random(disk->sim, "plant", plant),
        .syncs = draw_syncs(disk->sim),
        .once_in = plant == PLANT_WIDE_ZERO || plant == PLANT_STALE_READ ? 3 : 10,
    };
}
