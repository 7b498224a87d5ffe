/* SPDX-License-Identifier: BSD-3-Clause */
/* reply_status.c: extents become descriptors that keep every rule, also near 4 GiB. */
#include "tests/unit/unit.h"

#include "common/endian.h"
#include "protocol/reply_status.h"

#include <stdlib.h>
#include <string.h>

#define GIB (UINT64_C(1) << 30)

static uint8_t memory[64 * NBD_DESCRIPTOR_SIZE];

static struct reply_status begin(uint64_t offset, uint32_t length, uint16_t flags, uint64_t size,
                                 uint32_t count_max)
{
    struct request request = {
        .command = NBD_CMD_BLOCK_STATUS, .offset = offset, .length = length, .flags = flags};
    struct reply_status status;
    reply_status_init(&status, &request, size, memory, count_max);
    return status;
}

static void expect(const struct reply_status *status, uint32_t index, uint32_t length,
                   uint32_t flags)
{
    assert_true(index < status->count);
    assert_int_equal(load_be32(memory + index * NBD_DESCRIPTOR_SIZE), length);
    assert_int_equal(load_be32(memory + index * NBD_DESCRIPTOR_SIZE + 4), flags);
}

static void neighbours_with_equal_flags_become_one(void **state)
{
    (void)state;
    struct reply_status status = begin(0, 10000, 0, GIB, 64);
    assert_true(reply_status_add(&status, 1000, 0));
    assert_true(reply_status_add(&status, 2000, 0));
    assert_true(reply_status_add(&status, 3000, 3));
    assert_false(reply_status_add(&status, 4000, 0));
    assert_int_equal(status.count, 3);
    expect(&status, 0, 3000, 0);
    expect(&status, 1, 3000, 3);
    expect(&status, 2, 4000, 0);
    assert_int_equal(status.covered, 10000);
}

static void only_the_last_may_overrun_and_never_past_the_export(void **state)
{
    (void)state;
    struct reply_status status = begin(1000, 500, 0, 2000, 64);
    assert_true(reply_status_add(&status, 400, 0));
    assert_false(reply_status_add(&status, 5000, 3));
    assert_int_equal(status.count, 2);
    expect(&status, 0, 400, 0);
    expect(&status, 1, 600, 3); /* to the export's end, not the extent's */
    assert_false(reply_status_add(&status, 5000, 0));
    assert_int_equal(status.count, 2);
}

static void a_covered_request_takes_nothing_more_even_with_equal_flags(void **state)
{
    (void)state;
    struct reply_status status = begin(0, 500, 0, 2000, 64);
    assert_false(reply_status_add(&status, 500, 1));
    assert_false(reply_status_add(&status, 500, 1));
    assert_int_equal(status.count, 1);
    expect(&status, 0, 500, 1);
}

static void req_one_gives_one_descriptor_inside_the_request(void **state)
{
    (void)state;
    struct reply_status status = begin(0, 1000, NBD_CMD_FLAG_REQ_ONE, GIB, 64);
    assert_false(reply_status_add(&status, 5000, 3));
    assert_int_equal(status.count, 1);
    expect(&status, 0, 1000, 3);

    status = begin(0, 1000, NBD_CMD_FLAG_REQ_ONE, GIB, 64);
    assert_true(reply_status_add(&status, 300, 3));
    assert_true(reply_status_add(&status, 300, 3)); /* a neighbour may still make it longer */
    assert_false(reply_status_add(&status, 300, 0));
    assert_int_equal(status.count, 1);
    expect(&status, 0, 600, 3);
}

static void a_request_of_nearly_4_gib_over_a_longer_extent_is_covered_exactly(void **state)
{
    (void)state;
    struct reply_status status = begin(0, UINT32_MAX, 0, 8 * GIB, 64);
    assert_false(reply_status_add(&status, 8 * GIB, 3));
    assert_int_equal(status.count, 1);
    expect(&status, 0, UINT32_MAX, 3);

    status = begin(0, UINT32_MAX, NBD_CMD_FLAG_REQ_ONE, 8 * GIB, 64);
    assert_false(reply_status_add(&status, 8 * GIB, 3));
    expect(&status, 0, UINT32_MAX, 3);
}

static void a_length_past_32_bits_is_cut_where_it_is_aligned(void **state)
{
    (void)state;
    struct reply_status status = begin(0, 512, 0, 8 * GIB, 64);
    assert_false(reply_status_add(&status, 8 * GIB, 3));
    expect(&status, 0, 0xffff0000, 3);

    /* The same when it grows by merging. */
    status = begin(0, UINT32_MAX - 512, 0, 8 * GIB, 64);
    assert_true(reply_status_add(&status, 3 * GIB, 3));
    assert_false(reply_status_add(&status, 3 * GIB, 3));
    assert_int_equal(status.count, 1);
    expect(&status, 0, UINT32_MAX - 512, 3);

    status = begin(0, UINT32_MAX, 0, 16 * GIB, 64);
    assert_true(reply_status_add(&status, 3 * GIB, 3));
    assert_false(reply_status_add(&status, UINT64_MAX, 0));
    assert_int_equal(status.count, 2);
    expect(&status, 0, (uint32_t)(3 * GIB), 3);
    expect(&status, 1, 0xffff0000, 0);
}

