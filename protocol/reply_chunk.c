/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/reply_chunk.h"

#include "common/endian.h"

#include <assert.h>
#include <string.h>

static size_t header_size(const struct request *request)
{
    assert(request->headers != NBD_HEADERS_SIMPLE);
    return request->headers == NBD_HEADERS_EXTENDED ? NBD_EXTENDED_CHUNK_SIZE : NBD_CHUNK_SIZE;
}

/* Returns the header's size: the payload goes behind it. */
static size_t header(uint8_t *to, const struct request *request, bool done, uint16_t type,
                     uint32_t length)
{
    size_t size = header_size(request);
    bool is_extended = size == NBD_EXTENDED_CHUNK_SIZE;
    store_be32(to, is_extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
    store_be16(to + 4, done ? NBD_REPLY_FLAG_DONE : 0);
    store_be16(to + 6, type);
    store_be64(to + 8, request->cookie);
    if (!is_extended) {
        store_be32(to + 16, length);
        return size;
    }
    store_be64(to + 16, request->offset); /* the request's, whatever the chunk is about */
    store_be64(to + 24, length);
    return size;
}

size_t reply_chunk_none(uint8_t *to, const struct request *request)
{
    return header(to, request, true, NBD_REPLY_TYPE_NONE, 0);
}

size_t reply_chunk_offset_data(uint8_t *to, const struct request *request, bool done,
                               uint64_t offset, uint32_t data_length)
{
    assert(data_length > 0);
    assert(data_length <= UINT32_MAX - 8);
    size_t size = header(to, request, done, NBD_REPLY_TYPE_OFFSET_DATA, 8 + data_length);
    store_be64(to + size, offset);
    return size + 8;
}

size_t reply_chunk_offset_hole(uint8_t *to, const struct request *request, bool done,
                               uint64_t offset, uint32_t hole_length)
{
    assert(hole_length > 0);
    size_t size = header(to, request, done, NBD_REPLY_TYPE_OFFSET_HOLE, 12);
    store_be64(to + size, offset);
    store_be32(to + size + 8, hole_length);
    return size + 12;
}

size_t reply_chunk_block_status(uint8_t *to, const struct request *request, bool done,
                                uint32_t context_id, uint32_t descriptor_count)
{
    assert(descriptor_count > 0);
    assert(descriptor_count <= NBD_DESCRIPTORS_MAX);
    if (request->headers != NBD_HEADERS_EXTENDED) {
        size_t size = header(to, request, done, NBD_REPLY_TYPE_BLOCK_STATUS,
                             4 + NBD_DESCRIPTOR_SIZE * descriptor_count);
        store_be32(to + size, context_id);
        return size + 4;
    }
    size_t size = header(to, request, done, NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
                         8 + NBD_EXTENDED_DESCRIPTOR_SIZE * descriptor_count);
    store_be32(to + size, context_id);
    store_be32(to + size + 4, descriptor_count);
    return size + 8;
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

size_t reply_chunk_error(uint8_t *to, const struct request *request, bool done, uint32_t error,
                         const char *text)
{
    size_t body = error_body(to + header_size(request), error, text);
    return header(to, request, done, NBD_REPLY_TYPE_ERROR, (uint32_t)body) + body;
}

size_t reply_chunk_error_offset(uint8_t *to, const struct request *request, bool done,
                                uint32_t error, const char *text, uint64_t offset)
{
    uint8_t *after = to + header_size(request);
    size_t body = error_body(after, error, text);
    store_be64(after + body, offset);
    body += 8;
    return header(to, request, done, NBD_REPLY_TYPE_ERROR_OFFSET, (uint32_t)body) + body;
}
