/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_INFO_H
#define FORMATS_QCOW2_INFO_H

/* What an image is, from its header alone. */

#include "block/driver.h"
#include "formats/qcow2/extension.h"
#include "formats/qcow2/header.h"

struct qcow2_info {
    struct qcow2_header header;
    struct qcow2_extensions extensions;
    char *backing_name; /* as it is stored; NULL: none */
};

/* Of the image in an open file node: nothing else is opened or followed, nothing but the first
 * cluster is read. An image that could not be opened is refused with the same sentence. */
int qcow2_co_info(struct block_node *file, struct qcow2_info *ret_info, struct error *err);
void qcow2_info_fini(struct qcow2_info *info);

#endif
