/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The protocol driver "host_device": an image that is a block device of the host. It stands on the
 * core of the driver "file" (posix.c): the same options, engines, locks, transfers and loans. What
 * is different:
 *
 *   size       by BLKGETSIZE64; a device does not grow by being written
 *   blocks     all requests are made of whole logical blocks of the device (device_queue.c)
 *   zeroes     BLKZEROOUT, or PUNCH_HOLE where space may go; discards: BLKDISCARD
 *              (host_device_zero.c)
 *   the end    a read that ends early is an error: the device has shrunk or is gone, and zeroes
 *              would be a lie
 *   status     all of it is data: nobody can ask a device for its holes
 *
 * The write cache. A flush is an fdatasync(), always. It writes back what is in the page cache, and
 * then the kernel sends a flush to the device, but only when the device's queue says "write back".
 * So on a device without a volatile cache, opened by O_DIRECT, it costs a call and no I/O, and
 * there is nothing to be gained by leaving it out here; and much to be lost: the queue's setting
 * may be changed while we serve, a queue that says "write through" may be one a person has set so,
 * and without O_DIRECT the page cache is volatile in any case. What the queue said at the opening
 * is told in the log, and that is all.
 *
 * In use by the system. As with qemu-nbd, a device that is mounted, or belongs to LVM, RAID or
 * swap, is served all the same, and its own users are not kept from it. When it is opened to be
 * written, a warning says so. (O_EXCL, by which the kernel tells, is used to ask alone. To keep it
 * would refuse what qemu-nbd does, and two exports of one device.) Among image servers the locks of
 * posix_lock.c tell who uses it; they lie on the device's file under /dev, so a second file for the
 * same device, made by mknod(1) or in a container's own /dev, is not covered.
 *
 * A device that is gone (pulled out, or its loop was taken down) answers ENXIO, EIO or ENODEV, or
 * reads of nothing; the client gets EIO for each request, the log one line. Writes behind the end
 * of one that shrank come back as ENOSPC, which is said of a full thin volume too: so its size is
 * looked at before that is believed.
 */
#include "block/host_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>

#include "block/env.h"
#include "block/workers.h"
#include "common/log.h"

/* --- failures -----------------------------------------------------------------------------------
 */

struct size_job {
    struct host_device *device;
    uint64_t size_bytes;
};

static int size_work(void *arg)
{
    struct size_job *job = arg;
    const struct posix_file *file = &job->device->file;
    return device_queue_size(file->files, file->fd, job->device->queue.logical_bytes,
                             &job->size_bytes);
}

static void say_once(struct block_node *node, const char *what)
{
    if (!atomic_exchange(&host_device_of(node)->trouble_said, true))
        log_error("'%s': %s; its requests fail from now on", node->name, what);
}

int host_device_co_failed(struct block_node *node, uint64_t end, int code)
{
    struct size_job job = {.device = host_device_of(node)};
    switch (code) {
    case -ENXIO:
    case -ENODEV:
    case -ENOMEDIUM:
        say_once(node, "the device is gone");
        return -EIO;
    case -ENOSPC:
        if (workers_co_run(node->env->workers, size_work, &job) == 0 && job.size_bytes >= end)
            return code;
        say_once(node, "the device has become smaller, or is gone");
        return -EIO;
    default:
        return code;
    }
}

/* --- data ---------------------------------------------------------------------------------------
 */

/* Where a transfer that the kernel cut short may be carried on. */
static uint32_t carry_on_alignment(const struct block_node *node)
{
    return posix_of(node)->direct ? node->limits.request_alignment : 1;
}

static int host_device_co_read(struct block_node *node, uint64_t offset,
                               const struct block_vec *vec)
{
    size_t done;
    int ret =
        posix_co_read_range(node, posix_of(node)->fd, carry_on_alignment(node), offset, vec, &done);
    if (ret < 0)
        return host_device_co_failed(node, offset + vec->length, ret);
    if (done == vec->length)
        return 0;
    say_once(node, "the device has become smaller, or is gone");
    return -EIO;
}

static int host_device_co_write(struct block_node *node, uint64_t offset,
                                const struct block_vec *vec, unsigned flags)
{
    (void)flags; /* FUA is a flush that the block layer adds */
    size_t done;
    int ret = posix_co_write_range(node, posix_of(node)->fd, carry_on_alignment(node), offset, vec,
                                   &done);
    return ret < 0 ? host_device_co_failed(node, offset + vec->length, ret) : 0;
}

static int host_device_co_flush(struct block_node *node)
{
    int ret = posix_co_flush(node);
    return ret < 0 ? host_device_co_failed(node, 0, ret) : 0;
}

/* --- opening ------------------------------------------------------------------------------------
 */

static int host_device_probe_path(struct host_files *files, const char *path)
{
    struct host_file_info info;
    return posix_look_at(files, path, &info) == 0 && info.kind == HOST_FILE_BLOCK_DEVICE ? 50 : 0;
}

