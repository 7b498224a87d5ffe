/* SPDX-License-Identifier: BSD-3-Clause */
/* reply_simple.c, reply_chunk.c, reply_answer.c: the bytes, and which kind of reply is chosen. */
#include "tests/unit/unit.h"

#include "protocol/reader.h"
#include "protocol/reply_answer.h"
#include "protocol/reply_simple.h"

#include <string.h>

#define COOKIE UINT64_C(0x1122334455667788)
#define OFFSET UINT64_C(0x99aabbccddeeff00)

static const struct request structured = {
    .cookie = COOKIE, .offset = OFFSET, .headers = NBD_HEADERS_STRUCTURED};
static const struct request extended = {
    .cookie = COOKIE, .offset = OFFSET, .headers = NBD_HEADERS_EXTENDED};

/* Reads the header of a chunk and checks it against the bytes that were filled. */
static struct reader expect_chunk(const uint8_t *bytes, size_t filled, bool done, uint16_t type,
                                  uint32_t length)
{
    struct reader reader;
    reader_init(&reader, bytes, filled);
    assert_int_equal(reader_be32(&reader), NBD_STRUCTURED_REPLY_MAGIC);
    assert_int_equal(reader_be16(&reader), done ? NBD_REPLY_FLAG_DONE : 0);
    assert_int_equal(reader_be16(&reader), type);
    assert_true(reader_be64(&reader) == COOKIE);
    assert_int_equal(reader_be32(&reader), length);
    assert_false(reader.failed);
    return reader;
}

static void a_simple_reply_is_16_bytes_with_the_cookie_untouched(void **state)
{
    (void)state;
    uint8_t bytes[NBD_SIMPLE_REPLY_SIZE];
    assert_int_equal(reply_simple(bytes, COOKIE, NBD_ENOSPC), 16);
    assert_memory_equal(bytes, "\x67\x44\x66\x98\0\0\0\x1c\x11\x22\x33\x44\x55\x66\x77\x88", 16);
}

static void each_chunk_has_its_layout_and_its_done_flag(void **state)
{
    (void)state;
    uint8_t bytes[REPLY_CHUNK_MAX];
    for (int done = 0; done < 2; done++) {
        size_t filled = reply_chunk_offset_data(bytes, &structured, done, 7, 512);
        assert_int_equal(filled, NBD_CHUNK_SIZE + 8);
        struct reader reader =
            expect_chunk(bytes, filled, done, NBD_REPLY_TYPE_OFFSET_DATA, 8 + 512);
        assert_int_equal(reader_be64(&reader), 7);
        assert_true(reader_is_exhausted(&reader));

        filled = reply_chunk_offset_hole(bytes, &structured, done, 9, 1024);
        assert_int_equal(filled, NBD_CHUNK_SIZE + 12);
        reader = expect_chunk(bytes, filled, done, NBD_REPLY_TYPE_OFFSET_HOLE, 12);
        assert_int_equal(reader_be64(&reader), 9);
        assert_int_equal(reader_be32(&reader), 1024);
        assert_true(reader_is_exhausted(&reader));

        filled = reply_chunk_block_status(bytes, &structured, done, 5, 3);
        assert_int_equal(filled, NBD_CHUNK_SIZE + 4);
        reader = expect_chunk(bytes, filled, done, NBD_REPLY_TYPE_BLOCK_STATUS, 4 + 3 * 8);
        assert_int_equal(reader_be32(&reader), 5);
        assert_true(reader_is_exhausted(&reader));
    }
    assert_int_equal(reply_chunk_none(bytes, &structured), NBD_CHUNK_SIZE);
    expect_chunk(bytes, NBD_CHUNK_SIZE, true, NBD_REPLY_TYPE_NONE, 0);
}

static void the_largest_status_chunk_is_4_bytes_and_a_mebi_of_descriptors(void **state)
{
    (void)state;
    uint8_t bytes[REPLY_CHUNK_MAX];
    size_t filled = reply_chunk_block_status(bytes, &structured, true, 1, NBD_DESCRIPTORS_MAX);
    expect_chunk(bytes, filled, true, NBD_REPLY_TYPE_BLOCK_STATUS, 8388612);
}

static void an_error_chunk_carries_its_text_and_the_offset_comes_after_it(void **state)
{
    (void)state;
    uint8_t bytes[REPLY_CHUNK_MAX];
    size_t filled = reply_chunk_error(bytes, &structured, true, NBD_EIO, "lost");
    assert_int_equal(filled, NBD_CHUNK_SIZE + 6 + 4);
    struct reader reader = expect_chunk(bytes, filled, true, NBD_REPLY_TYPE_ERROR, 10);
    assert_int_equal(reader_be32(&reader), NBD_EIO);
    assert_int_equal(reader_be16(&reader), 4);
    assert_memory_equal(reader_bytes(&reader, 4), "lost", 4);
    assert_true(reader_is_exhausted(&reader));

    filled = reply_chunk_error_offset(bytes, &structured, false, NBD_EIO, "lost", 77);
    reader = expect_chunk(bytes, filled, false, NBD_REPLY_TYPE_ERROR_OFFSET, 18);
    assert_int_equal(reader_be32(&reader), NBD_EIO);
    assert_int_equal(reader_be16(&reader), 4);
    assert_memory_equal(reader_bytes(&reader, 4), "lost", 4);
    assert_int_equal(reader_be64(&reader), 77);
    assert_true(reader_is_exhausted(&reader));
}

