/* SPDX-License-Identifier: BSD-3-Clause */
/* ide_dma.c: READ and WRITE DMA, by tables that fit, that are too short or too long, and that lead
 * out of memory; in both orders of command and Start. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "tests/harness/ide_fixture.h"

#define DISK_BYTES (2u << 20)
#define GUARD 0xa5

static void fill(struct ide_machine *machine, uint32_t length, unsigned seed)
{
    for (uint32_t i = 0; i < length; i++)
        machine->bytes[i] = (uint8_t)(seed + i / 3 + i / IDE_SECTOR);
}

static uint32_t bus_master_status(struct ide_machine *machine)
{
    return ide_bus_master_read(&machine->channel, IDE_BM_STATUS, 1);
}

static struct ide_taskfile read_of(uint64_t lba, uint16_t count)
{
    return (struct ide_taskfile){.command = 0xc8, .lba = lba, .count = count};
}

static struct ide_taskfile write_of(uint64_t lba, uint16_t count)
{
    return (struct ide_taskfile){.command = 0xca, .lba = lba, .count = count};
}

static void put_region(struct ide_machine *machine, unsigned index, uint32_t address,
                       uint32_t length, bool is_last)
{
    uint8_t *descriptor = machine->memory + IDE_DRIVER_TABLE + index * IDE_PRD_BYTES;
    store_le32(descriptor, address);
    store_le16(descriptor + 4, (uint16_t)length);
    store_le16(descriptor + 6, is_last ? IDE_PRD_LAST : 0);
}

static void stop(struct ide_machine *machine)
{
    ide_bus_master_write(&machine->channel, IDE_BM_COMMAND, 0, 1);
}

/* --- tables that fit ---------------------------------------------------------------------------
 */

static void co_sectors_come_and_go_by_28_and_by_48_bits(struct fixture *fixture, void *arg)
{
    static const uint32_t counts[] = {1, 7, 256, 257, 500};
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_driver *driver = &machine->driver;
    (void)arg;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        uint32_t length = counts[i] * IDE_SECTOR;
        unsigned interrupts = driver->interrupts;
        driver->region_bytes = i % 2 ? 3 * IDE_SECTOR / 2 : 65536;
        fill(machine, length, (unsigned)i);
        assert_int_equal(
            ide_driver_co_write(driver, IDE_WAY_DMA, i % 2, 100 + i, machine->bytes, counts[i]), 0);
        assert_memory_equal(machine->bytes, ide_machine_sector(machine, 100 + i), length);
        memset(machine->bytes, 0, length);
        memset(machine->memory + IDE_DRIVER_DATA, 0, length);
        assert_int_equal(
            ide_driver_co_read(driver, IDE_WAY_DMA, i % 2, 100 + i, machine->bytes, counts[i]), 0);
        assert_memory_equal(machine->bytes, ide_machine_sector(machine, 100 + i), length);
        assert_int_equal(driver->interrupts - interrupts, 2); /* one a command */
    }
    ide_machine_co_free(machine);
}
FIXTURE_TEST(sectors_come_and_go_by_28_and_by_48_bits, DISK_BYTES, DISK_BYTES)

static void co_start_may_come_before_the_command_or_long_after_it(struct fixture *fixture,
                                                                  void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_driver *driver = &machine->driver;
    struct ide_taskfile in = read_of(40, 44);
    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        ide_driver_make_table(driver, 44 * IDE_SECTOR, true);
        memset(machine->memory + IDE_DRIVER_DATA, 0, IDE_SECTOR);
        if (i == 0)
            ide_driver_start_dma(driver, true);
        ide_driver_issue(driver, &in);
        if (i == 1) {
            ide_machine_co_settle();
            assert_int_equal(ide_machine_status(machine), IDE_BSY);
            assert_int_equal(bus_master_status(machine), 0);
            ide_driver_start_dma(driver, true);
        }
        assert_int_equal(ide_driver_co_end_dma(driver), 0);
        assert_memory_equal(machine->memory + IDE_DRIVER_DATA, ide_machine_sector(machine, 40),
                            44 * IDE_SECTOR);
    }
    ide_machine_co_free(machine);
}
FIXTURE_TEST(start_may_come_before_the_command_or_long_after_it, DISK_BYTES, DISK_BYTES)

