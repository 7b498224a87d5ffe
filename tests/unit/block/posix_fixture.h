/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_BLOCK_POSIX_FIXTURE_H
#define TESTS_UNIT_BLOCK_POSIX_FIXTURE_H

/*
 * A loop, workers, an environment and a folder of files for tests of the driver "file", and a host
 * between them that counts what is asked of it and can be told to behave badly.
 */

#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "block/block.h"
#include "block/coroutine.h"
#include "block/driver.h"
#include "block/env.h"
#include "block/host_files.h"
#include "block/loop.h"
#include "block/node_options.h"
#include "block/workers.h"

/* Passes everything to the real host but what it was told to spoil. */
struct odd_files {
    struct host_files files;
    size_t transfer_max;          /* a transfer moves no more; 0: no limit */
    unsigned interrupt;           /* this many calls fail with -EINTR first, each time */
    _Atomic unsigned interrupted; /* of them, so far */
    bool write_nothing;           /* a write returns 0 */
    int missing_fallocate;        /* this mode bit is refused with -EOPNOTSUPP */
    bool no_allocate;             /* fallocate that only allocates is refused */
    bool no_direct;               /* opening with O_DIRECT is refused */
    bool no_seek;                 /* SEEK_DATA is refused with -EINVAL */
    bool hide_alignment;          /* info says nothing of O_DIRECT */
    uint32_t direct;              /* O_DIRECT transfers must be multiples of this */
    uint32_t direct_memory;       /* and their memory */
    int direct_fd;                /* the last one opened with O_DIRECT */
    _Atomic unsigned reads, writes, seeks, syncs, fallocates, direct_writes, will_needs;
    uint64_t needed_offset, needed_length;       /* of the last will_need */
    _Atomic pthread_t write_thread, seek_thread; /* of the last one */
    _Atomic bool write_gate;                     /* a write waits for `gate`, which the test made */
    sem_t gate;
    int open_error;      /* what opening for writing gives; 0: nothing special */
    int kind;            /* what info calls the file instead of what it is; -1: the truth */
    int fallocate_error; /* what every fallocate gives; 0: nothing special */
    int lock_error;      /* what every lock gives; 0: nothing special */
};

struct posix_fixture {
    struct loop *loop;
    struct workers *workers;
    struct block_env env;
    struct odd_files odd;
    char folder[64];
    char path[96]; /* folder/image */
    void (*body)(struct posix_fixture *fixture);
    const struct engine_ops *engine; /* of the suite that runs on each */
    struct error err;
};

static inline struct odd_files *odd_of(struct host_files *files)
{
    return container_of(files, struct odd_files, files);
}

static inline bool odd_interrupts(struct odd_files *odd)
{
    if (odd->interrupted < odd->interrupt) {
        odd->interrupted++;
        return true;
    }
    odd->interrupted = 0;
    return false;
}

static inline int odd_open(struct host_files *files, const char *path, int flags, unsigned mode)
{
    struct odd_files *odd = odd_of(files);
    if (odd_interrupts(odd))
        return -EINTR;
    if ((flags & O_DIRECT) && odd->no_direct)
        return -EINVAL;
    if ((flags & O_ACCMODE) == O_RDWR && odd->open_error)
        return odd->open_error;
    int fd = host_files_linux.open(files, path, flags, mode);
    if (flags & O_DIRECT)
        odd->direct_fd = fd;
    return fd;
}

static inline int odd_close(struct host_files *files, int fd)
{
    if (fd == odd_of(files)->direct_fd)
        odd_of(files)->direct_fd = -1;
    return host_files_linux.close(files, fd);
}

static inline int odd_info(struct host_files *files, int fd, struct host_file_info *ret_info)
{
    int ret = host_files_linux.info(files, fd, ret_info);
    if (ret == 0 && odd_of(files)->hide_alignment)
        ret_info->direct_offset_alignment = ret_info->direct_memory_alignment = 0;
    if (ret == 0 && odd_of(files)->kind >= 0)
        ret_info->kind = (enum host_file_kind)odd_of(files)->kind;
    return ret;
}

static inline bool odd_refuses(const struct odd_files *odd, int fd, const struct iovec *iov,
                               int iov_count, uint64_t offset)
{
    if (fd != odd->direct_fd || odd->direct == 0)
        return false;
    uint64_t all = offset;
    uint64_t addresses = 0;
    for (int i = 0; i < iov_count; i++) {
        all |= iov[i].iov_len;
        addresses |= (uintptr_t)iov[i].iov_base;
    }
    return all % odd->direct != 0 || addresses % odd->direct_memory != 0;
}

/* The front of the iovecs that a short transfer moves; at least one byte. */
static inline int odd_cut(const struct odd_files *odd, const struct iovec *iov, int iov_count,
                          struct iovec *cut)
{
    size_t left = odd->transfer_max ? odd->transfer_max : SIZE_MAX;
    int count = 0;
    while (count < iov_count && left > 0) {
        cut[count] = iov[count];
        if (cut[count].iov_len > left)
            cut[count].iov_len = left;
        left -= cut[count++].iov_len;
    }
    return count;
}

