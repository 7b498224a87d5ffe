/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_RECORD_LOG_H
#define BLOCK_RECORD_LOG_H

/* The log that the filter "record" writes; its layout is block/log_writes.h, its rules are in
 * record_log.c. */

#include "block/driver.h"
#include "block/log_writes.h"

struct record_log {
    struct block_node *node; /* where the log lies */
    uint32_t sector_bytes;
    uint64_t update_interval; /* entries after which the superblock is written anyway */

    pthread_mutex_t mutex; /* guards all below */
    struct list writing; /* struct record_slot.link: given out and not yet in the log, by number */
    uint64_t next_number, next_sector;
    uint64_t super_entries; /* how many the superblock counts */
    bool super_running;
    struct co_queue changed; /* an entry was written, or the superblock */
    int failed;              /* the first error: the log ends there */
    uint64_t failed_number;  /* the oldest entry that could not be written */
};

/* A place in the order; on the stack of the request. */
struct record_slot {
    struct list_link link;
    uint64_t number, sector;
    struct log_writes_entry entry;
};

/* A new log: writes an empty superblock. node is not the log's to let go. */
int record_log_co_create(struct record_log *log, struct block_node *node, uint32_t sector_bytes,
                         uint64_t update_interval, struct error *err);
/* Goes on behind what node holds; the sector size is that log's. */
int record_log_co_append(struct record_log *log, struct block_node *node, uint64_t update_interval,
                         struct error *err);
/* Nothing is in flight, and record_log_co_sync() was called after the last entry. */
void record_log_fini(struct record_log *log);

/* 0, or the error that ended the log. */
int record_log_failed(struct record_log *log);

/* The next place in the order; entry may still become a mark before it is written. */
void record_log_take(struct record_log *log, struct record_slot *slot,
                     const struct log_writes_entry *entry);
/* Writes the entry with its data: vec; NULL: none, or for a write, zeroes. length is that of the
 * data, at most nr_sectors of it. Every slot that was taken is written. */
int record_log_co_write(struct record_log *log, struct record_slot *slot,
                        const struct block_vec *vec, uint64_t length);
/* Writes the slot, whose entry has no data, as a mark with this text, cut to what fits a sector. */
int record_log_co_mark(struct record_log *log, struct record_slot *slot, const char *text);
/* Returns when the superblock counts all entries up to this slot's. */
int record_log_co_count(struct record_log *log, const struct record_slot *slot);
/* The same, and all of it is on stable storage. */
int record_log_co_sync(struct record_log *log, const struct record_slot *slot);

#endif
