/* SPDX-License-Identifier: BSD-3-Clause */
/* posix_status.c: data and holes of a file, what is remembered of them, and whom the look for them
 * keeps waiting, by a clock that the test turns. */
#include "tests/unit/block/posix_fixture.h"

static void expect_status(struct block_node *node, uint64_t offset, uint64_t length,
                          uint64_t expected_length, unsigned expected_flags)
{
    struct block_extent extent = {0};
    assert_int_equal(node_co_status(node, offset, length, &extent), 0);
    assert_int_equal(extent.length, expected_length);
    assert_int_equal(extent.flags, expected_flags);
}

#define KIB 1024u

static void status_body(struct posix_fixture *fixture)
{
    const unsigned data = BLOCK_EXTENT_ALLOCATED, hole = BLOCK_EXTENT_ZERO;
    struct block_extent extent;
    uint8_t bytes[64 * KIB];
    memset(bytes, 1, sizeof(bytes));
    make_image(fixture, 64 * KIB);
    assert_int_equal(truncate(fixture->path, 256 * KIB), 0); /* data, then a hole to the end */
    struct block_node *node = open_image(fixture, EXTRA("discard=unmap"));
    expect_status(node, 0, 256 * KIB, 64 * KIB, data);
    expect_status(node, 64 * KIB, 192 * KIB, 192 * KIB, hole);
    expect_status(node, 100 * KIB, 10, 10, hole); /* no longer than was asked */
    expect_status(node, 63 * KIB + 1, 2000, 1023, data);

    assert_int_equal(write_at(node, 128 * KIB, bytes, sizeof(bytes)), 0);
    expect_status(node, 64 * KIB, 192 * KIB, 64 * KIB, hole); /* a hole is never remembered */
    expect_status(node, 128 * KIB, 10, 10, data);

    unsigned seeks = fixture->odd.seeks; /* both pieces of data are known now */
    for (unsigned at = 0; at < 64 * KIB; at += 1000) {
        expect_status(node, at, 1000, 64 * KIB - at < 1000 ? 64 * KIB - at : 1000, data);
        expect_status(node, 128 * KIB + at, 1, 1, data);
    }
    assert_int_equal(fixture->odd.seeks, seeks);
    node_status_remembered(node, 10, 256 * KIB - 10, &extent);
    assert_int_equal(extent.flags, data);
    node_status_remembered(node, 70 * KIB, 100, &extent); /* not known: taken for data */
    assert_int_equal(extent.flags, data);
    assert_int_equal(extent.length, 100);
    assert_int_equal(fixture->odd.seeks, seeks);

    assert_int_equal(node_co_discard(node, 0, 32 * KIB, 0), 0);
    expect_status(node, 0, 256 * KIB, 32 * KIB, hole);
    expect_status(node, 32 * KIB, 256 * KIB - 32 * KIB, 32 * KIB, data);
    assert_int_equal(node_co_zero(node, 128 * KIB, 64 * KIB, 0), 0);
    expect_status(node, 64 * KIB, 192 * KIB, 192 * KIB, hole);
    block_co_node_unref(node);
}

static void data_and_holes_are_told_apart_and_data_is_remembered(void **state)
{
    with_posix(state, status_body);
}

/* Data and holes of 64 KiB each by turns: more of them than one answer holds. */
static void several_body(struct posix_fixture *fixture)
{
    enum { PIECE = 64 * KIB, PIECES = BLOCK_EXTENTS_MAX + 10 };
    static uint8_t bytes[PIECE];
    struct block_extents extents;
    memset(bytes, 1, sizeof(bytes));
    make_image(fixture, 0);
    assert_int_equal(truncate(fixture->path, (off_t)PIECES * PIECE), 0);
    struct block_node *node = open_image(fixture, NULL);
    for (unsigned i = 0; i < PIECES; i += 2)
        assert_int_equal(write_at(node, (uint64_t)i * PIECE, bytes, sizeof(bytes)), 0);
    assert_int_equal(node_co_statuses(node, 100, PIECES * PIECE - 200, &extents), 0);
    assert_int_equal(extents.count, BLOCK_EXTENTS_MAX);
    for (unsigned i = 0; i < extents.count; i++) {
        assert_int_equal(extents.all[i].length, i == 0 ? PIECE - 100 : PIECE);
        assert_int_equal(extents.all[i].flags, i % 2 ? BLOCK_EXTENT_ZERO : BLOCK_EXTENT_ALLOCATED);
    }
    assert_int_equal(node_co_statuses(node, PIECE + 1, PIECE, &extents),
                     0); /* to the end, no more */
    assert_int_equal(extents.count, 2);
    assert_int_equal(extents.all[0].length, PIECE - 1);
    assert_int_equal(extents.all[1].length, 1);

    unsigned seeks = fixture->odd.seeks; /* known data takes nobody to the file system */
    assert_int_equal(node_co_statuses(node, 200, 1000, &extents), 0);
    assert_int_equal(extents.count, 1);
    assert_int_equal(fixture->odd.seeks, seeks);
    block_co_node_unref(node);
}