static void a_missing_text_is_empty_and_a_long_one_is_cut(void **state)
{
    (void)state;
    uint8_t bytes[REPLY_CHUNK_MAX];
    size_t filled = reply_chunk_error(bytes, &structured, true, NBD_EIO, NULL);
    expect_chunk(bytes, filled, true, NBD_REPLY_TYPE_ERROR, 6);
    assert_int_equal(filled, NBD_CHUNK_SIZE + 6);

    char text[2 * REPLY_CHUNK_TEXT_MAX];
    memset(text, 't', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    filled = reply_chunk_error(bytes, &structured, true, NBD_EIO, text);
    assert_int_equal(filled, NBD_CHUNK_SIZE + 6 + REPLY_CHUNK_TEXT_MAX);
    expect_chunk(bytes, filled, true, NBD_REPLY_TYPE_ERROR, 6 + REPLY_CHUNK_TEXT_MAX);
    filled = reply_chunk_error_offset(bytes, &structured, true, NBD_EIO, text, 1);
    assert_int_equal(filled, NBD_CHUNK_SIZE + 14 + REPLY_CHUNK_TEXT_MAX);
}

static size_t answer(uint8_t *to, uint16_t command, enum nbd_headers headers, uint32_t error)
{
    struct request request = {
        .command = command, .cookie = COOKIE, .offset = OFFSET, .headers = headers};
    return reply_answer(to, &request, error, error ? "why" : NULL);
}

static void without_structured_replies_every_answer_is_simple(void **state)
{
    (void)state;
    uint8_t bytes[REPLY_ANSWER_MAX], simple[NBD_SIMPLE_REPLY_SIZE];
    for (uint16_t command = 0; command < 9; command++)
        for (uint32_t error = 0; error < 2; error++) {
            reply_simple(simple, COOKIE, error);
            assert_int_equal(answer(bytes, command, NBD_HEADERS_SIMPLE, error),
                             NBD_SIMPLE_REPLY_SIZE);
            assert_memory_equal(bytes, simple, NBD_SIMPLE_REPLY_SIZE);
        }
}

static void with_structured_replies_every_error_is_a_chunk_with_its_text(void **state)
{
    (void)state;
    uint8_t bytes[REPLY_ANSWER_MAX];
    for (uint16_t command = 0; command < 9; command++) {
        size_t filled = answer(bytes, command, NBD_HEADERS_STRUCTURED, NBD_EINVAL);
        expect_chunk(bytes, filled, true, NBD_REPLY_TYPE_ERROR, 6 + 3);
    }
}

static void with_structured_replies_success_is_a_chunk_for_read_and_simple_for_others(void **state)
{
    (void)state;
    uint8_t bytes[REPLY_ANSWER_MAX], simple[NBD_SIMPLE_REPLY_SIZE];
    size_t filled = answer(bytes, NBD_CMD_READ, NBD_HEADERS_STRUCTURED, NBD_SUCCESS);
    expect_chunk(bytes, filled, true, NBD_REPLY_TYPE_NONE, 0);
    reply_simple(simple, COOKIE, NBD_SUCCESS);
    assert_int_equal(answer(bytes, NBD_CMD_WRITE, NBD_HEADERS_STRUCTURED, NBD_SUCCESS),
                     NBD_SIMPLE_REPLY_SIZE);
    assert_memory_equal(bytes, simple, NBD_SIMPLE_REPLY_SIZE);
}

static struct reader expect_extended(const uint8_t *bytes, size_t filled, bool done, uint16_t type,
                                     uint64_t length)
{
    struct reader reader;
    reader_init(&reader, bytes, filled);
    assert_int_equal(reader_be32(&reader), NBD_EXTENDED_REPLY_MAGIC);
    assert_int_equal(reader_be16(&reader), done ? NBD_REPLY_FLAG_DONE : 0);
    assert_int_equal(reader_be16(&reader), type);
    assert_true(reader_be64(&reader) == COOKIE);
    assert_true(reader_be64(&reader) == OFFSET);
    assert_true(reader_be64(&reader) == length);
    assert_false(reader.failed);
    return reader;
}

static void an_extended_chunk_has_32_bytes_with_the_requests_own_offset(void **state)
{
    (void)state;
    uint8_t bytes[REPLY_CHUNK_MAX];
    for (int done = 0; done < 2; done++) {
        size_t filled = reply_chunk_offset_data(bytes, &extended, done, 7, 512);
        assert_int_equal(filled, REPLY_CHUNK_OFFSET_DATA_MAX);
        struct reader reader =
            expect_extended(bytes, filled, done, NBD_REPLY_TYPE_OFFSET_DATA, 8 + 512);
        assert_int_equal(reader_be64(&reader), 7);
        assert_true(reader_is_exhausted(&reader));

        filled = reply_chunk_offset_hole(bytes, &extended, done, 9, 1024);
        assert_int_equal(filled, REPLY_CHUNK_OFFSET_HOLE_MAX);
        reader = expect_extended(bytes, filled, done, NBD_REPLY_TYPE_OFFSET_HOLE, 12);
        assert_int_equal(reader_be64(&reader), 9);
        assert_int_equal(reader_be32(&reader), 1024);
        assert_true(reader_is_exhausted(&reader));
    }
    size_t filled = reply_chunk_none(bytes, &extended);
    assert_int_equal(filled, NBD_EXTENDED_CHUNK_SIZE);
    expect_extended(bytes, filled, true, NBD_REPLY_TYPE_NONE, 0);
}

static void an_extended_status_chunk_counts_its_descriptors_of_16_bytes(void **state)
{
    (void)state;
    uint8_t bytes[REPLY_CHUNK_MAX];
    static const uint32_t counts[] = {1, 3, NBD_DESCRIPTORS_MAX};
    for (size_t i = 0; i < 3; i++) {
        size_t filled = reply_chunk_block_status(bytes, &extended, true, 5, counts[i]);
        assert_int_equal(filled, REPLY_CHUNK_BLOCK_STATUS_MAX);
        struct reader reader = expect_extended(bytes, filled, true, NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
                                               8 + UINT64_C(16) * counts[i]);
        assert_int_equal(reader_be32(&reader), 5);
        assert_int_equal(reader_be32(&reader), counts[i]);
        assert_true(reader_is_exhausted(&reader));
    }
}

static void extended_errors_carry_text_and_offset(void **state)
{
    (void)state;
    uint8_t bytes[REPLY_CHUNK_MAX];
    size_t filled = reply_chunk_error(bytes, &extended, true, NBD_EIO, "lost");
    struct reader reader = expect_extended(bytes, filled, true, NBD_REPLY_TYPE_ERROR, 10);
    assert_int_equal(reader_be32(&reader), NBD_EIO);
    assert_int_equal(reader_be16(&reader), 4);
    assert_memory_equal(reader_bytes(&reader, 4), "lost", 4);
    assert_true(reader_is_exhausted(&reader));

    char text[2 * REPLY_CHUNK_TEXT_MAX];
    memset(text, 't', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    assert_int_equal(reply_chunk_error(bytes, &extended, true, NBD_EIO, text),
                     REPLY_CHUNK_ERROR_MAX);
    filled = reply_chunk_error_offset(bytes, &extended, false, NBD_EIO, text, 77);
    assert_int_equal(filled, REPLY_CHUNK_ERROR_OFFSET_MAX);
    reader = expect_extended(bytes, filled, false, NBD_REPLY_TYPE_ERROR_OFFSET,
                             14 + REPLY_CHUNK_TEXT_MAX);
    reader_bytes(&reader, 6 + REPLY_CHUNK_TEXT_MAX);
    assert_int_equal(reader_be64(&reader), 77);
    assert_true(reader_is_exhausted(&reader));
}

static void with_extended_headers_every_answer_is_a_chunk(void **state)
{
    (void)state;
    uint8_t bytes[REPLY_ANSWER_MAX];
    for (uint16_t command = 0; command < 9; command++) {
        size_t filled = answer(bytes, command, NBD_HEADERS_EXTENDED, NBD_EINVAL);
        expect_extended(bytes, filled, true, NBD_REPLY_TYPE_ERROR, 6 + 3);
        if (command == NBD_CMD_BLOCK_STATUS)
            continue; /* its success has descriptors */
        filled = answer(bytes, command, NBD_HEADERS_EXTENDED, NBD_SUCCESS);
        expect_extended(bytes, filled, true, NBD_REPLY_TYPE_NONE, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_simple_reply_is_16_bytes_with_the_cookie_untouched),
        cmocka_unit_test(each_chunk_has_its_layout_and_its_done_flag),
        cmocka_unit_test(the_largest_status_chunk_is_4_bytes_and_a_mebi_of_descriptors),
        cmocka_unit_test(an_error_chunk_carries_its_text_and_the_offset_comes_after_it),
        cmocka_unit_test(a_missing_text_is_empty_and_a_long_one_is_cut),
        cmocka_unit_test(without_structured_replies_every_answer_is_simple),
        cmocka_unit_test(with_structured_replies_every_error_is_a_chunk_with_its_text),
        cmocka_unit_test(with_structured_replies_success_is_a_chunk_for_read_and_simple_for_others),
        cmocka_unit_test(an_extended_chunk_has_32_bytes_with_the_requests_own_offset),
        cmocka_unit_test(an_extended_status_chunk_counts_its_descriptors_of_16_bytes),
        cmocka_unit_test(extended_errors_carry_text_and_offset),
        cmocka_unit_test(with_extended_headers_every_answer_is_a_chunk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
