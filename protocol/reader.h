/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_READER_H
#define PROTOCOL_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Reads fields in network byte order out of bytes that lie in memory, and never past their end.
 * Failure sticks: after a field that did not fit, every later one fails too and reads as zero, so
 * a parser may read a whole structure and ask once. The bytes are the caller's and are not copied.
 */
struct reader {
    const uint8_t *data;
    size_t left; /* bytes not yet read */
    bool failed;
};

void reader_init(struct reader *reader, const void *data, size_t length);

uint16_t reader_be16(struct reader *reader);
uint32_t reader_be32(struct reader *reader);
uint64_t reader_be64(struct reader *reader);

/* The next length bytes, where they lie; NULL (and failure) when there are fewer. Never NULL for
 * length 0 unless the reader has failed. */
const uint8_t *reader_bytes(struct reader *reader, size_t length);

/* Everything was read, nothing is left over and nothing was missing. */
bool reader_is_exhausted(const struct reader *reader);

#endif