static void full_memory_ends_the_reply_early_and_still_merges(void **state)
{
    (void)state;
    struct reply_status status = begin(0, 10000, 0, GIB, 2);
    assert_true(reply_status_add(&status, 100, 0));
    assert_true(reply_status_add(&status, 100, 1));
    assert_true(reply_status_add(&status, 100, 1));
    assert_false(reply_status_add(&status, 100, 0));
    assert_false(reply_status_add(&status, 100, 1)); /* it lies behind a gap now */
    assert_int_equal(status.count, 2);
    expect(&status, 1, 200, 1);
    assert_int_equal(status.covered, 300);
}

static void there_are_never_more_than_a_mebi_of_descriptors(void **state)
{
    (void)state;
    uint32_t many = NBD_DESCRIPTORS_MAX + 10;
    uint8_t *large = malloc((size_t)many * NBD_DESCRIPTOR_SIZE);
    struct request request = {.command = NBD_CMD_BLOCK_STATUS, .length = UINT32_MAX};
    struct reply_status status;
    reply_status_init(&status, &request, 8 * GIB, large, many);
    uint32_t added = 0;
    while (reply_status_add(&status, 512, added & 1))
        added++;
    assert_int_equal(added, NBD_DESCRIPTORS_MAX);
    assert_int_equal(status.count, NBD_DESCRIPTORS_MAX);
    free(large);
}

static struct reply_status begin_extended(uint64_t offset, uint64_t length, uint16_t flags,
                                          uint64_t size)
{
    struct request request = {.command = NBD_CMD_BLOCK_STATUS,
                              .offset = offset,
                              .length = length,
                              .flags = flags,
                              .headers = NBD_HEADERS_EXTENDED};
    struct reply_status status;
    assert_int_equal(reply_status_descriptor_size(&request), 16);
    memset(memory, 0xff, sizeof(memory));
    reply_status_init(&status, &request, size, memory, 32);
    return status;
}

static void expect_extended(const struct reply_status *status, uint32_t index, uint64_t length,
                            uint32_t flags)
{
    assert_true(index < status->count);
    assert_true(load_be64(memory + index * 16) == length);
    assert_int_equal(load_be32(memory + index * 16 + 8), 0);
    assert_int_equal(load_be32(memory + index * 16 + 12), flags);
}

static void extended_descriptors_have_64_bits_and_zero_padding(void **state)
{
    (void)state;
    struct reply_status status = begin_extended(0, 100 * GIB, 0, 1000 * GIB);
    assert_true(reply_status_add(&status, 5 * GIB, 0));
    assert_true(reply_status_add(&status, 6 * GIB, 0));
    assert_true(reply_status_add(&status, 7 * GIB + 1, 3));
    assert_false(reply_status_add(&status, 1000 * GIB, 0));
    assert_int_equal(status.count, 3);
    assert_int_equal(reply_status_bytes(&status), 48);
    expect_extended(&status, 0, 11 * GIB, 0);
    expect_extended(&status, 1, 7 * GIB + 1, 3);
    expect_extended(&status, 2, 1000 * GIB - 18 * GIB - 1, 0); /* to the export's end */
}

static void an_extended_request_past_4_gib_is_covered_by_one_descriptor(void **state)
{
    (void)state;
    struct reply_status status = begin_extended(512, 8 * GIB, 0, INT64_MAX);
    assert_false(reply_status_add(&status, INT64_MAX - 512, 3));
    assert_int_equal(status.count, 1);
    expect_extended(&status, 0, INT64_MAX - 512, 3);
}

static void an_extended_req_one_stays_inside_the_request(void **state)
{
    (void)state;
    struct reply_status status = begin_extended(0, 8 * GIB, NBD_CMD_FLAG_REQ_ONE, 100 * GIB);
    assert_false(reply_status_add(&status, 100 * GIB, 3));
    assert_int_equal(status.count, 1);
    expect_extended(&status, 0, 8 * GIB, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_with_equal_flags_become_one),
        cmocka_unit_test(only_the_last_may_overrun_and_never_past_the_export),
        cmocka_unit_test(a_covered_request_takes_nothing_more_even_with_equal_flags),
        cmocka_unit_test(req_one_gives_one_descriptor_inside_the_request),
        cmocka_unit_test(a_request_of_nearly_4_gib_over_a_longer_extent_is_covered_exactly),
        cmocka_unit_test(a_length_past_32_bits_is_cut_where_it_is_aligned),
        cmocka_unit_test(full_memory_ends_the_reply_early_and_still_merges),
        cmocka_unit_test(there_are_never_more_than_a_mebi_of_descriptors),
        cmocka_unit_test(extended_descriptors_have_64_bits_and_zero_padding),
        cmocka_unit_test(an_extended_request_past_4_gib_is_covered_by_one_descriptor),
        cmocka_unit_test(an_extended_req_one_stays_inside_the_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
