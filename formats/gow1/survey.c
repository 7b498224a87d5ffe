/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/gow1/survey.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define REPORTS_MAX 100

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

static void count_leaks(struct gow1_survey *survey, uint32_t allocated)
{
    uint32_t end = allocated < GOW1_BLOCKS_MAX ? allocated : GOW1_BLOCKS_MAX;
    for (uint32_t i = 0; i < end; i++)
        survey->leaked += !gow1_survey_is_used(survey, i);
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
    for (uint32_t i = 0; i < entry_count; i++) {
        enum gow1_fault fault = gow1_entry_fault(header, i, entries[i], file_bytes);
        bool has_block =
            entries[i] != GOW1_FREE && fault != GOW1_PAST_FILE && fault != GOW1_PAST_SIZE;
        if (has_block && gow1_survey_is_used(survey, entries[i]))
            fault = GOW1_TWICE;
        else if (has_block)
            gow1_survey_use(survey, entries[i]);
        if (fault == GOW1_SOUND)
            continue;
        survey->faults++;
        tell(&reporter, fault, i, entries[i]);
    }
    count_leaks(survey, header->allocated);
    return 0;
}

void gow1_survey_fini(struct gow1_survey *survey)
{
    free(survey->used);
    survey->used = NULL;
}
