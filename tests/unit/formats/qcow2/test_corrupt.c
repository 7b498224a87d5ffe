/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Images that turn out to be damaged while they are served: marked once, and not written any more,
 * neither by a request nor by what was in memory (invariant 13). The shapes that qemu-img judges
 * are in tests/integration/qcow2-corrupt.sh.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/coroutine.h"
#include "common/endian.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/image.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CLUSTER 4096u
#define GUEST_CLUSTERS 64u
#define FILLED 8u /* guest clusters that have data before the damage: host clusters 5 to 12 */
#define CAPACITY_BYTES (256 * CLUSTER)
#define BLOCK (2 * CLUSTER)
#define L1 (3 * CLUSTER)
#define L2 (4 * CLUSTER)
#define FLAGS_AT 72
#define FLAGS_LAST_BYTE 79
#define CORRUPT 2

static const struct block_driver *drivers[3];
static const struct memory_image shape = {
    .cluster_bits = 12, .refcount_order = 4, .disk_bytes = GUEST_CLUSTERS * CLUSTER};

static int co_open_as(struct fixture *fixture, const char *option, const char *value,
                      struct error *err)
{
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    node_options_set(options, "driver", "qcow2", NULL);
    if (option)
        node_options_set(options, option, value, NULL);
    return block_co_open(&fixture->env, options, &fixture->node, err);
}

static void co_open(struct fixture *fixture, const char *option, const char *value)
{
    struct error err = {.message = ""};
    if (co_open_as(fixture, option, value, &err) < 0)
        fail_msg("%s", err.message);
}

static int co_write(struct fixture *fixture, unsigned guest_cluster, int byte)
{
    uint8_t data[CLUSTER];
    memset(data, byte, sizeof(data));
    return fixture_co_write(fixture->node, guest_cluster * CLUSTER, data, sizeof(data), 0);
}

static int co_read(struct fixture *fixture, unsigned guest_cluster)
{
    uint8_t data[CLUSTER];
    return fixture_co_read(fixture->node, guest_cluster * CLUSTER, data, sizeof(data));
}

