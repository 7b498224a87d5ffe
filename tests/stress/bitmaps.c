/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A qcow2 image with persistent bitmaps, written from four loops at once: writes, zeroes and
 * discards, of ranges that meet in the same granules, while others look at the bits. What was
 * answered must be seen by whoever looks afterwards, on any loop. At the end the image is closed,
 * and what lies in it is exactly what was touched. Several lives, so that bits are loaded again.
 */
#include "tests/stress/stress.h"

#include <string.h>

#include "block/chain.h"
#include "block/dirty_bitmap.h"
#include "block/env.h"
#include "block/node_options.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/driver.h"
#include "tests/unit/block/memory_driver.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define DISK_BYTES (4u << 20)
#define CAPACITY_BYTES (32u << 20)
#define ACTORS 24
#define LOOKERS 4
#define ROUNDS 60
#define LIVES 2
#define FINE_BITS 9
#define FINE_COUNT (DISK_BYTES >> FINE_BITS)
#define COARSE_BITS 16

static const struct memory_image shapes[] = {
    {.cluster_bits = 9, .refcount_order = 4, .disk_bytes = DISK_BYTES},
    {.cluster_bits = 14, .refcount_order = 4, .is_extended = true, .disk_bytes = DISK_BYTES},
};

static const struct memory_bitmap bitmaps[] = {
    {.name = "fine", .flags = QCOW2_BITMAP_AUTO, .granularity_bits = FINE_BITS},
    {.name = "off", .granularity_bits = FINE_BITS},
    {.name = "coarse", .flags = QCOW2_BITMAP_AUTO, .granularity_bits = COARSE_BITS},
};

struct shared {
    struct stress stress;
    struct block_env env;
    struct memory_disk disk;
    struct block_node *node;
    const struct dirty_bitmap *fine, *coarse;
    atomic_uint numbers, ended;
    /* Before a change is sent, and when it was answered; of granules of "fine". */
    _Atomic bool sent[FINE_COUNT], answered[FINE_COUNT];
};
static struct shared shared;

static void note(_Atomic bool *flags, uint64_t offset, uint64_t length)
{
    for (uint64_t i = offset >> FINE_BITS; i <= (offset + length - 1) >> FINE_BITS; i++)
        atomic_store(&flags[i], true);
}

/* --- who changes the disk -----------------------------------------------------------------------
 */

static void co_change(struct random *random)
{
    static const uint8_t data[70000] = {1};
    uint64_t choice = random_below(random, 10);
    uint64_t offset = random_below(random, DISK_BYTES);
    uint64_t length = 1 + random_below(random, random_once_in(random, 5) ? sizeof(data) : 3000);
    struct iovec iov;
    if (length > DISK_BYTES - offset)
        length = DISK_BYTES - offset;
    /* Most of the upper half stays clean. */
    if (!random_once_in(random, 50))
        offset /= 2;
    struct block_vec vec = vec_of_buffer(&iov, (void *)(uintptr_t)data, length);
    note(shared.sent, offset, length);
    if (choice < 6)
        check(node_co_write(shared.node, offset, &vec, 0) == 0);
    else if (choice < 8)
        check(node_co_zero(shared.node, offset, length, 0) == 0);
    else
        check(node_co_discard(shared.node, offset, length, 0) == 0);
    note(shared.answered, offset, length);
}

static void actor(void *arg)
{
    struct random random;
    (void)arg;
    stress_random(&shared.stress, &random, atomic_fetch_add(&shared.numbers, 1));
    for (unsigned round = 0; round < ROUNDS; round++) {
        co_change(&random);
        if (random_once_in(&random, 20))
            check(node_co_flush(shared.node) == 0);
        else if (random_once_in(&random, 10))
            stress_co_dawdle(&shared.stress, &random);
    }
    atomic_fetch_add(&shared.ended, 1);
}

/* --- who looks ----------------------------------------------------------------------------------
 */

/* What was answered before is dirty; what was not even sent until after is not. */
static void look_at(uint64_t granule)
{
    uint64_t offset = granule << FINE_BITS, length;
    bool must_be = atomic_load(&shared.answered[granule]);
    bool is_dirty = dirty_bitmap_look(shared.fine, offset, 1, &length);
    bool is_coarse = dirty_bitmap_look(shared.coarse, offset, 1, &length);
    bool may_be = atomic_load(&shared.sent[granule]);
    check(!must_be || (is_dirty && is_coarse));
    check(!is_dirty || may_be);
}

