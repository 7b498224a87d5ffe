/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FORMATS_GOW1_HEADER_H
#define FORMATS_GOW1_HEADER_H

/* The header of a gow1 image, as bytes and as numbers; pure. */

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "formats/gow1/layout.h"

struct gow1_header {
    uint32_t magic;
    uint32_t size;      /* of the disk, in blocks */
    uint32_t allocated; /* blocks of the file that are somebody's, or may be */
};

void gow1_header_encode(const struct gow1_header *header, uint8_t bytes[GOW1_HEADER_BYTES]);
void gow1_header_decode(const uint8_t bytes[GOW1_HEADER_BYTES], struct gow1_header *ret_header);

/* -EINVAL: no image of this magic in a file of that length; a sentence without the file's name. */
int gow1_header_check(const struct gow1_header *header, uint32_t magic, uint64_t file_bytes,
                      struct error *err);
/* The one rule that a repair restores: -EINVAL when more is allocated than the disk has. */
int gow1_header_check_allocated(const struct gow1_header *header, struct error *err);

/* For the driver's probe: 100 for an image of our magic whose numbers make sense. */
int gow1_probe(const uint8_t *head, size_t length);

#endif