struct device_opening {
    struct posix_opening opening;
    struct device_queue queue;
};

/* The kernel refuses O_EXCL for what somebody holds. The moment for which we hold it ourselves
 * harms nobody but one who mounts it at that very moment, and so does what would follow. */
static void warn_if_held(const struct posix_opening *opening)
{
    struct host_files *files = opening->files;
    int fd = files->open(files, opening->options.path, O_RDONLY | O_EXCL, 0);
    if (fd >= 0)
        files->close(files, fd);
    else if (fd == -EBUSY)
        log_warning("'%s': the system has this device in use (it may be mounted, or belong to LVM, "
                    "RAID or swap); if both write to it, its content is lost",
                    opening->options.path);
}

static int check_device(struct device_opening *job)
{
    struct posix_opening *opening = &job->opening;
    int ret = device_queue_read(opening->files, opening->fd, &opening->info, opening->options.path,
                                &job->queue, opening->err);
    if (ret == 0 && job->queue.read_only && !opening->read_only)
        return error_set(opening->err, -EROFS,
                         "cannot open '%s' for writing: the device is read-only; serve it with "
                         "--read-only",
                         opening->options.path);
    return ret;
}

static int open_work(void *arg)
{
    struct device_opening *job = arg;
    struct posix_opening *opening = &job->opening;
    int ret = posix_opening_open(opening);
    if (ret < 0)
        return ret;
    ret = check_device(job);
    if (ret < 0) {
        posix_opening_close(opening);
        return ret;
    }
    if (!opening->read_only)
        warn_if_held(opening);
    if (!opening->options.direct)
        posix_lend_open(opening->files, opening->fd, job->queue.size_bytes, &opening->pages);
    return 0;
}

static const char *cache_text(enum device_cache cache)
{
    switch (cache) {
    case DEVICE_CACHE_NONE:
        return "no volatile write cache";
    case DEVICE_CACHE_VOLATILE:
        return "a volatile write cache";
    case DEVICE_CACHE_UNKNOWN:
        break;
    }
    return "a write cache of a kind that is not known";
}

static int host_device_co_open(struct block_node *node, struct node_options *options,
                               struct error *err)
{
    struct device_opening job;
    int ret = posix_take_options(node, options, HOST_FILE_BLOCK_DEVICE, &job.opening, err);
    if (ret < 0)
        return ret;
    struct host_device *device = calloc(1, sizeof(*device));
    if (!device)
        return error_set(err, -ENOMEM, "no memory to open '%s'", job.opening.options.path);
    ret = workers_co_run(node->env->workers, open_work, &job);
    if (ret < 0) {
        free(device);
        return ret;
    }
    posix_file_init(&device->file, &job.opening);
    device->queue = job.queue;
    node->state = &device->file;
    node->limits = device_queue_limits(&device->queue);
    atomic_store(&node->size_bytes, device->queue.size_bytes);
    block_env_engine(node->env, device->file.engine_ops);
    log_verbose("'%s': a device with logical blocks of %u bytes, physical ones of %u, and %s",
                node->name, device->queue.logical_bytes, device->queue.physical_bytes,
                cache_text(device->queue.cache));
    return 0;
}

/* --- what a person asks for now and then --------------------------------------------------------
 */

/* A device has the size it has; that may have changed since, and is taken over here. */
static int host_device_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    struct size_job job = {.device = host_device_of(node)};
    int ret = workers_co_run(node->env->workers, size_work, &job);
    if (ret < 0)
        return error_set(err, ret, "cannot learn the size of '%s': %s", node->name,
                         error_text(ret));
    if (job.size_bytes != size_bytes)
        return error_set(
            err, -ENOTSUP, "cannot resize '%s' to %llu bytes: it is a device, and has %llu",
            node->name, (unsigned long long)size_bytes, (unsigned long long)job.size_bytes);
    job.device->queue.size_bytes = size_bytes;
    atomic_store(&node->size_bytes, size_bytes);
    return 0;
}

static const struct block_driver_admin host_device_admin = {
    .co_resize = host_device_co_resize,
    .co_inactivate = posix_co_inactivate,
    .co_invalidate = posix_co_invalidate,
};

const struct block_driver block_driver_host_device = {
    .name = "host_device",
    .flags = BLOCK_DRIVER_PROTOCOL,
    .probe_path = host_device_probe_path,
    .co_open = host_device_co_open,
    .co_close = posix_co_close,
    .co_read = host_device_co_read,
    .co_write = host_device_co_write,
    .co_zero = host_device_co_zero,
    .co_discard = host_device_co_discard,
    .co_cache = posix_co_cache,
    .co_flush = host_device_co_flush,
    .lend = posix_lend,
    .admin = &host_device_admin,
};
