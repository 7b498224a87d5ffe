/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/split.h"

#include <errno.h>

#include "block/bounce.h"
#include "block/buffer.h"
#include "block/doorway.h"

/* How long the next piece of `left` bytes may be; 0 is no limit. A limit is a multiple of the
 * request alignment, so every piece but the last one keeps it. */
static uint64_t piece_length(uint64_t left, uint64_t length_max)
{
    return length_max > 0 && left > length_max ? length_max : left;
}

static uint64_t transfer_max(const struct block_node *node, const struct block_vec *vec)
{
    uint64_t length_max = node->limits.transfer_bytes_max;
    if ((length_max == 0 || length_max > BOUNCE_BYTES_MAX) && bounce_is_needed(node, vec))
        return BOUNCE_BYTES_MAX;
    return length_max;
}

int split_co_read(struct block_node *node, uint64_t offset, const struct block_vec *vec)
{
    uint64_t length_max = transfer_max(node, vec);
    if (length_max == 0 || vec->length <= length_max)
        return bounce_co_read(node, offset, vec);
    for (uint64_t done = 0; done < vec->length;) {
        uint64_t length = piece_length(vec->length - done, length_max);
        struct block_vec piece = vec_slice(vec, done, length);
        int rc = bounce_co_read(node, offset + done, &piece);
        if (rc < 0)
            return rc;
        done += length;
    }
    return 0;
}

int split_co_write(struct block_node *node, uint64_t offset, const struct block_vec *vec,
                   unsigned flags)
{
    uint64_t length_max = transfer_max(node, vec);
    if (length_max == 0 || vec->length <= length_max)
        return bounce_co_write(node, offset, vec, flags);
    for (uint64_t done = 0; done < vec->length;) {
        uint64_t length = piece_length(vec->length - done, length_max);
        struct block_vec piece = vec_slice(vec, done, length);
        int rc = bounce_co_write(node, offset + done, &piece, flags);
        if (rc < 0)
            return rc;
        done += length;
    }
    return 0;
}

/* One small page many times over: 1 MiB of zeroes to write from, at the cost of one page of memory.
 * Aligned for every driver, as the pool's buffers are. */
#define ZERO_PAGE_BYTES (16u << 10)
#define ZERO_IOV_COUNT 64
static const uint8_t zero_page[ZERO_PAGE_BYTES] __attribute__((aligned(BUFFER_ALIGNMENT)));

static int co_write_zeroes(struct block_node *node, uint64_t offset, uint64_t length,
                           unsigned flags)
{
    struct iovec iov[ZERO_IOV_COUNT];
    for (unsigned i = 0; i < ZERO_IOV_COUNT; i++)
        iov[i] =
            (struct iovec){.iov_base = (void *)(uintptr_t)zero_page, .iov_len = ZERO_PAGE_BYTES};
    for (uint64_t done = 0; done < length;) {
        uint64_t piece = piece_length(length - done, sizeof(zero_page) * ZERO_IOV_COUNT);
        struct block_vec vec = {.iov = iov, .length = piece};
        int rc = split_co_write(node, offset + done, &vec, flags & (unsigned)BLOCK_FUA);
        if (rc < 0)
            return rc;
        done += piece;
    }
    return 0;
}

int split_co_zero(struct block_node *node, uint64_t offset, uint64_t length, unsigned flags)
{
    int rc = 0;
    for (uint64_t done = 0; done < length && rc == 0;) {
        uint64_t piece = piece_length(length - done, node->limits.zero_bytes_max);
        rc = doorway_co_zero(node, offset + done, piece, flags);
        if (rc == -ENOTSUP && (flags & BLOCK_FAST) && done == 0)
            return rc;
        if (rc == -ENOTSUP)
            return co_write_zeroes(node, offset + done, length - done, flags);
        done += piece;
    }
    return rc;
}

int split_co_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    for (uint64_t done = 0; done < length;) {
        uint64_t piece = piece_length(length - done, node->limits.discard_bytes_max);
        int rc = doorway_co_discard(node, offset + done, piece);
        if (rc < 0)
            return rc == -ENOTSUP ? 0 : rc;
        done += piece;
    }
    return 0;
}
