/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/inflate.h"

#define BLOCK_BYTES 65536

static const enum compression_method methods[] = {COMPRESSION_DEFLATE, COMPRESSION_ZSTD};

static void make_block(uint8_t *block)
{
    for (size_t i = 0; i < BLOCK_BYTES; i++)
        block[i] = (uint8_t)(i / 7 % 50 * (i / 5000));
}

static void what_was_compressed_comes_back(void **state)
{
    static uint8_t block[BLOCK_BYTES], packed[BLOCK_BYTES], again[BLOCK_BYTES];
    (void)state;
    make_block(block);
    for (size_t m = 0; m < 2; m++) {
        size_t length;
        assert_int_equal(
            deflate_bytes(methods[m], block, BLOCK_BYTES, packed, sizeof(packed), &length), 0);
        assert_true(length < BLOCK_BYTES / 2);
        memset(packed + length, 0xff, 600); /* rubbish behind it does not matter */
        memset(again, 0, sizeof(again));
        assert_int_equal(inflate_bytes(methods[m], packed, length + 600, again, BLOCK_BYTES), 0);
        assert_memory_equal(again, block, BLOCK_BYTES);
    }
}

static void a_block_of_another_length_is_an_error(void **state)
{
    static uint8_t block[BLOCK_BYTES], packed[BLOCK_BYTES], again[BLOCK_BYTES + 1];
    (void)state;
    make_block(block);
    for (size_t m = 0; m < 2; m++) {
        size_t length;
        assert_int_equal(
            deflate_bytes(methods[m], block, BLOCK_BYTES, packed, sizeof(packed), &length), 0);
        assert_int_equal(inflate_bytes(methods[m], packed, length, again, BLOCK_BYTES + 1), -EIO);
        assert_int_equal(inflate_bytes(methods[m], packed, length / 2, again, BLOCK_BYTES), -EIO);
        assert_int_equal(inflate_bytes(methods[m], packed, 0, again, BLOCK_BYTES), -EIO);
    }
}

static void what_is_no_compressed_data_is_an_error(void **state)
{
    static uint8_t rubbish[4096], again[BLOCK_BYTES];
    (void)state;
    memset(rubbish, 0xff, sizeof(rubbish));
    for (size_t m = 0; m < 2; m++)
        assert_int_equal(inflate_bytes(methods[m], rubbish, sizeof(rubbish), again, BLOCK_BYTES),
                         -EIO);
}

static void what_does_not_get_smaller_does_not_fit(void **state)
{
    uint8_t block[512], packed[512];
    size_t length = 7;
    uint32_t random = 1;
    (void)state;
    for (size_t i = 0; i < sizeof(block); i++) {
        random = random * 1664525 + 1013904223;
        block[i] = (uint8_t)(random >> 24);
    }
    for (size_t m = 0; m < 2; m++) {
        assert_int_equal(
            deflate_bytes(methods[m], block, sizeof(block), packed, sizeof(packed) - 1, &length),
            -ENOSPC);
        assert_int_equal(length, 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_compressed_comes_back),
        cmocka_unit_test(a_block_of_another_length_is_an_error),
        cmocka_unit_test(what_is_no_compressed_data_is_an_error),
        cmocka_unit_test(what_does_not_get_smaller_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
