/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_GOW1_SURVEY_H
#define FORMATS_GOW1_SURVEY_H

/*
 * What a whole map says about the blocks of the file, and what is wrong with it; pure. A check, a
 * repair, and every opening for writing begin with it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "formats/gow1/header.h"

/* What can be wrong with an entry. */
enum gow1_fault {
    GOW1_SOUND,
    GOW1_PAST_FILE,      /* there is no such block in the file */
    GOW1_PAST_ALLOCATED, /* `allocated` does not count it */
    GOW1_TWICE,          /* an earlier entry has the same block */
    GOW1_PAST_SIZE,      /* it is of no block of the disk, and not free */
};

struct gow1_survey {
    uint64_t *used; /* a bit for each block of the file that a sound entry, or one of
                     * GOW1_PAST_ALLOCATED, points to */
    uint32_t used_count;
    uint32_t used_end; /* behind the last of them */
    uint32_t leaked;   /* of `allocated`, used by nobody */
    uint32_t faults;   /* entries that are not sound */
};

/* The first entry from `from` on that is not free; `end`: none is. Quick where a map is empty. */
uint32_t gow1_next_entry(const uint32_t *entries, uint32_t from, uint32_t end);

/* entries: entry_count of them, from the first on; at least header->size. Those behind the disk's
 * end are looked at as far as they are given. report may be NULL. 0 or -ENOMEM. */
int gow1_survey_init(struct gow1_survey *survey, const struct gow1_header *header,
                     const uint32_t *entries, uint32_t entry_count, uint64_t file_bytes,
                     block_check_report *report, void *arg);
void gow1_survey_fini(struct gow1_survey *survey);

static inline bool gow1_survey_is_used(const struct gow1_survey *survey, uint32_t file_block)
{
    return survey->used[file_block / 64] >> (file_block % 64) & 1;
}

/* Marks a block that a repair has given to somebody. */
void gow1_survey_use(struct gow1_survey *survey, uint32_t file_block);

/* The fault of one entry by itself: all but GOW1_TWICE. */
enum gow1_fault gow1_entry_fault(const struct gow1_header *header, uint32_t disk_block,
                                 uint32_t entry, uint64_t file_bytes);

#endif