static void co_a_region_of_0_bytes_is_64_kib(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile in = read_of(0, 128);
    (void)arg;
    ide_driver_make_table(&machine->driver, IDE_SECTOR, true);
    put_region(machine, 0, IDE_DRIVER_DATA, 0, true);
    ide_driver_issue(&machine->driver, &in);
    ide_driver_start_dma(&machine->driver, true);
    assert_int_equal(ide_driver_co_end_dma(&machine->driver), 0);
    assert_memory_equal(machine->memory + IDE_DRIVER_DATA, ide_machine_sector(machine, 0), 65536);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_region_of_0_bytes_is_64_kib, DISK_BYTES, DISK_BYTES)

static void co_without_the_write_cache_dma_writes_are_durable(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile fua = {.command = 0x3d, .is_ext = true, .lba = 3, .count = 2};
    (void)arg;
    fill(machine, 2 * IDE_SECTOR, 1);
    assert_int_equal(ide_driver_co_dma_out(&machine->driver, &fua, machine->bytes, 2 * IDE_SECTOR),
                     0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 1);
    assert_int_equal(
        ide_driver_co_write(&machine->driver, IDE_WAY_DMA, false, 3, machine->bytes, 1), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 1);
    assert_int_equal(ide_driver_co_set_feature(&machine->driver, 0x82, 0), 0);
    assert_int_equal(
        ide_driver_co_write(&machine->driver, IDE_WAY_DMA, false, 3, machine->bytes, 1), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 3);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(without_the_write_cache_dma_writes_are_durable, DISK_BYTES, DISK_BYTES)

/* --- tables that do not ------------------------------------------------------------------------
 */

static void co_a_table_that_is_too_long_leaves_active_set(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile in = read_of(8, 2);
    (void)arg;
    memset(machine->memory + IDE_DRIVER_DATA, GUARD, 4 * IDE_SECTOR);
    ide_driver_make_table(&machine->driver, 3 * IDE_SECTOR, true);
    ide_driver_issue(&machine->driver, &in);
    ide_driver_start_dma(&machine->driver, true);
    ide_machine_co_wait(machine);
    assert_int_equal(machine->driver.status, IDE_DRDY | IDE_DSC);
    assert_int_equal(bus_master_status(machine), IDE_BM_ACTIVE | IDE_BM_INTERRUPT);
    stop(machine);
    assert_int_equal(bus_master_status(machine), IDE_BM_INTERRUPT);
    assert_memory_equal(machine->memory + IDE_DRIVER_DATA, ide_machine_sector(machine, 8),
                        2 * IDE_SECTOR);
    assert_int_equal(machine->memory[IDE_DRIVER_DATA + 2 * IDE_SECTOR], GUARD);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_table_that_is_too_long_leaves_active_set, DISK_BYTES, DISK_BYTES)

static void expect_waiting(struct ide_machine *machine, uint32_t status)
{
    ide_machine_co_settle();
    assert_int_equal(bus_master_status(machine), status);
    assert_int_equal(ide_machine_status(machine), IDE_BSY);
    assert_false(machine->driver.is_raised);
}

/* Another Start, with another table, goes on where the first one ended. */
static void co_a_table_that_is_too_short_waits_for_another_start(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile in = read_of(8, 3), out = write_of(8, 3);
    (void)arg;
    fill(machine, 3 * IDE_SECTOR, 6);
    for (unsigned to_memory = 0; to_memory < 2; to_memory++) {
        uint8_t *data = machine->memory + IDE_DRIVER_DATA;
        memcpy(data, machine->bytes, 3 * IDE_SECTOR);
        ide_driver_make_table(&machine->driver, 1000, to_memory);
        ide_driver_issue(&machine->driver, to_memory ? &in : &out);
        ide_driver_start_dma(&machine->driver, to_memory);
        expect_waiting(machine, 0);
        stop(machine);
        put_region(machine, 0, IDE_DRIVER_DATA + 1000, 3 * IDE_SECTOR - 1000, true);
        ide_driver_start_dma(&machine->driver, to_memory);
        assert_int_equal(ide_driver_co_end_dma(&machine->driver), 0);
        assert_memory_equal(data, ide_machine_sector(machine, 8), 3 * IDE_SECTOR);
        assert_memory_equal(data, machine->bytes, 3 * IDE_SECTOR);
    }
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_table_that_is_too_short_waits_for_another_start, DISK_BYTES, DISK_BYTES)

static void co_a_reset_ends_the_wait_for_a_table(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile out = write_of(8, 3);
    (void)arg;
    ide_driver_make_table(&machine->driver, IDE_SECTOR, false);
    ide_driver_issue(&machine->driver, &out);
    ide_driver_start_dma(&machine->driver, false);
    expect_waiting(machine, 0);
    assert_int_equal(ide_driver_co_soft_reset(&machine->driver), 0);
    ide_driver_make_table(&machine->driver, 3 * IDE_SECTOR, false);
    ide_driver_start_dma(&machine->driver, false); /* nobody asks */
    ide_machine_co_settle();
    assert_int_equal(bus_master_status(machine), IDE_BM_ACTIVE);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
    stop(machine);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_reset_ends_the_wait_for_a_table, DISK_BYTES, DISK_BYTES)

static void expect_error(struct ide_machine *machine, bool to_memory)
{
    struct ide_taskfile in = read_of(8, 3), out = write_of(8, 3);
    ide_driver_issue(&machine->driver, to_memory ? &in : &out);
    ide_driver_start_dma(&machine->driver, to_memory);
    expect_waiting(machine, IDE_BM_ERROR);
    stop(machine);
    ide_bus_master_write(&machine->channel, IDE_BM_STATUS, IDE_BM_ERROR, 1);
    assert_int_equal(bus_master_status(machine), 0);
    assert_int_equal(ide_driver_co_soft_reset(&machine->driver), 0);
}

static void co_a_table_or_region_out_of_memory_is_an_error(struct fixture *fixture, void *arg)
{
    static const uint32_t regions[] = {IDE_DRIVER_MEMORY_BYTES, IDE_DRIVER_MEMORY_BYTES - 2,
                                       UINT32_MAX - 100, UINT32_C(1) << 31};
    static const uint32_t tables[] = {IDE_DRIVER_MEMORY_BYTES, IDE_DRIVER_MEMORY_BYTES - 4,
                                      UINT32_MAX - 3};
    struct ide_machine *machine = ide_machine_co_new(fixture);
    (void)arg;
    for (unsigned i = 0; i < 8; i++) {
        ide_driver_make_table(&machine->driver, IDE_SECTOR, i % 2);
        put_region(machine, 0, IDE_DRIVER_DATA, IDE_SECTOR, false);
        put_region(machine, 1, regions[i / 2], 2 * IDE_SECTOR, true);
        expect_error(machine, i % 2);
    }
    for (unsigned i = 0; i < 6; i++) {
        ide_driver_make_table(&machine->driver, IDE_SECTOR, i % 2);
        ide_bus_master_write(&machine->channel, IDE_BM_TABLE, tables[i / 2], 4);
        expect_error(machine, i % 2);
    }
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_table_or_region_out_of_memory_is_an_error, DISK_BYTES, DISK_BYTES)

/* Every descriptor is two bytes, and none is the last: the table runs to the end of memory, unless
 * the data ends before. */
static void co_a_table_without_an_end_ends_with_the_data(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile in = read_of(8, 1);
    (void)arg;
    ide_driver_make_table(&machine->driver, 2, true);
    for (unsigned i = 0; i < 1000; i++)
        put_region(machine, i, IDE_DRIVER_DATA, 3, false); /* the lowest bit does not count */
    ide_driver_issue(&machine->driver, &in);
    ide_driver_start_dma(&machine->driver, true);
    ide_machine_co_wait(machine);
    assert_int_equal(bus_master_status(machine), IDE_BM_ACTIVE | IDE_BM_INTERRUPT);
    assert_memory_equal(machine->memory + IDE_DRIVER_DATA, ide_machine_sector(machine, 8) + 510, 2);
    stop(machine);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_table_without_an_end_ends_with_the_data, DISK_BYTES, DISK_BYTES)

static void co_the_wrong_direction_moves_nothing(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile in = read_of(8, 1), out = write_of(8, 1);
    (void)arg;
    memset(machine->memory + IDE_DRIVER_DATA, GUARD, IDE_SECTOR);
    for (unsigned to_memory = 0; to_memory < 2; to_memory++) {
        ide_driver_make_table(&machine->driver, IDE_SECTOR, to_memory);
        ide_driver_issue(&machine->driver, to_memory ? &out : &in);
        ide_driver_start_dma(&machine->driver, to_memory);
        expect_waiting(machine, IDE_BM_ACTIVE);
        assert_int_equal(ide_driver_co_soft_reset(&machine->driver), 0);
    }
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
    assert_int_equal(machine->memory[IDE_DRIVER_DATA], GUARD);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(the_wrong_direction_moves_nothing, DISK_BYTES, DISK_BYTES)

/* --- stopped and left behind -------------------------------------------------------------------
 */

static void co_a_stop_holds_the_data_back_until_the_next_start(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile in = read_of(8, 1);
    (void)arg;
    memset(machine->memory + IDE_DRIVER_DATA, GUARD, IDE_SECTOR);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    ide_driver_make_table(&machine->driver, IDE_SECTOR, true);
    ide_driver_issue(&machine->driver, &in);
    ide_driver_start_dma(&machine->driver, true);
    memory_disk_co_wait_held(&fixture->disk, 1);
    assert_int_equal(bus_master_status(machine), IDE_BM_ACTIVE);
    stop(machine);
    memory_disk_release(&fixture->disk);
    expect_waiting(machine, 0);
    assert_int_equal(machine->memory[IDE_DRIVER_DATA], GUARD);
    ide_driver_start_dma(&machine->driver, true);
    assert_int_equal(ide_driver_co_end_dma(&machine->driver), 0);
    assert_memory_equal(machine->memory + IDE_DRIVER_DATA, ide_machine_sector(machine, 8),
                        IDE_SECTOR);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_stop_holds_the_data_back_until_the_next_start, DISK_BYTES, DISK_BYTES)

static void co_a_read_that_a_reset_left_behind_does_not_reach_memory(struct fixture *fixture,
                                                                     void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile in = read_of(8, 1);
    (void)arg;
    memset(machine->memory + IDE_DRIVER_DATA, GUARD, IDE_SECTOR);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    ide_driver_make_table(&machine->driver, IDE_SECTOR, true);
    ide_driver_issue(&machine->driver, &in);
    ide_driver_start_dma(&machine->driver, true);
    memory_disk_co_wait_held(&fixture->disk, 1);
    assert_int_equal(ide_driver_co_soft_reset(&machine->driver), 0);
    ide_driver_make_table(&machine->driver, IDE_SECTOR, true);
    ide_driver_start_dma(&machine->driver, true);
    memory_disk_release(&fixture->disk);
    ide_machine_co_settle();
    assert_true(list_is_empty(&machine->channel.left_behind));
    for (unsigned i = 0; i < IDE_SECTOR; i++)
        assert_int_equal(machine->memory[IDE_DRIVER_DATA + i], GUARD);
    assert_int_equal(bus_master_status(machine), IDE_BM_ACTIVE);
    stop(machine);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_read_that_a_reset_left_behind_does_not_reach_memory, DISK_BYTES, DISK_BYTES)

static void co_the_registers_are_read_and_written_in_any_width(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_channel *channel = &machine->channel;
    (void)arg;
    ide_bus_master_write(channel, IDE_BM_TABLE, 0x12345677, 4);
    assert_int_equal(ide_bus_master_read(channel, IDE_BM_TABLE, 4), 0x12345674);
    ide_bus_master_write(channel, IDE_BM_TABLE + 2, 0xabcd, 2);
    assert_int_equal(ide_bus_master_read(channel, IDE_BM_TABLE + 1, 2), 0xcd56);
    ide_bus_master_write(channel, IDE_BM_COMMAND, 0xff0408fe, 4); /* no Start; the interrupt */
    assert_int_equal(ide_bus_master_read(channel, IDE_BM_COMMAND, 4), 0x8);
    ide_bus_master_write(channel, IDE_BM_STATUS, IDE_BM_CAPABLE | 1, 1);
    assert_int_equal(ide_bus_master_read(channel, IDE_BM_STATUS, 1), IDE_BM_CAPABLE);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(the_registers_are_read_and_written_in_any_width, DISK_BYTES, DISK_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sectors_come_and_go_by_28_and_by_48_bits),
        cmocka_unit_test(start_may_come_before_the_command_or_long_after_it),
        cmocka_unit_test(a_region_of_0_bytes_is_64_kib),
        cmocka_unit_test(without_the_write_cache_dma_writes_are_durable),
        cmocka_unit_test(a_table_that_is_too_long_leaves_active_set),
        cmocka_unit_test(a_table_that_is_too_short_waits_for_another_start),
        cmocka_unit_test(a_reset_ends_the_wait_for_a_table),
        cmocka_unit_test(a_table_or_region_out_of_memory_is_an_error),
        cmocka_unit_test(a_table_without_an_end_ends_with_the_data),
        cmocka_unit_test(the_wrong_direction_moves_nothing),
        cmocka_unit_test(a_stop_holds_the_data_back_until_the_next_start),
        cmocka_unit_test(a_read_that_a_reset_left_behind_does_not_reach_memory),
        cmocka_unit_test(the_registers_are_read_and_written_in_any_width),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
