/* SPDX-License-Identifier: BSD-3-Clause */
/* ide_transfer.c, ide_data.c: sectors through the data port, what happens to the ports meanwhile,
 * and errors. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

#include "block/filters.h"
#include "tests/harness/ide_fixture.h"

#define DISK_BYTES (2u << 20)
#define SECTORS (DISK_BYTES / IDE_SECTOR)
#define ALL_BYTES (65536u * IDE_SECTOR) /* what one command can move */

static const struct block_driver *drivers[4];

static void expect_sectors(struct ide_machine *machine, uint64_t lba, uint32_t count)
{
    assert_memory_equal(machine->bytes, ide_machine_sector(machine, lba), count * IDE_SECTOR);
}

static void fill(struct ide_machine *machine, uint32_t count, unsigned seed)
{
    for (uint32_t i = 0; i < count * IDE_SECTOR; i++)
        machine->bytes[i] = (uint8_t)(seed + i / 3 + i / IDE_SECTOR);
}

static struct ide_taskfile read_of(uint64_t lba, uint16_t count)
{
    return (struct ide_taskfile){.command = 0x20, .lba = lba, .count = count};
}

/* --- reads -------------------------------------------------------------------------------------
 */

/* Step by step, as the first sector of a disk is read at every boot. */
static void co_sector_0_is_read_by_a_request_an_interrupt_and_256_words(struct fixture *fixture,
                                                                        void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile taskfile = read_of(0, 1);
    (void)arg;
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    ide_driver_issue(&machine->driver, &taskfile);
    memory_disk_co_wait_held(&fixture->disk, 1);
    assert_int_equal(fixture->disk.log[0].offset, 0);
    assert_int_equal(fixture->disk.log[0].length, IDE_SECTOR);
    assert_int_equal(ide_machine_status(machine), IDE_BSY);
    assert_int_equal(ide_data_read(&machine->channel, 2), 0);
    assert_false(machine->driver.is_raised);
    memory_disk_release(&fixture->disk);
    ide_machine_co_wait(machine);
    assert_int_equal(machine->driver.status, IDE_DRDY | IDE_DSC | IDE_DRQ);
    for (unsigned i = 0; i < 256; i++) {
        assert_int_equal(ide_machine_status(machine), IDE_DRDY | IDE_DSC | IDE_DRQ);
        uint32_t word = ide_data_read(&machine->channel, 2);
        machine->bytes[2 * i] = (uint8_t)word;
        machine->bytes[2 * i + 1] = (uint8_t)(word >> 8);
    }
    assert_int_equal(ide_machine_status(machine), IDE_DRDY | IDE_DSC);
    assert_false(machine->driver.is_raised); /* the last word is the end */
    expect_sectors(machine, 0, 1);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(sector_0_is_read_by_a_request_an_interrupt_and_256_words, DISK_BYTES, DISK_BYTES)

static void co_each_sector_has_its_request_and_its_interrupt(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    unsigned interrupts = machine->driver.interrupts;
    (void)arg;
    assert_int_equal(ide_driver_co_read(&machine->driver, IDE_WAY_PIO, false, 9, machine->bytes, 5),
                     0);
    expect_sectors(machine, 9, 5);
    assert_int_equal(machine->driver.interrupts - interrupts, 5);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 5);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(each_sector_has_its_request_and_its_interrupt, DISK_BYTES, DISK_BYTES)

static void co_multiple_has_an_interrupt_a_block_and_a_short_last_one(struct fixture *fixture,
                                                                      void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    unsigned interrupts = machine->driver.interrupts;
    (void)arg;
    assert_int_equal(
        ide_driver_co_read(&machine->driver, IDE_WAY_MULTIPLE, true, 3, machine->bytes, 35), 0);
    expect_sectors(machine, 3, 35);
    assert_int_equal(machine->driver.interrupts - interrupts, 3);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 3);
    assert_int_equal(fixture->disk.log[2].length, 3 * IDE_SECTOR);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(multiple_has_an_interrupt_a_block_and_a_short_last_one, DISK_BYTES, DISK_BYTES)

static void co_multiple_is_aborted_when_it_is_not_set(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile off = {.command = 0xc6, .count = 0};
    static const uint8_t codes[] = {0xc4, 0x29, 0xc5, 0x39, 0xce};
    (void)arg;
    assert_int_equal(ide_driver_co_no_data(&machine->driver, &off), 0);
    for (size_t i = 0; i < sizeof(codes); i++) {
        struct ide_taskfile taskfile = {.command = codes[i], .count = 1};
        assert_int_equal(ide_driver_co_no_data(&machine->driver, &taskfile), -EIO);
        assert_int_equal(machine->driver.error, IDE_ABRT);
    }
    ide_machine_co_free(machine);
}
FIXTURE_TEST(multiple_is_aborted_when_it_is_not_set, DISK_BYTES, DISK_BYTES)

static void co_a_bios_reads_with_interrupts_off(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    unsigned interrupts = machine->driver.interrupts;
    (void)arg;
    assert_int_equal(ide_driver_co_poll_read(&machine->driver, 17, machine->bytes, 256), 0);
    expect_sectors(machine, 17, 256);
    assert_int_equal(machine->driver.interrupts, interrupts);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_bios_reads_with_interrupts_off, DISK_BYTES, DISK_BYTES)

static void co_cylinder_head_and_sector_follow_the_geometry_that_is_set(struct fixture *fixture,
                                                                        void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_driver *driver = &machine->driver;
    struct ide_taskfile geometry = {
        .command = 0x91, .is_chs = true, .count = 20, .lba = UINT32_C(3) << 24};
    /* cylinder 2, head 3, sector 5; as bytes of the registers */
    struct ide_taskfile taskfile = {
        .command = 0x20, .is_chs = true, .count = 1, .lba = 5 | 2 << 8 | UINT32_C(3) << 24};
    (void)arg;
    assert_int_equal(ide_driver_co_pio_in(driver, &taskfile, machine->bytes, IDE_SECTOR, 512), 0);
    expect_sectors(machine, (2 * 16 + 3) * 63 + 4, 1);
    assert_int_equal(ide_driver_co_no_data(driver, &geometry), 0);
    assert_int_equal(ide_driver_co_pio_in(driver, &taskfile, machine->bytes, IDE_SECTOR, 512), 0);
    expect_sectors(machine, (2 * 4 + 3) * 20 + 4, 1);
    taskfile.lba = 21; /* there are 20 */
    assert_int_equal(ide_driver_co_pio_in(driver, &taskfile, machine->bytes, IDE_SECTOR, 512),
                     -EIO);
    assert_int_equal(driver->error, IDE_IDNF);
    assert_int_equal(ide_port_read(&machine->channel, IDE_LBA_LOW), 21);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(cylinder_head_and_sector_follow_the_geometry_that_is_set, DISK_BYTES, DISK_BYTES)

static void co_a_count_of_0_moves_256_sectors_or_verifies_65536(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile verify = {.command = 0x42, .is_ext = true};
    uint64_t bytes = 0;
    (void)arg;
    assert_int_equal(
        ide_driver_co_read(&machine->driver, IDE_WAY_PIO, false, 1, machine->bytes, 256), 0);
    expect_sectors(machine, 1, 256);
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(ide_driver_co_no_data(&machine->driver, &verify), 0);
    for (unsigned i = 0; i < fixture->disk.log_count; i++)
        bytes += fixture->disk.log[i].length;
    assert_int_equal(bytes, ALL_BYTES);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_count_of_0_moves_256_sectors_or_verifies_65536, ALL_BYTES, ALL_BYTES)

/* --- writes ------------------------------------------------------------------------------------
 */

static void co_writes_arrive_by_each_command(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_driver *driver = &machine->driver;
    unsigned interrupts = driver->interrupts;
    (void)arg;
    for (unsigned i = 0; i < 4; i++) {
        enum ide_way way = i < 2 ? IDE_WAY_PIO : IDE_WAY_MULTIPLE;
        uint64_t lba = 100 + 50 * i;
        fill(machine, 33, i);
        assert_int_equal(ide_driver_co_write(driver, way, i % 2, lba, machine->bytes, 33), 0);
        expect_sectors(machine, lba, 33);
    }
    assert_int_equal(driver->interrupts - interrupts, 33 + 33 + 3 + 3);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 33 + 33 + 3 + 3);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 0); /* the cache is on */
    ide_machine_co_free(machine);
}
FIXTURE_TEST(writes_arrive_by_each_command, DISK_BYTES, DISK_BYTES)

