/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter "record" (qemu: "blklogwrites"): writes every change of the image below, and every
 * flush, to a log in its second child, in the layout of the kernel's dm-log-writes (log_writes.h).
 * Options, qemu's:
 *
 *   file                       the image
 *   log                        where the log goes; what is there is lost
 *   log-sector-size            512 without it; the image is written in such sectors from then on
 *   log-append                 on: goes on behind the log that is there
 *   log-super-update-interval  entries after which the superblock counts them anyway; 4096
 *
 * The log's order is one in which the changes can have happened, and the worst for who relies on
 * flushes too early:
 * - A change takes its place after the image has it and before it is answered. Changes that overlap
 *   go one after the other, so the later place has the later bytes, and replaying the log gives the
 *   image.
 * - A flush takes its place before it goes down. So before it stands what was answered before, all
 *   of it on stable storage when the flush is answered; what ended meanwhile stands behind it.
 * - A change with FUA is on stable storage when it takes its place, and the superblock counts it
 *   before it is answered.
 * What failed is a mark, a text that replay skips: what it left in the image is not known. So are
 * growths. A zero is recorded as a write of zeroes; they are not copied into the log, but made
 * there. A discard has no data: the image may show zeroes afterwards, or the old bytes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/filter.h"
#include "block/filters.h"
#include "block/node.h"
#include "block/node_options.h"
#include "block/range_lock.h"
#include "block/record_log.h"
#include "common/align.h"

#define SECTOR_BYTES_DEFAULT LOG_WRITES_SECTOR_BYTES_MIN
#define UPDATE_INTERVAL_DEFAULT 4096

struct record {
    struct record_log log;
    struct range_lock changes; /* each alone in its range until it has its place */
};

/* --- opening --------------------------------------------------------------------------------- */

struct record_options {
    bool append;
    uint64_t sector_bytes, update_interval;
};

static int check_options(const struct node_options *options, const struct record_options *taken,
                         bool has_sector_size, struct error *err)
{
    if (taken->append && has_sector_size)
        return node_options_refuse(options, "log-sector-size", -EINVAL, err,
                                   "a log that goes on (log-append) has its sector size already; "
                                   "leave one of the two out");
    if (taken->sector_bytes < LOG_WRITES_SECTOR_BYTES_MIN ||
        taken->sector_bytes > LOG_WRITES_SECTOR_BYTES_MAX || !is_power_of_two(taken->sector_bytes))
        return node_options_refuse(options, "log-sector-size", -EINVAL, err,
                                   "%" PRIu64 " is no power of two from %d to %u",
                                   taken->sector_bytes, LOG_WRITES_SECTOR_BYTES_MIN,
                                   LOG_WRITES_SECTOR_BYTES_MAX);
    if (taken->update_interval == 0)
        return node_options_refuse(options, "log-super-update-interval", -EINVAL, err,
                                   "0 entries is no interval; give at least 1");
    return 0;
}

static int take_options(struct node_options *options, struct record_options *ret_taken,
                        struct error *err)
{
    struct record_options taken = {.sector_bytes = SECTOR_BYTES_DEFAULT,
                                   .update_interval = UPDATE_INTERVAL_DEFAULT};
    bool has_sector_size = node_options_has(options, "log-sector-size");
    int rc = node_options_take_bool(options, "log-append", &taken.append, err);
    if (rc == 0)
        rc = node_options_take_size(options, "log-sector-size", &taken.sector_bytes, err);
    if (rc == 0)
        rc = node_options_take_number(options, "log-super-update-interval", &taken.update_interval,
                                      err);
    if (rc == 0)
        rc = check_options(options, &taken, has_sector_size, err);
    if (rc == 0)
        *ret_taken = taken;
    return rc;
}

static int co_open_log(struct record_log *log, struct block_node *file,
                       const struct record_options *taken, struct error *err)
{
    if (file->read_only)
        return error_set(err, -EROFS, "the log '%s' is read-only; a record needs one to write to",
                         file->name);
    if (taken->append)
        return record_log_co_append(log, file, taken->update_interval, err);
    return record_log_co_create(log, file, (uint32_t)taken->sector_bytes, taken->update_interval,
                                err);
}

static int record_co_open(struct block_node *node, struct node_options *options, struct error *err)
{
    struct record_options taken = {.append = false};
    struct block_node *log_file;
    int rc = take_options(options, &taken, err);
    if (rc == 0)
        rc = filter_co_open(node, options, err);
    if (rc == 0)
        rc = block_co_open_child(node, options, "log", &log_file, err);
    if (rc < 0 || node->read_only) /* nothing will change, and the log is left as it is */
        return rc;
    struct record *record = calloc(1, sizeof(*record));
    if (!record)
        return error_set(err, -ENOMEM, "no memory to open '%s'", node->name);
    rc = co_open_log(&record->log, log_file, &taken, err);
    if (rc < 0) {
        free(record);
        return rc;
    }
    range_lock_init(&record->changes);
    node->state = record;
    if (node->limits.request_alignment < record->log.sector_bytes) {
        node->limits.request_alignment = record->log.sector_bytes;
        node->limits.transfer_bytes_max =
            align_down(node->limits.transfer_bytes_max, record->log.sector_bytes);
        node->limits.zero_bytes_max =
            align_down(node->limits.zero_bytes_max, record->log.sector_bytes);
        node->limits.discard_bytes_max =
            align_down(node->limits.discard_bytes_max, record->log.sector_bytes);
    }
    return 0;
}

