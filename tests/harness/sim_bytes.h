/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HARNESS_SIM_BYTES_H
#define TESTS_HARNESS_SIM_BYTES_H

/* A queue of bytes that grows: a pipe's content, what a client has yet to send or to understand. */

#include <stddef.h>
#include <stdint.h>

struct sim_bytes {
    uint8_t *memory;
    size_t begin, length, room;
};

void bytes_free(struct sim_bytes *bytes);
/* Room for length more at the end, which the caller fills. */
uint8_t *bytes_append(struct sim_bytes *bytes, size_t length);
void bytes_append_copy(struct sim_bytes *bytes, const void *from, size_t length);
/* At most bytes->length. */
void bytes_drop(struct sim_bytes *bytes, size_t length);
static inline uint8_t *bytes_begin(const struct sim_bytes *bytes)
{
    return bytes->memory + bytes->begin;
}

void bytes_append_be16(struct sim_bytes *bytes, uint16_t value);
void bytes_append_be32(struct sim_bytes *bytes, uint32_t value);
void bytes_append_be64(struct sim_bytes *bytes, uint64_t value);

#endif
