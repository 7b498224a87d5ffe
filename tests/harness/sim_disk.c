/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#include "common/align.h"
#include "common/checked.h"
#include "common/list.h"

#define STALLS_MS_MAX 3000 /* of so many, whatever the disk: see may_stall() */
#define STALLS_WITHIN_MS 10000
#define FILE_BYTES_MAX (UINT64_C(256) << 20)

static struct sim_disk *disk_of(struct host_files *files)
{
    return container_of(files, struct sim_disk, files);
}

static struct sim_descriptor *descriptor_of(struct sim_disk *disk, int fd)
{
    unsigned index = (unsigned)fd - SIM_DISK_FD_BASE;
    assert(index < SIM_DISK_FDS && disk->fds[index].file); /* not one of ours, or closed */
    return &disk->fds[index];
}

/* --- files ----------------------------------------------------------------------------------- */

/* Now and then the kernel writes something back by itself. */
static void write_back_some(struct sim_disk *disk, struct sim_file *file)
{
    if (file->folios.dirty_count > 0 && random_once_in(&disk->random, 8))
        sim_file_write_back(file, random_below(&disk->random, file->size_bytes + 1), 1, UINT64_MAX);
}

struct sim_file *sim_disk_add_file(struct sim_disk *disk, const char *path, uint64_t size_bytes)
{
    unsigned number = disk->first_file ? disk->first_file->number + 1 : 1;
    struct sim_file *file = sim_file_new(path, number, size_bytes, disk->nature.folio_bytes);
    file->next = disk->first_file;
    disk->first_file = file;
    return file;
}

struct sim_file *sim_disk_find_file(const struct sim_disk *disk, const char *path)
{
    for (struct sim_file *file = disk->first_file; file; file = file->next)
        if (strcmp(file->path, path) == 0)
            return file;
    return NULL;
}

/* --- the calls ------------------------------------------------------------------------------- */

static int disk_open(struct host_files *files, const char *path, int flags, unsigned mode)
{
    struct sim_disk *disk = disk_of(files);
    (void)mode;
    if (flags & O_DIRECT && disk->nature.direct_alignment == 0)
        return -EINVAL;
    int fault = sim_faults_strike(&disk->faults, FAULT_OPEN, 0, 0);
    if (fault < 0)
        return fault;
    struct sim_file *file = sim_disk_find_file(disk, path);
    if (!file && !(flags & O_CREAT))
        return -ENOENT;
    if (file && flags & O_CREAT && flags & O_EXCL)
        return -EEXIST;
    unsigned index = 0;
    while (index < SIM_DISK_FDS && disk->fds[index].file)
        index++;
    if (index == SIM_DISK_FDS)
        return -EMFILE;
    if (!file)
        file = sim_disk_add_file(disk, path, 0);
    disk->fds[index] = (struct sim_descriptor){.file = file, .flags = flags};
    if (flags & O_DIRECT)
        file->direct_count++;
    if (flags & O_TRUNC)
        files->truncate(files, SIM_DISK_FD_BASE + (int)index, 0);
    sim_note(disk->sim, "disk open", index, (uint64_t)flags, file->number);
    return SIM_DISK_FD_BASE + (int)index;
}

static int disk_close(struct host_files *files, int fd)
{
    struct sim_disk *disk = disk_of(files);
    struct sim_descriptor *descriptor = descriptor_of(disk, fd);
    sim_file_write_back(
        descriptor->file, 0, UINT64_MAX,
        UINT64_MAX); /* earlier than the kernel would, later than anyone relies on */
    if (descriptor->flags & O_DIRECT)
        descriptor->file->direct_count--;
    descriptor->file = NULL;
    sim_note(disk->sim, "disk close", (uint64_t)fd, 0, 0);
    return 0;
}

