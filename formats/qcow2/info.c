/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/info.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "formats/qcow2/bitmaps.h"

int qcow2_co_info(struct block_node *file, struct qcow2_info *ret_info, struct error *err)
{
    struct qcow2_image *image = qcow2_image_new(NULL);
    if (!image)
        return error_set(err, -ENOMEM, "no memory to look at '%s'", file->name);
    int ret = qcow2_co_load_header(image, file, err);
    if (ret == 0) {
        ret_info->header = image->header;
        ret_info->extensions = image->extensions;
        ret_info->backing_name = image->backing_name;
        image->backing_name = NULL;
    }
    qcow2_image_free(image);
    return ret;
}

void qcow2_info_fini(struct qcow2_info *info)
{
    free(info->backing_name);
    info->backing_name = NULL;
}

/* --- bitmaps ------------------------------------------------------------------------------------
 */

static int list_bitmaps(const struct qcow2_bitmaps *bitmaps, struct qcow2_bitmaps_info *ret_info)
{
    struct qcow2_bitmaps_info info = {.count = bitmaps->count};
    info.all = calloc(bitmaps->count, sizeof(*info.all));
    if (!info.all)
        return -ENOMEM;
    for (uint32_t i = 0; i < bitmaps->count; i++) {
        const struct qcow2_bitmap_entry *entry = &bitmaps->all[i].entry;
        info.all[i] = (struct qcow2_bitmap_info){
            .name = strndup(entry->name, entry->name_bytes),
            .granularity_bytes = UINT64_C(1) << entry->granularity_bits,
            .is_enabled = entry->flags & QCOW2_BITMAP_AUTO,
            .is_in_use = entry->flags & QCOW2_BITMAP_IN_USE,
        };
        if (info.all[i].name)
            continue;
        qcow2_bitmaps_info_fini(&info);
        return -ENOMEM;
    }
    *ret_info = info;
    return 0;
}

int qcow2_co_info_bitmaps(struct block_node *file, struct qcow2_bitmaps_info *ret_info,
                          struct error *err)
{
    struct qcow2_bitmaps_info info = {.all = NULL};
    struct error why;
    struct qcow2_image *image = qcow2_image_new(NULL);
    if (!image)
        return error_set(err, -ENOMEM, "no memory to look at '%s'", file->name);
    int ret = qcow2_co_load_header(image, file, err);
    if (ret == 0) {
        ret = qcow2_bitmaps_co_load_directory(image, file, &why);
        if (ret == 0 && image->bitmaps)
            ret = list_bitmaps(image->bitmaps, &info);
        if (ret < 0)
            error_set(err, ret, "cannot list the bitmaps of '%.200s': %s", file->name,
                      ret == -ENOMEM ? error_text(ret) : why.message);
    }
    qcow2_bitmaps_co_close(image);
    qcow2_image_free(image);
    if (ret == 0)
        *ret_info = info;
    return ret;
}

void qcow2_bitmaps_info_fini(struct qcow2_bitmaps_info *info)
{
    for (uint32_t i = 0; i < info->count; i++)
        free(info->all[i].name);
    free(info->all);
    *info = (struct qcow2_bitmaps_info){.all = NULL};
}
