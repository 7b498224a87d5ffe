/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The quarantine of freed clusters (invariant 17), each of its parts by a scene: a few requests
 * that are held up in the one place where the part matters. The driver as it is comes through,
 * gives the cluster to nobody meanwhile, and to the next one afterwards; with the part taken out
 * (plants.h) the scene shows foreign bytes, each time, since nothing in it is left to chance.
 *
 *   (a) the removal of the pointer is durable: what the disk holds right after the next owner has
 *       written is what a power cut leaves; the old owner shows the new one's bytes
 *   (b) the hole has been punched: the disk holds punches up, and lets them go when the next owner
 *       has written; its bytes are gone
 *   (c) nobody uses the old mapping: a read, and a write in place, that know where their bytes lie
 *       are suspended below the format while the cluster is freed, flushed and taken; the read
 * shows the next owner's bytes, the write is found there
 */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/fault.h"
#include "block/filters.h"
#include "formats/qcow2/driver.h"
#include "tests/crash/plants.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CLUSTER 4096u
#define DISK_BYTES (1u << 20)
#define CAPACITY_BYTES (4u << 20)
#define OLD 0xaa        /* the cluster's first owner, guest cluster 0 */
#define NEXT 0xbb       /* who allocates next, guest cluster 1 */
#define LATE 0xcc       /* what the suspended write writes to guest cluster 0 */
#define LAST 0xdd       /* who allocates when all is over, guest cluster 2 */
#define SETTLE_TURNS 50 /* more than anything takes that is not held up */
#define NOWHERE UINT64_MAX

static const struct block_driver *drivers[4];

/* --- an image with one cluster of data ----------------------------------------------------------
 */

static void co_open(struct fixture *fixture)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    node_options_parse(options, "driver=qcow2,discard=unmap,file.driver=fault", NULL);
    memory_disk_options(&fixture->disk, options, "file.file.", "growing");
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
}

static void co_write(struct fixture *fixture, unsigned guest_cluster, uint8_t byte)
{
    uint8_t data[CLUSTER];
    memset(data, byte, CLUSTER);
    assert_int_equal(fixture_co_write(fixture->node, guest_cluster * CLUSTER, data, CLUSTER, 0), 0);
}

static uint8_t co_read(struct fixture *fixture, unsigned guest_cluster)
{
    uint8_t data[CLUSTER];
    assert_int_equal(fixture_co_read(fixture->node, guest_cluster * CLUSTER, data, CLUSTER), 0);
    for (unsigned i = 0; i < CLUSTER; i++)
        assert_int_equal(data[i], data[0]);
    return data[0];
}

static void co_start_image(struct fixture *fixture)
{
    static const struct memory_image shape = {
        .cluster_bits = 12, .refcount_order = 4, .disk_bytes = DISK_BYTES};
    memory_image_make(&fixture->disk, &shape);
    co_open(fixture);
    co_write(fixture, 0, OLD);
    assert_int_equal(node_co_flush(fixture->node), 0);
}

static void co_settle(void)
{
    for (unsigned i = 0; i < SETTLE_TURNS; i++)
        coroutine_co_pause();
}

static void co_free_old(struct fixture *fixture)
{
    assert_int_equal(node_co_discard(fixture->node, 0, CLUSTER, 0), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    co_settle();
}

/* The host cluster that is full of that byte. */
static uint64_t host_of(const struct fixture *fixture, uint8_t byte)
{
    const uint8_t *data = fixture->disk.data;
    for (uint64_t at = 0; at < fixture->disk.size_bytes; at += CLUSTER)
        if (data[at] == byte && memcmp(data + at, data + at + 1, CLUSTER - 1) == 0)
            return at;
    return NOWHERE;
}

/* When all is over the cluster is there for whoever comes: quarantined is not lost. */
static void co_check_is_free(struct fixture *fixture, uint64_t host_offset)
{
    assert_int_equal(node_co_flush(fixture->node), 0);
    co_settle();
    co_write(fixture, 2, LAST);
    assert_int_equal(host_of(fixture, LAST), host_offset);
}

static void co_end_image(struct fixture *fixture)
{
    fixture_co_close(fixture);
    struct memory_image_faults faults = memory_image_check(&fixture->disk);
    assert_int_equal(faults.errors, 0);
    assert_int_equal(faults.leaks, 0);
}

/* --- the scenes: true when foreign bytes were seen ----------------------------------------------
 */

static bool co_cut_before_removal(struct fixture *fixture)
{
    uint64_t old = host_of(fixture, OLD);
    assert_int_equal(node_co_discard(fixture->node, 0, CLUSTER, 0), 0);
    co_settle();
    co_write(fixture, 1, NEXT);
    bool is_reused = host_of(fixture, NEXT) == old;
    /* The power is cut, and what was left is looked at. */
    uint8_t *left = malloc(CAPACITY_BYTES);
    assert_non_null(left);
    uint64_t left_bytes = fixture->disk.size_bytes;
    memcpy(left, fixture->disk.data, CAPACITY_BYTES);
    if (!is_reused)
        co_check_is_free(fixture, old);
    fixture_co_close(fixture);
    memcpy(fixture->disk.data, left, CAPACITY_BYTES);
    fixture->disk.size_bytes = left_bytes;
    free(left);
    co_open(fixture);
    uint8_t seen = co_read(fixture, 0);
    fixture_co_close(fixture);
    assert_true(seen == OLD || seen == NEXT);
    assert_int_equal(seen == NEXT, is_reused);
    return seen != OLD;
}

static bool co_punch_late(struct fixture *fixture)
{
    uint64_t old = host_of(fixture, OLD);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_DISCARD);
    co_free_old(fixture);
    memory_disk_co_wait_held(&fixture->disk, 1);
    co_write(fixture, 1, NEXT);
    bool is_reused = host_of(fixture, NEXT) == old;
    memory_disk_release(&fixture->disk);
    co_settle();
    uint8_t seen = co_read(fixture, 1);
    assert_true(seen == NEXT || seen == 0);
    assert_int_equal(seen != NEXT, is_reused);
    if (!is_reused)
        co_check_is_free(fixture, old);
    co_end_image(fixture);
    return seen != NEXT;
}