static int disk_info(struct host_files *files, int fd, struct host_file_info *ret_info)
{
    const struct sim_file *file = descriptor_of(disk_of(files), fd)->file;
    *ret_info = (struct host_file_info){.kind = HOST_FILE_REGULAR,
                                        .size_bytes = file->size_bytes,
                                        .device = 1,
                                        .inode = file->number,
                                        .allocated_bytes = sim_file_allocated_bytes(file),
                                        .io_size_bytes = SIM_FILE_BLOCK};
    if (disk_of(files)->nature.says_alignment)
        ret_info->direct_offset_alignment = ret_info->direct_memory_alignment =
            disk_of(files)->nature.direct_alignment;
    return 0;
}

static bool happens(struct random *random, unsigned once_in, uint64_t *count)
{
    if (once_in == 0 || !random_once_in(random, once_in))
        return false;
    ++*count;
    return true;
}

/* A slow call holds up everybody. Where thousands of them follow each other, a client that does all
 * it should would not be through its handshake in time, so they have a share of the time only. */
static bool may_stall(struct sim_disk *disk)
{
    uint64_t now_ns = disk->sim->now_ns;
    if (now_ns - disk->stalls_since_ns > STALLS_WITHIN_MS * NS_PER_MS) {
        disk->stalls_since_ns = now_ns;
        disk->stalled_ns = 0;
    }
    return disk->stalled_ns < STALLS_MS_MAX * NS_PER_MS;
}

/* The time a call takes, and whether a signal ends it before it did anything. */
static bool is_interrupted(struct sim_disk *disk)
{
    if (may_stall(disk) && happens(&disk->random, disk->nature.slow_once_in, &disk->stalls)) {
        uint64_t delay_ns = draw_scaled(&disk->random, 10000, 20 * NS_PER_MS);
        disk->stalled_ns += delay_ns;
        sim_pass_time(disk->sim, delay_ns);
    }
    return happens(&disk->random, disk->nature.eintr_once_in, &disk->interrupts);
}

/* What O_DIRECT asks of offset, addresses and lengths. */
static bool is_transfer_allowed(const struct sim_disk *disk, const struct sim_descriptor *fd,
                                const struct iovec *iov, int iov_count, uint64_t offset)
{
    if (!(fd->flags & O_DIRECT))
        return true;
    uint64_t bits = offset;
    for (int i = 0; i < iov_count; i++)
        bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
    return is_aligned(bits, disk->nature.direct_alignment);
}

/* How much of a transfer of length bytes is done this time: at least one unit. */
static uint64_t draw_transfer(struct sim_disk *disk, const struct sim_descriptor *fd,
                              uint64_t length)
{
    uint64_t unit = fd->flags & O_DIRECT ? disk->nature.direct_alignment : 1;
    if (length <= unit || !happens(&disk->random, disk->nature.short_once_in, &disk->shorts))
        return length;
    return draw_between(&disk->random, 1, (length - 1) / unit) * unit;
}

/* What of a write is done that stops within so many bytes: the kernel copies piece by piece. */
static uint64_t whole_pieces(const struct sim_disk *disk, uint64_t offset, uint64_t length)
{
    uint64_t end = align_down(offset + length, disk->nature.piece_bytes);
    return end > offset ? end - offset : 0;
}

/* The same of a write, which may have no piece to stop behind. */
static uint64_t draw_written(struct sim_disk *disk, const struct sim_descriptor *fd,
                             uint64_t offset, uint64_t length)
{
    uint64_t part = draw_transfer(disk, fd, length);
    uint64_t whole = part < length ? whole_pieces(disk, offset, part) : length;
    return whole > 0 ? whole : length;
}

/* Whether this write fails. As with Linux, it may do a part in spite of that (*length says how
 * much), or give a short count first and the errno to whoever carries on. */