/* The image before anybody damages it. */
static void co_fill(struct fixture *fixture)
{
    memory_image_make(&fixture->disk, &shape);
    co_open(fixture, NULL, NULL);
    for (unsigned i = 0; i < FILLED; i++)
        assert_int_equal(co_write(fixture, i, (int)i + 1), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    fixture_co_close(fixture);
    assert_int_equal(load_be64(fixture->disk.data + L1) & QCOW2_ENTRY_OFFSET, L2);
    assert_int_equal(load_be64(fixture->disk.data + L2) & QCOW2_ENTRY_OFFSET, 5 * CLUSTER);
}

static unsigned marks(const struct memory_disk *disk)
{
    unsigned count = 0;
    for (unsigned i = 0; i < disk->log_count; i++)
        count += disk->log[i].op == MEMORY_WRITE && disk->log[i].offset == FLAGS_AT;
    return count;
}

enum meeting { READS, WRITES, WRITES_PART, ZEROES, DISCARDS };

struct damage {
    uint64_t at, value;
    unsigned bytes; /* of the value, from its lowest ones; 0: all eight */
    enum meeting meeting;
    unsigned guest_cluster;
    bool can_be_repaired;
};

static const struct damage damages[] = {
    /* the entry of guest cluster 0 is not aligned */
    {L2, (5 * CLUSTER + 512) | QCOW2_ENTRY_COPIED, 0, READS, 0, false},
    {L2, (5 * CLUSTER + 512) | QCOW2_ENTRY_COPIED, 0, WRITES, 0, false},
    {L2, (5 * CLUSTER + 512) | QCOW2_ENTRY_COPIED, 0, WRITES_PART, 0, false},
    {L2, (5 * CLUSTER + 512) | QCOW2_ENTRY_COPIED, 0, ZEROES, 0, false},
    {L2, (5 * CLUSTER + 512) | QCOW2_ENTRY_COPIED, 0, DISCARDS, 0, false},
    /* it is where metadata is */
    {L2, CLUSTER | QCOW2_ENTRY_COPIED, 0, WRITES, 0, true},
    {L2, BLOCK | QCOW2_ENTRY_COPIED, 0, WRITES_PART, 0, true},
    {L2, L1 | QCOW2_ENTRY_COPIED, 0, WRITES, 0, true},
    {L2, L2 | QCOW2_ENTRY_COPIED, 0, WRITES, 0, true},
    /* compressed data in the header, and past what a host can have */
    {L2, QCOW2_ENTRY_COMPRESSED | 16, 0, READS, 0, false},
    {L2, QCOW2_ENTRY_COMPRESSED | 16, 0, WRITES, 0, false},
    /* metadata that is not counted is given out as free */
    {BLOCK + 0 * 2, 0, 2, WRITES, 20, true},
    {BLOCK + 1 * 2, 0, 2, WRITES, 20, true},
    {BLOCK + 3 * 2, 0, 2, WRITES_PART, 20, true},
    {BLOCK + 4 * 2, 0, 2, WRITES, 20, true},
};

static void make_damage(uint8_t *data, const struct damage *damage)
{
    uint8_t bytes[8];
    unsigned count = damage->bytes ? damage->bytes : 8;
    store_be64(bytes, damage->value);
    memcpy(data + damage->at, bytes + 8 - count, count);
}

static int co_meet(struct fixture *fixture, const struct damage *damage)
{
    uint64_t offset = damage->guest_cluster * CLUSTER;
    switch (damage->meeting) {
    case READS:
        return co_read(fixture, damage->guest_cluster);
    case WRITES:
        return co_write(fixture, damage->guest_cluster, 0xdd);
    case WRITES_PART:
        return fixture_co_write(fixture->node, offset + 100, "part", 4, 0);
    case ZEROES:
        return node_co_zero(fixture->node, offset, CLUSTER, 0);
    default:
        return node_co_discard(fixture->node, offset, CLUSTER, 0);
    }
}

/* Of an image that was found to be corrupt; guest clusters from `sound` on are not damaged. */
static void co_expect_no_write(struct fixture *fixture, unsigned sound)
{
    struct memory_disk *disk = &fixture->disk;
    memory_disk_forget_calls(disk);
    assert_int_equal(co_write(fixture, 3, 0xee), -EIO);
    assert_int_equal(co_write(fixture, 30, 0xee), -EIO);
    assert_int_equal(node_co_zero(fixture->node, 4 * CLUSTER, CLUSTER, 0), -EIO);
    assert_int_equal(node_co_zero(fixture->node, 4 * CLUSTER + 7, 100, 0), -EIO);
    assert_int_equal(node_co_discard(fixture->node, 5 * CLUSTER, CLUSTER, 0), -EIO);
    assert_int_equal(disk->counts[MEMORY_WRITE] + disk->counts[MEMORY_ZERO], 0);
    assert_int_equal(disk->counts[MEMORY_DISCARD], 0);
    for (unsigned i = sound; i < FILLED; i++) { /* can still be saved */
        uint8_t data[CLUSTER];
        assert_int_equal(fixture_co_read(fixture->node, i * CLUSTER, data, sizeof(data)), 0);
        assert_int_equal(data[0], i + 1);
        assert_int_equal(data[CLUSTER - 1], i + 1);
    }
}

static void co_damage(struct fixture *fixture, void *arg)
{
    static uint8_t before[CAPACITY_BYTES];
    const struct damage *damage = arg;
    struct memory_disk *disk = &fixture->disk;
    struct error err;
    co_fill(fixture);
    make_damage(disk->data, damage);
    uint64_t length = disk->size_bytes;
    memcpy(before, disk->data, length);
    co_open(fixture, NULL, NULL);
    /* Something is in memory alone when it happens, where the damage leaves room for it. */
    if (damage->guest_cluster == 0)
        assert_int_equal(co_write(fixture, 40, 0xaa), 0);
    memory_disk_forget_calls(disk);
    assert_int_equal(co_meet(fixture, damage), -EIO);
    assert_int_equal(disk->data[FLAGS_LAST_BYTE], CORRUPT);
    assert_int_equal(marks(disk), 1);
    assert_int_equal(disk->log[disk->log_count - 1].op, MEMORY_FLUSH);
    co_expect_no_write(fixture, 1);
    assert_int_equal(node_co_flush(fixture->node), -EIO);
    fixture_co_close(fixture);
    /* One byte is another one. */
    assert_int_equal(disk->data[FLAGS_LAST_BYTE], CORRUPT);
    disk->data[FLAGS_LAST_BYTE] = 0;
    assert_memory_equal(disk->data, before, length);
    disk->data[FLAGS_LAST_BYTE] = CORRUPT;

    assert_int_equal(co_open_as(fixture, NULL, NULL, &err), -EACCES);
    assert_non_null(strstr(err.message, "it is marked as corrupt"));
    assert_int_equal(co_open_as(fixture, "repair", "leaks", &err), -EACCES);
    co_open(fixture, "read-only", "on");
    assert_int_equal(co_read(fixture, 1), 0);
    fixture_co_close(fixture);
    int ret = co_open_as(fixture, "repair", "all", &err);
    assert_int_equal(ret, damage->can_be_repaired ? 0 : -EIO);
    assert_int_equal(disk->data[FLAGS_LAST_BYTE], damage->can_be_repaired ? 0 : CORRUPT);
    if (ret < 0)
        return;
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(co_write(fixture, i, 0x77), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    for (unsigned i = 0; i < 100; i++) /* what was copied is freed, and nobody's */
        coroutine_co_pause();
    for (unsigned i = 50; i < GUEST_CLUSTERS; i++)
        assert_int_equal(co_write(fixture, i, 0x77), 0);
    fixture_co_close(fixture);
    struct memory_image_faults faults = memory_image_check(disk);
    assert_int_equal(faults.errors + faults.leaks, 0);
}

static void what_is_corrupt_is_marked_and_never_written_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(damages) / sizeof(*damages); i++) {
        struct fixture fixture;
        fixture_init(&fixture, drivers, 0, CAPACITY_BYTES, 1);
        fixture_run(&fixture, co_damage, (void *)(uintptr_t)&damages[i]);
        fixture_fini(&fixture);
    }
}