static inline ssize_t odd_preadv(struct host_files *files, int fd, const struct iovec *iov,
                                 int iov_count, uint64_t offset)
{
    struct odd_files *odd = odd_of(files);
    struct iovec cut[1024];
    odd->reads++;
    if (odd_interrupts(odd))
        return -EINTR;
    if (odd_refuses(odd, fd, iov, iov_count, offset))
        return -EINVAL;
    iov_count = odd_cut(odd, iov, iov_count, cut);
    return host_files_linux.preadv(files, fd, cut, iov_count, offset);
}

static inline ssize_t odd_pwritev(struct host_files *files, int fd, const struct iovec *iov,
                                  int iov_count, uint64_t offset)
{
    struct odd_files *odd = odd_of(files);
    struct iovec cut[1024];
    odd->writes++;
    odd->direct_writes += fd == odd->direct_fd;
    odd->write_thread = pthread_self();
    if (odd->write_gate)
        sem_wait(&odd->gate);
    if (odd_interrupts(odd))
        return -EINTR;
    if (odd->write_nothing)
        return 0;
    if (odd_refuses(odd, fd, iov, iov_count, offset))
        return -EINVAL;
    iov_count = odd_cut(odd, iov, iov_count, cut);
    return host_files_linux.pwritev(files, fd, cut, iov_count, offset);
}

static inline int odd_sync(struct host_files *files, int fd)
{
    odd_of(files)->syncs++;
    return odd_interrupts(odd_of(files)) ? -EINTR : host_files_linux.sync(files, fd);
}

static inline int odd_fallocate(struct host_files *files, int fd, int mode, uint64_t offset,
                                uint64_t length)
{
    struct odd_files *odd = odd_of(files);
    odd->fallocates++;
    if (odd_interrupts(odd))
        return -EINTR;
    bool only_allocates = (mode & ~FALLOC_FL_KEEP_SIZE) == 0;
    if ((mode & odd->missing_fallocate) || (only_allocates && odd->no_allocate))
        return -EOPNOTSUPP;
    if (odd->fallocate_error)
        return odd->fallocate_error;
    return host_files_linux.fallocate(files, fd, mode, offset, length);
}

static inline int odd_seek(struct host_files *files, int fd, enum host_seek what, uint64_t offset,
                           uint64_t *ret_offset)
{
    struct odd_files *odd = odd_of(files);
    odd->seeks++;
    odd->seek_thread = pthread_self();
    if (odd->no_seek)
        return -EINVAL;
    return host_files_linux.seek(files, fd, what, offset, ret_offset);
}

static inline int odd_lock(struct host_files *files, int fd, uint64_t offset)
{
    if (odd_interrupts(odd_of(files)))
        return -EINTR;
    return odd_of(files)->lock_error ? odd_of(files)->lock_error
                                     : host_files_linux.lock(files, fd, offset);
}

static inline int odd_lock_is_held(struct host_files *files, int fd, uint64_t offset)
{
    if (odd_interrupts(odd_of(files)))
        return -EINTR;
    return host_files_linux.lock_is_held(files, fd, offset);
}

static inline int odd_will_need(struct host_files *files, int fd, uint64_t offset, uint64_t length)
{
    struct odd_files *odd = odd_of(files);
    odd->will_needs++;
    odd->needed_offset = offset;
    odd->needed_length = length;
    return host_files_linux.will_need(files, fd, offset, length);
}

static inline struct odd_files odd_files_new(void)
{
    struct odd_files odd = {
        .files = host_files_linux, .direct_fd = -1, .direct_memory = 1, .kind = -1};
    odd.files.open = odd_open;
    odd.files.close = odd_close;
    odd.files.info = odd_info;
    odd.files.preadv = odd_preadv;
    odd.files.preadv_at_once = NULL;
    odd.files.pwritev = odd_pwritev;
    odd.files.sync = odd_sync;
    odd.files.fallocate = odd_fallocate;
    odd.files.seek = odd_seek;
    odd.files.lock = odd_lock;
    odd.files.lock_is_held = odd_lock_is_held;
    odd.files.will_need = odd_will_need;
    return odd;
}

static const struct block_driver *const only_file[] = {&block_driver_file, NULL};

/* The loop's; a test may put its own here. */
static struct clock *posix_fixture_clock = &clock_monotonic;

/* tmpfs has no page cache apart from its files, nor RWF_NOWAIT: nothing of it is lent. */
static inline bool posix_fixture_is_on_tmpfs(void)
{
    const char *place = getenv("TMPDIR");
    struct statfs about;
    return statfs(place ? place : "/tmp", &about) == 0 && about.f_type == TMPFS_MAGIC;
}

