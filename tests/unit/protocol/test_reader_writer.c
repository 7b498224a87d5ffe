/* SPDX-License-Identifier: BSD-3-Clause */
/* reader.c and writer.c: network order, never past the end, and a failure that sticks. */
#include "tests/unit/unit.h"

#include "protocol/reader.h"
#include "protocol/writer.h"

#include <string.h>

static void what_is_written_is_read_back_in_network_order(void **state)
{
    (void)state;
    struct writer writer;
    writer_init(&writer, 64);
    writer_be16(&writer, 0x0102);
    writer_be32(&writer, 0x03040506);
    writer_be64(&writer, UINT64_C(0x0708090a0b0c0d0e));
    writer_bytes(&writer, "xyz", 3);
    writer_zeroes(&writer, 2);
    assert_false(writer.failed);
    assert_memory_equal(writer.data, "\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xexyz\0\0", 19);

    struct reader reader;
    reader_init(&reader, writer.data, writer.length);
    assert_int_equal(reader_be16(&reader), 0x0102);
    assert_int_equal(reader_be32(&reader), 0x03040506);
    assert_true(reader_be64(&reader) == UINT64_C(0x0708090a0b0c0d0e));
    assert_memory_equal(reader_bytes(&reader, 5), "xyz\0\0", 5);
    assert_true(reader_is_exhausted(&reader));
    writer_fini(&writer);
}

static void a_field_past_the_end_fails_and_the_failure_sticks(void **state)
{
    (void)state;
    struct reader reader;
    reader_init(&reader, "\1\2\3", 3);
    assert_int_equal(reader_be32(&reader), 0);
    assert_true(reader.failed);
    assert_int_equal(reader_be16(&reader), 0);
    assert_null(reader_bytes(&reader, 0));
    assert_false(reader_is_exhausted(&reader));
}

static void a_giant_length_is_only_a_failure(void **state)
{
    (void)state;
    struct reader reader;
    reader_init(&reader, "abc", 3);
    assert_null(reader_bytes(&reader, SIZE_MAX));
    assert_true(reader.failed);
}

static void an_empty_input_has_empty_bytes(void **state)
{
    (void)state;
    struct reader reader;
    reader_init(&reader, NULL, 0);
    assert_non_null(reader_bytes(&reader, 0));
    assert_true(reader_is_exhausted(&reader));
}

static void the_writer_fills_its_bound_and_not_a_byte_more(void **state)
{
    (void)state;
    struct writer writer;
    writer_init(&writer, 1001);
    writer_zeroes(&writer, 999);
    writer_be16(&writer, 1);
    assert_false(writer.failed);
    assert_int_equal(writer.length, 1001);
    writer_bytes(&writer, "x", 1);
    assert_true(writer.failed);
    assert_int_equal(writer.length, 1001);
    assert_true(writer.capacity <= 1001);
    writer_fini(&writer);
}

static void a_field_that_does_not_fit_is_not_begun_and_the_failure_sticks(void **state)
{
    (void)state;
    struct writer writer;
    writer_init(&writer, 10);
    writer_be64(&writer, 1);
    writer_be32(&writer, 2);
    assert_true(writer.failed);
    assert_int_equal(writer.length, 8);
    writer_be16(&writer, 3); /* it would fit, but comes after one that did not */
    assert_int_equal(writer.length, 8);
    writer_truncate(&writer, 4);
    assert_false(writer.failed);
    writer_be16(&writer, 3);
    assert_int_equal(writer.length, 6);
    writer_fini(&writer);
}

static void what_was_sent_is_taken_from_the_front(void **state)
{
    (void)state;
    struct writer writer;
    writer_init(&writer, 16);
    writer_bytes(&writer, "abcdef", 6);
    writer_consume(&writer, 2);
    assert_int_equal(writer.length, 4);
    assert_memory_equal(writer.data, "cdef", 4);
    writer_consume(&writer, 4);
    assert_int_equal(writer.length, 0);
    writer_fini(&writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back_in_network_order),
        cmocka_unit_test(a_field_past_the_end_fails_and_the_failure_sticks),
        cmocka_unit_test(a_giant_length_is_only_a_failure),
        cmocka_unit_test(an_empty_input_has_empty_bytes),
        cmocka_unit_test(the_writer_fills_its_bound_and_not_a_byte_more),
        cmocka_unit_test(a_field_that_does_not_fit_is_not_begun_and_the_failure_sticks),
        cmocka_unit_test(what_was_sent_is_taken_from_the_front),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
