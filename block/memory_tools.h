/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLOCK_MEMORY_TOOLS_H
#define BLOCK_MEMORY_TOOLS_H

/* Tells valgrind of memory that the kernel has filled: it sees system calls, but not what comes by
 * a ring. Costs nothing where its header is missing, and some instructions elsewhere. */

#include <stddef.h>
#include <sys/uio.h>

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define TOOLS_MEMCHECK 1
#endif
#endif

/* The first `length` bytes of the parts. */
static inline void tools_memory_filled(const struct iovec *iov, unsigned iov_count, size_t length)
{
#ifdef TOOLS_MEMCHECK
    for (unsigned i = 0; i < iov_count && length > 0; i++) {
        size_t part = iov[i].iov_len < length ? iov[i].iov_len : length;
        (void)VALGRIND_MAKE_MEM_DEFINED(iov[i].iov_base, part);
        length -= part;
    }
#else
    (void)iov;
    (void)iov_count;
    (void)length;
#endif
}

#endif
