/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_FORMATS_QCOW2_FAILING_SCENE_H
#define TESTS_UNIT_FORMATS_QCOW2_FAILING_SCENE_H

/*
 * Whatever an image is asked to do, with each call of its files failing in turn, each allocation,
 * and each table that the cache is asked for: once, and from then on. And in the middle of each of
 * these calls, somebody else finds that the image is damaged. Afterwards there is an error or the
 * effect, the image makes sense, what was stored is there, and the same succeeds when nothing fails
 * any more.
 *
 * The linker sends allocations to tests/crash/no_memory.c, and calls of the cache to no_table.c.
 */
#include "block/block.h"
#include "formats/qcow2/header.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define SCENE_CAPACITY_BYTES ((2u << 20) + (128u << 10))
#define SCENE_STORED_BYTES 40000u /* at the front of the disk, which no scene changes */
#define SCENE_OTHER_BYTES ((1u << 20) - 12288) /* of a backing or data file */

struct scene;

/* What is open: the image's backend, above fixture.node. */
struct stage {
    struct fixture fixture;
    const struct scene *scene;
    struct memory_disk other; /* a backing or data file */
    struct block_backend *backend;
    unsigned calls_until_corrupt; /* of the file, when that was found */
    bool is_marking;
};

struct scene {
    const char *name;
    struct memory_image image;
    const char *options;
    bool has_backing, has_bitmaps, has_snapshot;
    bool gives_up;         /* to write, or cannot be marked as corrupt: nobody finds damage */
    bool is_opening;       /* what fails is the opening */
    bool has_names;        /* the image says itself where its other file is */
    bool fails_each_table; /* else ever fewer of them, where there are many */
    unsigned stride;       /* of many calls that are alike, every so many calls one fails; 0: 1 */
    void (*damage)(struct memory_disk *disk); /* of the image, which is prepared and closed */
    int (*co_do)(struct stage *stage, struct error *err); /* the first error */
};

void scene_play(const struct scene *scene);

int scene_co_write(struct stage *stage, uint64_t offset, uint64_t length, int byte, unsigned flags);

/* To rc the first error among these results, all of which are asked for. */
#define SCENE_FIRST_ERROR(...)                                         \
    do {                                                               \
        const int codes[] = {__VA_ARGS__};                             \
        for (size_t i_ = 0; i_ < sizeof(codes) / sizeof(*codes); i_++) \
            rc = rc < 0 ? rc : codes[i_];                              \
    } while (0)

/* Images. */
#define SMALL                                                         \
    {                                                                 \
        .cluster_bits = 12, .refcount_order = 4, .disk_bytes = 524288 \
    }
#define TINY                                                               \
    {                                                                      \
        .cluster_bits = 9, .refcount_order = 6, .disk_bytes = 524288 - 512 \
    }
#define EXTENDED                                                                           \
    {                                                                                      \
        .cluster_bits = 14, .refcount_order = 4, .is_extended = true, .disk_bytes = 524288 \
    }
#define EXTERNAL                                                                             \
    {                                                                                        \
        .cluster_bits = 12, .refcount_order = 4, .has_data_file = true, .disk_bytes = 524288 \
    }

/* A list SCENES(X) of X(title, what is set of its struct scene...) becomes tests. */
#define SCENE_DEFINE(title, ...)                                   \
    static void failures_of_##title(void **state)                  \
    {                                                              \
        const struct scene wanted = {.name = #title, __VA_ARGS__}; \
        (void)state;                                               \
        scene_play(&wanted);                                       \
    }
#define SCENE_LIST(title, ...) cmocka_unit_test(failures_of_##title),

#endif