static int draw_write_fault(struct sim_disk *disk, const struct sim_descriptor *fd, uint64_t offset,
                            uint64_t *length)
{
    uint64_t unit = fd->flags & O_DIRECT ? disk->nature.direct_alignment : 1;
    bool is_late = disk->faults.is_armed && disk->late_code < 0 && offset == disk->late_offset;
    int code = is_late ? disk->late_code : sim_faults_draw(&disk->faults, FAULT_WRITE);
    if (code == 0)
        return 0;
    uint64_t done = 0;
    if (!is_late && !random_once_in(&disk->random, 3))
        done = random_below(&disk->random, (*length - 1) / unit + 1) * unit;
    done = whole_pieces(disk, offset, done);
    if (is_late || done == 0 || random_once_in(&disk->random, 2)) {
        sim_faults_happen(&disk->faults, FAULT_WRITE, code, offset, *length);
        disk->late_code = 0;
    } else {
        disk->late_code = code;
        disk->late_offset = offset + done;
        code = 0;
    }
    *length = done;
    return code;
}

static uint64_t iovec_length(const struct iovec *iov, int iov_count)
{
    uint64_t length = 0;
    for (int i = 0; i < iov_count; i++)
        length += iov[i].iov_len;
    return length;
}

/* Makes the disk below show what the page cache holds, as far as the kernel does before a direct
 * transfer that began at that time. */
static void meet_direct(struct sim_disk *disk, const struct sim_descriptor *fd, uint64_t offset,
                        uint64_t length)
{
    struct sim_file *file = fd->file;
    uint64_t began_ns = disk->sim->call_began_ns ? disk->sim->call_began_ns : disk->sim->now_ns;
    write_back_some(disk, file);
    if (fd->flags & O_DIRECT)
        sim_file_write_back(file, offset, length, began_ns);
}

static ssize_t disk_preadv(struct host_files *files, int fd, const struct iovec *iov, int iov_count,
                           uint64_t offset)
{
    struct sim_disk *disk = disk_of(files);
    const struct sim_descriptor *descriptor = descriptor_of(disk, fd);
    struct sim_file *file = descriptor->file;
    if ((descriptor->flags & O_ACCMODE) == O_WRONLY)
        return -EBADF;
    if (!is_transfer_allowed(disk, descriptor, iov, iov_count, offset))
        return -EINVAL;
    if (is_interrupted(disk))
        return -EINTR;
    uint64_t length = draw_transfer(disk, descriptor, iovec_length(iov, iov_count));
    int fault = sim_faults_strike(&disk->faults, FAULT_READ, offset, length);
    if (fault < 0)
        return fault;
    uint64_t left = file->size_bytes > offset ? file->size_bytes - offset : 0;
    if (length > left)
        length = left;
    meet_direct(disk, descriptor, offset, length);
    uint64_t done = 0;
    for (int i = 0; i < iov_count && done < length; i++) {
        uint64_t part = length - done < iov[i].iov_len ? length - done : iov[i].iov_len;
        sim_file_load(file, offset + done, iov[i].iov_base, part, descriptor->flags & O_DIRECT);
        sim_note_bytes(disk->sim, "disk read", offset + done, iov[i].iov_base, part);
        done += part;
    }
    return (ssize_t)done;
}

static ssize_t disk_pwritev(struct host_files *files, int fd, const struct iovec *iov,
                            int iov_count, uint64_t offset)
{
    struct sim_disk *disk = disk_of(files);
    const struct sim_descriptor *descriptor = descriptor_of(disk, fd);
    struct sim_file *file = descriptor->file;
    if ((descriptor->flags & O_ACCMODE) == O_RDONLY)
        return -EBADF;
    if (!is_transfer_allowed(disk, descriptor, iov, iov_count, offset))
        return -EINVAL;
    if (is_interrupted(disk))
        return -EINTR;
    uint64_t length = draw_written(disk, descriptor, offset, iovec_length(iov, iov_count));
    if (length == 0)
        return 0;
    if (!range_is_inside(offset, length, FILE_BYTES_MAX))
        return -EFBIG;
    int fault = draw_write_fault(disk, descriptor, offset, &length);
    if (length == 0)
        return fault;
    meet_direct(disk, descriptor, offset, length);
    uint64_t done = 0;
    for (int i = 0; i < iov_count && done < length; i++) {
        uint64_t part = length - done < iov[i].iov_len ? length - done : iov[i].iov_len;
        sim_file_store(file, offset + done, iov[i].iov_base, part, descriptor->flags & O_DIRECT,
                       disk->sim->now_ns);
        sim_note_bytes(disk->sim, "disk write", offset + done, iov[i].iov_base, part);
        done += part;
    }
    return fault < 0 ? fault : (ssize_t)length;
}

