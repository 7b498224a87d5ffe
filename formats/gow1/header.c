/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/gow1/header.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>

#include "common/endian.h"

void gow1_header_encode(const struct gow1_header *header, uint8_t bytes[GOW1_HEADER_BYTES])
{
    store_le32(bytes, header->magic);
    store_le32(bytes + GOW1_HEADER_SIZE, header->size);
    store_le32(bytes + GOW1_HEADER_ALLOCATED, header->allocated);
}

void gow1_header_decode(const uint8_t bytes[GOW1_HEADER_BYTES], struct gow1_header *ret_header)
{
    *ret_header = (struct gow1_header){
        .magic = load_le32(bytes),
        .size = load_le32(bytes + GOW1_HEADER_SIZE),
        .allocated = load_le32(bytes + GOW1_HEADER_ALLOCATED),
    };
}

int gow1_header_check(const struct gow1_header *header, uint32_t magic, uint64_t file_bytes,
                      struct error *err)
{
    if (header->magic != magic)
        return error_set(err, -EINVAL,
                         "its magic is 0x%08" PRIx32 ", not 0x%08" PRIx32 "; say magic=0x%08" PRIx32
                         " if it is a gow1 image all the same",
                         header->magic, magic, header->magic);
    if (header->size == 0)
        return error_set(err, -EINVAL, "its size is 0; a disk has at least one block");
    if (header->size > GOW1_BLOCKS_MAX)
        return error_set(err, -EINVAL, "its size is %" PRIu32 " blocks; the map has room for %u",
                         header->size, (unsigned)GOW1_BLOCKS_MAX);
    if (file_bytes < GOW1_BLOCKS_OFFSET)
        return error_set(err, -EINVAL,
                         "the file is truncated: it has %" PRIu64
                         " bytes, and the header with its map alone has %" PRIu64,
                         file_bytes, (uint64_t)GOW1_BLOCKS_OFFSET);
    return 0;
}

int gow1_header_check_allocated(const struct gow1_header *header, struct error *err)
{
    if (header->allocated <= header->size)
        return 0;
    return error_set(err, -EINVAL,
                     "its allocated is %" PRIu32 ", more than its size of %" PRIu32
                     " blocks; open it for writing with repair=all",
                     header->allocated, header->size);
}

int gow1_probe(const uint8_t *head, size_t length)
{
    struct gow1_header header;
    if (length < GOW1_HEADER_BYTES)
        return 0;
    gow1_header_decode(head, &header);
    bool makes_sense = header.magic == GOW1_MAGIC && header.size > 0 &&
                       header.size <= GOW1_BLOCKS_MAX && header.allocated <= header.size;
    return makes_sense ? 100 : 0;
}
