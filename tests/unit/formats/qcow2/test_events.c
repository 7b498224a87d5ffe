/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The points that the driver announces to the filter "fault" below it: each one that it promises
 * comes, where it says, can be held up and resumed, and fails what follows it.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

#include "block/coroutine.h"
#include "block/fault.h"
#include "block/filters.h"
#include "common/endian.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/layout.h"
#include "formats/raw.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CLUSTER 512u
#define DISK_BYTES (3u << 20)
#define CAPACITY_BYTES (8u << 20)
#define L1 (3 * CLUSTER)
#define COUNTS_A_BLOCK (CLUSTER / 8)
#define L2_REACH_BYTES (CLUSTER / 8 * CLUSTER)

static const struct block_driver *drivers[6];
static struct memory_disk backing;

static void co_open(struct fixture *fixture, const char *rules)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    node_options_parse(options, "driver=qcow2,backing.driver=raw,file.driver=fault", NULL);
    assert_int_equal(node_options_parse(options, rules, &err), 0);
    memory_disk_options(&fixture->disk, options, "file.file.", "growing");
    memory_disk_options(&backing, options, "backing.file.", "file");
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
}

static int co_write_with(struct fixture *fixture, uint64_t offset, size_t length, unsigned flags)
{
    uint8_t *data = malloc(length);
    assert_non_null(data);
    memset(data, 0x55, length);
    int ret = fixture_co_write(fixture->node, offset, data, length, flags);
    free(data);
    return ret;
}

static int co_write(struct fixture *fixture, uint64_t offset, size_t length)
{
    return co_write_with(fixture, offset, length, 0);
}

static int co_read(struct fixture *fixture, uint64_t offset)
{
    uint8_t data[CLUSTER];
    return fixture_co_read(fixture->node, offset, data, sizeof(data));
}

/* An image with 64 KiB of data; guest cluster 5 is compressed, and the second L2 table is shared.
 */
static void co_make(struct fixture *fixture)
{
    static const struct memory_image shape = {
        .cluster_bits = 9, .refcount_order = 6, .disk_bytes = DISK_BYTES};
    uint8_t *data = fixture->disk.data;
    memory_image_make(&fixture->disk, &shape);
    co_open(fixture, "");
    assert_int_equal(co_write(fixture, 0, 2 * L2_REACH_BYTES), 0);
    fixture_co_close(fixture);
    uint64_t first = load_be64(data + L1) & QCOW2_ENTRY_OFFSET;
    uint64_t second = load_be64(data + L1 + 8) & QCOW2_ENTRY_OFFSET;
    uint64_t at = load_be64(data + first + 5 * 8) & QCOW2_ENTRY_OFFSET;
    store_be64(data + first + 5 * 8, at | QCOW2_ENTRY_COMPRESSED);
    store_be64(data + L1 + 8, second);
    data[second] &= 0x7f; /* COPIED */
    uint64_t block = load_be64(data + CLUSTER + second / CLUSTER / COUNTS_A_BLOCK * 8);
    store_be64(data + block + second / CLUSTER % COUNTS_A_BLOCK * 8, 2);
}

/* Something of everything. */
enum step {
    READ_DATA,
    READ_COMPRESSED,
    READ_BACKING,
    WRITE_IN_PLACE,
    WRITE_A_PART,
    WRITE_UNDER_A_SHARED_TABLE,
    WRITE_MANY,
    FLUSH,
    DISCARD,
    GROW,
    WRITE_COMPRESSED,
    RESIZE,
    STEPS,
};

struct session {
    struct fixture *fixture;
    int rets[STEPS];
    bool is_done;
};

static void co_session(void *arg)
{
    struct session *session = arg;
    struct fixture *fixture = session->fixture;
    session->rets[READ_DATA] = co_read(fixture, 0);
    session->rets[READ_COMPRESSED] = co_read(fixture, 5 * CLUSTER);
    session->rets[READ_BACKING] = co_read(fixture, 2 << 20);
    session->rets[WRITE_IN_PLACE] = co_write(fixture, 0, CLUSTER);
    session->rets[WRITE_A_PART] = co_write(fixture, 1 << 20, 100);
    session->rets[WRITE_UNDER_A_SHARED_TABLE] = co_write(fixture, L2_REACH_BYTES, CLUSTER);
    session->rets[WRITE_MANY] = co_write(fixture, 4 * L2_REACH_BYTES, 2 * L2_REACH_BYTES);
    session->rets[FLUSH] = node_co_flush(fixture->node);
    session->rets[DISCARD] = node_co_discard(fixture->node, 0, 4 * CLUSTER, 0);
    session->rets[DISCARD] |= node_co_flush(fixture->node);
    session->rets[GROW] = co_write(fixture, 512 << 10, DISK_BYTES - (512 << 10));
    session->rets[WRITE_COMPRESSED] = co_write_with(fixture, 0, CLUSTER, BLOCK_COMPRESS);
    session->rets[RESIZE] = node_co_resize(fixture->node, DISK_BYTES + L2_REACH_BYTES, NULL);
    session->is_done = true;
}

/* --- each of them comes ------------------------------------------------------------------------
 */

