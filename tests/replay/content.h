/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_REPLAY_CONTENT_H
#define TESTS_REPLAY_CONTENT_H

/*
 * What each sector of a disk may hold while a trace is replayed: a flat oracle. It knows what was
 * asked and answered, and nothing of who serves the disk.
 *
 * A sector holds what was written last, or zeroes. After a discard any byte of it may be zero as
 * well. What changed after the last flush may be lost by a crash: then the sector holds one of its
 * last few contents until a read has shown which. A write that failed leaves the same doubt.
 *
 * The memory is shared with processes that are forked off, since a crash ends one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTENT_OLD_MAX 2

struct content_sector {
    uint64_t now; /* what a write left there: its seed + 1; 0: zeroes */
    uint64_t old[CONTENT_OLD_MAX];
    uint32_t changed_at; /* the tick of a change that is not durable; 0: there is none */
    uint8_t old_count;
    bool may_be_zero; /* discarded: each byte of it */
    bool old_may_be_zero;
    bool is_unsure;  /* it may hold an old content */
    bool is_unknown; /* more contents are possible than there is room for */
};

/* Where changes are that no flush has covered yet. */
struct content_change {
    uint64_t sector, count;
    uint32_t tick;
};

struct content {
    uint64_t sector_count;
    struct content_sector *sectors;
    uint32_t tick; /* counts changes */
    unsigned change_count, change_room;
    struct content_change *changes;
};

/* All zeroes. changes_max: of requests that change something. -ENOMEM. */
int content_init(struct content *content, uint64_t sector_count, unsigned changes_max);
void content_fini(struct content *content);

/* What a write with that seed carries. Seeds are below 2^63. */
void content_fill(uint64_t sector, uint64_t count, uint64_t seed, void *bytes);

/* --- what was answered. is_durable: the write cache is off, so it needs no flush ----------------
 */

void content_write(struct content *content, uint64_t sector, uint64_t count, uint64_t seed,
                   bool is_durable);
void content_zero(struct content *content, uint64_t sector, uint64_t count, bool is_durable);
void content_discard(struct content *content, uint64_t sector, uint64_t count);
/* It failed, and may have had an effect. */
void content_write_failed(struct content *content, uint64_t sector, uint64_t count, uint64_t seed);
/* A flush that was asked for when content->tick was `since`. */
void content_flush(struct content *content, uint32_t since);

/* Who serves the disk was killed; nothing was in flight. True: something was not durable. */
bool content_crash(struct content *content);

/* Whether these bytes may be there. If not, *ret_sector is the first that is wrong. */
bool content_check(struct content *content, uint64_t sector, uint64_t count, const void *bytes,
                   uint64_t *ret_sector);

/* Folds what these sectors hold into a number, but for those that a discard has left open: which of
 * their bytes are zeroes is the server's choice, and another one's over NBD, where a discard is cut
 * to the blocks that the server has announced. */
uint64_t content_hash(const struct content *content, uint64_t sector, uint64_t count,
                      const void *bytes, uint64_t hash);

#endif
