/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/vec.h"

#include <assert.h>
#include <string.h>

#include "common/align.h"
#include "common/zero_scan.h"

struct block_vec vec_slice(const struct block_vec *vec, size_t from, size_t length)
{
    assert(from <= vec->length && length <= vec->length - from);
    if (length == 0) /* from may be the very end: there is no iovec to point at */
        return (struct block_vec){.iov = vec->iov};

    const struct iovec *iov = vec->iov;
    size_t skip = vec->skip + from;
    while (skip >= iov->iov_len) {
        skip -= iov->iov_len;
        iov++;
    }
    return (struct block_vec){.iov = iov, .skip = skip, .length = length};
}

/* Walks over the pieces of a view: each call gives the next one that is not empty. */
struct vec_walk {
    const struct iovec *iov;
    size_t skip, left;
};

static struct vec_walk walk_start(const struct block_vec *vec)
{
    return (struct vec_walk){.iov = vec->iov, .skip = vec->skip, .left = vec->length};
}

static bool walk_next(struct vec_walk *walk, struct iovec *ret_piece)
{
    if (walk->left == 0)
        return false;
    while (walk->skip >= walk->iov->iov_len) {
        walk->skip -= walk->iov->iov_len;
        walk->iov++;
    }
    size_t bytes = walk->iov->iov_len - walk->skip;
    if (bytes > walk->left)
        bytes = walk->left;
    *ret_piece = (struct iovec){
        .iov_base = (char *)walk->iov->iov_base + walk->skip,
        .iov_len = bytes,
    };
    walk->skip += bytes;
    walk->left -= bytes;
    return true;
}

unsigned vec_to_iovec(const struct block_vec *vec, struct iovec *iov, unsigned iov_max,
                      size_t *ret_bytes)
{
    struct vec_walk walk = walk_start(vec);
    unsigned count = 0;
    while (count < iov_max && walk_next(&walk, &iov[count]))
        count++;
    *ret_bytes = vec->length - walk.left;
    return count;
}

void vec_copy_from(const struct block_vec *vec, const void *data)
{
    struct vec_walk walk = walk_start(vec);
    struct iovec piece;
    const char *from = data;
    while (walk_next(&walk, &piece)) {
        memcpy(piece.iov_base, from, piece.iov_len);
        from += piece.iov_len;
    }
}

void vec_copy_to(const struct block_vec *vec, void *data)
{
    struct vec_walk walk = walk_start(vec);
    struct iovec piece;
    char *to = data;
    while (walk_next(&walk, &piece)) {
        memcpy(to, piece.iov_base, piece.iov_len);
        to += piece.iov_len;
    }
}

void vec_fill(const struct block_vec *vec, int byte)
{
    struct vec_walk walk = walk_start(vec);
    struct iovec piece;
    while (walk_next(&walk, &piece))
        memset(piece.iov_base, byte, piece.iov_len);
}

bool vec_is_zero(const struct block_vec *vec)
{
    struct vec_walk walk = walk_start(vec);
    struct iovec piece;
    while (walk_next(&walk, &piece)) {
        if (!zero_scan(piece.iov_base, piece.iov_len))
            return false;
    }
    return true;
}

bool vec_is_aligned(const struct block_vec *vec, size_t alignment)
{
    struct vec_walk walk = walk_start(vec);
    struct iovec piece;
    while (walk_next(&walk, &piece)) {
        if (!is_aligned((uintptr_t)piece.iov_base | piece.iov_len, alignment))
            return false;
    }
    return true;
}
