/* SPDX-License-Identifier: BSD-3-Clause */
/* align.h, checked.h and endian.h: the edges where a careless sum would wrap. */
#include "tests/unit/unit.h"

#include "common/align.h"
#include "common/checked.h"
#include "common/endian.h"

static void aligning_keeps_multiples_and_moves_the_rest(void **state)
{
    (void)state;
    assert_int_equal(smaller(1, UINT64_MAX), 1);
    assert_int_equal(smaller(UINT64_MAX, 2), 2);
    assert_int_equal(align_down(4097, 4096), 4096);
    assert_int_equal(align_up(4097, 4096), 8192);
    assert_int_equal(align_up(4096, 4096), 4096);
    assert_int_equal(align_up(0, 512), 0);
    assert_true(is_aligned(UINT64_MAX - 511, 512));
    assert_false(is_power_of_two(0));
    assert_false(is_power_of_two(12));
}

static void a_range_that_wraps_is_not_inside(void **state)
{
    (void)state;
    assert_true(range_is_inside(0, 0, 0));
    assert_true(range_is_inside(10, 5, 15));
    assert_true(range_is_inside(15, 0, 15));
    assert_false(range_is_inside(10, 6, 15));
    assert_false(range_is_inside(16, 0, 15));
    assert_false(range_is_inside(UINT64_MAX, 2, UINT64_MAX));
    assert_false(range_is_inside(2, UINT64_MAX, UINT64_MAX));
}

static void overlap_needs_a_shared_byte(void **state)
{
    (void)state;
    assert_true(ranges_overlap(0, 10, 9, 1));
    assert_true(ranges_overlap(5, 1, 0, 10));
    assert_false(ranges_overlap(0, 10, 10, 1));
    assert_false(ranges_overlap(0, 10, 5, 0));
}

static void checked_sums_say_when_they_wrap(void **state)
{
    (void)state;
    uint64_t result;
    assert_true(checked_add(UINT64_MAX - 1, 1, &result));
    assert_int_equal(result, UINT64_MAX);
    assert_false(checked_add(UINT64_MAX, 1, &result));
    assert_false(checked_multiply(UINT64_C(1) << 32, UINT64_C(1) << 32, &result));
}

static void accessors_work_at_odd_addresses(void **state)
{
    (void)state;
    uint8_t bytes[16];
    store_be64(bytes + 1, UINT64_C(0x0102030405060708));
    assert_int_equal(bytes[1], 1);
    assert_int_equal(bytes[8], 8);
    assert_int_equal(load_be32(bytes + 3), 0x03040506);
    assert_int_equal(load_le16(bytes + 3), 0x0403);
    store_le32(bytes + 5, 0xaabbccdd);
    assert_int_equal(bytes[5], 0xdd);
    assert_int_equal(load_le64(bytes + 1) & 0xff, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aligning_keeps_multiples_and_moves_the_rest),
        cmocka_unit_test(a_range_that_wraps_is_not_inside),
        cmocka_unit_test(overlap_needs_a_shared_byte),
        cmocka_unit_test(checked_sums_say_when_they_wrap),
        cmocka_unit_test(accessors_work_at_odd_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
