/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How fast a buffer of zeroes is seen to be one (detect-zeroes), by size, beside what the machine
 * can do: the C library's own search for a byte that is not there. And what data that is not zero
 * costs. `zero_scan` takes no arguments; processor time is measured, the best of some rounds.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/zero_scan.h"

#define BYTES_A_ROUND (UINT64_C(2) << 30)
#define ROUNDS 5

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

typedef bool scanner(const void *data, size_t length);

static bool scan_memchr(const void *data, size_t length)
{
    return !memchr(data, 1, length);
}

/* Nanoseconds a call, in the best round. */
static double measure(scanner *scan, const void *data, size_t length, uint64_t calls, bool want)
{
    scanner *volatile call = scan; /* so that the calls are made, all of them */
    uint64_t best_ns = UINT64_MAX;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t start_ns = cpu_ns();
        for (uint64_t i = 0; i < calls; i++) {
            if (call(data, length) != want)
                abort();
        }
        uint64_t took_ns = cpu_ns() - start_ns;
        best_ns = took_ns < best_ns ? took_ns : best_ns;
    }
    return (double)best_ns / (double)calls;
}

int main(void)
{
    static const size_t sizes[] = {512, 4 << 10, 64 << 10, 1 << 20, 32 << 20, 256 << 20};
    size_t largest = sizes[sizeof(sizes) / sizeof(sizes[0]) - 1];
    unsigned char *data = aligned_alloc(4096, largest);
    if (!data)
        return 1;
    memset(data, 0, largest);
    printf("%12s %16s %16s\n", "bytes", "zero_scan GB/s", "memchr GB/s");
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t calls = BYTES_A_ROUND / sizes[i];
        double ours = measure(zero_scan, data, sizes[i], calls, true);
        double theirs = measure(scan_memchr, data, sizes[i], calls, true);
        printf("%12zu %16.1f %16.1f\n", sizes[i], (double)sizes[i] / ours,
               (double)sizes[i] / theirs);
    }
    data[3] = 1;
    printf("not zero, in the first word: %.1f ns\n",
           measure(zero_scan, data, 64 << 10, 10000000, false));
    free(data);
    return 0;
}
