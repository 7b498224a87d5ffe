/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_LOG_WRITES_H
#define BLOCK_LOG_WRITES_H

/*
 * The layout of a log of writes, as the Linux kernel's target dm-log-writes has it on disk
 * (Documentation/admin-guide/device-mapper/log-writes.rst), so that its tools replay such a log.
 * All numbers are little-endian.
 *
 *     sector 0                  superblock
 *     sector 1                  entry 0; then nr_sectors of data, unless it is a discard
 *     the sector after these    entry 1; and so on, nr_entries of them
 *
 * A sector is `sectorsize` bytes; an entry takes one, a mark's text lies behind the entry in it. A
 * flush has no range. An entry's range is counted in sectors of the recorded device.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/endian.h"

#define LOG_WRITES_MAGIC UINT64_C(0x6a736677736872)
#define LOG_WRITES_VERSION 1
#define LOG_WRITES_SUPER_BYTES 28
#define LOG_WRITES_ENTRY_BYTES 32
#define LOG_WRITES_SECTOR_BYTES_MIN 512
#define LOG_WRITES_SECTOR_BYTES_MAX (1u << 20)

enum log_writes_flag {
    LOG_WRITES_FLUSH = 1 << 0,
    LOG_WRITES_FUA = 1 << 1,
    LOG_WRITES_DISCARD = 1 << 2, /* a range, and no data */
    LOG_WRITES_MARK = 1 << 3,    /* a text for people, data_len bytes; changes nothing */
};

struct log_writes_super {
    uint64_t magic, version, nr_entries;
    uint32_t sectorsize;
};

struct log_writes_entry {
    uint64_t sector, nr_sectors;
    uint64_t flags;
    uint64_t data_len; /* of a mark */
};

static inline void log_writes_store_super(uint8_t *to, const struct log_writes_super *super)
{
    store_le64(to, super->magic);
    store_le64(to + 8, super->version);
    store_le64(to + 16, super->nr_entries);
    store_le32(to + 24, super->sectorsize);
}

static inline struct log_writes_super log_writes_load_super(const uint8_t *from)
{
    return (struct log_writes_super){.magic = load_le64(from),
                                     .version = load_le64(from + 8),
                                     .nr_entries = load_le64(from + 16),
                                     .sectorsize = load_le32(from + 24)};
}

static inline void log_writes_store_entry(uint8_t *to, const struct log_writes_entry *entry)
{
    store_le64(to, entry->sector);
    store_le64(to + 8, entry->nr_sectors);
    store_le64(to + 16, entry->flags);
    store_le64(to + 24, entry->data_len);
}

static inline struct log_writes_entry log_writes_load_entry(const uint8_t *from)
{
    return (struct log_writes_entry){.sector = load_le64(from),
                                     .nr_sectors = load_le64(from + 8),
                                     .flags = load_le64(from + 16),
                                     .data_len = load_le64(from + 24)};
}

/* How many sectors of data follow the entry's own. */
static inline uint64_t log_writes_data_sectors(const struct log_writes_entry *entry)
{
    return entry->flags & LOG_WRITES_DISCARD ? 0 : entry->nr_sectors;
}

#endif
