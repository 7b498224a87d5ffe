/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_HOST_FILES_H
#define BLOCK_HOST_FILES_H

/*
 * The operating system's file operations as a table, so that a test can put a disk in memory, a
 * slow one or a broken one in their place. Each call is one system call and may block: on a loop's
 * thread it is made only through an engine or the workers. Each returns 0, a count, or a negative
 * errno (EINTR included: the caller carries on).
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "common/error.h"

enum host_file_kind {
    HOST_FILE_REGULAR,
    HOST_FILE_BLOCK_DEVICE,
    HOST_FILE_DIRECTORY,
    HOST_FILE_OTHER,
};

struct host_file_info {
    enum host_file_kind kind;
    uint64_t size_bytes;
    uint64_t device, inode;              /* together they name the file */
    uint32_t device_major, device_minor; /* of a device file: which device it stands for */
    uint64_t allocated_bytes;            /* space taken on the disk */
    uint64_t changed_ns;    /* when it was changed last, by clock_of_files; 0: nobody knows */
    uint32_t io_size_bytes; /* what the file system likes; at least 1 */
    /* What O_DIRECT wants (statx(2), STATX_DIOALIGN); both 0 when the system does not say. */
    uint32_t direct_offset_alignment, direct_memory_alignment;
};

enum host_seek {
    HOST_SEEK_DATA,
    HOST_SEEK_HOLE,
};

#define HOST_PAGES_ASK_MAX ((size_t)1 << 20)

struct host_pages {
    void *base;      /* the host's own; NULL: none */
    uint64_t length; /* in bytes, from the file's beginning */
};

/* Memory that the host keeps when the process is killed. */
struct host_kept {
    void *base;
    size_t length;
    bool is_found; /* who had it before has not let it go */
    int fd;        /* the host's own, as the name is */
    char name[96];
};

struct host_files {
    const char *name;
    /* flags as open(2); O_CLOEXEC is added. Returns a descriptor. */
    int (*open)(struct host_files *files, const char *path, int flags, unsigned mode);
    int (*close)(struct host_files *files, int fd);
    int (*info)(struct host_files *files, int fd, struct host_file_info *ret_info);
    ssize_t (*preadv)(struct host_files *files, int fd, const struct iovec *iov, int iov_count,
                      uint64_t offset);
    /* The same of what is in memory, at once; it may have the disk begin with the rest. -EAGAIN:
     * there is nothing at this place; a short count: not all of it, or the file ends. -EOPNOTSUPP:
     * this file cannot be read so. Not for descriptors with O_DIRECT, which it would wait for.
     * NULL: there is no such way. */
    ssize_t (*preadv_at_once)(struct host_files *files, int fd, const struct iovec *iov,
                              int iov_count, uint64_t offset);
    ssize_t (*pwritev)(struct host_files *files, int fd, const struct iovec *iov, int iov_count,
                       uint64_t offset);
    /* fdatasync(2). */
    int (*sync)(struct host_files *files, int fd);
    /* mode as fallocate(2). */
    int (*fallocate)(struct host_files *files, int fd, int mode, uint64_t offset, uint64_t length);
    int (*truncate)(struct host_files *files, int fd, uint64_t size_bytes);
    /* -ENXIO: no data (no hole) from offset to the end. */
    int (*seek)(struct host_files *files, int fd, enum host_seek what, uint64_t offset,
                uint64_t *ret_offset);
    /* Has the kernel read the range into its page cache, or begin to; may block. NULL: it cannot.
     */
    int (*will_need)(struct host_files *files, int fd, uint64_t offset, uint64_t length);
    /* Lets the page cache forget what it has of the file and the disk has too: another host may
     * have written there. A hint; may block. NULL: it cannot. */
    int (*forget_pages)(struct host_files *files, int fd);
    /* How often this thread has slept, in calls that had to wait; not counting when another had its
     * processor. Costs a tenth of a microsecond. NULL: nobody knows. */
    uint64_t (*sleeps)(struct host_files *files);
    int (*unlink)(struct host_files *files, const char *path);
    /* ioctl(2) of a device; argument is a pointer, or for some requests a number. Returns what the
     * request returns, at least 0. NULL: there are no devices here. */
    int (*ioctl)(struct host_files *files, int fd, unsigned long request, void *argument);
    /* Takes O_NONBLOCK off a descriptor that was opened with it (io_uring answers -EAGAIN where it
     * should wait). NULL as ioctl is. */
    int (*make_blocking)(struct host_files *files, int fd);

