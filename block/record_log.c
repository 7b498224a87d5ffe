/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/record_log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "block/buffer.h"
#include "block/env.h"
#include "block/node.h"
#include "common/align.h"
#include "common/checked.h"

/*
 * The order of a log is the order of its places, and a request takes its place ("slot") under the
 * mutex, for some instructions; then it writes its entry there, while others write theirs. So
 * entries are written side by side, and the log may have gaps at its end for a while. The
 * superblock counts no entry behind a gap: it is written by one request at a time, with as many
 * entries as are in the log without one.
 *
 * An entry that could not be written is a gap for ever, so the log ends before it. From then on
 * every change of the recorded image fails with that error: an image must not go on without its
 * record.
 */

static uint8_t *get_sector(struct record_log *log)
{
    uint8_t *sector = buffer_get(&block_env_local(log->node->env)->buffers, log->sector_bytes);
    if (sector)
        memset(sector, 0, log->sector_bytes);
    return sector;
}

static void put_sector(struct record_log *log, uint8_t *sector)
{
    buffer_put(&block_env_local(log->node->env)->buffers, sector, log->sector_bytes);
}

/* Writes a sector that get_sector() gave, and gives it back; NULL: there was no memory. */
static int co_write_sector(struct record_log *log, uint64_t index, uint8_t *sector)
{
    struct iovec iov;
    if (!sector)
        return -ENOMEM;
    struct block_vec vec = vec_of_buffer(&iov, sector, log->sector_bytes);
    int rc = node_co_write(log->node, index * log->sector_bytes, &vec, 0);
    put_sector(log, sector);
    return rc;
}

static int co_write_super(struct record_log *log, uint64_t entries)
{
    const struct log_writes_super super = {.magic = LOG_WRITES_MAGIC,
                                           .version = LOG_WRITES_VERSION,
                                           .nr_entries = entries,
                                           .sectorsize = log->sector_bytes};
    uint8_t *sector = get_sector(log);
    if (sector)
        log_writes_store_super(sector, &super);
    return co_write_sector(log, 0, sector);
}

/* --- opening --------------------------------------------------------------------------------- */

static void init(struct record_log *log, struct block_node *node, uint32_t sector_bytes,
                 uint64_t update_interval)
{
    *log = (struct record_log){.node = node,
                               .sector_bytes = sector_bytes,
                               .update_interval = update_interval,
                               .next_sector = 1,
                               .failed_number = UINT64_MAX};
    pthread_mutex_init(&log->mutex, NULL);
    list_init(&log->writing);
    co_queue_init(&log->changed);
}

void record_log_fini(struct record_log *log)
{
    assert(list_is_empty(&log->writing) && !log->super_running);
    pthread_mutex_destroy(&log->mutex);
}

int record_log_co_create(struct record_log *log, struct block_node *node, uint32_t sector_bytes,
                         uint64_t update_interval, struct error *err)
{
    init(log, node, sector_bytes, update_interval);
    int rc = co_write_super(log, 0);
    if (rc == 0)
        return 0;
    record_log_fini(log);
    return error_set(err, rc, "the log '%s' cannot be written: %s", node->name, error_text(rc));
}

static int co_read_at(struct block_node *node, uint64_t offset, uint8_t *data, size_t length,
                      struct error *err)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    int rc = node_co_read(node, offset, &vec);
    if (rc < 0)
        return error_set(err, rc, "the log '%s' cannot be read: %s", node->name, error_text(rc));
    return 0;
}

