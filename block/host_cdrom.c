/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The protocol driver "host_cdrom": an image that is the disc in a CD-ROM, DVD or BD drive. Only to
 * be read. removable.h says what it stands on.
 *
 * The drive is opened with O_NONBLOCK, as qemu does: that neither pulls the tray in nor locks the
 * door, so a person may take the disc out.
 *
 * The disc is looked at before a request that comes CHECK_EVERY_NS or longer after the last look,
 * and after every failed read: CDROM_DRIVE_STATUS says whether there is one, CDROM_MEDIA_CHANGED
 * whether it is another, CDROM_DISC_STATUS whether it has data.
 *
 *   present   requests are read
 *   absent    -ENOMEDIUM (the client gets EIO), at once
 *   changed   or put back: the drive is opened anew, so that the kernel forgets what it has of the
 *             old one, and the size is read again; the request then reads the new disc. As with
 *             qemu-nbd, an NBD client cannot be told; the log says it.
 *
 * Without a disc the image cannot be opened: as with qemu-nbd, since an export of nothing would
 * keep its size of 0 for good.
 *
 * A read that fails is tried twice more, for discs are scratched; the drive itself tries often each
 * time.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/cdrom.h>
#include <stdlib.h>

#include "block/env.h"
#include "block/loop.h"
#include "block/removable.h"
#include "block/workers.h"
#include "common/log.h"

#define CHECK_EVERY_NS (200 * NS_PER_MS)
#define MORE_TRIES 2

struct cdrom {
    struct removable drive; /* first */
    bool is_absent;         /* at the last look */
    bool must_check;
    uint64_t checked_ns;
};

static struct cdrom *cdrom_of(const struct block_node *node)
{
    return container_of(removable_of(node), struct cdrom, drive);
}

/* --- on a worker --------------------------------------------------------------------------------
 */

/* 0: a disc is in the drive, or the drive does not tell. */
static int look_for_disc(struct removable *drive)
{
    int status = removable_ioctl(drive, CDROM_DRIVE_STATUS, (void *)(uintptr_t)CDSL_CURRENT);
    switch (status) {
    case CDS_NO_DISC:
    case CDS_TRAY_OPEN:
    case CDS_DRIVE_NOT_READY:
        return -ENOMEDIUM;
    case -ENXIO:
    case -ENODEV:
    case -EIO:
        return status;
    default:
        return 0;
    }
}

/* A drive that cannot tell says no. */
static bool is_changed(struct removable *drive)
{
    return removable_ioctl(drive, CDROM_MEDIA_CHANGED, (void *)(uintptr_t)CDSL_CURRENT) == 1;
}

static int check_content(struct removable *drive, struct error *err)
{
    switch (removable_ioctl(drive, CDROM_DISC_STATUS, NULL)) {
    case CDS_AUDIO:
        return error_set(err, -EMEDIUMTYPE,
                         "cannot open '%s': an audio disc is in the drive, which has no data",
                         drive->path);
    case CDS_NO_DISC:
        return error_set(err, -ENOMEDIUM, "cannot open '%s': no disc is in the drive; put one in",
                         drive->path);
    default:
        return 0;
    }
}

static void note_absence(struct cdrom *cdrom, int code)
{
    if (!cdrom->is_absent)
        log_warning("'%s': no disc can be read (%s); requests fail until one is in the drive",
                    cdrom->drive.path, error_text(code));
    cdrom->is_absent = true;
}

static int check_work(void *arg)
{
    struct cdrom *cdrom = arg;
    struct removable *drive = &cdrom->drive;
    int ret = look_for_disc(drive);
    if (ret == 0 && !is_changed(drive) && !cdrom->is_absent)
        return 0;
    if (ret == 0)
        ret = removable_open(drive, NULL);
    if (ret == 0)
        ret = check_content(drive, NULL);
    if (ret < 0) {
        note_absence(cdrom, ret);
        return ret;
    }
    log_warning("'%s': the disc was changed or put back; it has %llu bytes", drive->path,
                (unsigned long long)drive->medium.size_bytes);
    cdrom->is_absent = false;
    return 0;
}

