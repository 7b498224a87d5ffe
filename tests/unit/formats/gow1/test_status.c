/* SPDX-License-Identifier: BSD-3-Clause */
/* status.c, read.c: extents, loans, and reads of what lies in several pieces. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "tests/unit/formats/gow1/gow1_fixture.h"

#define READ_ONLY GOW_EXTRA("read-only", "on")

/* Blocks 0 and 1 side by side, 3 and 4 exchanged; the rest is free. */
static void make(struct memory_disk *disk)
{
    gow_set_blocks(disk, 4, 0);
    for (unsigned i = 0; i < 4; i++)
        memset(disk->data + GOW_DATA + i * GOW_BLOCK, 0x10 + (int)i, GOW_BLOCK);
    gow_set_entry(disk, 0, 0);
    gow_set_entry(disk, 1, 1);
    gow_set_entry(disk, 3, 3);
    gow_set_entry(disk, 4, 2);
}

static void co_expect(struct fixture *fixture, uint64_t offset, uint64_t length, unsigned flags)
{
    struct block_extent extent;
    uint64_t size = atomic_load(&fixture->node->size_bytes);
    assert_int_equal(node_co_status(fixture->node, offset, size - offset, &extent), 0);
    assert_int_equal(extent.length, length);
    assert_int_equal(extent.flags, flags);
}

static void co_neighbours_of_one_kind_are_one_extent(struct fixture *fixture, void *arg)
{
    struct block_extent extent;
    (void)arg;
    make(&fixture->disk);
    gow_co_open(fixture, READ_ONLY);
    node_status_remembered(fixture->node, 2 * GOW_BLOCK, 100, &extent);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ALLOCATED); /* nobody knows yet */
    co_expect(fixture, 5, 2 * GOW_BLOCK - 5, BLOCK_EXTENT_ALLOCATED);
    co_expect(fixture, 2 * GOW_BLOCK + 9, GOW_BLOCK - 9, BLOCK_EXTENT_ZERO);
    co_expect(fixture, 3 * GOW_BLOCK, 2 * GOW_BLOCK, BLOCK_EXTENT_ALLOCATED);
    co_expect(fixture, 5 * GOW_BLOCK, 5 * GOW_BLOCK, BLOCK_EXTENT_ZERO);
    node_status_remembered(fixture->node, 2 * GOW_BLOCK, 3 * GOW_BLOCK, &extent);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ZERO);
    assert_int_equal(extent.length, GOW_BLOCK);
}
GOW_TEST(neighbours_of_one_kind_are_one_extent, 10, 20)

/* --- a file with holes --------------------------------------------------------------------------
 */

#define HOLE 4096 /* in this file, every second so many bytes are a hole */

static int holey_co_status(struct block_node *node, uint64_t offset, uint64_t length,
                           struct block_extent *ret_extent)
{
    uint64_t left = HOLE - offset % HOLE;
    (void)node;
    ret_extent->length = left < length ? left : length;
    ret_extent->flags = offset / HOLE % 2 ? BLOCK_EXTENT_ZERO : BLOCK_EXTENT_ALLOCATED;
    return 0;
}

/* Zeroes are called zero and nothing else is, and extents end with sectors. */
static void co_check_holes(struct fixture *fixture, void *arg)
{
    struct block_extent extent;
    uint64_t zeroes = 0;
    (void)arg;
    gow_co_open(fixture, READ_ONLY);
    for (uint64_t at = 0; at < 2 * GOW_BLOCK; at += extent.length) {
        assert_int_equal(node_co_status(fixture->node, at, 2 * GOW_BLOCK - at, &extent), 0);
        assert_int_equal(extent.length % 512, 0);
        for (uint64_t i = at; i < at + extent.length && extent.flags == BLOCK_EXTENT_ZERO; i++) {
            assert_int_equal((GOW_DATA + i) / HOLE % 2, 1);
            zeroes++;
        }
    }
    assert_true(zeroes > GOW_BLOCK / 2);
    /* From inside a sector that is half a hole: data up to its end, or a hole up to the next. */
    assert_int_equal(node_co_status(fixture->node, HOLE - 20, 2000, &extent), 0);
    assert_int_equal(extent.length, 20);
    assert_int_equal(node_co_status(fixture->node, 2 * HOLE - 13, 1, &extent), 0);
    assert_int_equal(extent.length, 1);
}

