/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef COMMON_INFLATE_H
#define COMMON_INFLATE_H

/*
 * Compressed blocks of known size, as image formats have them: whole in, whole out. Blocks the
 * thread for as long as it takes (64 KiB: 50 to 500 us), so on a loop's thread it is called by the
 * workers. Safe on any thread.
 */

#include <stddef.h>

enum compression_method {
    COMPRESSION_DEFLATE, /* raw, without zlib's header and sum */
    COMPRESSION_ZSTD,
};

/* Fills all of `to`. What follows in `from` behind the compressed bytes does not matter. -EIO: this
 * does not expand to to_length bytes; `to` has any content then. -ENOMEM. Memory beside the two
 * does not depend on what `from` says. */
int inflate_bytes(enum compression_method method, const void *from, size_t from_length, void *to,
                  size_t to_length);

/* The reverse, with a window of 4 KiB for deflate as qcow2 has it. -ENOSPC: it does not fit into
 * to_length bytes, that is, it is not worth it. -ENOMEM. */
int deflate_bytes(enum compression_method method, const void *from, size_t from_length, void *to,
                  size_t to_length, size_t *ret_length);

#endif