static void co_hold_up(struct fixture *fixture, const char *event)
{
    struct session session = {.fixture = fixture};
    struct group group;
    co_make(fixture);
    co_open(fixture, "");
    assert_int_equal(fault_suspend(fixture->node, event, "here"), 0);
    group_init(&group, fixture->loop);
    group_start(&group, co_session, &session);
    while (!fault_is_suspended(fixture->node, "here") && !session.is_done)
        coroutine_co_pause();
    if (!fault_is_suspended(fixture->node, "here"))
        fail_msg("%s does not come", event);
    for (unsigned i = 0; i < 20; i++) /* what can be done without it is done */
        coroutine_co_pause();
    assert_int_equal(fault_resume(fixture->node, "here"), 0);
    group_co_wait(&group);
    for (unsigned i = 0; i < STEPS; i++) {
        if (i != READ_COMPRESSED) /* rubbish */
            assert_int_equal(session.rets[i], 0);
    }
    fixture_co_close(fixture);
}

static void co_each_promised_event_comes(struct fixture *fixture, void *arg)
{
    (void)arg;
    unsigned count = 0;
    for (; format_qcow2.admin->events[count]; count++)
        co_hold_up(fixture, format_qcow2.admin->events[count]);
    assert_int_equal(count, 26);
}

FIXTURE_TEST_WITH(each_promised_event_comes, drivers, 0, CAPACITY_BYTES)

/* --- and fails what comes next -----------------------------------------------------------------
 */

static const struct {
    const char *event;
    enum step fails;
} injections[] = {
    {"l2_load", READ_DATA},
    {"read_aio", READ_DATA},
    {"read_compressed", READ_COMPRESSED},
    {"write_aio", WRITE_IN_PLACE},
    {"cow_read", WRITE_A_PART},
    {"cow_write", WRITE_A_PART},
    {"cluster_alloc", WRITE_A_PART},
    {"l2_alloc_write", WRITE_A_PART},
    {"refblock_load", WRITE_A_PART},
    {"reftable_load", WRITE_A_PART},
    {"l2_alloc_cow_read", WRITE_UNDER_A_SHARED_TABLE},
    {"refblock_alloc", WRITE_MANY},
    {"refblock_alloc_hookup", WRITE_MANY},
    {"refblock_update", FLUSH},
    {"reftable_update", FLUSH},
    {"l2_update", FLUSH},
    {"l1_update", FLUSH},
    {"reftable_grow", GROW},
    {"refblock_alloc_write_blocks", GROW},
    {"refblock_alloc_switch_table", GROW},
    {"write_compressed", WRITE_COMPRESSED},
    {"l1_grow_alloc_table", RESIZE},
    {"l1_grow_write_table", RESIZE},
    {"l1_grow_activate_table", RESIZE},
};

static void co_an_event_fails_what_follows(struct fixture *fixture, void *arg)
{
    (void)arg;
    for (size_t i = 0; i < sizeof(injections) / sizeof(*injections); i++) {
        struct session session = {.fixture = fixture};
        char rules[200];
        snprintf(rules, sizeof(rules),
                 "file.inject-error.0.event=%s,file.inject-error.0.errno=EDQUOT,"
                 "file.inject-error.0.once=on",
                 injections[i].event);
        co_make(fixture);
        co_open(fixture, rules);
        co_session(&session);
        for (unsigned step = 0; step < injections[i].fails; step++) {
            if (step != READ_COMPRESSED && session.rets[step] != 0)
                fail_msg("%s: step %u fails", injections[i].event, step);
        }
        if (session.rets[injections[i].fails] != -EDQUOT)
            fail_msg("%s: step %u returns %d", injections[i].event, injections[i].fails,
                     session.rets[injections[i].fails]);
        fixture_co_close(fixture);
    }
}

FIXTURE_TEST_WITH(an_event_fails_what_follows, drivers, 0, CAPACITY_BYTES)

/* A table that is loaded turns the state; from then on writes fail. */
static void co_events_turn_states(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_make(fixture);
    co_open(fixture, "file.set-state.0.event=l2_load,file.set-state.0.new_state=2,"
                     "file.inject-error.0.state=2,file.inject-error.0.iotype=write");
    assert_int_equal(co_read(fixture, 2 << 20), 0); /* no table is there */
    assert_int_equal(co_write(fixture, 0, CLUSTER), -EIO);
    assert_int_equal(co_read(fixture, 0), 0);
    fixture_co_close(fixture);
}

FIXTURE_TEST_WITH(events_turn_states, drivers, 0, CAPACITY_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_promised_event_comes),
        cmocka_unit_test(an_event_fails_what_follows),
        cmocka_unit_test(events_turn_states),
    };
    drivers[0] = memory_drivers[0]; /* file */
    drivers[1] = memory_drivers[1]; /* growing */
    drivers[2] = &block_filter_fault;
    drivers[3] = &format_raw;
    drivers[4] = &format_qcow2;
    memory_disk_init(&backing, DISK_BYTES, DISK_BYTES, 1);
    int ret = cmocka_run_group_tests(tests, NULL, NULL);
    memory_disk_fini(&backing);
    return ret;
}
