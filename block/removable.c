/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/removable.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "block/env.h"
#include "common/checked.h"

int removable_init(struct removable *drive, struct block_node *node, struct node_options *options,
                   int more_flags, struct error *err)
{
    int ret = posix_take_options(node, options, HOST_FILE_BLOCK_DEVICE, &drive->how, err);
    if (ret < 0)
        return ret;
    drive->path = strdup(drive->how.options.path);
    if (!drive->path)
        return error_set(err, -ENOMEM, "no memory to open '%s'", drive->how.options.path);
    drive->how.options.path = drive->path;
    drive->how.more_flags = more_flags;
    posix_file_init(&drive->file, &drive->how); /* not open yet */
    pthread_mutex_init(&drive->mutex, NULL);
    co_queue_init(&drive->waiters);
    return 0;
}

void removable_fini(struct removable *drive)
{
    assert(drive->file.fd < 0 && !drive->is_busy);
    posix_file_fini(&drive->file);
    pthread_mutex_destroy(&drive->mutex);
    free(drive->path);
}

void removable_tell_node(const struct removable *drive, struct block_node *node)
{
    node->limits = device_queue_limits(&drive->medium);
    atomic_store(&node->size_bytes, drive->medium.size_bytes);
    block_env_engine(node->env, drive->file.engine_ops); /* a kernel that refuses it says so now */
}

/* --- one at a time ------------------------------------------------------------------------------
 */

void removable_co_enter(struct removable *drive)
{
    pthread_mutex_lock(&drive->mutex);
    while (drive->is_busy)
        co_queue_wait(&drive->waiters, &drive->mutex);
    drive->is_busy = true;
    pthread_mutex_unlock(&drive->mutex);
}

void removable_leave(struct removable *drive)
{
    pthread_mutex_lock(&drive->mutex);
    assert(drive->is_busy);
    drive->is_busy = false;
    co_queue_wake_one(&drive->waiters);
    pthread_mutex_unlock(&drive->mutex);
}

/* --- the descriptor -----------------------------------------------------------------------------
 */

static int look_at_medium(const struct removable *drive, const struct posix_opening *opening,
                          struct device_queue *ret_medium)
{
    struct host_files *files = opening->files;
    if ((opening->more_flags & O_NONBLOCK) && files->make_blocking) {
        int ret = files->make_blocking(files, opening->fd);
        if (ret < 0)
            return error_set(opening->err, ret, "cannot open '%s': %s", drive->path,
                             error_text(ret));
    }
    int ret = device_queue_read(files, opening->fd, &opening->info, drive->path, ret_medium,
                                opening->err);
    if (ret < 0)
        return ret;
    if (ret_medium->read_only && !opening->read_only)
        return error_set(opening->err, -EROFS,
                         "cannot open '%s' for writing: the medium is write-protected; serve it "
                         "with --read-only",
                         drive->path);
    /* Requests have been cut for the blocks of the first one. */
    if (drive->medium.logical_bytes > 0 && ret_medium->logical_bytes > drive->medium.logical_bytes)
        return error_set(opening->err, -EIO, "the medium in '%s' has larger blocks than the first",
                         drive->path);
    return 0;
}

int removable_open(struct removable *drive, struct error *err)
{
    struct posix_opening opening = drive->how;
    struct device_queue medium;
    opening.err = err;
    int ret = posix_opening_open(&opening);
    if (ret < 0)
        return ret;
    ret = look_at_medium(drive, &opening, &medium);
    if (ret < 0) {
        posix_opening_close(&opening);
        return ret;
    }
    removable_close(drive);
    drive->file.fd = drive->file.buffered_fd = opening.fd;
    if (drive->medium.logical_bytes > 0)
        medium.logical_bytes = drive->medium.logical_bytes; /* the node's, for good */
    drive->medium = medium;
    return 0;
}

void removable_close(struct removable *drive)
{
    struct host_files *files = drive->how.files;
    if (drive->file.fd >= 0)
        files->close(files, drive->file.fd);
    drive->file.fd = drive->file.buffered_fd = -1;
}

int removable_ioctl(struct removable *drive, unsigned long request, void *argument)
{
    struct host_files *files = drive->how.files;
    int ret;
    assert(drive->file.fd >= 0);
    do {
        ret = files->ioctl(files, drive->file.fd, request, argument);
    } while (ret == -EINTR);
    return ret;
}

/* --- transfers ----------------------------------------------------------------------------------
 */

static uint32_t carry_on_alignment(const struct block_node *node)
{
    return posix_of(node)->direct ? node->limits.request_alignment : 1;
}

static bool medium_has(const struct removable *drive, uint64_t offset, uint64_t length)
{
    return range_is_inside(offset, length, drive->medium.size_bytes);
}

int removable_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    const struct removable *drive = removable_of(node);
    size_t done;
    if (!medium_has(drive, offset, vec->length))
        return -EIO;
    int ret =
        posix_co_read_range(node, drive->file.fd, carry_on_alignment(node), offset, vec, &done);
    return ret == 0 && done < vec->length ? -EIO : ret;
}

int removable_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    const struct removable *drive = removable_of(node);
    size_t done;
    if (!medium_has(drive, offset, vec->length))
        return -EIO;
    return posix_co_write_range(node, drive->file.fd, carry_on_alignment(node), offset, vec, &done);
}

/* --- what a person asks for now and then --------------------------------------------------------
 */

int removable_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    struct removable *drive = removable_of(node);
    removable_co_enter(drive);
    uint64_t medium_bytes = drive->medium.size_bytes;
    removable_leave(drive);
    if (medium_bytes != size_bytes)
        return error_set(err, -ENOTSUP,
                         "cannot resize '%s' to %llu bytes: the medium in the drive had %llu when "
                         "it was looked at last",
                         node->name, (unsigned long long)size_bytes,
                         (unsigned long long)medium_bytes);
    atomic_store(&node->size_bytes, size_bytes);
    return 0;
}