struct open_job {
    struct cdrom *cdrom;
    struct error *err;
};

static int open_work(void *arg)
{
    const struct open_job *job = arg;
    struct removable *drive = &job->cdrom->drive;
    int ret = removable_open(drive, job->err);
    if (ret < 0)
        return ret;
    ret = look_for_disc(drive);
    if (ret < 0)
        ret = posix_open_failed(drive->path, ret, false, job->err);
    else
        ret = check_content(drive, job->err);
    if (ret < 0)
        removable_close(drive);
    else
        is_changed(drive); /* since the last look, of whomever: that is past */
    return ret;
}

static int close_work(void *arg)
{
    removable_close(arg);
    return 0;
}

/* --- requests -----------------------------------------------------------------------------------
 */

static int co_check(struct block_node *node)
{
    struct cdrom *cdrom = cdrom_of(node);
    uint64_t now_ns = loop_now_ns(loop_current());
    if (!cdrom->must_check && now_ns - cdrom->checked_ns < CHECK_EVERY_NS)
        return 0;
    int ret = workers_co_run(node->env->workers, check_work, cdrom);
    cdrom->checked_ns = now_ns;
    cdrom->must_check = ret < 0; /* a disc that is put in is seen at once */
    return ret;
}

static int cdrom_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    struct cdrom *cdrom = cdrom_of(node);
    int ret = -EIO;
    removable_co_enter(&cdrom->drive);
    for (unsigned tries = 0; tries < 1 + MORE_TRIES; tries++) {
        int checked = co_check(node);
        ret = checked < 0 ? checked : removable_co_read(node, offset, vec);
        if (ret == 0 || checked < 0)
            break;
        cdrom->must_check = true;
    }
    removable_leave(&cdrom->drive);
    return ret;
}

/* --- opening and closing ------------------------------------------------------------------------
 */

static int cdrom_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    struct cdrom *cdrom = calloc(1, sizeof(*cdrom));
    if (!cdrom)
        return error_set(err, -ENOMEM, "no memory to open '%s'", node->name);
    int ret = removable_init(&cdrom->drive, node, options, O_NONBLOCK, err);
    if (ret < 0) {
        free(cdrom);
        return ret;
    }
    struct open_job job = {.cdrom = cdrom, .err = err};
    ret = workers_co_run(node->env->workers, open_work, &job);
    if (ret < 0) {
        removable_fini(&cdrom->drive);
        free(cdrom);
        return ret;
    }
    cdrom->checked_ns = loop_now_ns(loop_current());
    node->state = &cdrom->drive.file;
    removable_tell_node(&cdrom->drive, node);
    return 0;
}

static void cdrom_co_close(struct block_node *node)
{
    struct cdrom *cdrom = cdrom_of(node);
    workers_co_run(node->env->workers, close_work, &cdrom->drive);
    removable_fini(&cdrom->drive);
    free(cdrom);
    node->state = NULL;
}

/* As qemu does: what answers to the question for a disc is a drive of discs. */
static int cdrom_probe_path(struct host_files *files, const char *path)
{
    struct host_file_info info;
    if (posix_look_at(files, path, &info) < 0 || info.kind != HOST_FILE_BLOCK_DEVICE ||
        info.device_major == HOST_FLOPPY_MAJOR || !files->ioctl)
        return 0;
    int fd = files->open(files, path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return 0;
    int status = files->ioctl(files, fd, CDROM_DRIVE_STATUS, (void *)(uintptr_t)CDSL_CURRENT);
    files->close(files, fd);
    return status >= 0 ? 100 : 0;
}

static const struct block_driver_admin cdrom_admin = {
    .co_resize = removable_co_resize,
};

const struct block_driver block_driver_host_cdrom = {
    .name = "host_cdrom",
    .flags = BLOCK_DRIVER_PROTOCOL,
    .probe_path = cdrom_probe_path,
    .co_open = cdrom_co_open,
    .co_close = cdrom_co_close,
    .co_read = cdrom_co_read,
    .admin = &cdrom_admin,
};
