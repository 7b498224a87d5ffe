/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_BOUNDS_FAIL_ALLOC_H
#define TESTS_BOUNDS_FAIL_ALLOC_H

/*
 * A library to preload into the server, which makes one allocation fail, or all from one on:
 * malloc, calloc, realloc, posix_memalign, aligned_alloc, memalign and anonymous mmap, whoever
 * calls them, libraries and the C library's own callers included. The file that FAIL_ALLOC_FILE
 * names, made by the test, holds this and is shared by both.
 */

#include <stdatomic.h>
#include <stdint.h>

#define FAIL_ALLOC_ENV "FAIL_ALLOC_FILE"

struct fail_alloc {
    _Atomic uint64_t count;   /* allocations since it was set to 0 */
    _Atomic uint64_t fail_at; /* this one fails (from 1); 0: none */
    _Atomic uint64_t sticky;  /* not 0: and all after it */
    _Atomic uint64_t failed;  /* how many did */
};

#endif
