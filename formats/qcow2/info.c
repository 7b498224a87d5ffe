/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/info.h"

#include <errno.h>
#include <stdlib.h>

#include "formats/qcow2/image.h"

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
