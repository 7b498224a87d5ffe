/* SPDX-License-Identifier: BSD-3-Clause */
/* The ports and what has no data: signature, interrupt line, the device that is not there, 48 bits
 * in two writes, dispatch, SET FEATURES, IDENTIFY. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "tests/harness/ide_fixture.h"

#define DISK_BYTES (2u << 20)
#define SECTORS (DISK_BYTES / IDE_SECTOR)

static void expect_signature(struct ide_channel *channel)
{
    assert_int_equal(ide_port_read(channel, IDE_ERROR), 0x01);
    assert_int_equal(ide_port_read(channel, IDE_COUNT), 1);
    assert_int_equal(ide_port_read(channel, IDE_LBA_LOW), 1);
    assert_int_equal(ide_port_read(channel, IDE_LBA_MID), 0);
    assert_int_equal(ide_port_read(channel, IDE_LBA_HIGH), 0);
    assert_int_equal(ide_port_read(channel, IDE_DEVICE) & 0x5f, 0);
    assert_int_equal(ide_port_read(channel, IDE_STATUS), IDE_DRDY | IDE_DSC);
}

static void co_a_reset_shows_the_signature_of_a_disk(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_channel *channel = &machine->channel;
    (void)arg;
    ide_port_write(channel, IDE_CONTROL, IDE_SRST);
    assert_int_equal(ide_machine_status(machine), IDE_BSY);
    ide_port_write(channel, IDE_COUNT, 9); /* not while it is busy */
    ide_port_write(channel, IDE_CONTROL, 0);
    expect_signature(channel);
    ide_channel_hard_reset(channel);
    expect_signature(channel);
    assert_false(machine->driver.is_raised);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_reset_shows_the_signature_of_a_disk, DISK_BYTES, DISK_BYTES)

