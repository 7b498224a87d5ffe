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

#define FILE_BYTES_MAX (UINT64_C(256) << 20)

enum block_state {
    BLOCK_IS_HOLE,
    BLOCK_IS_UNWRITTEN, /* takes space, reads as zeroes */
    BLOCK_IS_DATA,
};

enum change_kind {
    CHANGE_WRITE,
    CHANGE_ZERO, /* a hole or unwritten blocks: reads as zeroes */
    CHANGE_SIZE,
};

struct sim_change {
    enum change_kind kind;
    uint64_t offset; /* CHANGE_SIZE: the new size */
    uint64_t length;
    struct sim_change *next;
    uint8_t data[]; /* CHANGE_WRITE */
};

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

static void file_make_room(struct sim_file *file, uint64_t size_bytes)
{
    if (size_bytes <= file->room_bytes)
        return;
    uint64_t room = align_up(size_bytes + size_bytes / 4, SIM_DISK_BLOCK);
    uint8_t **arrays[] = {&file->cached, &file->durable};
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *larger = calloc(1, room);
        assert(larger);
        if (file->room_bytes)
            memcpy(larger, *arrays[i], file->room_bytes);
        free(*arrays[i]);
        *arrays[i] = larger;
    }
    file->blocks = realloc(file->blocks, room / SIM_DISK_BLOCK);
    assert(file->blocks);
    memset(file->blocks + file->room_bytes / SIM_DISK_BLOCK, BLOCK_IS_HOLE,
           (room - file->room_bytes) / SIM_DISK_BLOCK);
    file->room_bytes = room;
}

static void journal_add(struct sim_file *file, enum change_kind kind, uint64_t offset,
                        uint64_t length, const void *data)
{
    size_t data_length = kind == CHANGE_WRITE ? length : 0;
    struct sim_change *change = malloc(sizeof(*change) + data_length);
    assert(change);
    *change = (struct sim_change){.kind = kind, .offset = offset, .length = length};
    if (data_length)
        memcpy(change->data, data, data_length);
    *file->journal_end = change;
    file->journal_end = &change->next;
}

/* Everything past the size reads as zeroes when the file grows again. */
static void set_size(uint8_t *bytes, uint64_t *size, uint64_t new_size)
{
    if (new_size < *size)
        memset(bytes + new_size, 0, *size - new_size);
    *size = new_size;
}

static void journal_play(struct sim_file *file)
{
    while (file->journal_first) {
        struct sim_change *change = file->journal_first;
        if (change->kind == CHANGE_SIZE) {
            set_size(file->durable, &file->durable_size_bytes, change->offset);
        } else {
            uint64_t end = change->offset + change->length;
            if (change->kind == CHANGE_WRITE)
                memcpy(file->durable + change->offset, change->data, change->length);
            else
                memset(file->durable + change->offset, 0, change->length);
            if (change->kind == CHANGE_WRITE && end > file->durable_size_bytes)
                file->durable_size_bytes = end;
        }
        file->journal_first = change->next;
        free(change);
    }
    file->journal_end = &file->journal_first;
}

static void file_mark(struct sim_file *file, uint64_t offset, uint64_t length,
                      enum block_state state)
{
    for (uint64_t at = offset / SIM_DISK_BLOCK; at * SIM_DISK_BLOCK < offset + length; at++)
        if (state == BLOCK_IS_DATA || file->blocks[at] == BLOCK_IS_HOLE)
            file->blocks[at] = state;
}

/* --- the page cache below buffered access ---------------------------------------------------- */

static void folios_fetch(void *owner, uint64_t offset, void *to, uint64_t length)
{
    const struct sim_file *file = owner;
    uint64_t stored = offset < file->room_bytes ? file->room_bytes - offset : 0;
    if (stored > length)
        stored = length;
    if (stored > 0)
        memcpy(to, file->cached + offset, stored);
    memset((uint8_t *)to + stored, 0, length - stored);
}

static void folios_write_back(void *owner, uint64_t offset, const void *from, uint64_t length)
{
    struct sim_file *file = owner;
    if (offset >= file->size_bytes)
        return;
    if (length > file->size_bytes - offset)
        length = file->size_bytes - offset;
    memcpy(file->cached + offset, from, length);
    journal_add(file, CHANGE_WRITE, offset, length, from);
}

static void flush_all(struct sim_file *file)
{
    folios_flush(&file->folios, 0, file->size_bytes, UINT64_MAX);
}