static void co_without_the_write_cache_each_write_is_durable_first(struct fixture *fixture,
                                                                   void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_driver *driver = &machine->driver;
    (void)arg;
    assert_int_equal(ide_driver_co_set_feature(driver, 0x02, 0), 0);
    fill(machine, 2, 1);
    assert_int_equal(ide_driver_co_write(driver, IDE_WAY_PIO, false, 0, machine->bytes, 1), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 0);
    assert_int_equal(ide_driver_co_set_feature(driver, 0x82, 0), 0); /* it is written first */
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 1);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_FLUSH);
    struct ide_taskfile taskfile = {.command = 0x30, .lba = 7, .count = 1};
    ide_driver_issue(driver, &taskfile);
    ide_driver_data_out(driver, machine->bytes, IDE_SECTOR);
    memory_disk_co_wait_held(&fixture->disk, 1); /* written, and not yet done */
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 2);
    assert_int_equal(ide_machine_status(machine), IDE_BSY);
    memory_disk_release(&fixture->disk);
    ide_machine_co_wait(machine);
    assert_int_equal(driver->status, IDE_DRDY | IDE_DSC);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(without_the_write_cache_each_write_is_durable_first, DISK_BYTES, DISK_BYTES)

static void co_fua_is_durable_with_the_cache_on(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile taskfile = {.command = 0xce, .is_ext = true, .lba = 7, .count = 1};
    (void)arg;
    fill(machine, 1, 1);
    assert_int_equal(
        ide_driver_co_pio_out(&machine->driver, &taskfile, machine->bytes, IDE_SECTOR, IDE_SECTOR),
        0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 1);
    expect_sectors(machine, 7, 1);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(fua_is_durable_with_the_cache_on, DISK_BYTES, DISK_BYTES)

static void co_flush_and_standby_write_the_cache(struct fixture *fixture, void *arg)
{
    static const uint8_t codes[] = {0xe7, 0xea, 0xe0, 0xe2, 0xe6};
    struct ide_machine *machine = ide_machine_co_new(fixture);
    (void)arg;
    for (unsigned i = 0; i < sizeof(codes); i++) {
        struct ide_taskfile taskfile = {.command = codes[i]};
        fill(machine, 1, i);
        assert_int_equal(
            ide_driver_co_write(&machine->driver, IDE_WAY_PIO, false, i, machine->bytes, 1), 0);
        assert_int_equal(ide_driver_co_no_data(&machine->driver, &taskfile), 0);
        assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], i + 1);
    }
    ide_machine_co_free(machine);
}
FIXTURE_TEST(flush_and_standby_write_the_cache, DISK_BYTES, DISK_BYTES)

