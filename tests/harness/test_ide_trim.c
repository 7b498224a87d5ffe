/* SPDX-License-Identifier: BSD-3-Clause */
/* ide_trim.c: lists of ranges, all of them looked at first, and sent down together. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "tests/harness/ide_fixture.h"

#define LARGE_BYTES (40u << 20)
#define DISK_BYTES (2u << 20)
#define SECTORS (DISK_BYTES / IDE_SECTOR)

static void put_range(struct ide_machine *machine, unsigned index, uint64_t lba, unsigned count)
{
    store_le64(machine->bytes + 8 * index, lba | (uint64_t)count << 48);
}

static int co_trim_blocks(struct ide_machine *machine, unsigned blocks)
{
    struct ide_taskfile taskfile = {
        .command = 0x06, .is_ext = true, .features = 1, .count = (uint16_t)blocks};
    return ide_driver_co_dma_out(&machine->driver, &taskfile, machine->bytes, blocks * IDE_SECTOR);
}

/* The disk in memory reads as zeroes where it was trimmed. */
static bool is_zero(struct ide_machine *machine, uint64_t lba)
{
    static const uint8_t zeroes[IDE_SECTOR];
    return memcmp(ide_machine_sector(machine, lba), zeroes, IDE_SECTOR) == 0;
}

static void co_ranges_are_discarded_and_empty_ones_skipped(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    const uint64_t last = LARGE_BYTES / IDE_SECTOR - 1;
    (void)arg;
    put_range(machine, 0, 10, 3);
    put_range(machine, 1, 0xffffffffffff, 0); /* empty, wherever it is */
    put_range(machine, 5, last, 1);
    put_range(machine, 63, 1000, 65535);
    assert_int_equal(co_trim_blocks(machine, 1), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_DISCARD], 3);
    assert_false(is_zero(machine, 9));
    assert_true(is_zero(machine, 10) && is_zero(machine, 12) && !is_zero(machine, 13));
    assert_true(is_zero(machine, last) && !is_zero(machine, last - 1));
    assert_true(is_zero(machine, 1000) && is_zero(machine, 66534) && !is_zero(machine, 66535));
    assert_int_equal(ide_driver_co_trim(&machine->driver, 2000, 70000), 0); /* in two ranges */
    assert_int_equal(fixture->disk.counts[MEMORY_DISCARD], 5);
    assert_true(is_zero(machine, 71999) && !is_zero(machine, 72000));
    ide_machine_co_free(machine);
}
FIXTURE_TEST(ranges_are_discarded_and_empty_ones_skipped, LARGE_BYTES, LARGE_BYTES)

static void co_a_full_list_goes_down_in_batches(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    const unsigned count = 64 * IDE_TRIM_BLOCKS_MAX;
    struct ide_taskfile taskfile = {
        .command = 0x06, .is_ext = true, .features = 1, .count = IDE_TRIM_BLOCKS_MAX};
    (void)arg;
    for (unsigned i = 0; i < count; i++)
        store_le64(machine->memory + IDE_DRIVER_DATA + 8 * i, 7 * i | UINT64_C(1) << 48);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_DISCARD);
    ide_driver_make_table(&machine->driver, IDE_TRIM_BLOCKS_MAX * IDE_SECTOR, false);
    ide_driver_issue(&machine->driver, &taskfile);
    ide_driver_start_dma(&machine->driver, false);
    memory_disk_co_wait_held(&fixture->disk, 32); /* together, and no more at once */
    ide_machine_co_settle();
    assert_int_equal(fixture->disk.held_count, 32);
    memory_disk_release(&fixture->disk);
    assert_int_equal(ide_driver_co_end_dma(&machine->driver), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_DISCARD], count);
    for (unsigned i = 0; i < count; i++)
        assert_true(is_zero(machine, 7 * i) && !is_zero(machine, 7 * i + 1));
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_full_list_goes_down_in_batches, DISK_BYTES, DISK_BYTES)

static void co_a_range_beyond_the_capacity_discards_nothing(struct fixture *fixture, void *arg)
{
    static const uint64_t lbas[] = {SECTORS - 1, SECTORS, 0xffffffffffff};
    struct ide_machine *machine = ide_machine_co_new(fixture);
    (void)arg;
    for (unsigned i = 0; i < 3; i++) {
        put_range(machine, 0, 10, 3);
        put_range(machine, 40, lbas[i], 2);
        assert_int_equal(co_trim_blocks(machine, 1), -EIO);
        assert_int_equal(machine->driver.error, IDE_IDNF);
    }
    assert_int_equal(fixture->disk.counts[MEMORY_DISCARD], 0);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_range_beyond_the_capacity_discards_nothing, DISK_BYTES, DISK_BYTES)

