/* SPDX-License-Identifier: BSD-3-Clause */
/* ide_reset.c, ide_io.c: soft resets in the middle of transfers, and what they leave behind. */
#include "tests/unit/unit.h"

#include "tests/harness/ide_fixture.h"

#define DISK_BYTES (2u << 20)

static const struct ide_taskfile write_6 = {.command = 0x30, .lba = 6, .count = 1};

static struct ide_taskfile read_of(uint64_t lba, uint16_t count)
{
    return (struct ide_taskfile){.command = 0x20, .lba = lba, .count = count};
}

static void expect_sector(struct ide_machine *machine, uint64_t lba)
{
    assert_memory_equal(machine->bytes, ide_machine_sector(machine, lba), IDE_SECTOR);
}

static void co_a_read_of_before_a_reset_touches_nothing_after_it(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile before = read_of(5, 3), after = read_of(900, 1);
    (void)arg;
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    ide_driver_issue(&machine->driver, &before);
    memory_disk_co_wait_held(&fixture->disk, 1);
    assert_int_equal(ide_driver_co_soft_reset(&machine->driver), 0); /* at once */
    assert_int_equal(ide_machine_status(machine), IDE_DRDY | IDE_DSC);
    unsigned interrupts = machine->driver.interrupts;
    ide_driver_issue(&machine->driver, &after);
    memory_disk_co_wait_held(&fixture->disk, 2);
    memory_disk_release(&fixture->disk);
    ide_machine_co_wait(machine);
    ide_machine_co_settle();
    assert_int_equal(machine->driver.interrupts - interrupts, 1);
    assert_int_equal(machine->driver.status, IDE_DRDY | IDE_DSC | IDE_DRQ);
    assert_int_equal(ide_port_read(&machine->channel, IDE_LBA_MID), 900 >> 8);
    ide_driver_data_in(&machine->driver, machine->bytes, IDE_SECTOR);
    expect_sector(machine, 900);
    assert_int_equal(ide_machine_status(machine), IDE_DRDY | IDE_DSC);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 2); /* and its other two are not read */
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_read_of_before_a_reset_touches_nothing_after_it, DISK_BYTES, DISK_BYTES)

static void co_a_reset_in_the_middle_of_data_ends_it(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile in = read_of(5, 3);
    (void)arg;
    ide_driver_issue(&machine->driver, &in);
    ide_machine_co_wait(machine);
    ide_driver_data_in(&machine->driver, machine->bytes, 100);
    assert_int_equal(ide_driver_co_soft_reset(&machine->driver), 0);
    assert_int_equal(ide_data_read(&machine->channel, 2), 0);
    ide_driver_issue(&machine->driver, &write_6);
    ide_driver_data_out(&machine->driver, machine->bytes, 100);
    assert_int_equal(ide_driver_co_soft_reset(&machine->driver), 0);
    ide_driver_data_out(&machine->driver, machine->bytes, IDE_SECTOR);
    ide_machine_co_settle();
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_reset_in_the_middle_of_data_ends_it, DISK_BYTES, DISK_BYTES)

static void co_a_reset_waits_for_a_write_that_went_down(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_channel *channel = &machine->channel;
    (void)arg;
    memset(machine->bytes, 3, IDE_SECTOR);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_WRITE);
    ide_driver_issue(&machine->driver, &write_6);
    ide_driver_data_out(&machine->driver, machine->bytes, IDE_SECTOR);
    memory_disk_co_wait_held(&fixture->disk, 1);
    ide_port_write(channel, IDE_CONTROL, IDE_SRST);
    ide_port_write(channel, IDE_CONTROL, 0);
    ide_machine_co_settle();
    assert_int_equal(ide_machine_status(machine), IDE_BSY);
    ide_driver_issue(&machine->driver, &write_6); /* not yet */
    memory_disk_release(&fixture->disk);
    assert_int_equal(ide_driver_co_not_busy(&machine->driver), 0);
    assert_int_equal(ide_machine_status(machine), IDE_DRDY | IDE_DSC);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 1);
    assert_false(machine->driver.is_raised);
    memset(machine->bytes, 4, IDE_SECTOR);
    assert_int_equal(
        ide_driver_co_write(&machine->driver, IDE_WAY_PIO, false, 6, machine->bytes, 1), 0);
    ide_machine_co_settle();
    expect_sector(machine, 6);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_reset_waits_for_a_write_that_went_down, DISK_BYTES, DISK_BYTES)

static void co_resets_leave_no_more_than_some_reads_behind(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile taskfile = read_of(5, 1);
    unsigned held = 0;
    (void)arg;
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    for (unsigned i = 0; i < 100; i++) {
        ide_driver_issue(&machine->driver, &taskfile);
        ide_port_write(&machine->channel, IDE_CONTROL, IDE_SRST);
        ide_port_write(&machine->channel, IDE_CONTROL, 0);
        ide_machine_co_settle();
        held = fixture->disk.held_count;
    }
    assert_int_equal(held, IDE_LEFT_BEHIND_MAX + 1);
    assert_int_equal(ide_machine_status(machine), IDE_BSY);
    memory_disk_release(&fixture->disk);
    assert_int_equal(ide_driver_co_not_busy(&machine->driver), 0);
    ide_machine_co_settle();
    assert_true(list_is_empty(&machine->channel.left_behind));
    ide_machine_co_free(machine);
}
FIXTURE_TEST(resets_leave_no_more_than_some_reads_behind, DISK_BYTES, DISK_BYTES)

/* What has not gone down, since the backend is drained, never does. */
static void co_a_reset_cancels_what_has_not_gone_down(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile in = read_of(5, 1);
    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        block_co_backend_drain(machine->backend);
        ide_driver_issue(&machine->driver, i ? &write_6 : &in);
        if (i)
            ide_driver_data_out(&machine->driver, machine->bytes, IDE_SECTOR);
        assert_int_equal(ide_machine_status(machine), IDE_BSY);
        ide_port_write(&machine->channel, IDE_CONTROL, IDE_SRST);
        ide_port_write(&machine->channel, IDE_CONTROL, 0);
        block_backend_resume(machine->backend);
        assert_int_equal(ide_driver_co_not_busy(&machine->driver), 0);
        ide_machine_co_settle();
    }
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 0);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_reset_cancels_what_has_not_gone_down, DISK_BYTES, DISK_BYTES)

static void co_a_command_waits_for_the_end_of_a_drain(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_taskfile taskfile = read_of(5, 1);
    (void)arg;
    block_co_backend_drain(machine->backend);
    ide_driver_issue(&machine->driver, &taskfile);
    ide_machine_co_settle();
    assert_int_equal(ide_machine_status(machine), IDE_BSY);
    block_backend_resume(machine->backend);
    ide_machine_co_wait(machine);
    ide_driver_data_in(&machine->driver, machine->bytes, IDE_SECTOR);
    expect_sector(machine, 5);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_command_waits_for_the_end_of_a_drain, DISK_BYTES, DISK_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_of_before_a_reset_touches_nothing_after_it),
        cmocka_unit_test(a_reset_in_the_middle_of_data_ends_it),
        cmocka_unit_test(a_reset_waits_for_a_write_that_went_down),
        cmocka_unit_test(resets_leave_no_more_than_some_reads_behind),
        cmocka_unit_test(a_reset_cancels_what_has_not_gone_down),
        cmocka_unit_test(a_command_waits_for_the_end_of_a_drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
