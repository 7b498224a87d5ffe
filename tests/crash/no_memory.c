/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/crash/no_memory.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/types.h>

static struct {
    bool is_armed, is_sticky;
    uint64_t fail_at, count, failed;
} state;

void crash_no_memory_arm(uint64_t fail_at, bool is_sticky)
{
    state.fail_at = fail_at;
    state.is_sticky = is_sticky;
    state.count = state.failed = 0;
    state.is_armed = true;
}

bool crash_no_memory_disarm(void)
{
    bool was_armed = state.is_armed;
    state.is_armed = false;
    return was_armed;
}

void crash_no_memory_rearm(bool was_armed)
{
    state.is_armed = was_armed;
}

uint64_t crash_no_memory_count(void)
{
    return state.count;
}

uint64_t crash_no_memory_failed(void)
{
    return state.failed;
}

static bool fails(void)
{
    if (!state.is_armed)
        return false;
    uint64_t number = ++state.count;
    bool is_hit = state.fail_at != 0 &&
                  (number == state.fail_at || (number > state.fail_at && state.is_sticky));
    if (is_hit) {
        state.failed++;
        errno = ENOMEM;
    }
    return is_hit;
}

/* The linker's --wrap=NAME sends calls of NAME to __wrap_NAME, and those of __real_NAME to NAME. */
#define WRAPPED(type, name, parameters, arguments, failure)  \
    type real_##name parameters __asm__("__real_" #name);    \
    type wrapped_##name parameters __asm__("__wrap_" #name); \
    type wrapped_##name parameters                           \
    {                                                        \
        return fails() ? failure : real_##name arguments;    \
    }

WRAPPED(void *, malloc, (size_t bytes), (bytes), NULL)
WRAPPED(void *, calloc, (size_t count, size_t bytes), (count, bytes), NULL)
WRAPPED(void *, realloc, (void *memory, size_t bytes), (memory, bytes), NULL)
WRAPPED(void *, aligned_alloc, (size_t alignment, size_t bytes), (alignment, bytes), NULL)
WRAPPED(int, posix_memalign, (void **memory, size_t alignment, size_t bytes),
        (memory, alignment, bytes), ENOMEM)
WRAPPED(char *, strdup, (const char *text), (text), NULL)
WRAPPED(char *, strndup, (const char *text, size_t length), (text, length), NULL)
/* Which allocates inside of the library. */
int wrapped_asprintf(char **text, const char *format, ...) __asm__("__wrap_asprintf")
    __attribute__((format(printf, 2, 3)));
int wrapped_asprintf(char **text, const char *format, ...)
{
    va_list list;
    if (fails())
        return -1;
    va_start(list, format);
    int length = vasprintf(text, format, list);
    va_end(list);
    return length;
}

WRAPPED(void *, mmap64,
        (void *address, size_t bytes, int protection, int flags, int fd, off_t offset),
        (address, bytes, protection, flags, fd, offset), MAP_FAILED)
