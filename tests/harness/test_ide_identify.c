/* SPDX-License-Identifier: BSD-3-Clause */
/* ide_identify.c: the words that guests look at, by number. */
#include "tests/unit/unit.h"

#include "common/endian.h"
#include "tests/harness/ide_identify.h"

static uint8_t bytes[512];

static unsigned word(unsigned number)
{
    return load_le16(bytes + 2 * number);
}

static void identify(uint64_t sector_count, const struct ide_settings *settings)
{
    struct ide_identity identity = {.serial = "S1",
                                    .firmware = "12345678",
                                    .model = "A MODEL",
                                    .sector_count = sector_count,
                                    .settings = settings};
    memset(bytes, 0xee, sizeof(bytes));
    ide_identify_disk(&identity, bytes);
}

static const struct ide_settings plain = {.write_cache = true,
                                          .geometry = {.cylinders = 10, .heads = 4, .sectors = 20}};

static void capacity_is_told_in_28_and_in_48_bits(void **state)
{
    (void)state;
    identify(123456, &plain);
    assert_int_equal(load_le32(bytes + 120), 123456);
    assert_int_equal(load_le64(bytes + 200), 123456);
    identify(UINT64_C(0x123456789a), &plain); /* more than 28 bits have */
    assert_int_equal(load_le32(bytes + 120), 0x0fffffff);
    assert_int_equal(load_le64(bytes + 200), UINT64_C(0x123456789a));
    assert_int_equal(word(49) & 0x300, 0x300); /* LBA, DMA */
    assert_int_equal(word(83) & 0xc400, 0x4400);
    assert_int_equal(word(86) & 0x0400, 0x0400);
}

static void geometry_is_told_as_it_is_built_and_as_it_is_set(void **state)
{
    (void)state;
    identify(UINT64_C(1008) * 500, &plain);
    assert_int_equal(word(1), 500);
    assert_int_equal(word(3), 16);
    assert_int_equal(word(6), 63);
    assert_int_equal(word(53) & 1, 1);
    assert_int_equal(word(54), 10);
    assert_int_equal(word(55), 4);
    assert_int_equal(word(56), 20);
    assert_int_equal(load_le32(bytes + 114), 800);
}

static void texts_have_their_bytes_swapped_and_are_padded(void **state)
{
    (void)state;
    identify(1, &plain);
    assert_memory_equal(bytes + 20, "1S                  ", 20);
    assert_memory_equal(bytes + 46, "21436587", 8);
    assert_memory_equal(bytes + 54, " AOMED L                                ", 40);
}

static void modes_and_caches_are_told_as_they_are_set(void **state)
{
    struct ide_settings settings = plain;
    (void)state;
    identify(1, &settings);
    assert_int_equal(word(82) & 0x60, 0x60);
    assert_int_equal(word(85) & 0x60, 0x20);
    assert_int_equal(word(59), 0);
    assert_int_equal(word(63), 0x0007);
    assert_int_equal(word(88), 0x003f);
    settings = (struct ide_settings){
        .look_ahead = true, .multiple = 8, .ultra_dma_modes = 4, .geometry = plain.geometry};
    identify(1, &settings);
    assert_int_equal(word(85) & 0x60, 0x40);
    assert_int_equal(word(47), 0x8010);
    assert_int_equal(word(59), 0x0108);
    assert_int_equal(word(88), 0x043f);
    assert_int_equal(word(53) & 6, 6);
}

static void flush_fua_and_trim_are_told(void **state)
{
    (void)state;
    identify(1, &plain);
    assert_int_equal(word(83) & 0x3000, 0x3000);
    assert_int_equal(word(84) & 0xc040, 0x4040);
    assert_int_equal(word(169), 1);
    assert_int_equal(word(69), 0); /* trimmed sectors are not said to read as zeroes */
    assert_int_equal(word(105), IDE_TRIM_BLOCKS_MAX);
    assert_true(word(80) & 1 << 7); /* Linux wants ATA-7 before it looks at word 169 */
}

static void all_bytes_together_are_zero(void **state)
{
    uint8_t sum = 0;
    (void)state;
    identify(987654321, &plain);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        sum = (uint8_t)(sum + bytes[i]);
    assert_int_equal(sum, 0);
    assert_int_equal(bytes[510], 0xa5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(capacity_is_told_in_28_and_in_48_bits),
        cmocka_unit_test(geometry_is_told_as_it_is_built_and_as_it_is_set),
        cmocka_unit_test(texts_have_their_bytes_swapped_and_are_padded),
        cmocka_unit_test(modes_and_caches_are_told_as_they_are_set),
        cmocka_unit_test(flush_fua_and_trim_are_told),
        cmocka_unit_test(all_bytes_together_are_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
