/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/gow1/survey.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPORTS_MAX 100
#define CHUNK 64u /* entries that are looked at together */

uint32_t gow1_next_entry(const uint32_t *entries, uint32_t from, uint32_t end)
{
    uint32_t all_free[CHUNK];
    uint32_t at = from;
    if (at >= end || entries[at] != GOW1_FREE)
        return at;
    memset(all_free, 0xff, sizeof(all_free));
    while (at < end && entries[at] == GOW1_FREE) {
        bool is_chunk = end - at >= CHUNK && memcmp(entries + at, all_free, sizeof(all_free)) == 0;
        at += is_chunk ? CHUNK : 1;
    }
    return at;
}

enum gow1_fault gow1_entry_fault(const struct gow1_header *header, uint32_t disk_block,
                                 uint32_t entry, uint64_t file_bytes)
{
    if (entry == GOW1_FREE)
        return GOW1_SOUND;
    if (disk_block >= header->size)
        return GOW1_PAST_SIZE;
    if (entry >= gow1_file_blocks(file_bytes))
        return GOW1_PAST_FILE;
    return entry >= header->allocated ? GOW1_PAST_ALLOCATED : GOW1_SOUND;
}

/* --- what was found -----------------------------------------------------------------------------
 */

struct reporter {
    block_check_report *report;
    void *arg;
    const struct gow1_header *header;
    uint64_t file_bytes;
    unsigned count;
};

static void tell(struct reporter *reporter, enum gow1_fault fault, uint32_t disk_block,
                 uint32_t entry)
{
    char sentence[200];
    if (!reporter->report || reporter->count++ >= REPORTS_MAX)
        return;
    int length = snprintf(sentence, sizeof(sentence), "map[%" PRIu32 "] is %" PRIu32 ", ",
                          disk_block, entry);
    char *rest = sentence + length;
    size_t room = sizeof(sentence) - (size_t)length;
    switch (fault) {
    case GOW1_PAST_FILE:
        snprintf(rest, room, "and the file, of %" PRIu64 " bytes, has %" PRIu32 " blocks",
                 reporter->file_bytes, gow1_file_blocks(reporter->file_bytes));
        break;
    case GOW1_PAST_ALLOCATED:
        snprintf(rest, room, "and allocated is %" PRIu32, reporter->header->allocated);
        break;
    case GOW1_TWICE:
        snprintf(rest, room, "which another entry before it is as well");
        break;
    default:
        snprintf(rest, room, "not free, and the disk has %" PRIu32 " blocks",
                 reporter->header->size);
        break;
    }
    reporter->report(reporter->arg, sentence);
}

/* --- the walk -----------------------------------------------------------------------------------
 */

void gow1_survey_use(struct gow1_survey *survey, uint32_t file_block)
{
    survey->used[file_block / 64] |= UINT64_C(1) << (file_block % 64);
    survey->used_count++;
    if (file_block >= survey->used_end)
        survey->used_end = file_block + 1;
}

static uint32_t count_leaks(const struct gow1_survey *survey, uint32_t allocated)
{
    uint32_t end = allocated < GOW1_BLOCKS_MAX ? allocated : GOW1_BLOCKS_MAX;
    uint32_t used = 0;
    for (uint32_t word = 0; word <= end / 64 && word < GOW1_BLOCKS_MAX / 64; word++) {
        uint64_t below = end - word * 64 >= 64 ? UINT64_MAX : (UINT64_C(1) << (end % 64)) - 1;
        used += (uint32_t)__builtin_popcountll(survey->used[word] & below);
    }
    return end - used;
}

int gow1_survey_init(struct gow1_survey *survey, const struct gow1_header *header,
                     const uint32_t *entries, uint32_t entry_count, uint64_t file_bytes,
                     block_check_report *report, void *arg)
{
    struct reporter reporter = {
        .report = report, .arg = arg, .header = header, .file_bytes = file_bytes};
    *survey = (struct gow1_survey){.used = calloc(GOW1_BLOCKS_MAX / 64, sizeof(uint64_t))};
    if (!survey->used)
        return -ENOMEM;
    for (uint32_t i = gow1_next_entry(entries, 0, entry_count); i < entry_count;
         i = gow1_next_entry(entries, i + 1, entry_count)) {
        enum gow1_fault fault = gow1_entry_fault(header, i, entries[i], file_bytes);
        bool has_block = fault != GOW1_PAST_FILE && fault != GOW1_PAST_SIZE;
        if (has_block && gow1_survey_is_used(survey, entries[i]))
            fault = GOW1_TWICE;
        else if (has_block)
            gow1_survey_use(survey, entries[i]);
        if (fault == GOW1_SOUND)
            continue;
        survey->faults++;
        tell(&reporter, fault, i, entries[i]);
    }
    survey->leaked = count_leaks(survey, header->allocated);
    return 0;
}

void gow1_survey_fini(struct gow1_survey *survey)
{
    free(survey->used);
    survey->used = NULL;
}
