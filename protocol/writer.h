/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_WRITER_H
#define PROTOCOL_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Bytes to be sent, in network byte order, in memory that grows up to a bound. Failure (past the
 * bound, or no memory) sticks until writer_truncate(): what was asked for after it is not written,
 * so a sequence of fields may be written whole and asked about once. A field is written whole or
 * not at all.
 *
 * The holder reads data[0 .. length) and takes away what it has sent with writer_consume().
 */
struct writer {
    uint8_t *data; /* owned; NULL until something is written */
    size_t length; /* bytes written and not yet consumed */
    size_t capacity;
    size_t capacity_max;
    bool failed;
};

void writer_init(struct writer *writer, size_t capacity_max);
void writer_fini(struct writer *writer);

void writer_be16(struct writer *writer, uint16_t value);
void writer_be32(struct writer *writer, uint32_t value);
void writer_be64(struct writer *writer, uint64_t value);
void writer_bytes(struct writer *writer, const void *bytes, size_t length);
void writer_zeroes(struct writer *writer, size_t length);

/* Takes the first length bytes away (at most writer->length); the rest moves to the front. */
void writer_consume(struct writer *writer, size_t length);
/* Forgets what was written after the first length bytes, and the failure with it. */
void writer_truncate(struct writer *writer, size_t length);

#endif
