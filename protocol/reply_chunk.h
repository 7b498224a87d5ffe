/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PROTOCOL_REPLY_CHUNK_H
#define PROTOCOL_REPLY_CHUNK_H

/*
 * "Structured reply chunk message" and "Extended reply chunk message", one function a type. Each
 * fills the front of a chunk in the caller's memory (at least the size its constant says), returns
 * how many bytes it filled, and allocates nothing. Which of the two it is follows from how the
 * request came, which must not be by simple headers. `done` sets NBD_REPLY_FLAG_DONE: this chunk is
 * the request's last.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/request.h"
#include "protocol/wire.h"

#define REPLY_CHUNK_NONE_MAX NBD_EXTENDED_CHUNK_SIZE
#define REPLY_CHUNK_OFFSET_DATA_MAX (NBD_EXTENDED_CHUNK_SIZE + 8) /* before the data */
#define REPLY_CHUNK_OFFSET_HOLE_MAX (NBD_EXTENDED_CHUNK_SIZE + 12)
#define REPLY_CHUNK_BLOCK_STATUS_MAX (NBD_EXTENDED_CHUNK_SIZE + 8) /* before the descriptors */
/* The text of an error is cut to this; the specification allows 4096. */
#define REPLY_CHUNK_TEXT_MAX 256
#define REPLY_CHUNK_ERROR_MAX (NBD_EXTENDED_CHUNK_SIZE + 6 + REPLY_CHUNK_TEXT_MAX)
#define REPLY_CHUNK_ERROR_OFFSET_MAX (REPLY_CHUNK_ERROR_MAX + 8)
/* Any of the above. */
#define REPLY_CHUNK_MAX REPLY_CHUNK_ERROR_OFFSET_MAX

/* Always the last chunk: success, unless an error chunk came before. */
size_t reply_chunk_none(uint8_t *to, const struct request *request);

/* data_length (at least 1, at most 2^32 - 9) bytes of the export follow. */
size_t reply_chunk_offset_data(uint8_t *to, const struct request *request, bool done,
                               uint64_t offset, uint32_t data_length);

/* hole_length (at least 1) bytes of the export read as zeroes. */
size_t reply_chunk_offset_hole(uint8_t *to, const struct request *request, bool done,
                               uint64_t offset, uint32_t hole_length);

/* descriptor_count (1 to NBD_DESCRIPTORS_MAX) descriptors follow, as reply_status.h makes them: of
 * 32 bits, or with extended headers of 64 (NBD_REPLY_TYPE_BLOCK_STATUS_EXT). */
size_t reply_chunk_block_status(uint8_t *to, const struct request *request, bool done,
                                uint32_t context_id, uint32_t descriptor_count);

/* error is NBD_E..., not 0; text may be NULL. */
size_t reply_chunk_error(uint8_t *to, const struct request *request, bool done, uint32_t error,
                         const char *text);

/* The same, with where it went wrong: an offset inside the request. */
size_t reply_chunk_error_offset(uint8_t *to, const struct request *request, bool done,
                                uint32_t error, const char *text, uint64_t offset);

#endif
