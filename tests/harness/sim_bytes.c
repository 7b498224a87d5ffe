/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/harness/sim_bytes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/endian.h"

void bytes_free(struct sim_bytes *bytes)
{
    free(bytes->memory);
    *bytes = (struct sim_bytes){0};
}

uint8_t *bytes_append(struct sim_bytes *bytes, size_t length)
{
    size_t end = bytes->begin + bytes->length;
    if (end + length > bytes->room && bytes->length + length <= bytes->room / 2) {
        memmove(bytes->memory, bytes_begin(bytes), bytes->length);
        bytes->begin = 0;
    } else if (end + length > bytes->room) {
        bytes->room = 2 * (end + length) + 256;
        bytes->memory = realloc(bytes->memory, bytes->room);
        assert(bytes->memory);
    }
    bytes->length += length;
    return bytes_begin(bytes) + bytes->length - length;
}

void bytes_append_copy(struct sim_bytes *bytes, const void *from, size_t length)
{
    uint8_t *to = bytes_append(bytes, length);
    if (length)
        memcpy(to, from, length);
}

void bytes_drop(struct sim_bytes *bytes, size_t length)
{
    assert(length <= bytes->length);
    bytes->begin += length;
    bytes->length -= length;
    if (bytes->length == 0)
        bytes->begin = 0;
}

void bytes_append_be16(struct sim_bytes *bytes, uint16_t value)
{
    store_be16(bytes_append(bytes, 2), value);
}

void bytes_append_be32(struct sim_bytes *bytes, uint32_t value)
{
    store_be32(bytes_append(bytes, 4), value);
}

void bytes_append_be64(struct sim_bytes *bytes, uint64_t value)
{
    store_be64(bytes_append(bytes, 8), value);
}
