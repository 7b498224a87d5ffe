/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_BLOCK_DEVICE_FIXTURE_H
#define TESTS_UNIT_BLOCK_DEVICE_FIXTURE_H

/*
 * A device that is not there: the image file of posix_fixture.h, called a block device, with the
 * answers of a disk, a CD-ROM or a floppy drive to ioctls, and with a time of its own.
 */

#include "tests/unit/block/posix_fixture.h"

#include <linux/cdrom.h>
#include <linux/fd.h>
#include <linux/fs.h>
#include <sys/mman.h>

#include "common/clock.h"

struct fake_attribute {
    const char *name; /* below the device's folder under /sys/dev/block */
    const char *text;
};

struct fake_range {
    unsigned count;          /* calls */
    int error;               /* what each gives; 0: it is done */
    uint64_t offset, length; /* of the last */
    uint64_t total;
};

#define FAKE_FDS_MAX 256

struct fake_device {
    /* what it says of itself */
    uint64_t size_bytes; /* 0: the image's own */
    int size_error;
    int logical_bytes;
    unsigned physical_bytes, optimal_bytes;
    int read_only;
    const struct fake_attribute *attributes; /* ended by a name of NULL */
    bool held;                               /* O_EXCL is refused */
    uint32_t device_major;
    bool no_block_sizes; /* an old kernel: BLKPBSZGET and BLKIOOPT are not known */

    /* what it does */
    int error; /* of every transfer, sync and open from now on; 0: none */
    int sync_error;
    unsigned failing_reads;    /* so many reads from now on fail with EIO */
    uint64_t ends_at;          /* it has become so small; 0: it has not */
    unsigned interrupt_ioctls; /* so many ioctls from now on fail with EINTR */
    struct fake_range discards, zeroes;
    unsigned punch_error; /* what fallocate gives, positive; 0: it is done */
    unsigned punches;

    /* a drive */
    int drive_status, disc_status; /* CDS_...; negative: what the ioctl gives */
    bool medium_changed;           /* since it was asked last */
    bool has_medium;               /* a floppy is in it */
    int floppy_generation;
    unsigned long floppy_flags;
    int poll_error;        /* what FDPOLLDRVSTAT gives */
    unsigned failed_opens; /* for want of a medium */
    unsigned closes, reads, status_asked, resets;
    _Atomic unsigned opens, device_closes; /* a test looks at them while a worker closes */
    bool is_device[FAKE_FDS_MAX];          /* descriptors opened to be read or written */
    int last_flags;
};

static struct fake_device fake;

static _Atomic uint64_t fake_now_ns;

static inline uint64_t fake_clock_now(struct clock *clock)
{
    (void)clock;
    return fake_now_ns;
}

static struct clock fake_clock = {.now_ns = fake_clock_now};

static inline int fake_open_attribute(const char *path)
{
    const char *name = path + strlen("/sys/dev/block/8:1/");
    for (const struct fake_attribute *a = fake.attributes; a && a->name; a++) {
        if (strcmp(a->name, name) != 0)
            continue;
        int fd = memfd_create("attribute", MFD_CLOEXEC);
        assert_int_equal(write(fd, a->text, strlen(a->text)), (ssize_t)strlen(a->text));
        return fd;
    }
    return -ENOENT;
}

static inline int fake_open(struct host_files *files, const char *path, int flags, unsigned mode)
{
    if (strncmp(path, "/sys/", 5) == 0)
        return fake_open_attribute(path);
    if (flags & O_PATH)
        return odd_open(files, path, flags, mode);
    if ((flags & O_EXCL) && fake.held)
        return -EBUSY;
    if (fake.error)
        return fake.error;
    if (!fake.has_medium && !(flags & O_NONBLOCK)) {
        fake.failed_opens++;
        return -ENXIO;
    }
    bool is_look = flags & O_EXCL;
    int fd = odd_open(files, path, flags & ~(O_EXCL | O_NONBLOCK), mode);
    if (fd >= 0 && !is_look) {
        assert_true(fd < FAKE_FDS_MAX);
        fake.is_device[fd] = true;
        fake.opens++;
        fake.last_flags = flags;
    }
    return fd;
}

static inline int fake_close(struct host_files *files, int fd)
{
    bool is_device = fd >= 0 && fd < FAKE_FDS_MAX && fake.is_device[fd];
    fake.closes++;
    if (is_device)
        fake.is_device[fd] = false;
    int code = odd_close(files, fd);
    if (is_device)
        fake.device_closes++; /* last: who sees it may look at the rest */
    return code;
}

static inline int fake_info(struct host_files *files, int fd, struct host_file_info *ret_info)
{
    int ret = odd_info(files, fd, ret_info);
    ret_info->device_major = fake.device_major;
    ret_info->device_minor = 1;
    return ret;
}

static inline int fake_range(int fd, struct fake_range *seen, const uint64_t *range, int byte)
{
    static uint8_t block[4096];
    seen->count++;
    seen->offset = range[0];
    seen->length = range[1];
    if (seen->error)
        return seen->error;
    assert_int_equal(range[0] % (uint64_t)fake.logical_bytes, 0);
    assert_int_equal(range[1] % (uint64_t)fake.logical_bytes, 0);
    seen->total += range[1];
    memset(block, byte, sizeof(block));
    uint64_t end = range[0] + range[1];
    if (end > 64 << 20) /* a disk that is there in name alone */
        return 0;
    for (uint64_t at = range[0]; at < end;) {
        size_t part = end - at < sizeof(block) ? (size_t)(end - at) : sizeof(block);
        assert_int_equal(pwrite(fd, block, part, (off_t)at), (ssize_t)part);
        at += part;
    }
    return 0;
}