/* --- what goes wrong ---------------------------------------------------------------------------
 */

static uint64_t lba_of_registers(struct ide_machine *machine)
{
    struct ide_channel *channel = &machine->channel;
    return ide_port_read(channel, IDE_LBA_LOW) |
           (uint64_t)ide_port_read(channel, IDE_LBA_MID) << 8 |
           (uint64_t)ide_port_read(channel, IDE_LBA_HIGH) << 16 |
           (uint64_t)(ide_port_read(channel, IDE_DEVICE) & 0xf) << 24;
}

static void co_what_lies_beyond_the_capacity_is_not_found(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_driver *driver = &machine->driver;
    (void)arg;
    for (unsigned way = IDE_WAY_PIO; way <= IDE_WAY_DMA; way++) {
        uint8_t *bytes = machine->bytes;
        assert_int_equal(ide_driver_co_read(driver, way, false, SECTORS - 3, bytes, 4), -EIO);
        assert_int_equal(driver->status, IDE_DRDY | IDE_DSC | IDE_ERR);
        assert_int_equal(driver->error, IDE_IDNF);
        assert_int_equal(lba_of_registers(machine), SECTORS);
        assert_int_equal(ide_driver_co_write(driver, way, false, SECTORS + 70000, bytes, 1), -EIO);
        assert_int_equal(driver->error, IDE_IDNF);
        assert_int_equal(lba_of_registers(machine), SECTORS + 70000);
        assert_int_equal(ide_driver_co_write(driver, way, true, 0xffffffffffff, bytes, 1), -EIO);
        assert_int_equal(driver->error, IDE_IDNF);
        assert_int_equal(ide_driver_co_read(driver, way, true, SECTORS - 3, bytes, 3), 0);
    }
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(what_lies_beyond_the_capacity_is_not_found, DISK_BYTES, DISK_BYTES)

static void co_open_with_a_bad_sector(struct fixture *fixture, const char *kind, unsigned sector)
{
    struct error err = {""};
    struct node_options *options = node_options_new();
    char text[160];
    snprintf(text, sizeof(text), "driver=fault,inject-error.0.iotype=%s,inject-error.0.sector=%u",
             kind, sector);
    assert_int_equal(node_options_parse(options, text, &err), 0);
    memory_disk_options(&fixture->disk, options, "file.", "file");
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
}

static void co_a_bad_sector_is_named_by_every_read(struct fixture *fixture, void *arg)
{
    co_open_with_a_bad_sector(fixture, "read", 75);
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_driver *driver = &machine->driver;
    struct ide_taskfile verify = {.command = 0x40, .lba = 60, .count = 100};
    (void)arg;
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(ide_driver_co_read(driver, i / 2, i % 2, 60, machine->bytes, 40), -EIO);
        assert_int_equal(driver->status, IDE_DRDY | IDE_DSC | IDE_ERR);
        assert_int_equal(driver->error, IDE_UNC);
        assert_int_equal(lba_of_registers(machine), 75);
    }
    assert_int_equal(ide_driver_co_no_data(driver, &verify), -EIO);
    assert_int_equal(driver->error, IDE_UNC);
    assert_int_equal(lba_of_registers(machine), 75);
    assert_int_equal(ide_driver_co_read(driver, IDE_WAY_DMA, true, 0, machine->bytes, 75), 0);
    assert_int_equal(ide_driver_co_write(driver, IDE_WAY_DMA, true, 60, machine->bytes, 40), 0);
    ide_machine_co_free(machine);
}
FIXTURE_TEST_WITH(a_bad_sector_is_named_by_every_read, drivers, DISK_BYTES, DISK_BYTES)