static int check_super(const struct block_node *node, const struct log_writes_super *super,
                       struct error *err)
{
    if (super->magic != LOG_WRITES_MAGIC)
        return error_set(err, -EINVAL,
                         "'%s' is no log of writes: its magic is 0x%" PRIx64
                         "; leave log-append out to make it one",
                         node->name, super->magic);
    if (super->version != LOG_WRITES_VERSION)
        return error_set(err, -ENOTSUP, "the log '%s' has the version %" PRIu64 "; known is %d",
                         node->name, super->version, LOG_WRITES_VERSION);
    if (super->sectorsize < LOG_WRITES_SECTOR_BYTES_MIN ||
        super->sectorsize > LOG_WRITES_SECTOR_BYTES_MAX || !is_power_of_two(super->sectorsize))
        return error_set(err, -EINVAL,
                         "the log '%s' has sectors of %u bytes; a power of two from %d to %u is "
                         "possible",
                         node->name, super->sectorsize, LOG_WRITES_SECTOR_BYTES_MIN,
                         LOG_WRITES_SECTOR_BYTES_MAX);
    return 0;
}

/* Finds the end of the log: from entry to entry, each inside the file or else there is no end. */
static int co_walk(struct record_log *log, uint64_t entries, struct error *err)
{
    uint64_t sectors = node_size(log->node) / log->sector_bytes;
    for (uint64_t i = 0; i < entries; i++) {
        uint8_t bytes[LOG_WRITES_ENTRY_BYTES];
        uint64_t next;
        if (log->next_sector >= sectors)
            return error_set(err, -EINVAL,
                             "the log '%s' counts %" PRIu64
                             " entries, but ends before entry %" PRIu64,
                             log->node->name, entries, i);
        int rc =
            co_read_at(log->node, log->next_sector * log->sector_bytes, bytes, sizeof(bytes), err);
        if (rc < 0)
            return rc;
        struct log_writes_entry entry = log_writes_load_entry(bytes);
        if (!checked_add(log->next_sector + 1, log_writes_data_sectors(&entry), &next) ||
            next > sectors)
            return error_set(err, -EINVAL,
                             "entry %" PRIu64 " of the log '%s' has %" PRIu64
                             " sectors, which is past the log's end",
                             i, log->node->name, entry.nr_sectors);
        log->next_sector = next;
    }
    log->next_number = log->super_entries = entries;
    return 0;
}

int record_log_co_append(struct record_log *log, struct block_node *node, uint64_t update_interval,
                         struct error *err)
{
    uint8_t bytes[LOG_WRITES_SUPER_BYTES];
    int rc = co_read_at(node, 0, bytes, sizeof(bytes), err);
    if (rc < 0)
        return rc;
    struct log_writes_super super = log_writes_load_super(bytes);
    rc = check_super(node, &super, err);
    if (rc < 0)
        return rc;
    init(log, node, super.sectorsize, update_interval);
    rc = co_walk(log, super.nr_entries, err);
    if (rc < 0)
        record_log_fini(log);
    return rc;
}

/* --- entries --------------------------------------------------------------------------------- */

/* The mutex is held. */
static void fail_at(struct record_log *log, uint64_t number, int rc)
{
    if (number < log->failed_number)
        log->failed_number = number;
    if (!log->failed)
        log->failed = rc;
}

int record_log_failed(struct record_log *log)
{
    pthread_mutex_lock(&log->mutex);
    int rc = log->failed;
    pthread_mutex_unlock(&log->mutex);
    return rc;
}

void record_log_take(struct record_log *log, struct record_slot *slot,
                     const struct log_writes_entry *entry)
{
    pthread_mutex_lock(&log->mutex);
    *slot = (struct record_slot){
        .number = log->next_number++, .sector = log->next_sector, .entry = *entry};
    uint64_t taken = 1 + log_writes_data_sectors(entry);
    /* What does not fit the largest file fails when it is written; the next one too. */
    if (taken < NODE_SIZE_MAX / log->sector_bytes - log->next_sector)
        log->next_sector += taken;
    else
        fail_at(log, slot->number, -EFBIG);
    list_append(&log->writing, &slot->link);
    pthread_mutex_unlock(&log->mutex);
}

/* The data behind the entry's sector, and zeroes up to the end of its last sector. */
static int co_write_data(struct record_log *log, const struct record_slot *slot,
                         const struct block_vec *vec, uint64_t length)
{
    uint64_t start = (slot->sector + 1) * log->sector_bytes;
    uint64_t whole = log_writes_data_sectors(&slot->entry) * log->sector_bytes;
    assert(length <= whole);
    if (!vec)
        return whole > 0 ? node_co_zero(log->node, start, whole, 0) : 0;
    int rc = node_co_write(log->node, start, vec, 0);
    if (rc == 0 && length < whole)
        rc = node_co_zero(log->node, start + length, whole - length, 0);
    return rc;
}

