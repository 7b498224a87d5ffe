/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_CRASH_NO_MEMORY_H
#define TESTS_CRASH_NO_MEMORY_H

/*
 * Allocations that fail: malloc, calloc, realloc, aligned_alloc, posix_memalign, strdup, strndup,
 * asprintf and mmap, as our own code calls them (the linker puts no_memory.c between). Counted
 * while armed.
 */

#include <stdbool.h>
#include <stdint.h>

/* From now on the fail_at-th allocation fails, counted from 1, and with is_sticky all behind it. 0:
 * none, they are only counted. */
void crash_no_memory_arm(uint64_t fail_at, bool is_sticky);
/* Whether it was armed; for those whose own memory must not fail, who rearm it afterwards. */
bool crash_no_memory_disarm(void);
void crash_no_memory_rearm(bool was_armed);
/* Since it was armed last. */
uint64_t crash_no_memory_count(void);
uint64_t crash_no_memory_failed(void);

#endif
