/* SPDX-License-Identifier: BSD-3-Clause */
/* posix_at_once.c: small reads of what is in the page cache are copies made at once, and what is
 * not there is left to the engine, with what lies around it. */
#include "tests/unit/block/posix_fixture.h"

#define IMAGE_BYTES (3u << 20)
/* posix_at_once.c's */
#define ENGINE_READS_MAX 64
#define AREA_BYTES (64 << 20)

struct borrower {
    struct block_loan loan;
    unsigned calls;
};

static size_t borrow(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    (void)fd, (void)host_offset;
    container_of(loan, struct borrower, loan)->calls++;
    return length;
}

static unsigned tries; /* of the host, to read at once */
static bool host_misses;

static ssize_t counted_preadv_at_once(struct host_files *files, int fd, const struct iovec *iov,
                                      int iov_count, uint64_t offset)
{
    tries++;
    return host_misses ? -EAGAIN
                       : host_files_linux.preadv_at_once(files, fd, iov, iov_count, offset);
}

static struct block_node *co_open_counted(struct posix_fixture *fixture)
{
    tries = 0;
    host_misses = false;
    make_image(fixture, IMAGE_BYTES);
    fixture->odd.files.preadv_at_once = counted_preadv_at_once;
    return open_image(fixture, NULL);
}

/* A round has room for a few; the next one has it again. */
static int copy(struct block_node *node, uint64_t offset, uint8_t *to, size_t length)
{
    struct borrower borrower = {.loan = {.use = borrow, .copy_to = to}};
    while (!loop_has_room(loop_current()))
        coroutine_co_pause();
    int ret = node_lend(node, offset, length, &borrower.loan);
    assert_int_equal(borrower.calls, ret == 0);
    return ret;
}

static void copies_body(struct posix_fixture *fixture)
{
    uint8_t data[4096];
    struct block_node *node = co_open_counted(fixture);
    assert_int_equal(copy(node, 12345, data, sizeof(data)), 0);
    for (unsigned i = 0; i < sizeof(data); i++)
        assert_int_equal(data[i], pattern_at(12345 + i));
    assert_int_equal(copy(node, IMAGE_BYTES - 1, data, 1), 0);
    assert_int_equal(tries, 2);
    /* One that is cut off under us is not there in whole. */
    assert_int_equal(truncate(fixture->path, IMAGE_BYTES - 100), 0);
    assert_int_equal(copy(node, IMAGE_BYTES - sizeof(data), data, sizeof(data)), -EAGAIN);
    assert_int_equal(tries, 3);
    block_co_node_unref(node);
}

static void what_is_in_memory_is_copied_at_once(void **state)
{
    with_posix(state, copies_body);
}

/* One that is missing, then those that are not tried, until one is. */
static void expect_engine_reads(struct block_node *node, unsigned count)
{
    uint8_t data[512];
    host_misses = true;
    assert_int_equal(copy(node, 0, data, sizeof(data)), -EAGAIN);
    host_misses = false;
    assert_int_equal(tries, 1);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(copy(node, 0, data, sizeof(data)), -EAGAIN);
    assert_int_equal(tries, 1);
    tries = 0;
}

static void missing_body(struct posix_fixture *fixture)
{
    uint8_t data[512];
    struct block_node *node = co_open_counted(fixture);
    for (unsigned count = 1; count < ENGINE_READS_MAX; count *= 2)
        expect_engine_reads(node, count);
    expect_engine_reads(node, ENGINE_READS_MAX);
    expect_engine_reads(node, ENGINE_READS_MAX);
    for (unsigned count = ENGINE_READS_MAX / 8; count > 0; count /= 4) {
        assert_int_equal(copy(node, 0, data, sizeof(data)), 0);
        assert_int_equal(copy(node, 0, data, sizeof(data)), 0);
        assert_int_equal(copy(node, 0, data, sizeof(data)), 0);
        assert_int_equal(tries, 3);
        tries = 0;
        expect_engine_reads(node, count); /* an eighth, and the double of that next time */
    }
    block_co_node_unref(node);
}

static void the_more_are_missing_the_fewer_are_tried(void **state)
{
    with_posix(state, missing_body);
}

static void areas_body(struct posix_fixture *fixture)
{
    uint8_t data[512];
    struct block_node *node = co_open_counted(fixture);
    block_co_node_unref(node);
    assert_int_equal(truncate(fixture->path, 2 * AREA_BYTES), 0);
    node = open_image(fixture, NULL);
    host_misses = true;
    assert_int_equal(copy(node, AREA_BYTES - 512, data, sizeof(data)), -EAGAIN);
    host_misses = false;
    assert_int_equal(copy(node, AREA_BYTES, data, sizeof(data)), 0);
    assert_int_equal(copy(node, 0, data, sizeof(data)), -EAGAIN);
    assert_int_equal(copy(node, 0, data, sizeof(data)), 0);
    assert_int_equal(tries, 3);
    block_co_node_unref(node);
}

static void what_is_missing_elsewhere_does_not_count(void **state)
{
    with_posix(state, areas_body);
}

static void rooms_body(struct posix_fixture *fixture)
{
    uint8_t data[512];
    struct borrower borrower = {.loan = {.use = borrow, .copy_to = data}};
    struct block_node *node = co_open_counted(fixture);
    assert_int_equal(copy(node, 0, data, sizeof(data)), 0);
    for (unsigned i = 1; i < LOOP_ROUND_OPERATIONS; i++)
        assert_int_equal(node_lend(node, 0, sizeof(data), &borrower.loan), 0);
    assert_int_equal(node_lend(node, 0, sizeof(data), &borrower.loan), -EAGAIN);
    assert_int_equal(tries, LOOP_ROUND_OPERATIONS);
    coroutine_co_pause();
    assert_int_equal(node_lend(node, 0, sizeof(data), &borrower.loan), 0);
    /* To have the disk begin with one that is missing takes the loop much of its round. */
    host_misses = true;
    coroutine_co_pause();
    assert_int_equal(copy(node, 0, data, sizeof(data)), -EAGAIN);
    loop_count_work(loop_current(), LOOP_ROUND_BYTES - LOOP_LATE_READ_BYTES);
    assert_false(loop_has_room(loop_current()));
    block_co_node_unref(node);
}

static void a_round_has_room_for_some_copies(void **state)
{
    with_posix(state, rooms_body);
}

static void no_copies_body(struct posix_fixture *fixture)
{
    uint8_t data[512];
    struct block_node *node = co_open_counted(fixture);
    fixture->odd.files.preadv_at_once = NULL;
    assert_int_equal(copy(node, 0, data, sizeof(data)), -ENOTSUP);
    block_co_node_unref(node);
    fixture->odd.files.preadv_at_once = counted_preadv_at_once;
    if (try_open(fixture, EXTRA("cache.direct=on"), &node) == 0) {
        assert_int_equal(copy(node, 0, data, sizeof(data)), -ENOTSUP);
        block_co_node_unref(node);
    }
    assert_int_equal(tries, 0);
}

static void no_copies_where_the_host_cannot_nor_with_o_direct(void **state)
{
    with_posix(state, no_copies_body);
}

int main(void)
{
    if (posix_fixture_is_on_tmpfs()) {
        puts("SKIP: the files would be on tmpfs, which lends nothing");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_in_memory_is_copied_at_once),
        cmocka_unit_test(the_more_are_missing_the_fewer_are_tried),
        cmocka_unit_test(what_is_missing_elsewhere_does_not_count),
        cmocka_unit_test(a_round_has_room_for_some_copies),
        cmocka_unit_test(no_copies_where_the_host_cannot_nor_with_o_direct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
