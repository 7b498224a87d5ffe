/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_VEC_H
#define BLOCK_VEC_H

/*
 * A view of memory that a request reads into or writes from: some iovecs, of which the first `skip`
 * bytes do not count, and `length` bytes do. Cutting a view makes another view and copies nothing,
 * so requests are split and aligned without allocation. A view owns no memory; the iovecs and what
 * they point at outlive the request.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct block_vec {
    const struct iovec *iov;
    size_t skip;   /* less than iov[0].iov_len, or 0 */
    size_t length; /* in bytes; the iovecs from iov on hold at least skip + length */
};

/* A view of one buffer; *iov is the caller's to keep. */
static inline struct block_vec vec_of_buffer(struct iovec *iov, void *data, size_t length)
{
    *iov = (struct iovec){.iov_base = data, .iov_len = length};
    return (struct block_vec){.iov = iov, .length = length};
}

/* The bytes [from, from + length) of vec. */
struct block_vec vec_slice(const struct block_vec *vec, size_t from, size_t length);

/* Fills at most iov_max iovecs from the front of vec; *ret_bytes is what they hold (all of it, or
 * less when iov_max did not suffice). Returns how many. */
unsigned vec_to_iovec(const struct block_vec *vec, struct iovec *iov, unsigned iov_max,
                      size_t *ret_bytes);

void vec_copy_from(const struct block_vec *vec, const void *data); /* data -> vec, all of vec */
void vec_copy_to(const struct block_vec *vec, void *data);         /* vec -> data, all of vec */
void vec_fill(const struct block_vec *vec, int byte);
bool vec_is_zero(const struct block_vec *vec); /* reads no further than the first other byte */
/* Whether every address and every length in it is a multiple of alignment. */
bool vec_is_aligned(const struct block_vec *vec, size_t alignment);

#endif
