/* SPDX-License-Identifier: BSD-3-Clause */
/* The consistency of an open image: every entry of the map is looked at, also those behind the
 * disk's end. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "formats/gow1/image.h"

static int refuse(const struct block_node *node, const char *what, int code, struct error *err)
{
    return error_set(err, code, "cannot %s of '%.200s': %s", what, node->name, error_text(code));
}

int gow1_co_check(struct block_node *node, block_check_report *report, void *arg,
                  struct block_check *ret_check, struct error *err)
{
    struct gow1_image *image = gow1_of(node);
    struct gow1_survey survey;
    struct gow1_header header;
    uint32_t *entries;
    int ret = gow1_co_flush(node); /* then the file has it all */
    if (ret < 0)
        return refuse(node, "write the map", ret, err);
    ret = gow1_co_info(node->file, image->header.magic, &header, err);
    if (ret < 0)
        return ret;
    ret = gow1_co_load_map(node->file, GOW1_MAP_ENTRIES, &entries);
    if (ret < 0)
        return refuse(node, "read the map", ret, err);
    ret = gow1_survey_init(&survey, &header, entries, GOW1_MAP_ENTRIES,
                           atomic_load(&node->file->size_bytes), report, arg);
    free(entries);
    if (ret < 0)
        return refuse(node, "check the map", ret, err);
    *ret_check = (struct block_check){
        .errors = survey.faults,
        .leaks = survey.leaked,
        .data_blocks = survey.used_count,
        .end_offset = gow1_block_offset(survey.used_end),
    };
    gow1_survey_fini(&survey);
    return 0;
}
