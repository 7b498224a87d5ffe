/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/replay/random_trace.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/random.h"

#define SECTORS (UINT64_C(16384)) /* 8 MiB */
#define STEPS 600

/* Mostly small, some large; often around one of a few hot places, where requests meet. */
static void draw_range(struct random *random, uint64_t *ret_sector, uint64_t *ret_count)
{
    static const uint64_t counts[] = {1, 2, 7, 8, 8, 8, 16, 64, 129, 1024};
    uint64_t count = counts[random_below(random, sizeof(counts) / sizeof(*counts))];
    uint64_t sector = random_below(random, SECTORS - count);
    if (random_below(random, 2))
        sector = 4096 * random_below(random, 4) + random_below(random, 64);
    *ret_sector = sector;
    *ret_count = count;
}

static void print_step(struct random *random, unsigned number, bool has_crashes)
{
    uint64_t sector, count, kind = random_below(random, 100);
    draw_range(random, &sector, &count);
    if (kind < 40)
        printf("read %" PRIu64 " %" PRIu64 "\n", sector, count);
    else if (kind < 80)
        printf("write %" PRIu64 " %" PRIu64 " %u\n", sector, count, number);
    else if (kind < 85)
        printf("discard %" PRIu64 " %" PRIu64 "\n", sector, count);
    else if (kind < 90)
        printf("zero %" PRIu64 " %" PRIu64 "\n", sector, count);
    else if (kind < 95)
        puts("flush");
    else if (kind < 97)
        puts(random_below(random, 2) ? "wait" : "reset");
    else if (kind < 99)
        puts(random_below(random, 2) ? "cache off" : "cache on");
    else if (has_crashes)
        puts("crash");
    else if (random_below(random, 3) == 0)
        puts("wait\nflush\nwait\ncrash"); /* nothing to lose */
}

int random_trace_print(uint64_t seed, bool has_crashes)
{
    static const unsigned depths[] = {1, 4, 32, 200};
    struct random random;
    random_seed(&random, seed);
    printf("# random %" PRIu64 "%s\nplatter-trace 1\ndevice virtio-blk\nsize %" PRIu64 "\n", seed,
           has_crashes ? " crashes" : "", SECTORS * 512);
    printf("depth %u\n", depths[random_below(&random, 4)]);
    for (unsigned i = 1; i <= STEPS; i++)
        print_step(&random, i, has_crashes);
    puts("flush");
    return ferror(stdout) != 0;
}
