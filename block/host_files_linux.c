/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/host_files.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/align.h"
#include "common/clock.h"

static int linux_open(struct host_files *files, const char *path, int flags, unsigned mode)
{
    (void)files;
    int fd = open(path, flags | O_CLOEXEC, (mode_t)mode);
    return fd < 0 ? -errno : fd;
}

static int linux_real_path(struct host_files *files, int fd, char *text, size_t text_size)
{
    char link[32];
    (void)files;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, text, text_size);
    if (length < 0)
        return -errno;
    if ((size_t)length >= text_size)
        return -ERANGE;
    text[length] = '\0';
    return 0;
}

static int linux_open_beneath(struct host_files *files, int directory_fd, const char *path,
                              int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    (void)files;
    long fd = syscall(SYS_openat2, directory_fd, path, &how, sizeof(how));
    return fd < 0 ? -errno : (int)fd;
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
        .device_major = major(stat.st_rdev),
        .device_minor = minor(stat.st_rdev),
        .allocated_bytes = (uint64_t)stat.st_blocks * 512, /* whatever the file system's block is */
        .changed_ns = (uint64_t)stat.st_ctim.tv_sec * NS_PER_S + (uint64_t)stat.st_ctim.tv_nsec,
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

static ssize_t linux_preadv_at_once(struct host_files *files, int fd, const struct iovec *iov,
                                    int iov_count, uint64_t offset)
{
    (void)files;
    ssize_t count = preadv2(fd, iov, iov_count, (off_t)offset, RWF_NOWAIT);
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

static int linux_forget_pages(struct host_files *files, int fd)
{
    (void)files;
    return -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static int linux_will_need(struct host_files *files, int fd, uint64_t offset, uint64_t length)
{
    (void)files;
    return -posix_fadvise(fd, (off_t)offset, (off_t)length, POSIX_FADV_WILLNEED);
}

static uint64_t linux_sleeps(struct host_files *files)
{
    struct rusage usage;
    (void)files;
    return getrusage(RUSAGE_THREAD, &usage) < 0 ? 0 : (uint64_t)usage.ru_nvcsw;
}

static int linux_unlink(struct host_files *files, const char *path)
{
    (void)files;
    return unlink(path) < 0 ? -errno : 0;
}

static int linux_ioctl(struct host_files *files, int fd, unsigned long request, void *argument)
{
    (void)files;
    int ret = ioctl(fd, request, argument);
    return ret < 0 ? -errno : ret;
}

static int linux_make_blocking(struct host_files *files, int fd)
{
    (void)files;
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}

/* --- which pages are in memory ------------------------------------------------------------------
 *
 * mincore(2) on a mapping that is never touched (PROT_NONE, no page tables, no SIGBUS when the file
 * shrinks) is used for the question alone. It says of a page whether it is there and up to date.
 * cachestat(2) (Linux 6.5), at less than half the cost, says only that a page is there: one that
 * readahead has put there and the disk has not filled yet counts too, and that is what one would
 * wait for. A read by RWF_NOWAIT tells the truth too, but it is the copy that we want to save.
 */

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

/* As the kernel has them. */
struct cached_range {
    uint64_t offset, length;
};
struct cached_pages {
    uint64_t there, dirty, in_writeback, evicted, recently_evicted;
};

/* No page cache has pages so far behind a file's end; folios that reach over it are smaller. */
#define BEHIND_END ((uint64_t)64 << 20)

/* Whether the file system says of itself that it reads what is in memory without waiting: one that
 * asks a server first does not. */
static bool reads_without_waiting(int fd)
{
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    return preadv2(fd, &iov, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN;
}

/* To those who may not write to the file the kernel says that all of it is in memory: then also
 * what can not be. */
static bool tells_the_truth(char *last_page, size_t page_bytes)
{
    unsigned char there;
    return mincore(last_page, page_bytes, &there) == 0 && !(there & 1);
}

static int linux_pages_open(struct host_files *files, int fd, uint64_t length,
                            struct host_pages *ret_pages)
{
    (void)files;
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    if (length > SIZE_MAX / 2 || !reads_without_waiting(fd))
        return -ENOTSUP;
    size_t mapped = (size_t)align_up(length, page_bytes) + BEHIND_END;
    char *base = mmap(NULL, mapped, PROT_NONE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return -ENOTSUP;
    if (!tells_the_truth(base + mapped - page_bytes, page_bytes)) {
        munmap(base, mapped);
        return -ENOTSUP;
    }
    *ret_pages = (struct host_pages){.base = base, .length = length};
    return 0;
}

static void linux_pages_close(struct host_files *files, struct host_pages *pages)
{
    (void)files;
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    if (pages->base)
        munmap(pages->base, (size_t)align_up(pages->length, page_bytes) + BEHIND_END);
    pages->base = NULL;
}

static bool linux_pages_in_memory(struct host_files *files, const struct host_pages *pages,
                                  uint64_t offset, size_t length)
{
    (void)files;
    assert(length <= HOST_PAGES_ASK_MAX && offset + length <= pages->length);
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char there[HOST_PAGES_ASK_MAX / 4096 + 1];
    uint64_t start = align_down(offset, page_bytes);
    size_t count = (size_t)(align_up(offset + length, page_bytes) - start) / page_bytes;
    assert(count <= sizeof(there));
    if (mincore((char *)pages->base + start, count * page_bytes, there) < 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!(there[i] & 1))
            return false;
    }
    return true;
}

static int linux_pages_cached(struct host_files *files, int fd, uint64_t offset, size_t length)
{
    (void)files;
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    struct cached_range range = {.offset = offset, .length = length};
    struct cached_pages pages;
    uint64_t start = align_down(offset, page_bytes);
    uint64_t count = (align_up(offset + length, page_bytes) - start) / page_bytes;
    if (syscall(SYS_cachestat, fd, &range, &pages, 0) < 0)
        return -errno;
    return pages.there >= count;
}

struct host_files host_files_linux = {
    .name = "linux",
    .open = linux_open,
    .close = linux_close,
    .info = linux_info,
    .preadv = linux_preadv,
    .preadv_at_once = linux_preadv_at_once,
    .pwritev = linux_pwritev,
    .sync = linux_sync,
    .fallocate = linux_fallocate,
    .truncate = linux_truncate,
    .seek = linux_seek,
    .will_need = linux_will_need,
    .forget_pages = linux_forget_pages,
    .sleeps = linux_sleeps,
    .unlink = linux_unlink,
    .ioctl = linux_ioctl,
    .make_blocking = linux_make_blocking,
    .real_path = linux_real_path,
    .open_beneath = linux_open_beneath,
    .pages_open = linux_pages_open,
    .pages_close = linux_pages_close,
    .pages_in_memory = linux_pages_in_memory,
    .pages_cached = linux_pages_cached,
    .kept_open = linux_kept_open,
    .kept_close = linux_kept_close,
    .lock = linux_lock,
    .unlock = linux_unlock,
    .lock_is_held = linux_lock_is_held,
    .lock_holder = linux_lock_holder,
};
