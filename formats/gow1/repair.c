/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Repair of an image before it is opened for writing. What the map says is taken as true where it
 * can be:
 *
 *     an entry past the end of the file      is made free: there was nothing to read
 *     an entry that `allocated` excludes     stays; `allocated` is counted anew
 *     two entries with one block             the second gets a copy of its own
 *     an entry behind the disk's end         is made free
 *     blocks that nobody has                 are filled with the last ones; the file gets shorter
 *
 * Copies are durable before the map is, the map before the header. A cut at any point leaves an
 * image that is no worse and can be repaired again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/log.h"
#include "formats/gow1/image.h"

struct repair {
    struct block_node *file;
    struct gow1_header *header;
    uint32_t *entries;
    struct gow1_survey survey;
    uint64_t file_bytes;
};

static void log_sentence(void *arg, const char *sentence)
{
    const struct repair *repair = arg;
    log_warning("'%s': %s", repair->file->name, sentence);
}

static int co_look(struct repair *repair)
{
    int ret = gow1_co_load_map(repair->file, GOW1_MAP_ENTRIES, &repair->entries);
    return ret < 0 ? ret
                   : gow1_survey_init(&repair->survey, repair->header, repair->entries,
                                      GOW1_MAP_ENTRIES, repair->file_bytes, log_sentence, repair);
}

/* --- entries ------------------------------------------------------------------------------------
 */

static uint32_t unused_block(const struct gow1_survey *survey, uint32_t from)
{
    while (from < survey->used_end && gow1_survey_is_used(survey, from))
        from++;
    return from;
}

/* The entry has a block that an earlier one has; there are more blocks than the disk's, or else one
 * is unused. */
static int co_copy_apart(struct repair *repair, uint32_t index, uint32_t *free_hint)
{
    uint32_t block = unused_block(&repair->survey, *free_hint);
    if (block >= GOW1_BLOCKS_MAX)
        return -EFBIG;
    int ret = gow1_co_copy_block(repair->file, repair->entries[index], block);
    repair->entries[index] = block;
    gow1_survey_use(&repair->survey, block);
    *free_hint = block + 1;
    return ret;
}

/* Puts one entry right; *ret_is_changed when it was not. seen: the blocks of those before it. */
static int co_repair_entry(struct repair *repair, uint32_t index, struct gow1_survey *seen,
                           uint32_t *free_hint, bool *ret_is_changed)
{
    uint32_t *entry = &repair->entries[index];
    enum gow1_fault fault = gow1_entry_fault(repair->header, index, *entry, repair->file_bytes);
    if (fault == GOW1_PAST_FILE || fault == GOW1_PAST_SIZE) {
        *entry = GOW1_FREE;
        *ret_is_changed = true;
    }
    if (*entry == GOW1_FREE)
        return 0;
    if (gow1_survey_is_used(seen, *entry)) {
        *ret_is_changed = true;
        return co_copy_apart(repair, index, free_hint);
    }
    gow1_survey_use(seen, *entry);
    return 0;
}

static int co_repair_entries(struct repair *repair)
{
    struct gow1_survey seen;
    const uint32_t *entries = repair->entries;
    uint32_t free_hint = 0, first = GOW1_MAP_ENTRIES, end = 0;
    int ret = gow1_survey_init(&seen, repair->header, NULL, 0, repair->file_bytes, NULL, NULL);
    for (uint32_t i = gow1_next_entry(entries, 0, GOW1_MAP_ENTRIES);
         i < GOW1_MAP_ENTRIES && ret == 0; i = gow1_next_entry(entries, i + 1, GOW1_MAP_ENTRIES)) {
        bool is_changed = false;
        ret = co_repair_entry(repair, i, &seen, &free_hint, &is_changed);
        if (!is_changed)
            continue;
        first = i < first ? i : first;
        end = i + 1;
    }
    gow1_survey_fini(&seen);
    if (ret == 0)
        ret = node_co_flush(repair->file);
    if (ret == 0)
        ret = gow1_co_store_map(repair->file, repair->entries, first, end);
    return ret;
}

/* --- blocks -------------------------------------------------------------------------------------
 */

static int co_repair_blocks(struct repair *repair)
{
    struct gow1_survey *survey = &repair->survey;
    int ret = gow1_co_compact(repair->file, repair->entries, GOW1_MAP_ENTRIES, survey);
    if (ret < 0)
        return ret;
    repair->header->allocated = survey->used_end;
    ret = gow1_co_store_header(repair->file, repair->header);
    if (ret == 0)
        gow1_co_cut_file(repair->file, gow1_block_offset(survey->used_end));
    return ret;
}

int gow1_co_repair(struct block_node *file, struct gow1_header *header, enum gow1_repair_what what,
                   struct error *err)
{
    struct repair repair = {
        .file = file, .header = header, .file_bytes = atomic_load(&file->size_bytes)};
    int ret = co_look(&repair);
    uint32_t faults = repair.survey.faults, leaked = repair.survey.leaked;
    bool repairs_entries = what == GOW1_REPAIR_ALL && faults > 0;
    if (ret == 0 && repairs_entries)
        ret = co_repair_entries(&repair);
    /* Among entries that make no sense nothing is moved. */
    if (ret == 0 && (repairs_entries || (faults == 0 && (leaked > 0 || what == GOW1_REPAIR_ALL))))
        ret = co_repair_blocks(&repair);
    if (ret < 0)
        error_set(err, ret, "cannot repair '%.200s': %s", file->name, error_text(ret));
    else if (faults > 0 || leaked > 0)
        log_warning("'%s': it had %" PRIu32 " errors and %" PRIu32 " leaked blocks%s", file->name,
                    faults, leaked,
                    faults > 0 && !repairs_entries ? "; only repair=all mends errors" : "");
    gow1_survey_fini(&repair.survey);
    free(repair.entries);
    return ret;
}
