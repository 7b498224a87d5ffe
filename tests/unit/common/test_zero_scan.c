/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "common/zero_scan.h"

#define LENGTH_MAX 600

/* Exactly as much memory as is to be read, so that a sanitizer sees a byte too many. */
static unsigned char *new_zeroes(size_t length)
{
    unsigned char *data = calloc(1, length > 0 ? length : 1);
    assert_non_null(data);
    return data;
}

static void zeroes_of_every_length_and_alignment_are_zero(void **state)
{
    (void)state;
    for (size_t skip = 0; skip < 33; skip++) {
        for (size_t length = 0; length <= LENGTH_MAX; length++) {
            unsigned char *data = new_zeroes(skip + length);
            memset(data, 255, skip);
            assert_true(zero_scan(data + skip, length));
            free(data);
        }
    }
}

static void one_bit_anywhere_is_found(void **state)
{
    (void)state;
    for (size_t length = 1; length <= LENGTH_MAX; length += 1 + length / 100) {
        unsigned char *data = new_zeroes(length);
        for (size_t at = 0; at < length; at++) {
            data[at] = (unsigned char)(1u << at % 8);
            assert_false(zero_scan(data, length));
            data[at] = 0;
        }
        assert_true(zero_scan(data, length));
        free(data);
    }
}

static void bytes_around_the_range_do_not_count(void **state)
{
    (void)state;
    unsigned char data[LENGTH_MAX];
    for (size_t from = 1; from < 20; from++) {
        for (size_t to = from; to < LENGTH_MAX; to++) {
            memset(data, 255, sizeof(data));
            memset(data + from, 0, to - from);
            assert_true(zero_scan(data + from, to - from));
            assert_false(zero_scan(data + from - 1, to - from + 1));
            assert_false(zero_scan(data + from, to - from + 1));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroes_of_every_length_and_alignment_are_zero),
        cmocka_unit_test(one_bit_anywhere_is_found),
        cmocka_unit_test(bytes_around_the_range_do_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