static void record_co_close(struct block_node *node)
{
    struct record *record = node->state;
    if (!record)
        return;
    record_log_fini(&record->log);
    range_lock_fini(&record->changes);
    free(record);
}

/* --- changes --------------------------------------------------------------------------------- */

struct change {
    struct record_slot slot;
    struct locked_range range;
    struct log_writes_entry entry;
    const char *verb;
};

static int change_co_begin(struct change *change, struct record *record, uint64_t offset,
                           uint64_t length)
{
    uint32_t sector_bytes = record->log.sector_bytes;
    int rc = record_log_failed(&record->log);
    if (rc < 0)
        return rc;
    change->entry.sector = offset / sector_bytes;
    change->entry.nr_sectors = align_up(length, sector_bytes) / sector_bytes;
    range_lock_co_take(&record->changes, &change->range, offset, length, true);
    return 0;
}

static int co_mark_failed(struct record *record, struct change *change)
{
    char text[128];
    snprintf(text, sizeof(text), "failed: %s of %" PRIu64 " bytes at %" PRIu64, change->verb,
             change->range.length, change->range.offset);
    return record_log_co_mark(&record->log, &change->slot, text);
}

/* rc is what the image made of the change. */
static int change_co_end(struct change *change, struct record *record, const struct block_vec *vec,
                         int rc)
{
    if (rc < 0)
        change->entry.nr_sectors = 0;
    record_log_take(&record->log, &change->slot, &change->entry);
    range_lock_release(&record->changes, &change->range);
    if (rc < 0) {
        co_mark_failed(record, change);
        return rc;
    }
    rc = record_log_co_write(&record->log, &change->slot, vec, vec ? vec->length : 0);
    if (rc == 0 && (change->entry.flags & LOG_WRITES_FUA))
        rc = record_log_co_count(&record->log, &change->slot);
    return rc;
}

static uint64_t entry_flags(unsigned flags)
{
    return flags & BLOCK_FUA ? LOG_WRITES_FUA : 0;
}

static int record_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                           unsigned flags)
{
    struct record *record = node->state;
    struct change change = {.verb = "write", .entry.flags = entry_flags(flags)};
    int rc = change_co_begin(&change, record, offset, vec->length);
    if (rc < 0)
        return rc;
    rc = filter_co_write(node, offset, vec, flags);
    return change_co_end(&change, record, vec, rc);
}

static int record_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    struct record *record = node->state;
    struct change change = {.verb = "zero", .entry.flags = entry_flags(flags)};
    int rc = change_co_begin(&change, record, offset, length);
    if (rc < 0)
        return rc;
    rc = filter_co_zero(node, offset, length, flags);
    if (rc == -ENOTSUP && (flags & BLOCK_FAST)) { /* nothing was changed */
        range_lock_release(&record->changes, &change.range);
        return rc;
    }
    return change_co_end(&change, record, NULL, rc);
}

static int record_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct record *record = node->state;
    struct change change = {.verb = "discard", .entry.flags = LOG_WRITES_DISCARD};
    int rc = change_co_begin(&change, record, offset, length);
    if (rc < 0)
        return rc;
    rc = filter_co_discard(node, offset, length);
    return change_co_end(&change, record, NULL, rc);
}

static int record_co_flush(struct block_node *node)
{
    struct record *record = node->state;
    struct record_slot slot;
    const struct log_writes_entry entry = {.flags = LOG_WRITES_FLUSH};
    if (!record)
        return filter_co_flush(node);
    int rc = record_log_failed(&record->log);
    if (rc < 0)
        return rc;
    record_log_take(&record->log, &slot, &entry);
    rc = filter_co_flush(node);
    if (rc < 0) {
        record_log_co_mark(&record->log, &slot, "failed: flush");
        return rc;
    }
    rc = record_log_co_write(&record->log, &slot, NULL, 0);
    return rc < 0 ? rc : record_log_co_sync(&record->log, &slot);
}

/* A log has no entry for a size. Growth changes no byte that was there; a cut does. */
static int record_co_resize(struct block_node *node, uint64_t size_bytes, struct error *err)
{
    struct record *record = node->state;
    if (size_bytes < node_size(node))
        return error_set(err, -ENOTSUP,
                         "'%s' cannot be made smaller while it is recorded: a log cannot say so",
                         node->name);
    int rc = filter_co_resize(node, size_bytes, err);
    if (rc < 0 || !record)
        return rc;
    struct record_slot slot;
    char text[64];
    snprintf(text, sizeof(text), "grown to %" PRIu64 " bytes", node_size(node));
    record_log_take(&record->log, &slot, &(struct log_writes_entry){.flags = LOG_WRITES_MARK});
    rc = record_log_co_mark(&record->log, &slot, text);
    return rc < 0 ? error_set(err, rc, "the log of '%s' cannot be written: %s", node->name,
                              error_text(rc))
                  : 0;
}

static const struct block_driver_admin record_admin = {
    .co_resize = record_co_resize,
    .has_zero_init = filter_has_zero_init,
};

const struct block_driver block_filter_record = {
    .name = "record",
    .alias = "blklogwrites",
    .flags = FILTER_FLAGS,
    .co_open = record_co_open,
    .co_close = record_co_close,
    .co_read = filter_co_read,
    .co_write = record_co_write,
    .co_zero = record_co_zero,
    .co_discard = record_co_discard,
    .co_cache = filter_co_cache,
    .co_flush = record_co_flush,
    .co_status = filter_co_status,
    .status_remembered = filter_status_remembered,
    .lend = filter_lend,
    .admin = &record_admin,
};