/* --- found in the background --------------------------------------------------------------------
 */

/* A cluster in use without a count: seen when it is freed, after its request was answered. */
static void co_freed_without_a_count(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    co_fill(fixture);
    store_be16(disk->data + BLOCK + 5 * 2, 0);
    co_open(fixture, NULL, NULL);
    assert_int_equal(node_co_discard(fixture->node, 0, 3 * CLUSTER, 0), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    while (!(disk->data[FLAGS_LAST_BYTE] & CORRUPT))
        coroutine_co_pause();
    while (disk->active_count > 0)
        coroutine_co_pause();
    co_expect_no_write(fixture, 3);
    fixture_co_close(fixture);
    /* The other two were not freed: they leak. */
    assert_int_equal(load_be16(disk->data + BLOCK + 6 * 2), 1);
    assert_int_equal(load_be16(disk->data + BLOCK + 7 * 2), 1);
    co_open(fixture, "repair", "all");
    fixture_co_close(fixture);
    struct memory_image_faults faults = memory_image_check(disk);
    assert_int_equal(faults.errors + faults.leaks, 0);
    assert_int_equal(disk->data[FLAGS_LAST_BYTE], 0);
}

FIXTURE_TEST_WITH(freed_without_a_count, drivers, 0, CAPACITY_BYTES)

/* --- several at once ----------------------------------------------------------------------------
 */

struct reader {
    struct fixture *fixture;
    int ret;
};

static void co_meet_again(void *arg)
{
    struct reader *reader = arg;
    reader->ret = co_read(reader->fixture, 0);
}

static void co_marked_once_by_many(struct fixture *fixture, void *arg)
{
    struct reader readers[8];
    struct group group;
    (void)arg;
    co_fill(fixture);
    make_damage(fixture->disk.data, &damages[0]);
    fixture->disk.pauses_max = 5;
    co_open(fixture, NULL, NULL);
    memory_disk_forget_calls(&fixture->disk);
    group_init(&group, fixture->loop);
    for (unsigned i = 0; i < 8; i++) {
        readers[i] = (struct reader){.fixture = fixture};
        group_start(&group, co_meet_again, &readers[i]);
    }
    group_co_wait(&group);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(readers[i].ret, -EIO);
    assert_int_equal(marks(&fixture->disk), 1);
    assert_int_equal(fixture->disk.data[FLAGS_LAST_BYTE], CORRUPT);
}

FIXTURE_TEST_WITH(marked_once_by_many, drivers, 0, CAPACITY_BYTES)

/* A round that is on its way when it happens ends there. */
static void co_flush_all(void *arg)
{
    struct reader *reader = arg;
    reader->ret = node_co_flush(reader->fixture->node);
}

static void co_a_round_on_its_way_is_stopped(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    struct reader flusher = {.fixture = fixture};
    uint8_t table[CLUSTER];
    struct group group;
    (void)arg;
    co_fill(fixture);
    make_damage(disk->data, &damages[0]);
    memcpy(table, disk->data + L2, CLUSTER);
    co_open(fixture, NULL, NULL);
    assert_int_equal(co_write(fixture, 40, 0xaa), 0);
    memory_disk_hold(disk, 1u << MEMORY_FLUSH); /* the sync between refcounts and L2 */
    group_init(&group, fixture->loop);
    group_start(&group, co_flush_all, &flusher);
    memory_disk_co_wait_held(disk, 1);
    struct reader reader = {.fixture = fixture};
    group_start(&group, co_meet_again, &reader);
    while (!(disk->data[FLAGS_LAST_BYTE] & CORRUPT))
        coroutine_co_pause();
    memory_disk_release(disk);
    group_co_wait(&group);
    assert_int_equal(reader.ret, -EIO);
    assert_int_equal(flusher.ret, -EIO);
    assert_memory_equal(disk->data + L2, table, CLUSTER);
}

FIXTURE_TEST_WITH(a_round_on_its_way_is_stopped, drivers, 0, CAPACITY_BYTES)

/* By another program, before anybody has asked for it. */
static void co_an_l1_entry_that_is_damaged_meanwhile(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_fill(fixture);
    co_open(fixture, NULL, NULL);
    store_be64(fixture->disk.data + L1, (L2 + 512) | QCOW2_ENTRY_COPIED);
    assert_int_equal(co_write(fixture, 0, 1), -EIO);
    assert_true(qcow2_is_corrupt(qcow2_of(fixture->node)));
    assert_int_equal(fixture->disk.data[FLAGS_LAST_BYTE], CORRUPT);
    fixture_co_close(fixture);
}

FIXTURE_TEST_WITH(an_l1_entry_that_is_damaged_meanwhile, drivers, 0, CAPACITY_BYTES)

/* --- where no bit can be set -------------------------------------------------------------------
 */

static void co_complain_alone(struct fixture *fixture, const char *option, const char *value)
{
    static uint8_t before[CAPACITY_BYTES];
    struct memory_disk *disk = &fixture->disk;
    memcpy(before, disk->data, CAPACITY_BYTES);
    co_open(fixture, option, value);
    assert_int_equal(co_read(fixture, 0), -EIO);
    assert_int_equal(co_read(fixture, 0), -EIO);
    assert_int_equal(co_read(fixture, 1), 0);
    if (!fixture->node->read_only)
        co_expect_no_write(fixture, 1);
    fixture_co_close(fixture);
    assert_memory_equal(disk->data, before, CAPACITY_BYTES);
}

static void co_version_2_and_read_only_are_left_as_they_are(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_fill(fixture);
    make_damage(fixture->disk.data, &damages[0]);
    co_complain_alone(fixture, "read-only", "on");
    fixture->disk.data[7] = 2; /* the version; what version 3 has beyond is an empty extension */
    co_complain_alone(fixture, NULL, NULL);
}

FIXTURE_TEST_WITH(version_2_and_read_only_are_left_as_they_are, drivers, 0, CAPACITY_BYTES)

static void co_a_mark_that_fails_stops_writes_all_the_same(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    co_fill(fixture);
    make_damage(disk->data, &damages[0]);
    co_open(fixture, NULL, NULL);
    disk->fail_ops = 1u << MEMORY_WRITE;
    disk->fail_code = -ENOSPC;
    assert_int_equal(co_read(fixture, 0), -EIO);
    disk->fail_ops = 0;
    disk->fail_code = 0;
    assert_int_equal(disk->data[FLAGS_LAST_BYTE], 0);
    co_expect_no_write(fixture, 1);
    fixture_co_close(fixture);
}

FIXTURE_TEST_WITH(a_mark_that_fails_stops_writes_all_the_same, drivers, 0, CAPACITY_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_corrupt_is_marked_and_never_written_again),
        cmocka_unit_test(freed_without_a_count),
        cmocka_unit_test(marked_once_by_many),
        cmocka_unit_test(a_round_on_its_way_is_stopped),
        cmocka_unit_test(an_l1_entry_that_is_damaged_meanwhile),
        cmocka_unit_test(version_2_and_read_only_are_left_as_they_are),
        cmocka_unit_test(a_mark_that_fails_stops_writes_all_the_same),
    };
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &format_qcow2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