/* A chunk that fails once is read sector by sector, and is whole. */
static void co_a_read_that_fails_once_is_mended(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    (void)arg;
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_at_call = 0;
    assert_int_equal(
        ide_driver_co_read(&machine->driver, IDE_WAY_MULTIPLE, false, 20, machine->bytes, 16), 0);
    expect_sectors(machine, 20, 16);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 17);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_read_that_fails_once_is_mended, DISK_BYTES, DISK_BYTES)

static void co_a_write_that_fails_is_aborted_at_its_place(struct fixture *fixture, void *arg)
{
    co_open_with_a_bad_sector(fixture, "write", 75);
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_driver *driver = &machine->driver;
    static const unsigned places[] = {75, 75, 74, 74, 72, 72}; /* the chunk's first */
    (void)arg;
    for (unsigned i = 0; i < 6; i++) {
        uint64_t lba = i < 2 ? 70 : i < 4 ? 58 : 72;
        assert_int_equal(ide_driver_co_write(driver, i / 2, i % 2, lba, machine->bytes, 33), -EIO);
        assert_int_equal(driver->status, IDE_DRDY | IDE_DSC | IDE_ERR);
        assert_int_equal(driver->error, IDE_ABRT);
        assert_int_equal(lba_of_registers(machine), places[i]);
    }
    ide_machine_co_free(machine);
}
FIXTURE_TEST_WITH(a_write_that_fails_is_aborted_at_its_place, drivers, DISK_BYTES, DISK_BYTES)

