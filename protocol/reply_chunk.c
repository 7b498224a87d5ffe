/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/reply_chunk.h"

#include "common/endian.h"

#include <assert.h>
#include <string.h>

static void header(uint8_t *to, uint64_t cookie, bool done, uint16_t type, uint32_t length)
{
    store_be32(to, NBD_STRUCTURED_REPLY_MAGIC);
    store_be16(to + 4, done ? NBD_REPLY_FLAG_DONE : 0);
    store_be16(to + 6, type);
    store_be64(to + 8, cookie);
    store_be32(to + 16, length);
}

size_t reply_chunk_none(uint8_t *to, uint64_t cookie)
{
    header(to, cookie, true, NBD_REPLY_TYPE_NONE, 0);
    return REPLY_CHUNK_NONE_SIZE;
}

size_t reply_chunk_offset_data(uint8_t *to, uint64_t cookie, bool done, uint64_t offset,
                               uint32_t data_length)
{
    assert(data_length > 0);
    assert(data_length <= UINT32_MAX - 8);
    header(to, cookie, done, NBD_REPLY_TYPE_OFFSET_DATA, 8 + data_length);
    store_be64(to + NBD_CHUNK_SIZE, offset);
    return REPLY_CHUNK_OFFSET_DATA_SIZE;
}

size_t reply_chunk_offset_hole(uint8_t *to, uint64_t cookie, bool done, uint64_t offset,
                               uint32_t hole_length)
{
    assert(hole_length > 0);
    header(to, cookie, done, NBD_REPLY_TYPE_OFFSET_HOLE, 12);
    store_be64(to + NBD_CHUNK_SIZE, offset);
    store_be32(to + NBD_CHUNK_SIZE + 8, hole_length);
    return REPLY_CHUNK_OFFSET_HOLE_SIZE;
}

size_t reply_chunk_block_status(uint8_t *to, uint64_t cookie, bool done, uint32_t context_id,
                                uint32_t descriptor_count)
{
    assert(descriptor_count > 0);
    assert(descriptor_count <= NBD_DESCRIPTORS_MAX);
    header(to, cookie, done, NBD_REPLY_TYPE_BLOCK_STATUS,
           4 + NBD_DESCRIPTOR_SIZE * descriptor_count);
    store_be32(to + NBD_CHUNK_SIZE, context_id);
    return REPLY_CHUNK_BLOCK_STATUS_SIZE;
}

/* The error, the length of the text and the text, after the header; returns their size. */
static size_t error_body(uint8_t *to, uint32_t error, const char *text)
{
    assert(error != NBD_SUCCESS);
    size_t text_length = text ? strnlen(text, REPLY_CHUNK_TEXT_MAX) : 0;
    store_be32(to, error);
    store_be16(to + 4, (uint16_t)text_length);
    if (text_length > 0)
        memcpy(to + 6, text, text_length);
    return 6 + text_length;
}

size_t reply_chunk_error(uint8_t *to, uint64_t cookie, bool done, uint32_t error, const char *text)
{
    size_t body = error_body(to + NBD_CHUNK_SIZE, error, text);
    header(to, cookie, done, NBD_REPLY_TYPE_ERROR, (uint32_t)body);
    return NBD_CHUNK_SIZE + body;
}

size_t reply_chunk_error_offset(uint8_t *to, uint64_t cookie, bool done, uint32_t error,
                                const char *text, uint64_t offset)
{
    size_t body = error_body(to + NBD_CHUNK_SIZE, error, text);
    store_be64(to + NBD_CHUNK_SIZE + body, offset);
    body += 8;
    header(to, cookie, done, NBD_REPLY_TYPE_ERROR_OFFSET, (uint32_t)body);
    return NBD_CHUNK_SIZE + body;
}
