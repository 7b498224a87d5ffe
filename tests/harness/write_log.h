/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_WRITE_LOG_H
#define TESTS_HARNESS_WRITE_LOG_H

/*
 * A reader of what the filter "record" wrote (block/log_writes.h): entry by entry, and replayed on
 * an image. A log that was cut after some entries is an image after a power cut:
 *
 *     write_log_open(&log, "disk.log", &err);
 *     while ((rc = write_log_next(&log, &entry, &err)) > 0)
 *         write_log_apply(&entry, image, image_bytes);
 *
 * The log is a file that nobody makes shorter meanwhile, or memory. Errors are -EINVAL, for what is
 * no log or not whole, and the host's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/log_writes.h"
#include "common/error.h"

struct write_log {
    const uint8_t *bytes; /* all of it */
    size_t length;
    bool is_mapped;
    struct log_writes_super super;
    uint64_t number, sector; /* of the next entry */
};

struct write_log_entry {
    uint64_t number;         /* from 0 */
    uint64_t offset, length; /* in bytes; a flush and a mark have none */
    unsigned flags;          /* enum log_writes_flag */
    const uint8_t *data;     /* `length` bytes, as long as the log is open; NULL: a discard */
    const char *mark;        /* not ended by a zero; NULL: no mark */
    size_t mark_length;
};

/* Closed by write_log_close(). */
int write_log_open(struct write_log *log, const char *path, struct error *err);
/* bytes stay the caller's. */
int write_log_open_memory(struct write_log *log, const void *bytes, size_t length,
                          struct error *err);
void write_log_close(struct write_log *log);

/* 1: *ret_entry is the next one. 0: the log is at its end. */
int write_log_next(struct write_log *log, struct write_log_entry *ret_entry, struct error *err);
void write_log_rewind(struct write_log *log);

/* What one entry does to an image in memory: a discard makes zeroes; what lies past its end is
 * left out. */
void write_log_apply(const struct write_log_entry *entry, uint8_t *image, size_t length);
/* The same to a file, which is not made longer. */
int write_log_apply_to_file(const struct write_log_entry *entry, int fd, struct error *err);

/* Applies the entries from the next one up to, and without, the one with that number, or to the
 * log's end. */
int write_log_replay(struct write_log *log, uint64_t end_number, uint8_t *image, size_t length,
                     struct error *err);
int write_log_replay_to_file(struct write_log *log, uint64_t end_number, int fd, struct error *err);

#endif
