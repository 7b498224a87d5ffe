/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/host_files.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int linux_open(struct host_files *files, const char *path, int flags, unsigned mode)
{
    (void)files;
    int fd = open(path, flags | O_CLOEXEC, (mode_t)mode);
    return fd < 0 ? -errno : fd;
}

static int linux_close(struct host_files *files, int fd)
{
    (void)files;
    return close(fd) < 0 ? -errno : 0;
}

static enum host_file_kind kind_of_mode(mode_t mode)
{
    if (S_ISREG(mode))
        return HOST_FILE_REGULAR;
    if (S_ISBLK(mode))
        return HOST_FILE_BLOCK_DEVICE;
    if (S_ISDIR(mode))
        return HOST_FILE_DIRECTORY;
    return HOST_FILE_OTHER;
}

/* What the file system says of O_DIRECT; left at 0 by kernels before 6.1 and by some file systems.
 */
static void read_direct_alignment(int fd, struct host_file_info *info)
{
#ifdef STATX_DIOALIGN
    struct statx extended;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &extended) < 0)
        return;
    if (!(extended.stx_mask & STATX_DIOALIGN))
        return;
    info->direct_offset_alignment = extended.stx_dio_offset_align;
    info->direct_memory_alignment = extended.stx_dio_mem_align;
#else
    (void)fd;
    (void)info;
#endif
}

static int linux_info(struct host_files *files, int fd, struct host_file_info *ret_info)
{
    (void)files;
    struct stat stat;
    if (fstat(fd, &stat) < 0)
        return -errno;
    struct host_file_info info = {
        .kind = kind_of_mode(stat.st_mode),
        .size_bytes = (uint64_t)stat.st_size,
        .device = stat.st_dev,
        .inode = stat.st_ino,
        .allocated_bytes = (uint64_t)stat.st_blocks * 512, /* whatever the file system's block is */
        .io_size_bytes = stat.st_blksize > 0 ? (uint32_t)stat.st_blksize : 1,
    };
    read_direct_alignment(fd, &info);
    *ret_info = info;
    return 0;
}

static ssize_t linux_preadv(struct host_files *files, int fd, const struct iovec *iov,
                            int iov_count, uint64_t offset)
{
    (void)files;
    ssize_t count = iov_count == 1 ? pread(fd, iov->iov_base, iov->iov_len, (off_t)offset)
                                   : preadv(fd, iov, iov_count, (off_t)offset);
    return count < 0 ? -errno : count;
}

static ssize_t linux_pwritev(struct host_files *files, int fd, const struct iovec *iov,
                             int iov_count, uint64_t offset)
{
    (void)files;
    ssize_t count = iov_count == 1 ? pwrite(fd, iov->iov_base, iov->iov_len, (off_t)offset)
                                   : pwritev(fd, iov, iov_count, (off_t)offset);
    return count < 0 ? -errno : count;
}

static int linux_sync(struct host_files *files, int fd)
{
    (void)files;
    return fdatasync(fd) < 0 ? -errno : 0;
}

static int linux_fallocate(struct host_files *files, int fd, int mode, uint64_t offset,
                           uint64_t length)
{
    (void)files;
    return fallocate(fd, mode, (off_t)offset, (off_t)length) < 0 ? -errno : 0;
}

static int linux_truncate(struct host_files *files, int fd, uint64_t size_bytes)
{
    (void)files;
    return ftruncate(fd, (off_t)size_bytes) < 0 ? -errno : 0;
}

static int linux_seek(struct host_files *files, int fd, enum host_seek what, uint64_t offset,
                      uint64_t *ret_offset)
{
    (void)files;
    /* Moves the descriptor's position, which nobody uses: all transfers name their offset. */
    off_t found = lseek(fd, (off_t)offset, what == HOST_SEEK_DATA ? SEEK_DATA : SEEK_HOLE);
    if (found < 0)
        return -errno;
    *ret_offset = (uint64_t)found;
    return 0;
}

static int linux_will_need(struct host_files *files, int fd, uint64_t offset, uint64_t length)
{
    (void)files;
    return -posix_fadvise(fd, (off_t)offset, (off_t)length, POSIX_FADV_WILLNEED);
}

static int linux_unlink(struct host_files *files, const char *path)
{
    (void)files;
    return unlink(path) < 0 ? -errno : 0;
}

struct host_files host_files_linux = {
    .name = "linux",
    .open = linux_open,
    .close = linux_close,
    .info = linux_info,
    .preadv = linux_preadv,
    .pwritev = linux_pwritev,
    .sync = linux_sync,
    .fallocate = linux_fallocate,
    .truncate = linux_truncate,
    .seek = linux_seek,
    .will_need = linux_will_need,
    .unlink = linux_unlink,
    .lock = linux_lock,
    .lock_is_held = linux_lock_is_held,
    .lock_holder = linux_lock_holder,
};