static inline void run_body(void *arg)
{
    struct posix_fixture *fixture = arg;
    fixture->body(fixture);
}

/* Runs body in a coroutine, with an empty folder and everything that stands behind a file. */
static inline void with_posix_drivers(void **state, const struct block_driver *const *drivers,
                                      void (*body)(struct posix_fixture *fixture))
{
    struct posix_fixture fixture = {
        .body = body,
        .engine = *state ? *state : &engine_sync,
        .odd = odd_files_new(),
    };
    const char *place = getenv("TMPDIR"); /* on which file system the files are */
    snprintf(fixture.folder, sizeof(fixture.folder), "%.40s/platter-test-XXXXXX",
             place ? place : "/tmp");
    assert_non_null(mkdtemp(fixture.folder));
    snprintf(fixture.path, sizeof(fixture.path), "%s/image", fixture.folder);
    assert_int_equal(loop_new(&fixture.loop, 0, &poller_ev, posix_fixture_clock, NULL), 0);
    assert_int_equal(workers_new(&fixture.workers, 4, NULL), 0);
    assert_int_equal(block_env_init(&fixture.env, &fixture.loop, 1, fixture.workers,
                                    &fixture.odd.files, drivers, NULL),
                     0);
    assert_int_equal(loop_run_co(fixture.loop, run_body, &fixture), 0);
    block_env_fini(&fixture.env);
    workers_free(fixture.workers);
    loop_free(fixture.loop);
    unlink(fixture.path);
    assert_int_equal(rmdir(fixture.folder), 0);
}

static inline void with_posix(void **state, void (*body)(struct posix_fixture *fixture))
{
    with_posix_drivers(state, only_file, body);
}

/* Makes the image: size bytes, each what pattern_at() says. */
static inline uint8_t pattern_at(uint64_t offset)
{
    return (uint8_t)(offset * 31 + (offset >> 9) * 7 + 1);
}

static inline void make_image(const struct posix_fixture *fixture, size_t size)
{
    FILE *image = fopen(fixture->path, "w");
    assert_non_null(image);
    for (size_t i = 0; i < size; i++)
        putc(pattern_at(i), image);
    assert_int_equal(fclose(image), 0);
}

static inline uint64_t image_size(const struct posix_fixture *fixture)
{
    struct stat stat_of_image;
    assert_int_equal(stat(fixture->path, &stat_of_image), 0);
    return (uint64_t)stat_of_image.st_size;
}

/* "key=value" strings, NULL-ended; the driver, the file name and the engine come by themselves. */
static inline struct node_options *make_options(const struct posix_fixture *fixture,
                                                const char *const *extra)
{
    struct node_options *options = node_options_new();
    node_options_set(options, "driver", "file", NULL);
    node_options_set(options, "filename", fixture->path, NULL);
    node_options_set(options, "aio", fixture->engine->name, NULL);
    for (; extra && *extra; extra++) {
        char key[64];
        const char *equals = strchr(*extra, '=');
        snprintf(key, sizeof(key), "%.*s", (int)(equals - *extra), *extra);
        assert_int_equal(node_options_set(options, key, equals + 1, NULL), 0);
    }
    if (fixture->engine->needs_direct)
        node_options_set(options, "cache.direct", "on", NULL);
    return options;
}

#define EXTRA(...) ((const char *const[]){__VA_ARGS__, NULL})

static inline int try_open(struct posix_fixture *fixture, const char *const *extra,
                           struct block_node **ret_node)
{
    return block_co_open(&fixture->env, make_options(fixture, extra), ret_node, &fixture->err);
}

static inline struct block_node *open_image(struct posix_fixture *fixture, const char *const *extra)
{
    struct block_node *node = NULL;
    int ret = try_open(fixture, extra, &node);
    if (ret < 0)
        fail_msg("%s", fixture->err.message);
    return node;
}

static inline int read_at(struct block_node *node, uint64_t offset, void *data, size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    return node_co_read(node, offset, &vec);
}

static inline int write_at(struct block_node *node, uint64_t offset, void *data, size_t length)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    return node_co_write(node, offset, &vec, 0);
}

#define ON_EACH_ENGINE(test)                                            \
    {"io_uring: " #test, test, NULL, NULL, (void *)&engine_uring},      \
        {"threads: " #test, test, NULL, NULL, (void *)&engine_threads}, \
        {"native: " #test, test, NULL, NULL, (void *)&engine_native},   \
    {                                                                   \
        "sync: " #test, test, NULL, NULL, (void *)&engine_sync          \
    }

static inline int backend_co_write_byte(struct block_backend *backend, uint64_t offset,
                                        uint8_t byte)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &byte, 1);
    return block_co_write(backend, offset, &vec, 0);
}

static inline uint8_t backend_co_byte(struct block_backend *backend, uint64_t offset)
{
    uint8_t byte = 0;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &byte, 1);
    assert_int_equal(block_co_read(backend, offset, &vec), 0);
    return byte;
}

#endif