static void looker(void *arg)
{
    struct random random;
    (void)arg;
    stress_random(&shared.stress, &random, 1000 + atomic_fetch_add(&shared.numbers, 1));
    while (atomic_load(&shared.ended) < ACTORS) {
        uint64_t offset = 0, length;
        for (unsigned i = 0; i < 50; i++)
            look_at(random_below(&random, FINE_COUNT));
        while (dirty_bitmap_next(shared.fine, offset, DISK_BYTES - offset, &offset, &length)) {
            check(atomic_load(&shared.sent[offset >> FINE_BITS]));
            offset += length;
        }
        coroutine_co_pause();
    }
    atomic_fetch_add(&shared.ended, 1);
}

/* --- lives --------------------------------------------------------------------------------------
 */

static void conductor(void *arg)
{
    struct node_options *options = node_options_new();
    (void)arg;
    check(options);
    memory_disk_options(&shared.disk, options, "file.", "growing");
    check(node_options_set(options, "driver", "qcow2", NULL) == 0);
    check(block_co_open(&shared.env, options, &shared.node, NULL) == 0);
    check(chain_co_find_bitmap(shared.node, "fine", &shared.fine, NULL) == 0);
    check(chain_co_find_bitmap(shared.node, "coarse", &shared.coarse, NULL) == 0);
    for (unsigned i = 0; i < ACTORS; i++)
        stress_spawn(&shared.stress, i % STRESS_LOOPS, actor, NULL);
    for (unsigned i = 0; i < LOOKERS; i++)
        stress_spawn(&shared.stress, i % STRESS_LOOPS, looker, NULL);
    while (atomic_load(&shared.ended) < ACTORS + LOOKERS)
        coroutine_co_pause();
    block_co_node_unref(shared.node);
}

static void check_file(void)
{
    uint64_t per_coarse = UINT64_C(1) << (COARSE_BITS - FINE_BITS), clean = 0;
    struct memory_image_faults faults = memory_image_check(&shared.disk);
    check(faults.errors == 0);
    check(faults.leaks == 0);
    for (size_t i = 0; i < sizeof(bitmaps) / sizeof(*bitmaps); i++)
        check(memory_image_bitmap_flags(&shared.disk, bitmaps[i].name) == bitmaps[i].flags);
    for (uint64_t i = 0; i < FINE_COUNT; i += per_coarse) {
        bool is_any = false;
        for (uint64_t n = i; n < i + per_coarse; n++) {
            bool is_dirty = atomic_load(&shared.answered[n]);
            check(memory_image_bitmap_get(&shared.disk, "fine", n) == is_dirty);
            check(!memory_image_bitmap_get(&shared.disk, "off", n));
            is_any |= is_dirty;
            clean += !is_dirty;
        }
        check(memory_image_bitmap_get(&shared.disk, "coarse", i / per_coarse) == is_any);
    }
    check(clean > 0); /* else there was nothing to find */
}

static void live(void)
{
    static const struct block_driver *drivers[3];
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &format_qcow2;
    atomic_store(&shared.ended, 0);
    stress_init(&shared.stress, "bitmaps");
    check(block_env_init(&shared.env, shared.stress.loops, STRESS_LOOPS, shared.stress.workers,
                         NULL, drivers, NULL) == 0);
    stress_spawn(&shared.stress, 0, conductor, NULL);
    stress_run(&shared.stress);
    check_file();
    block_env_fini(&shared.env);
    stress_fini(&shared.stress);
}

int main(void)
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        memset(&shared, 0, sizeof(shared));
        memory_disk_init(&shared.disk, 0, CAPACITY_BYTES, i);
        memory_image_make(&shared.disk, &shapes[i]);
        memory_image_add_bitmaps(&shared.disk, bitmaps, sizeof(bitmaps) / sizeof(*bitmaps));
        shared.disk.pauses_max = 2;
        for (unsigned life = 0; life < LIVES; life++)
            live();
        memory_disk_fini(&shared.disk);
    }
    return 0;
}