static int co_write_entry(struct record_log *log, const struct record_slot *slot, const char *text)
{
    uint8_t *sector = get_sector(log);
    if (sector) {
        log_writes_store_entry(sector, &slot->entry);
        if (text)
            memcpy(sector + LOG_WRITES_ENTRY_BYTES, text, slot->entry.data_len);
    }
    return co_write_sector(log, slot->sector, sector);
}

/* The slot's entry is in the log, or rc says why not. */
static int end_slot(struct record_log *log, struct record_slot *slot, int rc)
{
    pthread_mutex_lock(&log->mutex);
    list_remove(&slot->link);
    if (rc < 0)
        fail_at(log, slot->number, rc);
    rc = log->failed;
    co_queue_wake_all(&log->changed);
    pthread_mutex_unlock(&log->mutex);
    return rc;
}

static int co_count_now_and_then(struct record_log *log, const struct record_slot *slot, int rc)
{
    if (rc < 0 || (slot->number + 1) % log->update_interval != 0)
        return rc;
    return record_log_co_count(log, slot);
}

int record_log_co_write(struct record_log *log, struct record_slot *slot,
                        const struct block_vec *vec, uint64_t length)
{
    int rc = record_log_failed(log);
    if (rc == 0)
        rc = co_write_data(log, slot, vec, length);
    if (rc == 0)
        rc = co_write_entry(log, slot, NULL);
    return co_count_now_and_then(log, slot, end_slot(log, slot, rc));
}

int record_log_co_mark(struct record_log *log, struct record_slot *slot, const char *text)
{
    size_t length = strlen(text);
    size_t most = log->sector_bytes - LOG_WRITES_ENTRY_BYTES - 1;
    slot->entry.data_len = length < most ? length : most;
    slot->entry.flags = LOG_WRITES_MARK;
    slot->entry.sector = 0;
    assert(slot->entry.nr_sectors == 0);
    int rc = record_log_failed(log);
    if (rc == 0)
        rc = co_write_entry(log, slot, text);
    return co_count_now_and_then(log, slot, end_slot(log, slot, rc));
}

/* --- the superblock -------------------------------------------------------------------------- */

/* The mutex is held. How many entries are in the log without a gap. */
static uint64_t entries_without_gap(const struct record_log *log)
{
    const struct list_link *first = list_first(&log->writing);
    uint64_t entries =
        first ? container_of(first, struct record_slot, link)->number : log->next_number;
    return entries < log->failed_number ? entries : log->failed_number;
}

/* The mutex is held, and given up meanwhile. */
static void co_write_super_once(struct record_log *log, uint64_t entries)
{
    log->super_running = true;
    pthread_mutex_unlock(&log->mutex);
    int rc = co_write_super(log, entries);
    pthread_mutex_lock(&log->mutex);
    log->super_running = false;
    if (rc < 0)
        fail_at(log, log->super_entries, rc);
    else
        log->super_entries = entries;
    co_queue_wake_all(&log->changed);
}

int record_log_co_count(struct record_log *log, const struct record_slot *slot)
{
    pthread_mutex_lock(&log->mutex);
    while (!log->failed && log->super_entries <= slot->number) {
        uint64_t entries = entries_without_gap(log);
        if (log->super_running || entries <= slot->number)
            co_queue_wait(&log->changed, &log->mutex);
        else
            co_write_super_once(log, entries);
    }
    int rc = log->super_entries > slot->number ? 0 : log->failed;
    pthread_mutex_unlock(&log->mutex);
    return rc;
}

int record_log_co_sync(struct record_log *log, const struct record_slot *slot)
{
    int rc = record_log_co_count(log, slot);
    return rc < 0 ? rc : node_co_flush(log->node);
}