/* Now and then the kernel writes something back by itself. */
static void flush_some(struct sim_disk *disk, struct sim_file *file)
{
    if (file->folios.dirty_count > 0 && random_once_in(&disk->random, 8))
        folios_flush(&file->folios, random_below(&disk->random, file->size_bytes + 1), 1,
                     UINT64_MAX);
}

struct sim_file *sim_disk_add_file(struct sim_disk *disk, const char *path, uint64_t size_bytes)
{
    struct sim_file *file = calloc(1, sizeof(*file));
    assert(file);
    file->path = strdup(path);
    file->journal_end = &file->journal_first;
    file->folios = (struct sim_folios){.folio_bytes = disk->nature.folio_bytes,
                                       .fetch = folios_fetch,
                                       .write_back = folios_write_back,
                                       .owner = file};
    file->number = disk->first_file ? disk->first_file->number + 1 : 1;
    file->next = disk->first_file;
    disk->first_file = file;
    file_make_room(file, size_bytes > 0 ? size_bytes : 1);
    file->size_bytes = file->durable_size_bytes = size_bytes;
    return file;
}

void sim_file_fill(struct sim_file *file, uint64_t offset, const void *bytes, uint64_t length)
{
    assert(range_is_inside(offset, length, file->size_bytes));
    memcpy(file->cached + offset, bytes, length);
    memcpy(file->durable + offset, bytes, length);
    file_mark(file, offset, length, BLOCK_IS_DATA);
}

static void file_free(struct sim_file *file)
{
    journal_play(file);
    folios_fini(&file->folios);
    free(file->path);
    free(file->cached);
    free(file->durable);
    free(file->blocks);
    free(file);
}

static struct sim_file *find_file(struct sim_disk *disk, const char *path)
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
    struct sim_file *file = find_file(disk, path);
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
    flush_all(descriptor->file); /* earlier than the kernel would, later than anyone relies on */
    if (descriptor->flags & O_DIRECT)
        descriptor->file->direct_count--;
    descriptor->file = NULL;
    sim_note(disk->sim, "disk close", (uint64_t)fd, 0, 0);
    return 0;
}

