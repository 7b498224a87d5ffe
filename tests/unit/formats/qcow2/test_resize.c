/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * New sizes for the disk of an image in memory: what shows behind the old end, what is given back,
 * tables that move, and a failure at each call of the file below in turn. The shapes that qemu-img
 * makes, backing files, data files and snapshots are in tests/integration/qcow2-resize.sh.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/coroutine.h"
#include "common/random.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/resize.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define MODEL_BYTES (4u << 20) /* the largest disk whose bytes are known */
#define FIRST_BYTES (1u << 20)
#define CAPACITY_BYTES (16u << 20)

static const struct block_driver *drivers[3];

static const struct memory_image shapes[] = {
    {.cluster_bits = 9, .refcount_order = 6, .disk_bytes = FIRST_BYTES},
    {.cluster_bits = 9, .refcount_order = 4, .disk_bytes = FIRST_BYTES - 512},
    {.cluster_bits = 12, .refcount_order = 0, .disk_bytes = FIRST_BYTES},
    {.cluster_bits = 16, .refcount_order = 4, .disk_bytes = FIRST_BYTES - 512},
    {.cluster_bits = 14, .refcount_order = 4, .is_extended = true, .disk_bytes = FIRST_BYTES},
};

static uint8_t model[MODEL_BYTES];
static struct error err;

static void set_up(struct fixture *fixture, const struct memory_image *image)
{
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &format_qcow2;
    fixture_init(fixture, drivers, 0, CAPACITY_BYTES, 1);
    memory_image_make(&fixture->disk, image);
    memset(model, 0, sizeof(model));
}

static void with_each_shape(void (*co_run)(struct fixture *, void *))
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct fixture fixture;
        set_up(&fixture, &shapes[i]);
        fixture_run(&fixture, co_run, (void *)(uintptr_t)&shapes[i]);
        fixture_fini(&fixture);
    }
}

static void co_open(struct fixture *fixture)
{
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    node_options_set(options, "driver", "qcow2", NULL);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
}

static uint64_t size_of(const struct fixture *fixture)
{
    return atomic_load(&fixture->node->size_bytes);
}

static void co_write(struct fixture *fixture, uint64_t offset, uint64_t length, int byte)
{
    memset(model + offset, byte, length);
    assert_int_equal(fixture_co_write(fixture->node, offset, model + offset, length, 0), 0);
}

static void co_check(struct fixture *fixture)
{
    static uint8_t data[MODEL_BYTES];
    uint64_t size = size_of(fixture);
    assert_int_equal(fixture_co_read(fixture->node, 0, data, size), 0);
    for (uint64_t i = 0; i < size; i++) {
        if (data[i] != model[i])
            fail_msg("byte %llu of %llu reads as %u, not %u", (unsigned long long)i,
                     (unsigned long long)size, data[i], model[i]);
    }
}

static int co_resize(struct fixture *fixture, uint64_t size, bool has_tables)
{
    struct qcow2_resize resize = {.size_bytes = size, .may_shrink = true, .has_tables = has_tables};
    int rc = qcow2_co_resize_as(fixture->node, &resize, &err);
    if (rc == 0 && size < MODEL_BYTES)
        memset(model + size, 0, MODEL_BYTES - size);
    return rc;
}

