/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/replay/random_trace.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "common/random.h"

#define SECTORS 16384        /* 8 MiB */
#define OVERLAP_SECTORS 2048 /* 1 MiB */
#define STEPS 600

/* Mostly small, some large; often around one of a few hot places, where requests meet. */
static void draw_range(struct random *random, uint64_t sectors, uint64_t *ret_sector,
                       uint64_t *ret_count)
{
    static const uint64_t counts[] = {1, 2, 7, 8, 8, 8, 16, 64, 129, 1024};
    uint64_t count = counts[random_below(random, sizeof(counts) / sizeof(*counts))];
    uint64_t sector = random_below(random, sectors - count);
    if (random_below(random, 2))
        sector = sectors / 4 * random_below(random, 4) + random_below(random, 64);
    if (sector + count > sectors)
        sector = sectors - count;
    *ret_sector = sector;
    *ret_count = count;
}

static void print_rare_step(struct random *random, enum random_kind kind)
{
    if (kind == RANDOM_CRASHES)
        puts("crash");
    else if (kind == RANDOM_APART && random_below(random, 3) == 0)
        puts("wait\nflush\nwait\ncrash"); /* nothing to lose */
}

static bool overlaps(enum random_kind kind)
{
    return kind == RANDOM_OVERLAP || kind == RANDOM_IDE;
}

static void print_step(struct random *random, unsigned number, enum random_kind kind)
{
    uint64_t sector, count, what = random_below(random, 100);
    const char *pio;
    draw_range(random, overlaps(kind) ? OVERLAP_SECTORS : SECTORS, &sector, &count);
    pio = kind == RANDOM_IDE && random_below(random, 4) == 0 ? "pio-" : "";
    if (what < 40)
        printf("%sread %" PRIu64 " %" PRIu64 "\n", pio, sector, count);
    else if (what < 80)
        printf("%swrite %" PRIu64 " %" PRIu64 " %u\n", pio, sector, count, number);
    else if (what < 85)
        printf("discard %" PRIu64 " %" PRIu64 "\n", sector, count);
    else if (what < 90 && kind != RANDOM_IDE)
        printf("zero %" PRIu64 " %" PRIu64 "\n", sector, count);
    else if (what < 95)
        puts("flush");
    else if (what < 97)
        puts(random_below(random, 2) ? "wait" : "reset");
    else if (what < 99)
        puts(random_below(random, 2) ? "cache off" : "cache on");
    else
        print_rare_step(random, kind);
}

int random_trace_print(uint64_t seed, enum random_kind kind)
{
    static const unsigned depths[] = {1, 4, 32, 200};
    static const char *const names[] = {"", " crashes", " overlap", " ide"};
    struct random random;
    random_seed(&random, seed);
    printf("# random %" PRIu64 "%s\nplatter-trace 1\ndevice %s\nsize %d\n", seed, names[kind],
           kind == RANDOM_IDE ? "ide" : "virtio-blk",
           512 * (overlaps(kind) ? OVERLAP_SECTORS : SECTORS));
    if (overlaps(kind))
        puts("overlap");
    printf("depth %u\n",
           depths[overlaps(kind) ? 1 + random_below(&random, 3) : random_below(&random, 4)]);
    for (unsigned i = 1; i <= STEPS; i++)
        print_step(&random, i, kind);
    puts("flush");
    return ferror(stdout) != 0;
}