static void one_look_tells_what_follows_too(void **state)
{
    with_posix(state, several_body);
}

static void no_seek_body(struct posix_fixture *fixture)
{
    struct block_extents extents;
    make_image(fixture, 1000);
    fixture->odd.no_seek = true;
    struct block_node *node = open_image(fixture, NULL);
    expect_status(node, 10, 900, 900, BLOCK_EXTENT_ALLOCATED);
    expect_status(node, 10, 900, 900, BLOCK_EXTENT_ALLOCATED);
    assert_int_equal(node_co_statuses(node, 10, 900, &extents), 0);
    assert_int_equal(extents.count, 1);
    assert_int_equal(extents.all[0].length, 900);
    assert_int_equal(fixture->odd.seeks, 1);
    block_co_node_unref(node);
}

static void a_file_system_without_seek_data_is_all_data_and_asked_once(void **state)
{
    with_posix(state, no_seek_body);
}

/* --- where the host is asked --------------------------------------------------------------------
 */

static _Atomic uint64_t fake_now_ns, fake_step_ns; /* the worker asks, too */

static uint64_t fake_clock_now(struct clock *clock)
{
    (void)clock;
    return atomic_fetch_add(&fake_now_ns, fake_step_ns) + fake_step_ns;
}

static struct clock fake_clock = {fake_clock_now};

#define LOOKS_BEFORE_QUICK 8u  /* of a file that was opened */
#define QUICK_LOOKS_WANTED 64u /* after one that was not */
#define QUICK_STEP_NS 1000u
#define SLOW_STEP_NS 300000u

/* Holes are not remembered, so each look asks. */
static bool look_is_in_loop(struct posix_fixture *fixture, struct block_node *node,
                            uint64_t step_ns)
{
    fake_step_ns = step_ns;
    expect_status(node, 64 * KIB, 1 * KIB, 1 * KIB, BLOCK_EXTENT_ZERO);
    return pthread_equal(fixture->odd.seek_thread, pthread_self());
}

static void expect_by_worker(struct posix_fixture *fixture, struct block_node *node, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        assert_false(look_is_in_loop(fixture, node, QUICK_STEP_NS));
    assert_true(look_is_in_loop(fixture, node, QUICK_STEP_NS));
}

static void pace_body(struct posix_fixture *fixture)
{
    make_image(fixture, 64 * KIB);
    assert_int_equal(truncate(fixture->path, 256 * KIB), 0);
    struct block_node *node = open_image(fixture, NULL);
    for (unsigned i = 0; i < 3; i++)
        assert_false(look_is_in_loop(fixture, node, QUICK_STEP_NS));
    assert_false(look_is_in_loop(fixture, node, SLOW_STEP_NS)); /* now 64 have to be quick */
    expect_by_worker(fixture, node, QUICK_LOOKS_WANTED);

    assert_true(look_is_in_loop(fixture, node, SLOW_STEP_NS)); /* it stopped the loop */
    expect_by_worker(fixture, node, QUICK_LOOKS_WANTED);
    assert_true(look_is_in_loop(fixture, node, SLOW_STEP_NS)); /* again */
    expect_by_worker(fixture, node, 2 * QUICK_LOOKS_WANTED - 1);
    block_co_node_unref(node);
}

static void a_host_is_asked_in_the_loop_while_it_is_quick(void **state)
{
    posix_fixture_clock = &fake_clock;
    with_posix(state, pace_body);
    posix_fixture_clock = &clock_monotonic;
}