static int disk_sync(struct host_files *files, int fd)
{
    struct sim_disk *disk = disk_of(files);
    struct sim_file *file = descriptor_of(disk, fd)->file;
    if (is_interrupted(disk))
        return -EINTR;
    int fault = sim_faults_strike(&disk->faults, FAULT_SYNC, 0, 0);
    if (fault < 0) {
        sim_file_fail_sync(file, &disk->random);
        return fault;
    }
    sim_file_sync(file);
    disk->syncs++;
    sim_note(disk->sim, "disk sync", file->number, disk->syncs, 0);
    return 0;
}

static int disk_fallocate(struct host_files *files, int fd, int mode, uint64_t offset,
                          uint64_t length)
{
    struct sim_disk *disk = disk_of(files);
    const struct sim_descriptor *descriptor = descriptor_of(disk, fd);
    struct sim_file *file = descriptor->file;
    const struct sim_disk_nature *nature = &disk->nature;
    if ((descriptor->flags & O_ACCMODE) == O_RDONLY)
        return -EBADF;
    if (length == 0)
        return -EINVAL;
    int kind = mode & ~FALLOC_FL_KEEP_SIZE;
    bool punches = kind == FALLOC_FL_PUNCH_HOLE, zeroes = kind == FALLOC_FL_ZERO_RANGE;
    if ((punches && !(nature->has_punch_hole && mode & FALLOC_FL_KEEP_SIZE)) ||
        (zeroes && !nature->has_zero_range) || (kind != 0 && !punches && !zeroes))
        return -EOPNOTSUPP;
    if (!range_is_inside(offset, length, FILE_BYTES_MAX))
        return -EFBIG;
    if (is_interrupted(disk))
        return -EINTR;
    int fault = sim_faults_strike(&disk->faults, FAULT_FALLOCATE, offset, length);
    if (fault < 0)
        return fault;

    if (!(mode & FALLOC_FL_KEEP_SIZE) && offset + length > file->size_bytes)
        sim_file_set_size(file, offset + length);
    if (punches || zeroes)
        sim_file_zero(file, offset, length, punches ? SIM_BLOCK_HOLE : SIM_BLOCK_UNWRITTEN);
    else
        sim_file_allocate(file, offset, length);
    sim_note(disk->sim, "disk fallocate", (uint64_t)mode, offset, length);
    return 0;
}

static int disk_truncate(struct host_files *files, int fd, uint64_t size_bytes)
{
    struct sim_disk *disk = disk_of(files);
    struct sim_file *file = descriptor_of(disk, fd)->file;
    if (size_bytes > FILE_BYTES_MAX)
        return -EFBIG;
    sim_file_set_size(file, size_bytes);
    sim_note(disk->sim, "disk truncate", file->number, size_bytes, 0);
    return 0;
}

static bool shows_as_data(const struct sim_disk *disk, const struct sim_file *file, uint64_t block)
{
    if (!disk->nature.has_seek || file->blocks[block] == SIM_BLOCK_DATA)
        return true;
    return file->blocks[block] == SIM_BLOCK_UNWRITTEN && !disk->nature.unwritten_is_hole;
}