static void co_the_diagnostic_says_that_all_is_well_with_an_interrupt(struct fixture *fixture,
                                                                      void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    (void)arg;
    ide_port_write(&machine->channel, IDE_DEVICE, IDE_DEVICE_1); /* it is for both */
    ide_port_write(&machine->channel, IDE_COMMAND, 0x90);
    ide_machine_co_wait(machine);
    expect_signature(&machine->channel);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(the_diagnostic_says_that_all_is_well_with_an_interrupt, DISK_BYTES, DISK_BYTES)

static void co_device_1_has_no_status_and_takes_no_command(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_channel *channel = &machine->channel;
    unsigned interrupts = machine->driver.interrupts;
    (void)arg;
    ide_port_write(channel, IDE_DEVICE, IDE_DEVICE_1);
    assert_int_equal(ide_port_read(channel, IDE_STATUS), 0);
    assert_int_equal(ide_machine_status(machine), 0);
    ide_port_write(channel, IDE_COUNT, 0x55); /* device 0's answer for it */
    assert_int_equal(ide_port_read(channel, IDE_COUNT), 0x55);
    ide_port_write(channel, IDE_COMMAND, 0xec);
    ide_machine_co_settle();
    assert_int_equal(ide_machine_status(machine), 0);
    assert_int_equal(ide_data_read(channel, 2), 0);
    ide_port_write(channel, IDE_DEVICE, 0);
    assert_int_equal(ide_machine_status(machine), IDE_DRDY | IDE_DSC);
    assert_int_equal(machine->driver.interrupts, interrupts);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(device_1_has_no_status_and_takes_no_command, DISK_BYTES, DISK_BYTES)

static void co_status_clears_the_interrupt_and_alternate_status_does_not(struct fixture *fixture,
                                                                         void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_channel *channel = &machine->channel;
    (void)arg;
    ide_port_write(channel, IDE_COMMAND, 0xe5);
    assert_true(machine->driver.is_raised);
    assert_int_equal(ide_port_read(channel, IDE_COUNT), 0xff);
    ide_machine_status(machine);
    assert_true(machine->driver.is_raised);
    ide_port_write(channel, IDE_CONTROL, IDE_NIEN); /* masked, not forgotten */
    assert_false(machine->driver.is_raised);
    ide_port_write(channel, IDE_CONTROL, 0);
    assert_true(machine->driver.is_raised);
    ide_port_write(channel, IDE_DEVICE, IDE_DEVICE_1); /* the other one drives the line */
    assert_false(machine->driver.is_raised);
    ide_port_read(channel, IDE_STATUS);
    ide_port_write(channel, IDE_DEVICE, 0);
    assert_true(machine->driver.is_raised);
    assert_int_equal(ide_port_read(channel, IDE_STATUS), IDE_DRDY | IDE_DSC);
    assert_false(machine->driver.is_raised);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(status_clears_the_interrupt_and_alternate_status_does_not, DISK_BYTES, DISK_BYTES)

static void co_hob_shows_what_was_written_before_until_the_next_write(struct fixture *fixture,
                                                                      void *arg)
{
    static const enum ide_port ports[] = {IDE_COUNT, IDE_LBA_LOW, IDE_LBA_MID, IDE_LBA_HIGH};
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_channel *channel = &machine->channel;
    (void)arg;
    for (unsigned i = 0; i < 4; i++) {
        ide_port_write(channel, ports[i], (uint8_t)(0x10 + i));
        ide_port_write(channel, ports[i], (uint8_t)(0x20 + i));
    }
    ide_port_write(channel, IDE_CONTROL, IDE_HOB);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(ide_port_read(channel, ports[i]), 0x10 + i);
    ide_port_write(channel, IDE_DEVICE, 0); /* any register of the block */
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(ide_port_read(channel, ports[i]), 0x20 + i);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(hob_shows_what_was_written_before_until_the_next_write, DISK_BYTES, DISK_BYTES)

static void co_a_command_that_is_not_there_is_aborted(struct fixture *fixture, void *arg)
{
    static const uint8_t codes[] = {0x00, 0x08, 0x27, 0xa0, 0xa1, 0xb0, 0xc7, 0xf8};
    struct ide_machine *machine = ide_machine_co_new(fixture);
    (void)arg;
    for (size_t i = 0; i < sizeof(codes); i++) {
        struct ide_taskfile taskfile = {.command = codes[i]};
        assert_int_equal(ide_driver_co_no_data(&machine->driver, &taskfile), -EIO);
        assert_int_equal(machine->driver.status, IDE_DRDY | IDE_DSC | IDE_ERR);
        assert_int_equal(machine->driver.error, IDE_ABRT);
    }
    ide_port_write(&machine->channel, IDE_COMMAND, 0xe1); /* the next one clears it */
    ide_machine_co_wait(machine);
    assert_int_equal(machine->driver.status, IDE_DRDY | IDE_DSC);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_command_that_is_not_there_is_aborted, DISK_BYTES, DISK_BYTES)

/* --- features ----------------------------------------------------------------------------------
 */

static void co_identify(struct ide_machine *machine)
{
    struct ide_taskfile taskfile = {.command = 0xec};
    assert_int_equal(ide_driver_co_pio_in(&machine->driver, &taskfile, machine->driver.identity,
                                          IDE_SECTOR, IDE_SECTOR),
                     0);
}

static void co_identify_says_what_is_set(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_driver *driver = &machine->driver;
    (void)arg;
    co_identify(machine);
    assert_int_equal(driver->sector_count, SECTORS);
    assert_int_equal(load_le32(driver->identity + 120), SECTORS);
    assert_true(driver->has_lba48 && driver->has_trim);
    assert_int_equal(ide_driver_word(driver, 59), 0x0110); /* the driver has set 16 */
    assert_int_equal(ide_driver_word(driver, 88), 0x203f); /* and mode 5 */
    assert_int_equal(ide_driver_word(driver, 85) & 0x60, 0x60);
    assert_int_equal(ide_driver_co_set_feature(driver, 0x03, 0x21), 0); /* multiword DMA 1 */
    assert_int_equal(ide_driver_co_set_feature(driver, 0x03, 0x0c), 0); /* PIO 4 leaves that */
    assert_int_equal(ide_driver_co_set_feature(driver, 0x55, 0), 0);
    co_identify(machine);
    assert_int_equal(ide_driver_word(driver, 88), 0x003f);
    assert_int_equal(ide_driver_word(driver, 63), 0x0207);
    assert_int_equal(ide_driver_word(driver, 85) & 0x60, 0x20);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(identify_says_what_is_set, DISK_BYTES, DISK_BYTES)

static void co_a_setting_that_is_not_there_is_aborted_and_changes_nothing(struct fixture *fixture,
                                                                          void *arg)
{
    static const uint8_t features[][2] = {{0x03, 0x46}, {0x03, 0x23}, {0x03, 0x0d}, {0x03, 0x02},
                                          {0x03, 0x10}, {0x03, 0xff}, {0x05, 0x80}, {0x00, 0}};
    static const uint8_t multiples[] = {3, 32, 255};
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_settings before = machine->channel.settings;
    (void)arg;
    for (size_t i = 0; i < sizeof(features) / 2; i++) {
        assert_int_equal(
            ide_driver_co_set_feature(&machine->driver, features[i][0], features[i][1]), -EIO);
        assert_int_equal(machine->driver.error, IDE_ABRT);
    }
    for (size_t i = 0; i < sizeof(multiples); i++) {
        struct ide_taskfile taskfile = {.command = 0xc6, .count = multiples[i]};
        assert_int_equal(ide_driver_co_no_data(&machine->driver, &taskfile), -EIO);
        assert_int_equal(machine->driver.error, IDE_ABRT);
    }
    struct ide_taskfile geometry = {.command = 0x91, .is_chs = true, .count = 0};
    assert_int_equal(ide_driver_co_no_data(&machine->driver, &geometry), -EIO);
    assert_memory_equal(&machine->channel.settings, &before, sizeof(before));
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_setting_that_is_not_there_is_aborted_and_changes_nothing, DISK_BYTES, DISK_BYTES)

static void co_a_soft_reset_reverts_settings_unless_66h_keeps_them(struct fixture *fixture,
                                                                   void *arg)
{
    struct ide_machine *machine = ide_machine_co_new(fixture);
    struct ide_driver *driver = &machine->driver;
    struct ide_settings *settings = &machine->channel.settings;
    (void)arg;
    assert_int_equal(ide_driver_co_set_feature(driver, 0x82, 0), 0);
    assert_int_equal(settings->multiple, 16);
    assert_int_equal(ide_driver_co_set_feature(driver, 0x66, 0), 0);
    assert_int_equal(ide_driver_co_soft_reset(driver), 0);
    assert_false(settings->write_cache);
    assert_int_equal(settings->multiple, 16);
    assert_int_equal(ide_driver_co_set_feature(driver, 0xcc, 0), 0);
    assert_int_equal(ide_driver_co_soft_reset(driver), 0);
    assert_true(settings->write_cache);
    assert_int_equal(settings->multiple, 0);
    assert_int_equal(settings->ultra_dma_modes, 1 << 5); /* the transfer mode stays */
    ide_channel_hard_reset(&machine->channel);
    assert_int_equal(settings->ultra_dma_modes, 0);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_soft_reset_reverts_settings_unless_66h_keeps_them, DISK_BYTES, DISK_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reset_shows_the_signature_of_a_disk),
        cmocka_unit_test(the_diagnostic_says_that_all_is_well_with_an_interrupt),
        cmocka_unit_test(device_1_has_no_status_and_takes_no_command),
        cmocka_unit_test(status_clears_the_interrupt_and_alternate_status_does_not),
        cmocka_unit_test(hob_shows_what_was_written_before_until_the_next_write),
        cmocka_unit_test(a_command_that_is_not_there_is_aborted),
        cmocka_unit_test(identify_says_what_is_set),
        cmocka_unit_test(a_setting_that_is_not_there_is_aborted_and_changes_nothing),
        cmocka_unit_test(a_soft_reset_reverts_settings_unless_66h_keeps_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
