/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_GOW1_INFO_H
#define FORMATS_GOW1_INFO_H

/* What an image is, from its header alone. */

#include "block/driver.h"
#include "formats/gow1/header.h"

/* Of the image in an open file node, with that magic (GOW1_MAGIC): nothing but the header is read.
 * An image that could not be opened is refused with the same sentence, but for one that allocates
 * more than it may, which a repair can open. */
int gow1_co_info(struct block_node *file, uint32_t magic, struct gow1_header *ret_header,
                 struct error *err);

#endif