static void co_a_flush_that_fails_is_aborted(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_driver *driver = &machine->driver;
    (void)arg;
    assert_int_equal(ide_driver_co_write(driver, IDE_WAY_PIO, false, 0, machine->bytes, 1), 0);
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_ops = 1u << MEMORY_FLUSH;
    assert_int_equal(ide_driver_co_flush(driver), -EIO);
    assert_int_equal(driver->error, IDE_ABRT);
    assert_int_equal(ide_driver_co_set_feature(driver, 0x82, 0), -EIO);
    assert_true(machine->channel.settings.write_cache); /* it could not be written */
    ide_channel_co_fini(&machine->channel);
    assert_int_equal(block_co_backend_free(machine->backend), -EIO); /* which is never forgotten */
    free(machine);
}
FIXTURE_TEST(a_flush_that_fails_is_aborted, DISK_BYTES, DISK_BYTES)

static void co_the_data_port_does_nothing_without_drq(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_channel *channel = &machine->channel;
    struct ide_taskfile taskfile = {.command = 0x30, .count = 1, .lba = 4};
    (void)arg;
    assert_int_equal(ide_data_read(channel, 4), 0);
    ide_data_write(channel, 0xffffffff, 4);
    ide_driver_issue(&machine->driver, &taskfile);
    assert_int_equal(ide_data_read(channel, 2), 0); /* the other direction */
    fill(machine, 1, 5);
    ide_driver_data_out(&machine->driver, machine->bytes, IDE_SECTOR);
    ide_data_write(channel, 0xffffffff, 4); /* one too much */
    ide_machine_co_wait(machine);
    expect_sectors(machine, 4, 1);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(the_data_port_does_nothing_without_drq, DISK_BYTES, DISK_BYTES)

static void co_ports_written_while_busy_or_drq_keep_their_values(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile taskfile = read_of(30, 1);
    (void)arg;
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    ide_driver_issue(&machine->driver, &taskfile);
    for (unsigned i = 0; i < 2; i++) {
        struct ide_taskfile other = {.command = i ? 0xec : 0xe5, .count = 77, .lba = 99};
        ide_driver_issue(&machine->driver, &other);
        ide_port_write(&machine->channel, IDE_DEVICE, IDE_DEVICE_1);
        assert_int_equal(ide_port_read(&machine->channel, IDE_COUNT), 1);
        assert_int_equal(lba_of_registers(machine), 30);
        memory_disk_release(&fixture->disk);
        if (i == 0)
            ide_machine_co_wait(machine);
    }
    assert_true(ide_machine_status(machine) & IDE_DRQ);
    ide_driver_data_in(&machine->driver, machine->bytes, IDE_SECTOR);
    expect_sectors(machine, 30, 1);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 1);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(ports_written_while_busy_or_drq_keep_their_values, DISK_BYTES, DISK_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sector_0_is_read_by_a_request_an_interrupt_and_256_words),
        cmocka_unit_test(each_sector_has_its_request_and_its_interrupt),
        cmocka_unit_test(multiple_has_an_interrupt_a_block_and_a_short_last_one),
        cmocka_unit_test(multiple_is_aborted_when_it_is_not_set),
        cmocka_unit_test(a_bios_reads_with_interrupts_off),
        cmocka_unit_test(cylinder_head_and_sector_follow_the_geometry_that_is_set),
        cmocka_unit_test(a_count_of_0_moves_256_sectors_or_verifies_65536),
        cmocka_unit_test(writes_arrive_by_each_command),
        cmocka_unit_test(without_the_write_cache_each_write_is_durable_first),
        cmocka_unit_test(fua_is_durable_with_the_cache_on),
        cmocka_unit_test(flush_and_standby_write_the_cache),
        cmocka_unit_test(what_lies_beyond_the_capacity_is_not_found),
        cmocka_unit_test(a_bad_sector_is_named_by_every_read),
        cmocka_unit_test(a_read_that_fails_once_is_mended),
        cmocka_unit_test(a_write_that_fails_is_aborted_at_its_place),
        cmocka_unit_test(a_flush_that_fails_is_aborted),
        cmocka_unit_test(the_data_port_does_nothing_without_drq),
        cmocka_unit_test(ports_written_while_busy_or_drq_keep_their_values),
    };
    drivers[0] = &block_filter_fault;
    drivers[1] = memory_drivers[0];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