static void first_body(struct posix_fixture *fixture)
{
    make_image(fixture, 64 * KIB);
    assert_int_equal(truncate(fixture->path, 256 * KIB), 0);
    struct block_node *node = open_image(fixture, NULL);
    expect_by_worker(fixture, node, LOOKS_BEFORE_QUICK);
    block_co_node_unref(node);
}

static void of_a_new_file_a_worker_finds_out_how_quick_it_is(void **state)
{
    posix_fixture_clock = &fake_clock;
    with_posix(state, first_body);
    posix_fixture_clock = &clock_monotonic;
}

/* A write that a worker makes has the file's lock meanwhile. */
static void writer_entry(void *arg)
{
    static uint8_t bytes[4 * KIB];
    struct block_node *node = arg;
    assert_int_equal(write_at(node, 0, bytes, sizeof(bytes)), 0);
}

static void writes_body(struct posix_fixture *fixture)
{
    struct odd_files *odd = &fixture->odd;
    make_image(fixture, 64 * KIB);
    assert_int_equal(truncate(fixture->path, 256 * KIB), 0);
    struct block_node *node = open_image(fixture, NULL);
    expect_by_worker(fixture, node, LOOKS_BEFORE_QUICK);
    fake_step_ns = 2 * NS_PER_MS;
    writer_entry(node); /* too slow for the loop: a worker makes the next */
    assert_true(look_is_in_loop(fixture, node, QUICK_STEP_NS));

    assert_int_equal(sem_init(&odd->gate, 0, 0), 0);
    odd->write_gate = true;
    unsigned writes = odd->writes;
    assert_int_equal(coroutine_start(fixture->loop, writer_entry, node), 0);
    while (odd->writes == writes)
        coroutine_co_pause(); /* until it is at the gate */
    assert_false(look_is_in_loop(fixture, node, QUICK_STEP_NS));
    odd->write_gate = false;
    sem_post(&odd->gate);
    while (!look_is_in_loop(fixture, node, QUICK_STEP_NS))
        coroutine_co_pause();
    sem_destroy(&odd->gate);
    block_co_node_unref(node);
}

static void nor_is_it_while_another_thread_changes_the_file(void **state)
{
    void *engine = (void *)&engine_threads; /* whose writes are made in the loop */
    (void)state;
    posix_fixture_clock = &fake_clock;
    with_posix(&engine, writes_body);
    posix_fixture_clock = &clock_monotonic;
}

struct round_count {
    unsigned rounds;
    bool is_over;
};

static void count_rounds(void *arg)
{
    struct round_count *count = arg;
    for (coroutine_co_pause(); !count->is_over; coroutine_co_pause())
        count->rounds++;
}

/* Quick each, and together a long time. */
static void turns_body(struct posix_fixture *fixture)
{
    enum { LOOKS = 100 };
    struct round_count count = {.rounds = 0};
    make_image(fixture, 64 * KIB);
    assert_int_equal(truncate(fixture->path, 256 * KIB), 0);
    struct block_node *node = open_image(fixture, NULL);
    expect_by_worker(fixture, node, LOOKS_BEFORE_QUICK);
    assert_int_equal(coroutine_start(fixture->loop, count_rounds, &count), 0);
    for (unsigned i = 0; i < LOOKS; i++)
        assert_true(look_is_in_loop(fixture, node, 190000));
    count.is_over = true;
    coroutine_co_pause();
    coroutine_co_pause();
    assert_in_range(count.rounds, LOOKS / 8, LOOKS);
    block_co_node_unref(node);
}

static void looks_take_turns_with_other_work(void **state)
{
    posix_fixture_clock = &fake_clock;
    with_posix(state, turns_body);
    posix_fixture_clock = &clock_monotonic;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_and_holes_are_told_apart_and_data_is_remembered),
        cmocka_unit_test(one_look_tells_what_follows_too),
        cmocka_unit_test(a_file_system_without_seek_data_is_all_data_and_asked_once),
        cmocka_unit_test(a_host_is_asked_in_the_loop_while_it_is_quick),
        cmocka_unit_test(of_a_new_file_a_worker_finds_out_how_quick_it_is),
        cmocka_unit_test(nor_is_it_while_another_thread_changes_the_file),
        cmocka_unit_test(looks_take_turns_with_other_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
