/* SPDX-License-Identifier: BSD-3-Clause */
/* header.c: the header's bytes, what is refused of them, and the probe. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "formats/gow1/header.h"

#define FILE_BYTES (GOW1_BLOCKS_OFFSET + 10 * GOW1_BLOCK_BYTES)

static const uint8_t example[GOW1_HEADER_BYTES] = {'G',  'O', 'W',  '1',  0x10, 0x32,
                                                   0x04, 0,   0x78, 0x56, 0x02, 0};

static void the_fields_are_little_endian(void **state)
{
    struct gow1_header header;
    uint8_t bytes[GOW1_HEADER_BYTES];
    (void)state;
    gow1_header_decode(example, &header);
    assert_int_equal(header.magic, 0x31574f47);
    assert_int_equal(header.size, 0x43210);
    assert_int_equal(header.allocated, 0x25678);
    gow1_header_encode(&header, bytes);
    assert_memory_equal(bytes, example, sizeof(bytes));
}

static void the_places_are_those_of_the_description(void **state)
{
    (void)state;
    assert_int_equal(gow1_entry_offset(0), 12);
    assert_int_equal(gow1_entry_offset(1000), 4012);
    assert_int_equal(gow1_block_offset(0), 12 + (4 << 20));
    assert_int_equal(gow1_block_offset(2), 12 + (4 << 20) + 131072);
    assert_int_equal(gow1_file_blocks(0), 0);
    assert_int_equal(gow1_file_blocks(GOW1_BLOCKS_OFFSET), 0);
    assert_int_equal(gow1_file_blocks(GOW1_BLOCKS_OFFSET + 1), 1);
    assert_int_equal(gow1_file_blocks(GOW1_BLOCKS_OFFSET + 65536), 1);
    assert_int_equal(gow1_file_blocks(GOW1_BLOCKS_OFFSET + 65537), 2);
    assert_int_equal(gow1_file_blocks(UINT64_MAX), GOW1_BLOCKS_MAX);
}

static void refuse(struct gow1_header header, uint32_t magic, uint64_t file_bytes, const char *why)
{
    struct error err;
    assert_int_equal(gow1_header_check(&header, magic, file_bytes, &err), -EINVAL);
    if (!strstr(err.message, why))
        fail_msg("'%s' does not say '%s'", err.message, why);
}

static void what_makes_no_sense_is_refused_with_its_value(void **state)
{
    struct error err;
    struct gow1_header good = {.magic = GOW1_MAGIC, .size = 10, .allocated = 10};
    struct gow1_header header = good;
    (void)state;
    assert_int_equal(gow1_header_check(&good, GOW1_MAGIC, FILE_BYTES, &err), 0);
    assert_int_equal(gow1_header_check_allocated(&good, &err), 0);
    refuse(good, 0x1234, FILE_BYTES, "its magic is 0x31574f47, not 0x00001234");
    refuse(good, GOW1_MAGIC, GOW1_BLOCKS_OFFSET - 1, "truncated: it has 4194315 bytes");
    header.size = 0;
    refuse(header, GOW1_MAGIC, FILE_BYTES, "its size is 0");
    header.size = 1048577;
    refuse(header, GOW1_MAGIC, FILE_BYTES, "its size is 1048577 blocks");
    header.size = 1048576;
    assert_int_equal(gow1_header_check(&header, GOW1_MAGIC, FILE_BYTES, &err), 0);
    header = good;
    header.allocated = 11;
    assert_int_equal(gow1_header_check_allocated(&header, &err), -EINVAL);
    assert_non_null(strstr(err.message, "its allocated is 11, more than its size of 10"));
}

static int probe_with(unsigned at, uint8_t byte)
{
    uint8_t bytes[GOW1_HEADER_BYTES];
    memcpy(bytes, example, sizeof(bytes));
    bytes[at] = byte;
    return gow1_probe(bytes, sizeof(bytes));
}

static void a_probe_wants_numbers_that_make_sense(void **state)
{
    (void)state;
    assert_int_equal(gow1_probe(example, sizeof(example)), 100);
    assert_int_equal(gow1_probe(example, sizeof(example) - 1), 0);
    assert_int_equal(probe_with(0, 'g'), 0);
    assert_int_equal(probe_with(6, 0x20), 0); /* size above the limit */
    assert_int_equal(probe_with(10, 5), 0);   /* allocated above size */
    const uint8_t empty[GOW1_HEADER_BYTES] = {'G', 'O', 'W', '1'};
    assert_int_equal(gow1_probe(empty, sizeof(empty)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fields_are_little_endian),
        cmocka_unit_test(the_places_are_those_of_the_description),
        cmocka_unit_test(what_makes_no_sense_is_refused_with_its_value),
        cmocka_unit_test(a_probe_wants_numbers_that_make_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