/* A request for guest cluster 0 on its way. */
struct visit {
    struct fixture *fixture;
    bool is_write;
    uint8_t seen;
};

static void co_visit(void *arg)
{
    struct visit *visit = arg;
    if (visit->is_write)
        co_write(visit->fixture, 0, LATE);
    else
        visit->seen = co_read(visit->fixture, 0);
}

static bool co_use_late(struct fixture *fixture, const char *event, bool is_write)
{
    struct visit visit = {.fixture = fixture, .is_write = is_write};
    uint64_t old = host_of(fixture, OLD);
    struct group group;
    group_init(&group, fixture->loop);
    assert_int_equal(fault_suspend(fixture->node, event, "visitor"), 0);
    group_start(&group, co_visit, &visit);
    co_settle();
    assert_true(fault_is_suspended(fixture->node, "visitor"));
    co_free_old(fixture); /* does not wait for the visitor: nothing fails, nothing hangs */
    co_write(fixture, 1, NEXT);
    bool is_reused = host_of(fixture, NEXT) == old;
    assert_int_equal(fault_resume(fixture->node, "visitor"), 0);
    group_co_wait(&group);
    uint8_t next = co_read(fixture, 1);
    bool is_foreign = next != NEXT || visit.seen == NEXT;
    assert_int_equal(is_foreign, is_reused);
    assert_true(is_write || visit.seen == OLD || visit.seen == NEXT);
    if (!is_reused)
        co_check_is_free(fixture, old);
    co_end_image(fixture);
    return is_foreign;
}

static bool co_read_late(struct fixture *fixture)
{
    return co_use_late(fixture, "read_aio", false);
}

static bool co_write_late(struct fixture *fixture)
{
    return co_use_late(fixture, "write_aio", true);
}

/* --- with and without ---------------------------------------------------------------------------
 */

struct scene {
    bool (*co_play)(struct fixture *fixture);
    enum crash_plant plant;
};

static void co_play(struct fixture *fixture, void *arg)
{
    const struct scene *scene = arg;
    co_start_image(fixture);
    assert_false(scene->co_play(fixture));
    crash_plant(scene->plant);
    co_start_image(fixture);
    assert_true(scene->co_play(fixture));
    crash_plant(PLANT_NONE);
}

static void play(bool (*co_scene)(struct fixture *fixture), enum crash_plant plant)
{
    struct scene scene = {co_scene, plant};
    struct fixture fixture;
    fixture_init(&fixture, drivers, 0, CAPACITY_BYTES, 1);
    fixture_run(&fixture, co_play, &scene);
    fixture_fini(&fixture);
}

static void a_removal_is_durable_before_its_cluster_is_used_again(void **state)
{
    (void)state;
    play(co_cut_before_removal, PLANT_EARLY_DECREMENT);
}

static void a_hole_is_punched_before_its_cluster_is_used_again(void **state)
{
    (void)state;
    play(co_punch_late, PLANT_DETACHED_PUNCH);
}

static void a_cluster_that_is_being_read_is_not_used_again(void **state)
{
    (void)state;
    play(co_read_late, PLANT_NO_GRACE);
}

static void a_cluster_that_is_being_written_is_not_used_again(void **state)
{
    (void)state;
    play(co_write_late, PLANT_NO_GRACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_removal_is_durable_before_its_cluster_is_used_again),
        cmocka_unit_test(a_hole_is_punched_before_its_cluster_is_used_again),
        cmocka_unit_test(a_cluster_that_is_being_read_is_not_used_again),
        cmocka_unit_test(a_cluster_that_is_being_written_is_not_used_again),
    };
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &block_filter_fault;
    drivers[2] = &format_qcow2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
