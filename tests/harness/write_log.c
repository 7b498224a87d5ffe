/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/write_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/align.h"
#include "common/checked.h"

/* --- opening --------------------------------------------------------------------------------- */

static int check_super(const struct log_writes_super *super, struct error *err)
{
    if (super->magic != LOG_WRITES_MAGIC)
        return error_set(err, -EINVAL, "no log of writes: the magic is 0x%" PRIx64, super->magic);
    if (super->version != LOG_WRITES_VERSION)
        return error_set(err, -EINVAL, "the log has the version %" PRIu64, super->version);
    if (super->sectorsize < LOG_WRITES_SECTOR_BYTES_MIN ||
        super->sectorsize > LOG_WRITES_SECTOR_BYTES_MAX || !is_power_of_two(super->sectorsize))
        return error_set(err, -EINVAL, "the log has sectors of %u bytes", super->sectorsize);
    return 0;
}

int write_log_open_memory(struct write_log *log, const void *bytes, size_t length,
                          struct error *err)
{
    if (length < LOG_WRITES_SUPER_BYTES)
        return error_set(err, -EINVAL, "the log has %zu bytes, fewer than a superblock", length);
    struct log_writes_super super = log_writes_load_super(bytes);
    int rc = check_super(&super, err);
    if (rc == 0)
        *log = (struct write_log){.bytes = bytes, .length = length, .super = super, .sector = 1};
    return rc;
}

int write_log_open(struct write_log *log, const char *path, struct error *err)
{
    struct stat stat;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &stat) < 0) {
        int rc = error_set(err, -errno, "'%s' cannot be opened: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return rc;
    }
    size_t length = (size_t)stat.st_size;
    void *bytes = mmap(NULL, length > 0 ? length : 1, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (bytes == MAP_FAILED)
        return error_set(err, -errno, "'%s' cannot be mapped: %s", path, strerror(errno));
    int rc = write_log_open_memory(log, bytes, length, err);
    if (rc < 0)
        munmap(bytes, length > 0 ? length : 1);
    else
        log->is_mapped = true;
    return rc;
}

void write_log_close(struct write_log *log)
{
    if (log->is_mapped)
        munmap((void *)(uintptr_t)log->bytes, log->length);
    log->bytes = NULL;
}

/* --- reading --------------------------------------------------------------------------------- */

static int not_whole(const struct write_log *log, struct error *err)
{
    return error_set(err, -EINVAL,
                     "entry %" PRIu64 " of %" PRIu64 " reaches past the end of the log, which has "
                     "%zu bytes",
                     log->number, log->super.nr_entries, log->length);
}

int write_log_next(struct write_log *log, struct write_log_entry *ret_entry, struct error *err)
{
    uint64_t sector_bytes = log->super.sectorsize;
    uint64_t sectors = log->length / sector_bytes;
    uint64_t next;
    if (log->number >= log->super.nr_entries)
        return 0;
    if (log->sector >= sectors)
        return not_whole(log, err);
    const uint8_t *bytes = log->bytes + log->sector * sector_bytes;
    struct log_writes_entry entry = log_writes_load_entry(bytes);
    if (!checked_add(log->sector + 1, log_writes_data_sectors(&entry), &next) || next > sectors)
        return not_whole(log, err);
    if (entry.nr_sectors > UINT64_MAX / sector_bytes ||
        entry.sector > UINT64_MAX / sector_bytes - entry.nr_sectors)
        return error_set(err, -EINVAL, "entry %" PRIu64 " has a range past 2^64", log->number);
    bool is_mark = entry.flags & LOG_WRITES_MARK;
    if (is_mark && entry.data_len > sector_bytes - LOG_WRITES_ENTRY_BYTES)
        return error_set(err, -EINVAL, "entry %" PRIu64 " is a mark of %" PRIu64 " bytes",
                         log->number, entry.data_len);
    *ret_entry = (struct write_log_entry){
        .number = log->number,
        .offset = entry.sector * sector_bytes,
        .length = entry.nr_sectors * sector_bytes,
        .flags = (unsigned)entry.flags,
        .data = entry.flags & LOG_WRITES_DISCARD ? NULL : bytes + sector_bytes,
        .mark = is_mark ? (const char *)bytes + LOG_WRITES_ENTRY_BYTES : NULL,
        .mark_length = is_mark ? (size_t)entry.data_len : 0,
    };
    log->number++;
    log->sector = next;
    return 1;
}

void write_log_rewind(struct write_log *log)
{
    log->number = 0;
    log->sector = 1;
}

/* --- replay ---------------------------------------------------------------------------------- */

/* How much of the entry lies inside an image of that size. */
static uint64_t inside(const struct write_log_entry *entry, uint64_t size)
{
    uint64_t left = entry->offset < size ? size - entry->offset : 0;
    return entry->length < left ? entry->length : left;
}

void write_log_apply(const struct write_log_entry *entry, uint8_t *image, size_t length)
{
    uint64_t count = inside(entry, length);
    if (count == 0)
        return;
    if (entry->data)
        memcpy(image + entry->offset, entry->data, count);
    else
        memset(image + entry->offset, 0, count);
}

static int write_all(int fd, const uint8_t *data, uint64_t offset, uint64_t length)
{
    for (uint64_t done = 0; done < length;) {
        ssize_t count = pwrite(fd, data + done, length - done, (off_t)(offset + done));
        if (count < 0 && errno != EINTR)
            return -errno;
        done += count > 0 ? (uint64_t)count : 0;
    }
    return 0;
}

static int zero_all(int fd, uint64_t offset, uint64_t length)
{
    static const uint8_t zeroes[64 << 10];
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) ==
        0)
        return 0;
    int rc = 0;
    for (uint64_t done = 0; done < length && rc == 0; done += sizeof(zeroes))
        rc = write_all(fd, zeroes, offset + done,
                       length - done < sizeof(zeroes) ? length - done : sizeof(zeroes));
    return rc;
}

int write_log_apply_to_file(const struct write_log_entry *entry, int fd, struct error *err)
{
    struct stat stat;
    int rc = fstat(fd, &stat) < 0 ? -errno : 0;
    uint64_t count = rc == 0 ? inside(entry, (uint64_t)stat.st_size) : 0;
    if (count > 0 && entry->data)
        rc = write_all(fd, entry->data, entry->offset, count);
    else if (count > 0)
        rc = zero_all(fd, entry->offset, count);
    if (rc < 0)
        return error_set(err, rc, "entry %" PRIu64 " cannot be replayed: %s", entry->number,
                         error_text(rc));
    return 0;
}

int write_log_replay(struct write_log *log, uint64_t end_number, uint8_t *image, size_t length,
                     struct error *err)
{
    struct write_log_entry entry = {0};
    int rc = 0;
    while (log->number < end_number && (rc = write_log_next(log, &entry, err)) > 0)
        write_log_apply(&entry, image, length);
    return rc < 0 ? rc : 0;
}

int write_log_replay_to_file(struct write_log *log, uint64_t end_number, int fd, struct error *err)
{
    struct write_log_entry entry;
    int rc = 0;
    while (log->number < end_number && (rc = write_log_next(log, &entry, err)) > 0) {
        rc = write_log_apply_to_file(&entry, fd, err);
        if (rc < 0)
            break;
    }
    return rc < 0 ? rc : 0;
}