static void co_what_is_no_trim_or_too_much_is_aborted(struct fixture *fixture, void *arg)
{
    static const struct ide_taskfile bad[] = {
        {.command = 0x06, .is_ext = true, .features = 0, .count = 1},
        {.command = 0x06, .is_ext = true, .features = 1, .count = 0},
        {.command = 0x06, .is_ext = true, .features = 1, .count = IDE_TRIM_BLOCKS_MAX + 1},
        {.command = 0x06, .is_ext = true, .features = 1, .count = 0x0101},
    };
    struct ide_machine *machine = ide_machine_co_new(fixture);
    (void)arg;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(ide_driver_co_no_data(&machine->driver, &bad[i]), -EIO);
        assert_int_equal(machine->driver.error, IDE_ABRT);
    }
    ide_machine_co_free(machine);
}
FIXTURE_TEST(what_is_no_trim_or_too_much_is_aborted, DISK_BYTES, DISK_BYTES)

static void co_a_discard_that_fails_is_aborted_after_those_in_flight(struct fixture *fixture,
                                                                     void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    (void)arg;
    for (unsigned i = 0; i < 64; i++)
        put_range(machine, i, 7 * i, 1);
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_at_call = 3;
    assert_int_equal(co_trim_blocks(machine, 1), -EIO);
    assert_int_equal(machine->driver.error, IDE_ABRT);
    assert_int_equal(fixture->disk.counts[MEMORY_DISCARD], 32); /* the second batch did not begin */
    fixture->disk.fail_code = 0;
    assert_int_equal(co_trim_blocks(machine, 1), 0);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_discard_that_fails_is_aborted_after_those_in_flight, DISK_BYTES, DISK_BYTES)

static void co_a_reset_in_the_middle_waits_for_the_batch_and_no_more(struct fixture *fixture,
                                                                     void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile taskfile = {.command = 0x06, .is_ext = true, .features = 1, .count = 1};
    (void)arg;
    for (unsigned i = 0; i < 64; i++)
        store_le64(machine->memory + IDE_DRIVER_DATA + 8 * i, 7 * i | UINT64_C(1) << 48);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_DISCARD);
    ide_driver_make_table(&machine->driver, IDE_SECTOR, false);
    ide_driver_issue(&machine->driver, &taskfile);
    ide_driver_start_dma(&machine->driver, false);
    memory_disk_co_wait_held(&fixture->disk, 32);
    ide_port_write(&machine->channel, IDE_CONTROL, IDE_SRST);
    ide_port_write(&machine->channel, IDE_CONTROL, 0);
    ide_machine_co_settle();
    assert_int_equal(ide_machine_status(machine), IDE_BSY);
    memory_disk_release(&fixture->disk);
    assert_int_equal(ide_driver_co_not_busy(&machine->driver), 0);
    ide_machine_co_settle();
    assert_int_equal(fixture->disk.counts[MEMORY_DISCARD], 32);
    assert_true(list_is_empty(&machine->channel.left_behind));
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_reset_in_the_middle_waits_for_the_batch_and_no_more, DISK_BYTES, DISK_BYTES)

static void co_without_the_write_cache_a_trim_is_durable(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    (void)arg;
    assert_int_equal(ide_driver_co_trim(&machine->driver, 10, 1), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 0);
    assert_int_equal(ide_driver_co_set_feature(&machine->driver, 0x82, 0), 0);
    assert_int_equal(ide_driver_co_trim(&machine->driver, 20, 1), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 2);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(without_the_write_cache_a_trim_is_durable, DISK_BYTES, DISK_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_discarded_and_empty_ones_skipped),
        cmocka_unit_test(a_full_list_goes_down_in_batches),
        cmocka_unit_test(a_range_beyond_the_capacity_discards_nothing),
        cmocka_unit_test(what_is_no_trim_or_too_much_is_aborted),
        cmocka_unit_test(a_discard_that_fails_is_aborted_after_those_in_flight),
        cmocka_unit_test(a_reset_in_the_middle_waits_for_the_batch_and_no_more),
        cmocka_unit_test(without_the_write_cache_a_trim_is_durable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
