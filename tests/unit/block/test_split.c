/* SPDX-License-Identifier: BSD-3-Clause */
/* split.c and bounce.c: pieces of the driver's size, memory of the driver's alignment, and zeroes
 * written where the driver has no call for them. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bounce.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE (4u << 20)

/* The driver was called `count` times with op, for `piece` bytes each but the last, without a gap.
 */
static void expect_pieces(struct fixture *fixture, enum memory_op op, uint64_t offset,
                          uint64_t length, uint64_t piece)
{
    struct memory_disk *disk = &fixture->disk;
    assert_int_equal(disk->log_count, (length + piece - 1) / piece);
    for (unsigned i = 0; i < disk->log_count; i++) {
        uint64_t done = i * piece;
        assert_int_equal(disk->log[i].op, op);
        assert_int_equal(disk->log[i].offset, offset + done);
        assert_int_equal(disk->log[i].length, length - done < piece ? length - done : piece);
    }
    memory_disk_forget_calls(disk);
}

static void co_open_limited(struct fixture *fixture, const char *driver, uint64_t transfer_max,
                            uint64_t zero_max, uint32_t memory_alignment)
{
    fixture->disk.limits.transfer_bytes_max = transfer_max;
    fixture->disk.limits.zero_bytes_max = zero_max;
    fixture->disk.limits.discard_bytes_max = zero_max;
    fixture->disk.limits.memory_alignment = memory_alignment;
    fixture_co_open(fixture, driver, false);
    memory_disk_forget_calls(&fixture->disk);
}

static void co_transfers_come_in_pieces_of_the_limit(struct fixture *fixture, void *arg)
{
    uint8_t *data = calloc(1, 100001), *back = calloc(1, 100001);
    (void)arg;
    for (unsigned i = 0; i < 100001; i++)
        data[i] = (uint8_t)(i % 253);
    co_open_limited(fixture, "file", 4096, 0, 1);
    assert_int_equal(fixture_co_write(fixture->node, 7, data, 100001, 0), 0);
    expect_pieces(fixture, MEMORY_WRITE, 7, 100001, 4096);
    assert_int_equal(fixture_co_read(fixture->node, 7, back, 100001), 0);
    expect_pieces(fixture, MEMORY_READ, 7, 100001, 4096);
    assert_memory_equal(data, back, 100001);
    assert_int_equal(fixture_co_write(fixture->node, 0, data, 4096, 0), 0);
    expect_pieces(fixture, MEMORY_WRITE, 0, 4096, 4096);
    free(data);
    free(back);
}

static void co_zeroes_and_discards_have_a_limit_of_their_own(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_open_limited(fixture, "file", 512, 65536, 1);
    assert_int_equal(node_co_zero(fixture->node, 3, 300000, 0), 0);
    expect_pieces(fixture, MEMORY_ZERO, 3, 300000, 65536);
    assert_int_equal(node_co_discard(fixture->node, 3, 300000, 0), 0);
    expect_pieces(fixture, MEMORY_DISCARD, 3, 300000, 65536);
}

static void co_the_first_piece_that_fails_ends_the_request(struct fixture *fixture, void *arg)
{
    uint8_t data[4096] = {0};
    (void)arg;
    co_open_limited(fixture, "file", 512, 512, 1);
    fixture->disk.fail_code = -ENOSPC;
    fixture->disk.fail_at_call = 2;
    assert_int_equal(fixture_co_write(fixture->node, 0, data, 4096, 0), -ENOSPC);
    expect_pieces(fixture, MEMORY_WRITE, 0, 3 * 512, 512);
    assert_int_equal(fixture_co_read(fixture->node, 0, data, 4096), -ENOSPC);
    expect_pieces(fixture, MEMORY_READ, 0, 3 * 512, 512);
    assert_int_equal(node_co_zero(fixture->node, 0, 4096, 0), -ENOSPC);
    expect_pieces(fixture, MEMORY_ZERO, 0, 3 * 512, 512);
    assert_int_equal(node_co_discard(fixture->node, 0, 4096, 0), -ENOSPC);
    expect_pieces(fixture, MEMORY_DISCARD, 0, 3 * 512, 512);
    fixture->disk.fail_code = 0;
}