static int disk_info(struct host_files *files, int fd, struct host_file_info *ret_info)
{
    const struct sim_file *file = descriptor_of(disk_of(files), fd)->file;
    uint64_t allocated = 0;
    for (uint64_t at = 0; at * SIM_DISK_BLOCK < file->size_bytes; at++)
        if (file->blocks[at] != BLOCK_IS_HOLE)
            allocated += SIM_DISK_BLOCK;
    *ret_info = (struct host_file_info){.kind = HOST_FILE_REGULAR,
                                        .size_bytes = file->size_bytes,
                                        .device = 1,
                                        .inode = file->number,
                                        .allocated_bytes = allocated,
                                        .io_size_bytes = SIM_DISK_BLOCK};
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

/* The time a call takes, and whether a signal ends it before it did anything. */
static bool is_interrupted(struct sim_disk *disk)
{
    if (happens(&disk->random, disk->nature.slow_once_in, &disk->stalls))
        sim_pass_time(disk->sim, draw_scaled(&disk->random, 10000, 20 * NS_PER_MS));
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
    flush_some(disk, file);
    if (fd->flags & O_DIRECT)
        folios_flush(&file->folios, offset, length, began_ns);
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
    uint64_t left = file->size_bytes > offset ? file->size_bytes - offset : 0;
    if (length > left)
        length = left;
    meet_direct(disk, descriptor, offset, length);
    uint64_t done = 0;
    for (int i = 0; i < iov_count && done < length; i++) {
        uint64_t part = length - done < iov[i].iov_len ? length - done : iov[i].iov_len;
        if (descriptor->flags & O_DIRECT)
            memcpy(iov[i].iov_base, file->cached + offset + done, part);
        else
            folios_read(&file->folios, offset + done, iov[i].iov_base, part);
        done += part;
    }
    sim_note_bytes(disk->sim, "disk read", offset, file->cached + offset, done);
    return (ssize_t)done;
}

/* Puts the bytes where this kind of descriptor puts them. */
static void store(struct sim_disk *disk, const struct sim_descriptor *fd, uint64_t offset,
                  const void *from, uint64_t length)
{
    struct sim_file *file = fd->file;
    if (file->direct_count > 0 && !(fd->flags & O_DIRECT)) {
        folios_write(&file->folios, offset, from, length, disk->sim->now_ns);
        return;
    }
    memcpy(file->cached + offset, from, length);
    journal_add(file, CHANGE_WRITE, offset, length, from);
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
    uint64_t length = draw_transfer(disk, descriptor, iovec_length(iov, iov_count));
    if (length == 0)
        return 0;
    if (!range_is_inside(offset, length, FILE_BYTES_MAX))
        return -EFBIG;
    file_make_room(file, offset + length);
    meet_direct(disk, descriptor, offset, length);
    uint64_t done = 0;
    for (int i = 0; i < iov_count && done < length; i++) {
        uint64_t part = length - done < iov[i].iov_len ? length - done : iov[i].iov_len;
        store(disk, descriptor, offset + done, iov[i].iov_base, part);
        sim_note_bytes(disk->sim, "disk write", offset + done, iov[i].iov_base, part);
        done += part;
    }
    if (offset + length > file->size_bytes)
        file->size_bytes = offset + length;
    file_mark(file, offset, length, BLOCK_IS_DATA);
    return (ssize_t)length;
}

static int disk_sync(struct host_files *files, int fd)
{
    struct sim_disk *disk = disk_of(files);
    struct sim_file *file = descriptor_of(disk, fd)->file;
    if (is_interrupted(disk))
        return -EINTR;
    flush_all(file);
    journal_play(file);
    disk->syncs++;
    sim_note(disk->sim, "disk sync", file->number, disk->syncs, 0);
    return 0;
}

/* Zeroes the range; whole blocks in it become what `state` says. */
static void zero_range(struct sim_file *file, uint64_t offset, uint64_t length,
                       enum block_state state)
{
    uint64_t end = offset + length;
    memset(file->cached + offset, 0, length);
    for (uint64_t at = offset / SIM_DISK_BLOCK; at * SIM_DISK_BLOCK < end; at++) {
        bool is_whole = at * SIM_DISK_BLOCK >= offset && (at + 1) * SIM_DISK_BLOCK <= end;
        if (is_whole)
            file->blocks[at] = state;
        else if (state == BLOCK_IS_UNWRITTEN && file->blocks[at] == BLOCK_IS_HOLE)
            file->blocks[at] = state;
    }
    journal_add(file, CHANGE_ZERO, offset, length, NULL);
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

    folios_flush(&file->folios, offset, length, UINT64_MAX);
    uint64_t end = offset + length;
    bool grows = !(mode & FALLOC_FL_KEEP_SIZE) && end > file->size_bytes;
    file_make_room(file, end);
    if (grows) {
        file->size_bytes = end;
        journal_add(file, CHANGE_SIZE, end, 0, NULL);
    }
    if (punches || zeroes)
        zero_range(file, offset, length, punches ? BLOCK_IS_HOLE : BLOCK_IS_UNWRITTEN);
    else
        file_mark(file, offset, length, BLOCK_IS_UNWRITTEN);
    sim_note(disk->sim, "disk fallocate", (uint64_t)mode, offset, length);
    return 0;
}

static int disk_truncate(struct host_files *files, int fd, uint64_t size_bytes)
{
    struct sim_disk *disk = disk_of(files);
    struct sim_file *file = descriptor_of(disk, fd)->file;
    if (size_bytes > FILE_BYTES_MAX)
        return -EFBIG;
    file_make_room(file, size_bytes);
    flush_all(file);
    set_size(file->cached, &file->size_bytes, size_bytes);
    for (uint64_t at = (size_bytes + SIM_DISK_BLOCK - 1) / SIM_DISK_BLOCK;
         at < file->room_bytes / SIM_DISK_BLOCK; at++)
        file->blocks[at] = BLOCK_IS_HOLE;
    journal_add(file, CHANGE_SIZE, size_bytes, 0, NULL);
    sim_note(disk->sim, "disk truncate", file->number, size_bytes, 0);
    return 0;
}

static bool shows_as_data(const struct sim_disk *disk, const struct sim_file *file, uint64_t block)
{
    if (!disk->nature.has_seek || file->blocks[block] == BLOCK_IS_DATA)
        return true;
    return file->blocks[block] == BLOCK_IS_UNWRITTEN && !disk->nature.unwritten_is_hole;
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
    uint64_t at = offset / SIM_DISK_BLOCK;
    while (at * SIM_DISK_BLOCK < file->size_bytes &&
           shows_as_data(disk, file, at) != (what == HOST_SEEK_DATA))
        at++;
    uint64_t found = at * SIM_DISK_BLOCK > offset ? at * SIM_DISK_BLOCK : offset;
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
    file_free(file);
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
                  .unlink = disk_unlink},
        .sim = sim,
        .random = sim_random(sim, "disk", 0),
        .nature = *nature,
    };
}

void sim_disk_fini(struct sim_disk *disk)
{
    while (disk->first_file) {
        struct sim_file *file = disk->first_file;
        disk->first_file = file->next;
        file_free(file);
    }
}
