/* SPDX-License-Identifier: BSD-3-Clause */
/* ide_address.c: which sectors a task file names. */
#include "tests/unit/unit.h"

#include "tests/harness/ide_address.h"

static const struct ide_geometry geometry = {.cylinders = 100, .heads = 16, .sectors = 63};

static struct ide_range range_of(const struct ide_registers *registers, bool is_ext)
{
    struct ide_range range;
    assert_true(ide_address_decode(registers, &geometry, is_ext, &range));
    return range;
}

static void a_disk_is_as_many_cylinders_as_it_has_and_no_more_than_16383(void **state)
{
    (void)state;
    struct ide_geometry small = ide_geometry_default(UINT64_C(1000) * 16 * 63 + 17);
    assert_int_equal(small.cylinders, 1000);
    assert_int_equal(small.heads, 16);
    assert_int_equal(small.sectors, 63);
    assert_int_equal(ide_geometry_default(UINT64_C(1) << 40).cylinders, 16383);
    assert_int_equal(ide_geometry_translate(2000, 4, 10).cylinders, 50);
}

static void lba28_takes_four_bits_of_the_device_register(void **state)
{
    (void)state;
    struct ide_registers registers = {.lba_low = {0x12, 0xee},
                                      .lba_mid = {0x34, 0xee},
                                      .lba_high = {0x56, 0xee},
                                      .device = IDE_DEVICE_LBA | 0x0a,
                                      .count = {3, 0xee}};
    struct ide_range range = range_of(&registers, false);
    assert_int_equal(range.lba, 0x0a563412);
    assert_int_equal(range.count, 3);
}

static void lba48_takes_what_was_written_before_as_the_high_bytes(void **state)
{
    (void)state;
    struct ide_registers registers = {.lba_low = {0x12, 0x78},
                                      .lba_mid = {0x34, 0x9a},
                                      .lba_high = {0x56, 0xbc},
                                      .device = IDE_DEVICE_LBA | 0x0f,
                                      .count = {0x03, 0x01}};
    struct ide_range range = range_of(&registers, true);
    assert_int_equal(range.lba, 0xbc9a78563412);
    assert_int_equal(range.count, 0x0103);
}

static void a_count_of_0_is_256_or_65536(void **state)
{
    (void)state;
    struct ide_registers registers = {.device = IDE_DEVICE_LBA, .count = {0, 1}};
    assert_int_equal(range_of(&registers, false).count, 256);
    registers.count[1] = 0;
    assert_int_equal(range_of(&registers, true).count, 65536);
}

static void cylinder_head_and_sector_count_from_0_0_1(void **state)
{
    (void)state;
    struct ide_registers registers = {.lba_low = {1}, .count = {1}};
    assert_int_equal(range_of(&registers, false).lba, 0);
    registers =
        (struct ide_registers){.lba_low = {63}, .lba_mid = {99}, .device = 15, .count = {1}};
    assert_int_equal(range_of(&registers, false).lba, 100 * 16 * 63 - 1);
    registers.lba_mid[0] = 2;
    registers.device = 3;
    registers.lba_low[0] = 5;
    assert_int_equal(range_of(&registers, false).lba, (2 * 16 + 3) * 63 + 4);
}

static void a_sector_that_the_geometry_has_not_is_not_found(void **state)
{
    (void)state;
    const struct ide_geometry odd = {.cylinders = 300, .heads = 8, .sectors = 32};
    static const struct ide_registers none[] = {
        {.lba_low = {0}},                                   /* no sector 0 */
        {.lba_low = {33}},                                  /* nor one behind the last */
        {.lba_low = {1}, .device = 8},                      /* head */
        {.lba_low = {1}, .lba_mid = {44}, .lba_high = {1}}, /* cylinder 300 */
    };
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        struct ide_range range = {.lba = 77};
        assert_false(ide_address_decode(&none[i], &odd, false, &range));
        assert_int_equal(range.lba, 77);
    }
}

/* Device 1's bit and the obsolete ones stay. */
static void an_address_is_written_back_the_way_it_was_read(void **state)
{
    static const uint64_t lbas[] = {0, 1, 62, 63, 1007, 1008, 100 * 16 * 63 - 1};
    (void)state;
    for (size_t i = 0; i < sizeof(lbas) / sizeof(lbas[0]); i++) {
        for (unsigned way = 0; way < 3; way++) {
            struct ide_registers registers = {.device = way > 0 ? 0xe7 : 0xa7, .count = {1}};
            ide_address_encode(&registers, &geometry, way == 2, lbas[i]);
            assert_int_equal(range_of(&registers, way == 2).lba, lbas[i]);
            assert_int_equal(registers.device & 0xf0, way > 0 ? 0xe0 : 0xa0);
        }
    }
    struct ide_registers far = {.device = IDE_DEVICE_LBA};
    ide_address_encode(&far, &geometry, true, 0xbc9a78563412);
    assert_int_equal(range_of(&far, true).lba, 0xbc9a78563412);
    ide_address_encode(&far, &geometry, false, 0x0fedcba9);
    assert_int_equal(range_of(&far, false).lba, 0x0fedcba9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_is_as_many_cylinders_as_it_has_and_no_more_than_16383),
        cmocka_unit_test(lba28_takes_four_bits_of_the_device_register),
        cmocka_unit_test(lba48_takes_what_was_written_before_as_the_high_bytes),
        cmocka_unit_test(a_count_of_0_is_256_or_65536),
        cmocka_unit_test(cylinder_head_and_sector_count_from_0_0_1),
        cmocka_unit_test(a_sector_that_the_geometry_has_not_is_not_found),
        cmocka_unit_test(an_address_is_written_back_the_way_it_was_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