static int disk_seek(struct host_files *files, int fd, enum host_seek what, uint64_t offset,
                     uint64_t *ret_offset)
{
    struct sim_disk *disk = disk_of(files);
    const struct sim_file *file = descriptor_of(disk, fd)->file;
    if (disk->nature.refuses_to_seek)
        return -EINVAL;
    if (offset >= file->size_bytes)
        return -ENXIO;
    int fault = sim_faults_strike(&disk->faults, FAULT_SEEK, offset, file->size_bytes - offset);
    if (fault < 0)
        return fault;
    uint64_t at = offset / SIM_FILE_BLOCK;
    while (at * SIM_FILE_BLOCK < file->size_bytes &&
           shows_as_data(disk, file, at) != (what == HOST_SEEK_DATA))
        at++;
    uint64_t found = at * SIM_FILE_BLOCK > offset ? at * SIM_FILE_BLOCK : offset;
    if (found >= file->size_bytes) {
        if (what == HOST_SEEK_DATA)
            return -ENXIO;
        found = file->size_bytes; /* every file ends with a hole */
    }
    *ret_offset = found;
    sim_note(disk->sim, "disk seek", what, offset, found);
    return 0;
}

static int disk_unlink(struct host_files *files, const char *path)
{
    struct sim_disk *disk = disk_of(files);
    struct sim_file **link = &disk->first_file;
    while (*link && strcmp((*link)->path, path) != 0)
        link = &(*link)->next;
    if (!*link)
        return -ENOENT;
    struct sim_file *file = *link;
    for (unsigned i = 0; i < SIM_DISK_FDS; i++)
        if (disk->fds[i].file == file)
            return -EBUSY; /* Linux would keep it; nothing here needs that */
    *link = file->next;
    sim_file_free(file);
    return 0;
}

/* --- the disk -------------------------------------------------------------------------------- */

struct sim_disk_nature sim_disk_nature_draw(struct random *random, uint32_t direct_alignment)
{
    static const unsigned once_in[] = {0, 0, 3, 10, 50};
    static const uint32_t folio_bytes[] = {4096, 16384, 65536};
    return (struct sim_disk_nature){
        .folio_bytes = folio_bytes[random_below(random, 3)],
        .direct_alignment = direct_alignment,
        .piece_bytes = 1,
        .short_once_in = once_in[random_below(random, 5)],
        .slow_once_in = once_in[random_below(random, 5)],
        .eintr_once_in = once_in[random_below(random, 5)],
        .says_alignment = random_once_in(random, 2),
        .has_punch_hole = !random_once_in(random, 4),
        .has_zero_range = !random_once_in(random, 3),
        .has_seek = !random_once_in(random, 8),
        .refuses_to_seek = random_once_in(random, 8),
        .unwritten_is_hole = random_once_in(random, 2),
    };
}

void sim_disk_init(struct sim_disk *disk, struct sim *sim, const struct sim_disk_nature *nature)
{
    *disk = (struct sim_disk){
        .files = {.name = "sim",
                  .open = disk_open,
                  .close = disk_close,
                  .info = disk_info,
                  .preadv = disk_preadv,
                  .pwritev = disk_pwritev,
                  .sync = disk_sync,
                  .fallocate = disk_fallocate,
                  .truncate = disk_truncate,
                  .seek = disk_seek,
                  .unlink = disk_unlink,
                  .kept_open = sim_kept_open,
                  .kept_close = sim_kept_close},
        .sim = sim,
        .random = sim_random(sim, "disk", 0),
        .nature = *nature,
    };
}

void sim_disk_forget_users(struct sim_disk *disk, bool is_cut)
{
    disk->late_code = 0;
    for (unsigned i = 0; i < SIM_DISK_FDS; i++)
        if (disk->fds[i].file)
            disk_close(&disk->files, SIM_DISK_FD_BASE + (int)i);
    sim_kept_forget_user(&disk->kept, is_cut);
    for (struct sim_file *file = disk->first_file; is_cut && file; file = file->next)
        sim_file_cut(file);
}

unsigned sim_disk_open_count(const struct sim_disk *disk)
{
    unsigned count = 0;
    for (unsigned i = 0; i < SIM_DISK_FDS; i++)
        count += disk->fds[i].file != NULL;
    return count;
}

void sim_disk_fini(struct sim_disk *disk)
{
    sim_faults_fini(&disk->faults);
    sim_kept_forget_user(&disk->kept, true);
    while (disk->first_file) {
        struct sim_file *file = disk->first_file;
        disk->first_file = file->next;
        sim_file_free(file);
    }
}