    /* Where an open file or directory lies, without links; both NULL in a table without. -ERANGE:
     * it does not fit. */
    int (*real_path)(struct host_files *files, int fd, char *text, size_t text_size);
    /* As open(), of a path that is looked up below the directory directory_fd, follows no link and
     * never leaves it. -EXDEV, -ELOOP: it would. -ENOSYS: the host cannot. */
    int (*open_beneath)(struct host_files *files, int directory_fd, const char *path, int flags);

    /* A way to ask which of the first `length` bytes of a regular file are in the page cache; all
     * NULL where there is none. -ENOTSUP: the host does not tell, or reads of this file may wait
     * even for what is in memory. */
    int (*pages_open)(struct host_files *files, int fd, uint64_t length,
                      struct host_pages *ret_pages);
    void (*pages_close)(struct host_files *files, struct host_pages *pages);
    /* Whether all of the range, which lies inside and is HOST_PAGES_ASK_MAX bytes at most, is there
     * and read from the disk. Does not block. */
    bool (*pages_in_memory)(struct host_files *files, const struct host_pages *pages,
                            uint64_t offset, size_t length);
    /* The same of any file at less than half the cost, but a page that the disk has yet to fill
     * counts as there. 1: all of it; 0: not; -ENOSYS or another errno: the host does not tell.
     * NULL: there is no such way. */
    int (*pages_cached)(struct host_files *files, int fd, uint64_t offset, size_t length);

    /* The memory of that name (letters, digits and "-"), `length` bytes, whole pages: what the last
     * who had it has left, or made now, all zeroes. It is the process's alone until it is closed.
     * only_look: to be read, and where it is there already. -ENOENT: it is not; -EBUSY: another
     * process that lives has it; every error with a sentence. Both NULL: this host has none. */
    int (*kept_open)(struct host_files *files, const char *name, size_t length, bool only_look,
                     struct host_kept *ret_kept, struct error *err);
    /* is_done: it goes; else the next one finds it. */
    void (*kept_close)(struct host_files *files, struct host_kept *kept, bool is_done);

    /* Locks of open file descriptions (fcntl(2), F_OFD_SETLK): shared ones, a byte each, which tell
     * others something and keep nobody from reading or writing. They last until fd, with its
     * duplicates, is closed, or the process is gone. -ENOTSUP: this file system has none. All four
     * are NULL in a table without locks. */
    int (*lock)(struct host_files *files, int fd, uint64_t offset);
    /* Lets a lock go that fd has. */
    int (*unlock)(struct host_files *files, int fd, uint64_t offset);
    /* 1: another open file has a lock on this byte; 0: none has. */
    int (*lock_is_held)(struct host_files *files, int fd, uint64_t offset);
    /* Who has it, for a person: "qemu-nbd (process 42)", or "another process" where the system does
     * not tell. True: one who lives has it; false: none is seen, or it was killed and is ending. */
    bool (*lock_holder)(struct host_files *files, int fd, uint64_t offset, char *text,
                        size_t text_size);
};

/* The real ones. */
extern struct host_files host_files_linux;

/* Of them, those in host_locks_linux.c. */
int linux_lock(struct host_files *files, int fd, uint64_t offset);
int linux_unlock(struct host_files *files, int fd, uint64_t offset);
int linux_lock_is_held(struct host_files *files, int fd, uint64_t offset);
bool linux_lock_holder(struct host_files *files, int fd, uint64_t offset, char *text,
                       size_t text_size);
/* And in host_kept_linux.c. */
int linux_kept_open(struct host_files *files, const char *name, size_t length, bool only_look,
                    struct host_kept *ret_kept, struct error *err);
void linux_kept_close(struct host_files *files, struct host_kept *kept, bool is_done);

#endif
