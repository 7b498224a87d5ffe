/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The protocol driver "host_floppy": an image that is the disk in a floppy drive. removable.h says
 * what it stands on.
 *
 * The drive is opened without O_NONBLOCK: then the kernel looks for a disk, and the opening fails
 * without one (ENXIO), or with a write-protected one that is to be written (EROFS). So the opening
 * is the probe for a disk:
 *
 *   open     between requests, for a second after the last one; then it is synced and closed, so
 *            that the motor stops and the disk may be taken out. At each request the drive is asked
 *            (FDPOLLDRVSTAT) whether its disk was changed since.
 *   closed   the next request opens it.
 *   failed   for a second after an opening that failed, each request is answered with EIO and the
 *            drive is left alone: an empty drive would clatter at every request.
 *
 * A changed disk (FD_DISK_NEWCHANGE, FD_DISK_CHANGED, or the drive's count of changes is another,
 * also across a time when it was closed) is noticed: the drive is opened anew, which reads the size
 * again and forgets what the kernel had of the old disk, and the log says so. What was written to
 * the old one and not flushed yet is lost, and the next flush says EIO.
 *
 * After a failed transfer the drive is reset if it needs that (FDRESET), so that the next request
 * does not begin in the middle.
 *
 * The locks of posix_lock.c lie on the descriptor, so a drive that is closed between two requests
 * is not locked; where another program has it by then, the opening fails.
 */
#include <errno.h>
#include <linux/fd.h>
#include <stdlib.h>

#include "block/env.h"
#include "block/home_timer.h"
#include "block/removable.h"
#include "block/workers.h"
#include "common/log.h"

#define KEPT_OPEN_NS NS_PER_S
#define LEFT_ALONE_NS NS_PER_S

struct floppy {
    struct removable drive; /* first */
    struct workers *workers;
    struct home_timer idle; /* set while the drive is open */
    uint64_t used_ns;       /* the last request ended */

    bool has_failed; /* the last opening */
    uint64_t failed_ns;

    bool knows_generation;
    int generation; /* the drive's count of changed disks */
    bool is_dirty;  /* written since the last sync */
    int lost;       /* the errno of a sync that failed, or of a disk that went unsynced */
};

static struct floppy *floppy_of(const struct block_node *node)
{
    return container_of(removable_of(node), struct floppy, drive);
}

/* --- on a worker --------------------------------------------------------------------------------
 */

static bool is_open(const struct floppy *floppy)
{
    return floppy->drive.file.fd >= 0;
}

/* The kernel's own close would sync too, and tell nobody how that went. */
static int sync_dirty(struct floppy *floppy)
{
    struct posix_file *file = &floppy->drive.file;
    int ret = 0;
    if (floppy->is_dirty && !file->no_flush) {
        do {
            ret = file->files->sync(file->files, file->fd);
        } while (ret == -EINTR);
    }
    floppy->is_dirty = false;
    if (ret < 0) {
        floppy->lost = ret;
        log_error("'%s': what was written last did not come to the disk: %s", floppy->drive.path,
                  error_text(ret));
    }
    return ret;
}

static int close_work(void *arg)
{
    struct floppy *floppy = arg;
    if (!is_open(floppy))
        return 0;
    sync_dirty(floppy);
    removable_close(&floppy->drive);
    return 0;
}

static void forget_old_disk(struct floppy *floppy)
{
    if (!floppy->is_dirty)
        return;
    floppy->is_dirty = false;
    floppy->lost = -EIO;
    log_error("'%s': the disk was taken out before all that was written had come to it",
              floppy->drive.path);
}

/* Whether the drive says so, compared with what it said at the last opening. */
static bool is_changed(const struct floppy *floppy, const struct floppy_drive_struct *state)
{
    return (state->flags & (FD_DISK_NEWCHANGE | FD_DISK_CHANGED)) ||
           (floppy->knows_generation && state->generation != floppy->generation);
}

static void note_generation(struct floppy *floppy)
{
    struct floppy_drive_struct state;
    if (removable_ioctl(&floppy->drive, FDPOLLDRVSTAT, &state) < 0)
        return;
    if (floppy->knows_generation && state.generation != floppy->generation)
        log_warning("'%s': the disk was changed; it has %llu bytes", floppy->drive.path,
                    (unsigned long long)floppy->drive.medium.size_bytes);
    floppy->knows_generation = true;
    floppy->generation = state.generation;
}

static int open_disk(struct floppy *floppy, uint64_t now_ns, struct error *err)
{
    removable_close(&floppy->drive);
    int ret = removable_open(&floppy->drive, err);
    if (ret == 0) {
        floppy->has_failed = false;
        note_generation(floppy);
        return 0;
    }
    if (!floppy->has_failed && !err)
        log_warning("'%s': no disk can be used (%s); requests fail until one is in the drive",
                    floppy->drive.path, error_text(ret));
    floppy->has_failed = true;
    floppy->failed_ns = now_ns;
    return err ? ret : -EIO;
}

struct drive_job {
    struct floppy *floppy;
    uint64_t now_ns;
    struct error *err; /* NULL: the answer is for a client */
};

static int open_work(void *arg)
{
    const struct drive_job *job = arg;
    return open_disk(job->floppy, job->now_ns, job->err);
}