static void holes_of_the_file_are_shown_in_whole_sectors(void **state)
{
    static struct block_driver holey;
    static const struct block_driver *drivers[3];
    struct fixture fixture;
    (void)state;
    holey = *memory_drivers[1];
    holey.co_status = holey_co_status;
    drivers[0] = &holey;
    drivers[1] = gow_drivers()[1];
    fixture_init(&fixture, drivers, 0, GOW_DATA + 20 * GOW_BLOCK, 1);
    gow_make(&fixture.disk, 10);
    make(&fixture.disk);
    fixture_run(&fixture, co_check_holes, NULL);
    fixture_fini(&fixture);
}

/* --- loans --------------------------------------------------------------------------------------
 */

struct borrower {
    struct block_loan loan;
    uint64_t host_offset;
    size_t length;
};

static size_t borrow(struct block_loan *loan, int fd, uint64_t host_offset, size_t length)
{
    struct borrower *borrower = container_of(loan, struct borrower, loan);
    (void)fd;
    borrower->host_offset = host_offset;
    borrower->length = length;
    return length;
}

static void co_blocks_are_lent_where_they_lie(struct fixture *fixture, void *arg)
{
    struct borrower borrower = {.loan.use = borrow};
    uint8_t byte;
    (void)arg;
    make(&fixture->disk);
    fixture->disk.lend_fd = 7;
    gow_co_open(fixture, READ_ONLY);
    assert_int_equal(node_lend(fixture->node, 10, 1000, &borrower.loan), -EAGAIN);
    assert_int_equal(fixture_co_read(fixture->node, 0, &byte, 1), 0); /* the map is known now */
    assert_int_equal(node_lend(fixture->node, 10, 3 * GOW_BLOCK, &borrower.loan), 0);
    assert_int_equal(borrower.host_offset, GOW_DATA + 10);
    assert_int_equal(borrower.length, 2 * GOW_BLOCK - 10); /* as far as it lies in one piece */
    assert_int_equal(node_lend(fixture->node, 2 * GOW_BLOCK, 10, &borrower.loan), -EAGAIN);
    assert_int_equal(node_lend(fixture->node, 4 * GOW_BLOCK, 10, &borrower.loan), 0);
    assert_int_equal(borrower.host_offset, GOW_DATA + 2 * GOW_BLOCK);
}
GOW_TEST(blocks_are_lent_where_they_lie, 10, 20)

/* --- reads --------------------------------------------------------------------------------------
 */

static void co_pieces_are_put_together(struct fixture *fixture, void *arg)
{
    static uint8_t data[6 * GOW_BLOCK], model[6 * GOW_BLOCK];
    struct random random;
    (void)arg;
    make(&fixture->disk);
    random_seed(&random, fixture_seed("status"));
    gow_read(&fixture->disk, 0, model, sizeof(model));
    fixture->disk.pauses_max = 3;
    gow_co_open(fixture, READ_ONLY);
    for (unsigned round = 0; round < 200; round++) {
        size_t from = random_below(&random, sizeof(model));
        size_t length = 1 + random_below(&random, sizeof(model) - from);
        memset(data, 0xee, length);
        assert_int_equal(fixture_co_read(fixture->node, from, data, length), 0);
        assert_memory_equal(data, model + from, length);
    }
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(node_co_cache(fixture->node, 0, 6 * GOW_BLOCK), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_CACHE], 3);
}
GOW_TEST(pieces_are_put_together, 10, 20)

static void co_a_piece_that_fails_fails_the_read(struct fixture *fixture, void *arg)
{
    static uint8_t data[6 * GOW_BLOCK];
    (void)arg;
    make(&fixture->disk);
    gow_co_open(fixture, READ_ONLY);
    assert_int_equal(fixture_co_read(fixture->node, 0, data, sizeof(data)), 0);
    for (unsigned call = 0; call < 3; call++) {
        memory_disk_forget_calls(&fixture->disk);
        fixture->disk.fail_at_call = call;
        fixture->disk.fail_code = -EIO;
        assert_int_equal(fixture_co_read(fixture->node, 0, data, sizeof(data)), -EIO);
    }
    memory_disk_forget_calls(&fixture->disk);
    fixture->disk.fail_at_call = 3;
    assert_int_equal(fixture_co_read(fixture->node, 0, data, sizeof(data)), 0);
}
GOW_TEST(a_piece_that_fails_fails_the_read, 10, 20)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_of_one_kind_are_one_extent),
        cmocka_unit_test(holes_of_the_file_are_shown_in_whole_sectors),
        cmocka_unit_test(blocks_are_lent_where_they_lie),
        cmocka_unit_test(pieces_are_put_together),
        cmocka_unit_test(a_piece_that_fails_fails_the_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