static inline int fake_size(int fd, uint64_t *ret_size)
{
    struct stat stat_of_image;
    if (fake.size_error)
        return fake.size_error;
    assert_int_equal(fstat(fd, &stat_of_image), 0);
    *ret_size = fake.ends_at      ? fake.ends_at
                : fake.size_bytes ? fake.size_bytes
                                  : (uint64_t)stat_of_image.st_size;
    return 0;
}

static inline int fake_poll_floppy(struct floppy_drive_struct *ret_drive)
{
    fake.status_asked++;
    if (fake.poll_error)
        return fake.poll_error;
    *ret_drive = (struct floppy_drive_struct){
        .flags = fake.floppy_flags,
        .generation = fake.floppy_generation,
    };
    return 0;
}

#define FAKE_DISCARD_BYTE 0xdd

static inline int fake_ioctl(struct host_files *files, int fd, unsigned long request,
                             void *argument)
{
    (void)files;
    if (fake.interrupt_ioctls > 0) {
        fake.interrupt_ioctls--;
        return -EINTR;
    }
    switch (request) {
    case BLKGETSIZE64:
        return fake_size(fd, argument);
    case BLKSSZGET:
        *(int *)argument = fake.logical_bytes;
        return 0;
    case BLKPBSZGET:
        *(unsigned *)argument = fake.physical_bytes;
        return fake.no_block_sizes ? -ENOTTY : 0;
    case BLKIOOPT:
        *(unsigned *)argument = fake.optimal_bytes;
        return fake.no_block_sizes ? -ENOTTY : 0;
    case BLKROGET:
        *(int *)argument = fake.read_only;
        return 0;
    case BLKDISCARD:
        return fake_range(fd, &fake.discards, argument, FAKE_DISCARD_BYTE);
    case BLKZEROOUT:
        return fake_range(fd, &fake.zeroes, argument, 0);
    case CDROM_DRIVE_STATUS:
        fake.status_asked++;
        return fake.drive_status;
    case CDROM_DISC_STATUS:
        return fake.disc_status;
    case CDROM_MEDIA_CHANGED: {
        bool changed = fake.medium_changed;
        fake.medium_changed = false;
        return changed;
    }
    case FDPOLLDRVSTAT:
        return fake_poll_floppy(argument);
    case FDRESET:
        fake.resets++;
        return 0;
    default:
        return -ENOTTY;
    }
}

static inline int fake_make_blocking(struct host_files *files, int fd)
{
    (void)files;
    (void)fd;
    return 0;
}

static inline ssize_t fake_preadv(struct host_files *files, int fd, const struct iovec *iov,
                                  int iov_count, uint64_t offset)
{
    fake.reads++;
    if (fake.error)
        return fake.error;
    if (fake.failing_reads > 0) {
        fake.failing_reads--;
        return -EIO;
    }
    if (fake.ends_at && offset >= fake.ends_at)
        return 0;
    return odd_preadv(files, fd, iov, iov_count, offset);
}

static inline ssize_t fake_pwritev(struct host_files *files, int fd, const struct iovec *iov,
                                   int iov_count, uint64_t offset)
{
    if (fake.error)
        return fake.error;
    if (fake.ends_at && offset >= fake.ends_at)
        return -ENOSPC;
    return odd_pwritev(files, fd, iov, iov_count, offset);
}

static inline int fake_sync(struct host_files *files, int fd)
{
    int error = fake.error ? fake.error : fake.sync_error;
    return error ? error : odd_sync(files, fd);
}

static inline int fake_fallocate(struct host_files *files, int fd, int mode, uint64_t offset,
                                 uint64_t length)
{
    fake.punches++;
    if (fake.punch_error)
        return -(int)fake.punch_error;
    assert_int_equal(mode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    return odd_fallocate(files, fd, mode, offset, length);
}

static inline void fake_device_init(struct posix_fixture *fixture, size_t size)
{
    struct host_files *files = &fixture->odd.files;
    fake = (struct fake_device){
        .device_major = 8,
        .logical_bytes = 512,
        .physical_bytes = 512,
        .drive_status = CDS_DISC_OK,
        .disc_status = CDS_DATA_1,
        .has_medium = true,
    };
    if (size > 0)
        make_image(fixture, size);
    fixture->odd.kind = HOST_FILE_BLOCK_DEVICE;
    files->open = fake_open;
    files->close = fake_close;
    files->info = fake_info;
    files->ioctl = fake_ioctl;
    files->make_blocking = fake_make_blocking;
    files->preadv = fake_preadv;
    files->pwritev = fake_pwritev;
    files->sync = fake_sync;
    files->fallocate = fake_fallocate;
    files->pages_open = NULL; /* nothing is lent by what is not there */
}

static inline int fake_pause(void *arg)
{
    (void)arg;
    usleep(200);
    return 0;
}

/* Lets that much time pass, and what is due then be done, by workers too. The loop reads its clock
 * once a turn, and a turn ends only when there is nothing left to do. */
static inline void fake_pass(struct posix_fixture *fixture, uint64_t ns)
{
    fake_now_ns += ns;
    for (int i = 0; i < 10; i++)
        workers_co_run(fixture->workers, fake_pause, NULL);
}

/* As with_posix_drivers(), at a time that stands still unless it is told to pass. */
static inline void with_device_drivers(void **state, const struct block_driver *const *drivers,
                                       void (*body)(struct posix_fixture *fixture))
{
    posix_fixture_clock = &fake_clock;
    with_posix_drivers(state, drivers, body);
}

#endif
