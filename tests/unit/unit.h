/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

/* What every cmocka test includes: cmocka wants these headers before its own. */
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Ends the test as skipped; tests/run shows the reason. */
#define skip_because(reason)                 \
    do {                                     \
        print_message("skip: %s\n", reason); \
        skip();                              \
    } while (0)

/* Whether a tool shares the address space, so that a test may not put a limit on it. */
static inline bool unit_tool_shares_memory(void)
{
#if defined(__has_feature) /* clang's way to tell */
    if (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
        return true;
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) /* gcc's */
    return true;
#else
    const char *preload = getenv("LD_PRELOAD"); /* how valgrind comes in */
    return preload && strstr(preload, "vgpreload");
#endif
}

#endif
