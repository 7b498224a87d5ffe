/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_QCOW2_INFO_H
#define FORMATS_QCOW2_INFO_H

/* What an image is, from its header alone; and which bitmaps it has. */

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

struct qcow2_bitmap_info {
    char *name;
    uint64_t granularity_bytes;
    bool is_enabled; /* flag auto: whoever writes keeps it true */
    bool is_in_use;  /* and somebody who did has not stored it: it cannot be relied on */
};

struct qcow2_bitmaps_info {
    struct qcow2_bitmap_info *all; /* in the order of the directory */
    uint32_t count;
};

/* The persistent bitmaps of the image in an open file node: header and bitmap directory are read,
 * nothing else. None where the image says that they are out of date (autoclear bit 0 is not set).
 */
int qcow2_co_info_bitmaps(struct block_node *file, struct qcow2_bitmaps_info *ret_info,
                          struct error *err);
void qcow2_bitmaps_info_fini(struct qcow2_bitmaps_info *info);

#endif