static int probe_work(void *arg)
{
    const struct drive_job *job = arg;
    struct floppy *floppy = job->floppy;
    struct floppy_drive_struct state;
    if (floppy->has_failed && job->now_ns - floppy->failed_ns < LEFT_ALONE_NS)
        return -EIO;
    if (!is_open(floppy))
        return open_disk(floppy, job->now_ns, NULL);
    int ret = removable_ioctl(&floppy->drive, FDPOLLDRVSTAT, &state);
    bool cannot_tell =
        ret == -ENOTTY || ret == -EINVAL; /* no drive of the kernel's floppy driver */
    if (cannot_tell || (ret >= 0 && !is_changed(floppy, &state)))
        return 0;
    forget_old_disk(floppy);
    return open_disk(floppy, job->now_ns, NULL);
}

static int reset_work(void *arg)
{
    struct floppy *floppy = arg;
    return removable_ioctl(&floppy->drive, FDRESET, (void *)(uintptr_t)FD_RESET_IF_NEEDED);
}

/* --- requests -----------------------------------------------------------------------------------
 */

/* Has the drive afterwards in any case: co_end() it. */
static int co_begin(struct block_node *node)
{
    struct drive_job job = {.floppy = floppy_of(node)};
    removable_co_enter(&job.floppy->drive);
    job.now_ns = loop_now_ns(loop_current());
    return workers_co_run(node->env->workers, probe_work, &job);
}

static int co_end(struct block_node *node, bool was_tried, int ret)
{
    struct floppy *floppy = floppy_of(node);
    if (was_tried && ret < 0)
        workers_co_run(node->env->workers, reset_work, floppy);
    if (is_open(floppy)) {
        floppy->used_ns = loop_now_ns(loop_current());
        home_timer_set(&floppy->idle, floppy->used_ns + KEPT_OPEN_NS);
    }
    removable_leave(&floppy->drive);
    return ret;
}

static int floppy_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    int ret = co_begin(node);
    if (ret < 0)
        return co_end(node, false, ret);
    return co_end(node, true, removable_co_read(node, offset, vec));
}

static int floppy_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                           unsigned flags)
{
    (void)flags; /* FUA is a flush that the block layer adds */
    int ret = co_begin(node);
    if (ret < 0)
        return co_end(node, false, ret);
    floppy_of(node)->is_dirty = true;
    return co_end(node, true, removable_co_write(node, offset, vec));
}

/* A drive that is closed was synced before. A disk that has gone is missed only if it lacks
 * something. */
static int floppy_co_flush(struct block_node *node)
{
    struct floppy *floppy = floppy_of(node);
    int ret = co_begin(node);
    bool can_sync = ret == 0 && floppy->is_dirty;
    ret = can_sync ? posix_co_flush(node) : 0;
    if (ret < 0)
        floppy->lost = ret;
    if (can_sync && ret == 0)
        floppy->is_dirty = false;
    return co_end(node, can_sync, floppy->lost);
}

static void floppy_co_idle(struct home_timer *timer)
{
    struct floppy *floppy = container_of(timer, struct floppy, idle);
    removable_co_enter(&floppy->drive);
    uint64_t due_ns = floppy->used_ns + KEPT_OPEN_NS;
    if (loop_now_ns(loop_current()) >= due_ns)
        workers_co_run(floppy->workers, close_work, floppy);
    else
        home_timer_set(&floppy->idle, due_ns);
    removable_leave(&floppy->drive);
}

/* --- opening and closing ------------------------------------------------------------------------
 */

static int floppy_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    struct error own_err; /* a sentence is made in any case */
    struct floppy *floppy = calloc(1, sizeof(*floppy));
    if (!floppy)
        return error_set(err, -ENOMEM, "no memory to open '%s'", node->name);
    int ret = removable_init(&floppy->drive, node, options, 0, err);
    if (ret < 0) {
        free(floppy);
        return ret;
    }
    floppy->workers = node->env->workers;
    struct drive_job job = {.floppy = floppy, .err = err ? err : &own_err};
    ret = workers_co_run(node->env->workers, open_work, &job);
    if (ret < 0) {
        removable_fini(&floppy->drive);
        free(floppy);
        return ret;
    }
    home_timer_init(&floppy->idle, node->env, floppy_co_idle);
    node->state = &floppy->drive.file;
    removable_tell_node(&floppy->drive, node);
    floppy->used_ns = loop_now_ns(loop_current());
    home_timer_set(&floppy->idle, floppy->used_ns + KEPT_OPEN_NS);
    return 0;
}

static void floppy_co_close(struct block_node *node)
{
    struct floppy *floppy = floppy_of(node);
    home_timer_co_fini(&floppy->idle);
    workers_co_run(node->env->workers, close_work, floppy);
    removable_fini(&floppy->drive);
    free(floppy);
    node->state = NULL;
}

static int floppy_probe_path(struct host_files *files, const char *path)
{
    struct host_file_info info;
    return posix_look_at(files, path, &info) == 0 && info.kind == HOST_FILE_BLOCK_DEVICE &&
                   info.device_major == HOST_FLOPPY_MAJOR
               ? 100
               : 0;
}

static const struct block_driver_admin floppy_admin = {
    .co_resize = removable_co_resize,
};

const struct block_driver block_driver_host_floppy = {
    .name = "host_floppy",
    .flags = BLOCK_DRIVER_PROTOCOL,
    .probe_path = floppy_probe_path,
    .co_open = floppy_co_open,
    .co_close = floppy_co_close,
    .co_read = floppy_co_read,
    .co_write = floppy_co_write,
    .co_flush = floppy_co_flush,
    .admin = &floppy_admin,
};