static void co_resize_well(struct fixture *fixture, uint64_t size, bool has_tables)
{
    if (co_resize(fixture, size, has_tables) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(size_of(fixture), size);
}

static void co_reopen_and_judge(struct fixture *fixture)
{
    fixture_co_close(fixture);
    struct memory_image_faults faults = memory_image_check(&fixture->disk);
    assert_int_equal(faults.errors, 0);
    assert_int_equal(faults.leaks, 0);
    co_open(fixture);
    co_check(fixture);
}

/* --- growing ------------------------------------------------------------------------------------
 */

static void co_grow(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_open(fixture);
    co_write(fixture, 1000, 200000, 1);
    co_write(fixture, size_of(fixture) - 700, 700, 2);
    for (uint64_t size = FIRST_BYTES + 512; size <= MODEL_BYTES; size = size * 2 - 512) {
        co_resize_well(fixture, size, false);
        co_check(fixture);
        co_write(fixture, size - 5000, 5000, 3);
        co_reopen_and_judge(fixture);
    }
    fixture_co_close(fixture);
}

static void what_is_added_reads_as_zeroes_and_can_be_written(void **state)
{
    (void)state;
    with_each_shape(co_grow);
}

/* With clusters of 512 bytes the L1 table is longer than what a refcount block counts. */
static void co_grow_far(struct fixture *fixture, void *arg)
{
    const struct memory_image *image = arg;
    uint64_t far = image->cluster_bits == 9 ? UINT64_C(300) << 20 : UINT64_C(1) << 40;
    uint8_t byte = 7;
    co_open(fixture);
    co_write(fixture, 4096, 100000, 1);
    co_resize_well(fixture, far, false);
    assert_int_equal(fixture_co_write(fixture->node, far - 1, &byte, 1, 0), 0);
    fixture_co_close(fixture);
    struct memory_image_faults faults = memory_image_check(&fixture->disk);
    assert_int_equal(faults.errors, 0);
    assert_int_equal(faults.leaks, 0);
    co_open(fixture);
    byte = 0;
    assert_int_equal(fixture_co_read(fixture->node, far - 1, &byte, 1), 0);
    assert_int_equal(byte, 7);
    co_resize_well(fixture, FIRST_BYTES, false);
    co_check(fixture);
    co_reopen_and_judge(fixture);
    fixture_co_close(fixture);
}

static void a_table_that_must_be_larger_moves(void **state)
{
    (void)state;
    with_each_shape(co_grow_far);
}

static void co_grow_over_rest(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_open(fixture);
    co_write(fixture, 0, size_of(fixture), 9);
    co_resize_well(fixture, 100 * 512, false);
    co_resize_well(fixture, 101 * 512, false); /* in the same cluster, where nines were */
    co_check(fixture);
    co_resize_well(fixture, FIRST_BYTES, false);
    co_check(fixture);
    co_reopen_and_judge(fixture);
    fixture_co_close(fixture);
}

static void what_was_cut_off_never_comes_back(void **state)
{
    (void)state;
    with_each_shape(co_grow_over_rest);
}

static void co_preallocate(struct fixture *fixture, void *arg)
{
    const struct memory_image *image = arg;
    co_open(fixture);
    co_write(fixture, 0, size_of(fixture), 5); /* clusters that will be used again */
    assert_int_equal(node_co_discard(fixture->node, 0, size_of(fixture), 0), 0);
    memset(model, 0, sizeof(model));
    if (image->disk_bytes % (1u << image->cluster_bits) != 0)
        co_write(fixture, size_of(fixture) - 512, 512, 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    co_resize_well(fixture, MODEL_BYTES / 2, true);
    co_check(fixture);
    co_reopen_and_judge(fixture);
    uint64_t bytes = fixture->disk.size_bytes;
    uint64_t cluster = UINT64_C(1) << image->cluster_bits;
    uint64_t first = (image->disk_bytes + cluster - 1) & ~(cluster - 1);
    co_write(fixture, first, MODEL_BYTES / 2 - first, 6);
    assert_int_equal(fixture->disk.size_bytes, bytes); /* each had its place already */
    co_reopen_and_judge(fixture);
    fixture_co_close(fixture);
}

static void with_tables_every_new_cluster_has_its_place(void **state)
{
    (void)state;
    with_each_shape(co_preallocate);
}

/* --- shrinking ----------------------------------------------------------------------------------
 */

static void co_shrink(struct fixture *fixture, void *arg)
{
    const struct memory_image *image = arg;
    co_open(fixture);
    co_resize_well(fixture, MODEL_BYTES, false);
    for (uint64_t at = 0; at < MODEL_BYTES; at += 65536)
        co_write(fixture, at, 65536, (int)(at >> 16) + 1);
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_true(fixture->disk.size_bytes > MODEL_BYTES);
    co_resize_well(fixture, MODEL_BYTES - 300 * 512, false);
    co_check(fixture);
    co_reopen_and_judge(fixture);
    co_resize_well(fixture, 512, false);
    co_check(fixture);
    co_reopen_and_judge(fixture);
    /* Tables stay where they are; with the smallest clusters the refcount table has moved up. */
    if (image->cluster_bits > 9)
        assert_true(fixture->disk.size_bytes <= UINT64_C(8) << image->cluster_bits);
    fixture_co_close(fixture);
}

static void what_is_cut_off_is_given_back(void **state)
{
    (void)state;
    with_each_shape(co_shrink);
}

static void co_refuse(struct fixture *fixture, void *arg)
{
    const struct memory_image *image = arg;
    struct qcow2_resize resize = {.size_bytes = 512};
    co_open(fixture);
    uint64_t size = size_of(fixture);
    assert_int_equal(qcow2_co_resize_as(fixture->node, &resize, &err), -EINVAL);
    assert_non_null(strstr(err.message, "allow it to shrink"));
    resize = (struct qcow2_resize){.size_bytes = 512, .may_shrink = true, .has_tables = true};
    assert_int_equal(qcow2_co_resize_as(fixture->node, &resize, &err), -EINVAL);
    assert_non_null(strstr(err.message, "preallocation"));
    resize = (struct qcow2_resize){.size_bytes = UINT64_MAX};
    assert_int_equal(qcow2_co_resize_as(fixture->node, &resize, &err), -EFBIG);
    if (image->cluster_bits == 9) { /* 4 Mi entries of 32 KiB */
        resize.size_bytes = (UINT64_C(128) << 30) + 512;
        assert_int_equal(qcow2_co_resize_as(fixture->node, &resize, &err), -EFBIG);
    }
    assert_int_equal(size_of(fixture), size);
    co_reopen_and_judge(fixture);
    fixture_co_close(fixture);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    with_each_shape(co_refuse);
}

/* --- requests meanwhile --------------------------------------------------------------------------
 */

struct waiting {
    struct fixture *fixture;
    struct coroutine *waiter;
    unsigned running;
    int resized, written, zeroed, discarded, read;
    uint8_t byte;
};

static void end_one(struct waiting *waiting)
{
    if (--waiting->running == 0)
        coroutine_wake(waiting->waiter);
}

static void resize_entry(void *arg)
{
    struct waiting *waiting = arg;
    waiting->resized = node_co_resize(waiting->fixture->node, FIRST_BYTES / 2, &err);
    end_one(waiting);
}

static void write_entry(void *arg)
{
    struct waiting *waiting = arg;
    waiting->written = fixture_co_write(waiting->fixture->node, FIRST_BYTES / 2 + 4096, "x", 1, 0);
    end_one(waiting);
}

static void zero_entry(void *arg)
{
    struct waiting *waiting = arg;
    waiting->zeroed = node_co_zero(waiting->fixture->node, FIRST_BYTES / 2, 65536, 0);
    waiting->discarded = node_co_discard(waiting->fixture->node, FIRST_BYTES / 2, 65536, 0);
    end_one(waiting);
}

static void read_entry(void *arg)
{
    struct waiting *waiting = arg;
    waiting->read =
        fixture_co_read(waiting->fixture->node, FIRST_BYTES / 2 + 4096, &waiting->byte, 1);
    end_one(waiting);
}

static void co_ask_meanwhile(struct fixture *fixture, void *arg)
{
    static void (*const entries[])(void *) = {resize_entry, write_entry, zero_entry, read_entry};
    struct waiting waiting = {
        .fixture = fixture, .waiter = coroutine_self(), .running = 4, .byte = 1};
    (void)arg;
    co_open(fixture);
    co_write(fixture, 0, size_of(fixture), 9);
    memory_disk_hold(&fixture->disk, 1 << MEMORY_FLUSH);
    for (unsigned i = 0; i < 4; i++) {
        coroutine_start(coroutine_loop(coroutine_self()), entries[i], &waiting);
        if (i == 0)
            memory_disk_co_wait_held(&fixture->disk, 1);
    }
    memory_disk_release(&fixture->disk);
    coroutine_yield();
    assert_int_equal(waiting.resized, 0);
    assert_int_equal(waiting.written, -ENOSPC);
    assert_int_equal(waiting.zeroed, -ENOSPC);
    assert_int_equal(waiting.discarded, -ENOSPC);
    assert_int_equal(waiting.read, 0);
    assert_int_equal(waiting.byte, 0);
    memset(model + FIRST_BYTES / 2, 0, MODEL_BYTES - FIRST_BYTES / 2);
    co_reopen_and_judge(fixture);
    fixture_co_close(fixture);
}

static void what_waited_for_a_shrink_finds_itself_past_the_end(void **state)
{
    (void)state;
    with_each_shape(co_ask_meanwhile);
}

/* --- any order ----------------------------------------------------------------------------------
 */

static void co_mix(struct fixture *fixture, void *arg)
{
    struct random *random = &fixture->disk.random;
    (void)arg;
    co_open(fixture);
    for (unsigned step = 0; step < 60; step++) {
        uint64_t size = size_of(fixture);
        uint64_t offset = random_below(random, size);
        uint64_t length = 1 + random_below(random, size - offset < 90000 ? size - offset : 90000);
        switch (random_below(random, 6)) {
        case 0:
            co_resize_well(fixture, 512 + random_below(random, MODEL_BYTES / 512) * 512,
                           random_below(random, 3) == 0 && size < 1024);
            break;
        case 1:
            co_resize_well(fixture, size + (MODEL_BYTES - size) / 1024 * 512,
                           random_below(random, 2));
            break;
        case 2:
            assert_int_equal(node_co_zero(fixture->node, offset, length, 0), 0);
            memset(model + offset, 0, length);
            break;
        case 3:
            assert_int_equal(node_co_flush(fixture->node), 0);
            break;
        default:
            co_write(fixture, offset, length, (int)step + 1);
        }
        if (step % 20 == 19)
            co_reopen_and_judge(fixture);
    }
    co_check(fixture);
    fixture_co_close(fixture);
}

static void sizes_and_writes_in_any_order(void **state)
{
    (void)state;
    with_each_shape(co_mix);
}

/* --- failures -----------------------------------------------------------------------------------
 */

struct failing {
    const struct memory_image *image;
    uint64_t at;
    int code;
    bool happened;
};

static void co_fail(struct fixture *fixture, void *arg)
{
    struct failing *failing = arg;
    struct memory_disk *disk = &fixture->disk;
    uint64_t sizes[] = {3 << 20, 1 << 19, 2 << 20};
    co_open(fixture);
    co_write(fixture, 5000, 500000, 1);
    co_write(fixture, size_of(fixture) - 100, 100, 2);
    assert_int_equal(node_co_flush(fixture->node), 0);
    uint64_t size = size_of(fixture);
    memory_disk_forget_calls(disk);
    disk->fail_at_call = failing->at;
    disk->fail_code = failing->code;
    for (unsigned i = 0; i < 3; i++) {
        int rc = co_resize(fixture, sizes[i], i == 2);
        size = rc == 0 ? sizes[i] : size;
        assert_int_equal(size_of(fixture), size);
    }
    failing->happened = disk->call_count > failing->at;
    bool was_flush = failing->at < MEMORY_LOG_MAX && disk->log[failing->at].op == MEMORY_FLUSH;
    disk->fail_code = 0;
    fixture_co_close(fixture);
    struct memory_image_faults faults = memory_image_check(disk);
    assert_int_equal(faults.errors, 0);
    if (was_flush || !failing->happened)
        return;
    co_open(fixture);
    assert_int_equal(size_of(fixture), size);
    static uint8_t data[MODEL_BYTES];
    assert_int_equal(fixture_co_read(fixture->node, 0, data, size), 0);
    for (uint64_t i = 0; i < size; i++) { /* a shrink that failed may have cut already */
        uint8_t written = i >= 5000 && i < 505000 ? 1 : 0;
        if (data[i] != written && data[i] != 0 && !(i >= failing->image->disk_bytes - 100))
            fail_msg("byte %llu reads as %u", (unsigned long long)i, data[i]);
        if (i < sizes[1] && data[i] != written)
            fail_msg("byte %llu is lost", (unsigned long long)i);
    }
    fixture_co_close(fixture);
}

static void a_failure_at_each_call_leaves_one_of_the_sizes(void **state)
{
    (void)state;
    for (size_t i = 1; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct failing failing = {.image = &shapes[i], .happened = true};
        for (; failing.happened; failing.at += shapes[i].cluster_bits == 9 ? 29 : 1) {
            struct fixture fixture;
            failing.code = failing.at % 2 ? -EIO : -ENOSPC;
            set_up(&fixture, &shapes[i]);
            fixture_run(&fixture, co_fail, &failing);
            fixture_fini(&fixture);
        }
        assert_true(failing.at > 15);
    }
}

/* --- a disk of no bytes -------------------------------------------------------------------------
 */

/* It has no L1 table yet. */
static void co_grow_from_nothing(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_open(fixture);
    assert_int_equal(qcow2_of(fixture->node)->l1_size, 0);
    co_resize_well(fixture, FIRST_BYTES, false);
    co_write(fixture, FIRST_BYTES - 5000, 5000, 3);
    co_reopen_and_judge(fixture);
    fixture_co_close(fixture);
}

static void a_disk_of_no_bytes_grows(void **state)
{
    static const struct memory_image nothing = {.cluster_bits = 12, .refcount_order = 4};
    struct fixture fixture;
    (void)state;
    set_up(&fixture, &nothing);
    fixture_run(&fixture, co_grow_from_nothing, NULL);
    fixture_fini(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_added_reads_as_zeroes_and_can_be_written),
        cmocka_unit_test(a_table_that_must_be_larger_moves),
        cmocka_unit_test(a_disk_of_no_bytes_grows),
        cmocka_unit_test(what_was_cut_off_never_comes_back),
        cmocka_unit_test(with_tables_every_new_cluster_has_its_place),
        cmocka_unit_test(what_is_cut_off_is_given_back),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(what_waited_for_a_shrink_finds_itself_past_the_end),
        cmocka_unit_test(sizes_and_writes_in_any_order),
        cmocka_unit_test(a_failure_at_each_call_leaves_one_of_the_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
