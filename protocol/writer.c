/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/writer.h"

#include "common/endian.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_FIRST 512

void writer_init(struct writer *writer, size_t capacity_max)
{
    assert(capacity_max <= SIZE_MAX / 2); /* so that doubling never wraps */
    *writer = (struct writer){.capacity_max = capacity_max};
}

void writer_fini(struct writer *writer)
{
    free(writer->data);
    *writer = (struct writer){0};
}

static bool grow(struct writer *writer, size_t needed)
{
    size_t capacity = writer->capacity ? writer->capacity : CAPACITY_FIRST;
    while (capacity < needed)
        capacity *= 2;
    if (capacity > writer->capacity_max)
        capacity = writer->capacity_max;
    uint8_t *data = realloc(writer->data, capacity);
    if (!data)
        return false;
    writer->data = data;
    writer->capacity = capacity;
    return true;
}

/* Room for length more bytes, already counted as written; NULL when there is none. */
static uint8_t *extend(struct writer *writer, size_t length)
{
    if (writer->failed)
        return NULL;
    if (length > writer->capacity_max - writer->length) {
        writer->failed = true;
        return NULL;
    }
    size_t needed = writer->length + length;
    if (needed > writer->capacity && !grow(writer, needed)) {
        writer->failed = true;
        return NULL;
    }
    uint8_t *room = writer->data + writer->length;
    writer->length = needed;
    return room;
}

void writer_be16(struct writer *writer, uint16_t value)
{
    uint8_t *room = extend(writer, sizeof(value));
    if (room)
        store_be16(room, value);
}

void writer_be32(struct writer *writer, uint32_t value)
{
    uint8_t *room = extend(writer, sizeof(value));
    if (room)
        store_be32(room, value);
}

void writer_be64(struct writer *writer, uint64_t value)
{
    uint8_t *room = extend(writer, sizeof(value));
    if (room)
        store_be64(room, value);
}

void writer_bytes(struct writer *writer, const void *bytes, size_t length)
{
    if (length == 0)
        return;
    uint8_t *room = extend(writer, length);
    if (room)
        memcpy(room, bytes, length);
}

void writer_zeroes(struct writer *writer, size_t length)
{
    if (length == 0)
        return;
    uint8_t *room = extend(writer, length);
    if (room)
        memset(room, 0, length);
}

void writer_consume(struct writer *writer, size_t length)
{
    assert(length <= writer->length);
    writer->length -= length;
    if (writer->length > 0 && length > 0)
        memmove(writer->data, writer->data + length, writer->length);
}

void writer_truncate(struct writer *writer, size_t length)
{
    assert(length <= writer->length);
    writer->length = length;
    writer->failed = false;
}
