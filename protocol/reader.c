/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/reader.h"

#include "common/endian.h"

void reader_init(struct reader *reader, const void *data, size_t length)
{
    /* An empty payload may come as NULL; reader_bytes(…, 0) must still not answer NULL. */
    *reader = (struct reader){.data = data ? data : "", .left = data ? length : 0};
}

const uint8_t *reader_bytes(struct reader *reader, size_t length)
{
    if (reader->failed || length > reader->left) {
        reader->failed = true;
        return NULL;
    }
    const uint8_t *bytes = reader->data;
    reader->data += length;
    reader->left -= length;
    return bytes;
}

uint16_t reader_be16(struct reader *reader)
{
    const uint8_t *bytes = reader_bytes(reader, sizeof(uint16_t));
    return bytes ? load_be16(bytes) : 0;
}

uint32_t reader_be32(struct reader *reader)
{
    const uint8_t *bytes = reader_bytes(reader, sizeof(uint32_t));
    return bytes ? load_be32(bytes) : 0;
}

uint64_t reader_be64(struct reader *reader)
{
    const uint8_t *bytes = reader_bytes(reader, sizeof(uint64_t));
    return bytes ? load_be64(bytes) : 0;
}

bool reader_is_exhausted(const struct reader *reader)
{
    return !reader->failed && reader->left == 0;
}