static void co_zeroes_are_written_in_bounded_pieces_after_one_refusal(struct fixture *fixture,
                                                                      void *arg)
{
    (void)arg;
    memset(fixture->disk.data, 0x55, SIZE);
    fixture->disk.refuses_zero = true;
    co_open_limited(fixture, "file", 0, 0, 1);
    assert_int_equal(node_co_zero(fixture->node, 1, SIZE - 2, BLOCK_NO_UNMAP), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_ZERO], 1);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 4);
    for (unsigned i = 1; i < fixture->disk.log_count; i++) {
        assert_in_range(fixture->disk.log[i].length, 1, 1u << 20);
        assert_int_equal(fixture->disk.log[i].flags, 0);
    }
    for (unsigned i = 0; i < SIZE; i++)
        assert_int_equal(fixture->disk.data[i], i == 0 || i == SIZE - 1 ? 0x55 : 0);
}

static void co_written_zeroes_keep_fua_on_every_piece(struct fixture *fixture, void *arg)
{
    (void)arg;
    fixture->disk.refuses_zero = true;
    co_open_limited(fixture, "growing", 0, 0, 1);
    assert_int_equal(node_co_zero(fixture->node, 0, SIZE, BLOCK_FUA | BLOCK_NO_UNMAP), 0);
    assert_int_equal(fixture->disk.log[0].flags, BLOCK_FUA | BLOCK_NO_UNMAP);
    assert_true(fixture->disk.log_count > 1);
    for (unsigned i = 1; i < fixture->disk.log_count; i++)
        assert_int_equal(fixture->disk.log[i].flags, BLOCK_FUA);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 0);
}

/* The doorway asserts the alignment at every call; here the bytes must arrive too, in pieces. */
static void co_unaligned_memory_goes_through_bounded_buffers(struct fixture *fixture, void *arg)
{
    const size_t length = 3u << 20;
    uint8_t *memory = aligned_alloc(4096, 4u << 20);
    uint8_t *back = aligned_alloc(4096, 4u << 20);
    (void)arg;
    for (size_t i = 0; i < length; i++)
        memory[i + 1] = (uint8_t)(i % 249);
    co_open_limited(fixture, "file", 0, 0, 512);
    assert_int_equal(fixture_co_write(fixture->node, 0, memory + 1, length, 0), 0);
    expect_pieces(fixture, MEMORY_WRITE, 0, length, BOUNCE_BYTES_MAX);
    assert_int_equal(fixture_co_read(fixture->node, 0, back + 1, length), 0);
    expect_pieces(fixture, MEMORY_READ, 0, length, BOUNCE_BYTES_MAX);
    assert_memory_equal(memory + 1, back + 1, length);
    assert_int_equal(fixture_co_read(fixture->node, 0, back, length), 0);
    expect_pieces(fixture, MEMORY_READ, 0, length, length); /* aligned: nothing is cut or copied */
    free(memory);
    free(back);
}

static void co_a_fast_zero_is_never_written(struct fixture *fixture, void *arg)
{
    (void)arg;
    memset(fixture->disk.data, 0x55, SIZE);
    fixture->disk.refuses_zero = true;
    co_open_limited(fixture, "file", 0, 65536, 1);
    assert_int_equal(node_co_zero(fixture->node, 1, SIZE - 2, BLOCK_FAST), -ENOTSUP);
    assert_int_equal(fixture->disk.log_count, 1);
    assert_int_equal(fixture->disk.log[0].op, MEMORY_ZERO);
    for (unsigned i = 0; i < SIZE; i++)
        assert_int_equal(fixture->disk.data[i], 0x55);
    fixture->disk.refuses_zero = false;
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(node_co_zero(fixture->node, 0, SIZE, BLOCK_FAST | BLOCK_NO_UNMAP), 0);
    assert_int_equal(fixture->disk.log[0].flags, BLOCK_FAST | BLOCK_NO_UNMAP);
    expect_pieces(fixture, MEMORY_ZERO, 0, SIZE, 65536);
    fixture_co_close(fixture);

    fixture_co_open(fixture, "bare", false);
    assert_int_equal(node_co_zero(fixture->node, 0, SIZE, BLOCK_FAST), -ENOTSUP);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
}

#define TESTS(X)                                              \
    X(transfers_come_in_pieces_of_the_limit)                  \
    X(zeroes_and_discards_have_a_limit_of_their_own)          \
    X(the_first_piece_that_fails_ends_the_request)            \
    X(zeroes_are_written_in_bounded_pieces_after_one_refusal) \
    X(written_zeroes_keep_fua_on_every_piece)                 \
    X(unaligned_memory_goes_through_bounded_buffers)          \
    X(a_fast_zero_is_never_written)

#define DEFINE_TEST(name) FIXTURE_TEST(name, SIZE, SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
