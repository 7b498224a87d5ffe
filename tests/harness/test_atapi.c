/* SPDX-License-Identifier: BSD-3-Clause */
/* atapi_*.c: a CD drive, by PIO in pieces and by DMA; sense, unit attentions, the tray, another
 * medium in the middle of a read. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/filters.h"
#include "common/endian.h"
#include "tests/harness/ide_fixture.h"
#include "tests/harness/ide_identify.h"

#define DISK_BYTES ((1u << 20) + 1000) /* the last block is not whole */
#define CAPACITY ((DISK_BYTES + 2048) & ~7u)
#define BLOCKS (DISK_BYTES / ATAPI_BLOCK)
#define LIMIT 0xfffe

static const struct block_driver *drivers[4];

static void expect_blocks(struct ide_machine *machine, uint32_t lba, uint32_t count)
{
    assert_memory_equal(machine->bytes, machine->fixture->disk.data + lba * ATAPI_BLOCK,
                        count * ATAPI_BLOCK);
}

static void co_expect_sense(struct ide_machine *machine, unsigned key, unsigned asc, unsigned ascq)
{
    uint8_t sense[ATAPI_SENSE_BYTES];
    assert_int_equal(atapi_driver_co_sense(&machine->driver, sense), 0);
    assert_int_equal(sense[2], key);
    assert_int_equal(sense[12], asc);
    assert_int_equal(sense[13], ascq);
}

/* The command failed; why is asked for, once. */
static void co_expect_failure(struct ide_machine *machine, int rc, unsigned key, unsigned asc,
                              unsigned ascq)
{
    assert_int_equal(rc, -EIO);
    assert_int_equal(machine->driver.status, IDE_DRDY | IDE_DSC | IDE_ERR);
    assert_int_equal(machine->driver.error, key << 4 | IDE_ABRT);
    assert_int_equal(ide_port_read(&machine->channel, IDE_COUNT), ATAPI_COD | ATAPI_IO);
    co_expect_sense(machine, key, asc, ascq);
    co_expect_sense(machine, ATAPI_NO_SENSE, 0, 0);
}

/* Started, and the attention that power on leaves has been told. */
static struct ide_machine *co_new_ready(struct fixture *fixture)
{
    struct ide_machine *machine = ide_machine_co_new_cd(fixture);
    assert_int_equal(atapi_driver_co_start(&machine->driver), 0);
    assert_int_equal(atapi_driver_co_test_ready(&machine->driver), -EIO);
    assert_int_equal(atapi_driver_co_test_ready(&machine->driver), 0);
    memory_disk_forget_calls(&fixture->disk);
    return machine;
}

static int co_run(struct ide_machine *machine, const uint8_t packet[ATAPI_PACKET_BYTES],
                  uint32_t length)
{
    struct atapi_command command = {
        .bytes = machine->bytes, .length = sizeof(machine->bytes), .limit = LIMIT};
    uint32_t moved;
    memcpy(command.packet, packet, ATAPI_PACKET_BYTES);
    int rc = atapi_driver_co_run(&machine->driver, &command, &moved);
    if (rc == 0)
        assert_int_equal(moved, length);
    return rc;
}

/* --- what it is --------------------------------------------------------------------------------
 */

static void the_identity_is_that_of_a_cd_drive(void **state)
{
    struct ide_settings settings = {.ultra_dma_modes = 2};
    struct ide_identity identity = {
        .serial = "S", .firmware = "F", .model = "AB", .settings = &settings};
    uint8_t bytes[512], sum = 0;
    (void)state;
    ide_identify_cd(&identity, bytes);
    assert_int_equal(load_le16(bytes), 0x85c0);
    assert_memory_equal(bytes + 54, "BA  ", 4);
    assert_int_equal(load_le16(bytes + 2 * 49) & 0x300, 0x300);
    assert_int_equal(load_le16(bytes + 2 * 82) & 0x0210, 0x0210); /* DEVICE RESET, PACKET */
    assert_int_equal(load_le16(bytes + 2 * 88), 0x023f);
    assert_int_equal(load_le16(bytes + 2 * 125), 0);
    for (unsigned i = 0; i < 512; i++)
        sum = (uint8_t)(sum + bytes[i]);
    assert_int_equal(sum, 0);
}

static void sense_is_told_in_18_bytes(void **state)
{
    struct atapi_sense sense = {.key = 3, .asc = 0x11, .ascq = 5, .has_lba = true, .lba = 0x1234};
    static const uint8_t expected[ATAPI_SENSE_BYTES] = {0xf0, 0, 3, 0, 0, 0x12, 0x34,
                                                        10,   0, 0, 0, 0, 0x11, 5};
    uint8_t bytes[ATAPI_SENSE_BYTES];
    (void)state;
    atapi_sense_encode(&sense, bytes);
    assert_memory_equal(bytes, expected, sizeof(bytes));
    sense.has_lba = false;
    atapi_sense_encode(&sense, bytes);
    assert_int_equal(bytes[0], 0x70);
    assert_int_equal(bytes[6], 0);
}

static void co_a_host_that_looks_for_a_disk_is_shown_the_signature(struct fixture *fixture,
                                                                   void *arg)
{
    static const uint8_t codes[] = {0xec, 0x20};
    struct ide_machine *machine = ide_machine_co_new_cd(fixture);
    struct ide_channel *channel = &machine->channel;
    (void)arg;
    assert_int_equal(ide_machine_status(machine), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct ide_taskfile taskfile = {.command = codes[i]};
        assert_int_equal(ide_driver_co_no_data(&machine->driver, &taskfile), -EIO);
        assert_int_equal(machine->driver.error, IDE_ABRT);
        assert_int_equal(ide_port_read(channel, IDE_COUNT), 1);
        assert_int_equal(ide_port_read(channel, IDE_LBA_LOW), 1);
        assert_int_equal(ide_port_read(channel, IDE_LBA_MID), 0x14);
        assert_int_equal(ide_port_read(channel, IDE_LBA_HIGH), 0xeb);
    }
    assert_int_equal(atapi_driver_co_start(&machine->driver), 0);
    assert_int_equal(ide_driver_word(&machine->driver, 0), 0x85c0);
    struct ide_taskfile write = {.command = 0xca, .count = 1};
    assert_int_equal(ide_driver_co_no_data(&machine->driver, &write), -EIO);
    assert_int_equal(machine->driver.error, IDE_ABRT);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_host_that_looks_for_a_disk_is_shown_the_signature, DISK_BYTES, CAPACITY)

static void co_inquiry_and_capacity_fit_the_room_there_is(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = co_new_ready(fixture);
    uint32_t blocks;
    (void)arg;
    assert_int_equal(atapi_driver_co_capacity(&machine->driver, &blocks), 0);
    assert_int_equal(blocks, BLOCKS);
    assert_int_equal(co_run(machine, (uint8_t[12]){0x12, [4] = 255}, 36), 0);
    assert_int_equal(machine->bytes[0], 5);
    assert_int_equal(machine->bytes[4], 31);
    assert_memory_equal(machine->bytes + 8, "PLATTER TEST CD ", 16);
    assert_int_equal(co_run(machine, (uint8_t[12]){0x12, [4] = 5}, 5), 0); /* an odd number */
    assert_int_equal(co_run(machine, (uint8_t[12]){0x12, [4] = 0}, 0), 0);
    co_expect_failure(machine, co_run(machine, (uint8_t[12]){0x12, 1, [4] = 36}, 0),
                      ATAPI_ILLEGAL_REQUEST, 0x24, 0);
    co_expect_failure(machine, co_run(machine, (uint8_t[12]){0x2a, [8] = 1}, 0),
                      ATAPI_ILLEGAL_REQUEST, 0x20, 0);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(inquiry_and_capacity_fit_the_room_there_is, DISK_BYTES, CAPACITY)

/* --- reads -------------------------------------------------------------------------------------
 */

static void co_pio_comes_in_pieces_within_the_limit(struct fixture *fixture, void *arg)
{
    static const struct {
        uint16_t limit;
        unsigned interrupts; /* for 5 blocks, with the last one */
    } cases[] = {{2048, 6}, {LIMIT, 2}, {0xffff, 2}, {4097, 4}, {2, 5121}, {3, 5121}};
    struct ide_machine *machine = co_new_ready(fixture);
    struct ide_driver *driver = &machine->driver;
    (void)arg;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned before = driver->interrupts;
        memset(machine->bytes, 0, 5 * ATAPI_BLOCK);
        assert_int_equal(atapi_driver_co_read(driver, false, cases[i].limit, 11, machine->bytes, 5),
                         0);
        expect_blocks(machine, 11, 5);
        assert_int_equal(driver->interrupts - before, cases[i].interrupts);
    }
    ide_machine_co_free(machine);
}
FIXTURE_TEST(pio_comes_in_pieces_within_the_limit, DISK_BYTES, CAPACITY)

static void co_without_a_byte_count_limit_data_is_aborted(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = co_new_ready(fixture);
    (void)arg;
    for (uint16_t limit = 0; limit < 2; limit++)
        co_expect_failure(
            machine, atapi_driver_co_read(&machine->driver, false, limit, 0, machine->bytes, 1),
            ATAPI_ABORTED_COMMAND, 0, 0);
    assert_int_equal(atapi_driver_co_test_ready(&machine->driver), 0); /* has none */
    ide_machine_co_free(machine);
}
FIXTURE_TEST(without_a_byte_count_limit_data_is_aborted, DISK_BYTES, CAPACITY)

static void co_long_reads_go_by_dma_and_by_pio(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = co_new_ready(fixture);
    struct ide_driver *driver = &machine->driver;
    (void)arg;
    for (unsigned by_dma = 0; by_dma < 2; by_dma++) {
        unsigned before = driver->interrupts;
        memset(machine->bytes, 0, 128 * ATAPI_BLOCK);
        assert_int_equal(
            atapi_driver_co_read(driver, by_dma, LIMIT, BLOCKS - 128, machine->bytes, 128), 0);
        expect_blocks(machine, BLOCKS - 128, 128);
        assert_int_equal(driver->interrupts - before, by_dma ? 1 : 7);
        assert_int_equal(fixture->disk.counts[MEMORY_READ], 2); /* by the buffer's size */
        memory_disk_forget_calls(&fixture->disk);
    }
    assert_int_equal(co_run(machine, (uint8_t[12]){0xa8, [5] = 7, [9] = 2}, 2 * ATAPI_BLOCK), 0);
    expect_blocks(machine, 7, 2);
    assert_int_equal(co_run(machine, (uint8_t[12]){0x28, [5] = 7}, 0), 0); /* no blocks */
    ide_machine_co_free(machine);
}
FIXTURE_TEST(long_reads_go_by_dma_and_by_pio, DISK_BYTES, CAPACITY)

static void co_blocks_behind_the_last_are_an_illegal_request(struct fixture *fixture, void *arg)
{
    static const uint32_t lbas[] = {BLOCKS - 1, BLOCKS, UINT32_MAX};
    struct ide_machine *machine = co_new_ready(fixture);
    (void)arg;
    for (unsigned i = 0; i < 6; i++)
        co_expect_failure(
            machine,
            atapi_driver_co_read(&machine->driver, i % 2, LIMIT, lbas[i / 2], machine->bytes, 2),
            ATAPI_ILLEGAL_REQUEST, 0x21, 0);
    co_expect_failure(machine,
                      co_run(machine, (uint8_t[12]){0xa8, [6] = 0xff, 0xff, 0xff, 0xff}, 0),
                      ATAPI_ILLEGAL_REQUEST, 0x21, 0);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 0);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(blocks_behind_the_last_are_an_illegal_request, DISK_BYTES, CAPACITY)

static void co_a_bad_block_has_its_address_in_the_sense(struct fixture *fixture, void *arg)
{
    struct error err = {""};
    struct node_options *options = node_options_new();
    uint8_t sense[ATAPI_SENSE_BYTES];
    (void)arg;
    assert_int_equal(node_options_parse(options,
                                        "driver=fault,inject-error.0.iotype=read,"
                                        "inject-error.0.sector=41", /* block 10 */
                                        &err),
                     0);
    memory_disk_options(&fixture->disk, options, "file.", "file");
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, &err), 0);
    struct ide_machine *machine = co_new_ready(fixture);
    for (unsigned by_dma = 0; by_dma < 2; by_dma++) {
        assert_int_equal(
            atapi_driver_co_read(&machine->driver, by_dma, LIMIT, 7, machine->bytes, 9), -EIO);
        assert_int_equal(machine->driver.error, ATAPI_MEDIUM_ERROR << 4 | IDE_ABRT);
        assert_int_equal(atapi_driver_co_sense(&machine->driver, sense), 0);
        assert_int_equal(sense[0], 0xf0);
        assert_int_equal(sense[12], 0x11);
        assert_int_equal(load_be32(sense + 3), 10);
        assert_int_equal(
            atapi_driver_co_read(&machine->driver, by_dma, LIMIT, 7, machine->bytes, 3), 0);
    }
    ide_machine_co_free(machine);
}
FIXTURE_TEST_WITH(a_bad_block_has_its_address_in_the_sense, drivers, DISK_BYTES, CAPACITY)

/* --- attentions, tray, medium ------------------------------------------------------------------
 */

static void co_power_on_is_told_to_the_first_command_that_asks(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = ide_machine_co_new_cd(fixture);
    (void)arg;
    assert_int_equal(co_run(machine, (uint8_t[12]){0x12, [4] = 36}, 36), 0); /* not INQUIRY */
    co_expect_failure(machine, atapi_driver_co_test_ready(&machine->driver), ATAPI_UNIT_ATTENTION,
                      0x29, 0);
    assert_int_equal(atapi_driver_co_test_ready(&machine->driver), 0);
    ide_channel_hard_reset(&machine->channel);
    co_expect_sense(machine, ATAPI_UNIT_ATTENTION, 0x29, 0); /* or is asked for */
    assert_int_equal(atapi_driver_co_test_ready(&machine->driver), 0);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(power_on_is_told_to_the_first_command_that_asks, DISK_BYTES, CAPACITY)

static void co_a_medium_comes_and_goes(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = co_new_ready(fixture);
    struct ide_driver *driver = &machine->driver;
    uint32_t blocks;
    (void)arg;
    atapi_change_medium(&machine->channel, NULL);
    co_expect_failure(machine, atapi_driver_co_test_ready(driver), ATAPI_NOT_READY, 0x3a, 0);
    co_expect_failure(machine, atapi_driver_co_capacity(driver, &blocks), ATAPI_NOT_READY, 0x3a, 0);
    co_expect_failure(machine, atapi_driver_co_read(driver, true, LIMIT, 0, machine->bytes, 1),
                      ATAPI_NOT_READY, 0x3a, 0);
    atapi_change_medium(&machine->channel, machine->backend);
    co_expect_failure(machine, atapi_driver_co_read(driver, true, LIMIT, 0, machine->bytes, 1),
                      ATAPI_UNIT_ATTENTION, 0x28, 0);
    assert_int_equal(atapi_driver_co_read(driver, true, LIMIT, 0, machine->bytes, 1), 0);
    expect_blocks(machine, 0, 1);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_medium_comes_and_goes, DISK_BYTES, CAPACITY)

static void co_the_tray_opens_unless_it_is_locked(struct fixture *fixture, void *arg)
{
    static const uint8_t lock[12] = {0x1e, [4] = 1}, unlock[12] = {0x1e};
    static const uint8_t eject[12] = {0x1b, [4] = 2}, load[12] = {0x1b, [4] = 3};
    static const uint8_t start[12] = {0x1b, [4] = 1};
    struct ide_machine *machine = co_new_ready(fixture);
    (void)arg;
    assert_int_equal(co_run(machine, lock, 0), 0);
    co_expect_failure(machine, co_run(machine, eject, 0), ATAPI_ILLEGAL_REQUEST, 0x53, 2);
    assert_int_equal(atapi_driver_co_test_ready(&machine->driver), 0);
    assert_int_equal(co_run(machine, unlock, 0), 0);
    assert_int_equal(co_run(machine, eject, 0), 0);
    co_expect_failure(machine, atapi_driver_co_test_ready(&machine->driver), ATAPI_NOT_READY, 0x3a,
                      0);
    assert_int_equal(co_run(machine, load, 0), 0);
    co_expect_failure(machine, atapi_driver_co_test_ready(&machine->driver), ATAPI_UNIT_ATTENTION,
                      0x28, 0);
    assert_int_equal(co_run(machine, start, 0), 0); /* turns, and changes nothing */
    assert_int_equal(atapi_driver_co_test_ready(&machine->driver), 0);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(the_tray_opens_unless_it_is_locked, DISK_BYTES, CAPACITY)

static void issue_read(struct ide_machine *machine, bool by_dma, uint32_t lba, uint16_t blocks)
{
    struct ide_taskfile taskfile = {
        .command = 0xa0, .is_chs = true, .features = by_dma, .lba = LIMIT << 8};
    uint8_t packet[12] = {0x28};
    store_be32(packet + 2, lba);
    store_be16(packet + 7, blocks);
    ide_driver_issue(&machine->driver, &taskfile);
    ide_driver_data_out(&machine->driver, packet, sizeof(packet));
}

static void co_a_medium_that_goes_in_the_middle_fails_the_read(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = co_new_ready(fixture);
    struct block_backend *other;
    (void)arg;
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    issue_read(machine, false, 3, 100);
    memory_disk_co_wait_held(&fixture->disk, 1);
    assert_int_equal(block_backend_new(&other, fixture->node, true, NULL), 0);
    atapi_change_medium(&machine->channel, other);
    ide_machine_co_wait(machine); /* now, not when the old one has answered */
    assert_int_equal(ide_driver_verdict(&machine->driver), -EIO);
    co_expect_sense(machine, ATAPI_NOT_READY, 0x3a, 0);
    memory_disk_release(&fixture->disk);
    co_expect_failure(machine, atapi_driver_co_test_ready(&machine->driver), ATAPI_UNIT_ATTENTION,
                      0x28, 0);
    assert_int_equal(block_co_backend_free(machine->backend), 0);
    machine->backend = other;
    assert_int_equal(atapi_driver_co_read(&machine->driver, true, LIMIT, 5, machine->bytes, 1), 0);
    expect_blocks(machine, 5, 1);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(a_medium_that_goes_in_the_middle_fails_the_read, DISK_BYTES, CAPACITY)

static void co_device_reset_is_heard_while_the_drive_is_busy(struct fixture *fixture, void *arg)
{
    struct ide_machine *machine = co_new_ready(fixture);
    (void)arg;
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    issue_read(machine, false, 3, 1);
    memory_disk_co_wait_held(&fixture->disk, 1);
    ide_port_write(&machine->channel, IDE_COMMAND, 0xa1); /* no other command is */
    assert_int_equal(ide_machine_status(machine), IDE_BSY);
    unsigned interrupts = machine->driver.interrupts;
    ide_port_write(&machine->channel, IDE_COMMAND, 0x08);
    assert_int_equal(ide_machine_status(machine), 0);
    assert_int_equal(ide_port_read(&machine->channel, IDE_LBA_HIGH), 0xeb);
    memory_disk_release(&fixture->disk);
    ide_machine_co_settle();
    assert_int_equal(machine->driver.interrupts, interrupts);
    assert_int_equal(ide_machine_status(machine), 0);
    issue_read(machine, false, 4, 1); /* and with data that nobody reads */
    ide_machine_co_wait(machine);
    assert_true(ide_machine_status(machine) & IDE_DRQ);
    ide_port_write(&machine->channel, IDE_COMMAND, 0x08);
    assert_int_equal(ide_machine_status(machine), 0);
    assert_int_equal(ide_data_read(&machine->channel, 2), 0);
    assert_int_equal(atapi_driver_co_test_ready(&machine->driver), 0);
    ide_machine_co_free(machine);
}
FIXTURE_TEST(device_reset_is_heard_while_the_drive_is_busy, DISK_BYTES, CAPACITY)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_identity_is_that_of_a_cd_drive),
        cmocka_unit_test(sense_is_told_in_18_bytes),
        cmocka_unit_test(a_host_that_looks_for_a_disk_is_shown_the_signature),
        cmocka_unit_test(inquiry_and_capacity_fit_the_room_there_is),
        cmocka_unit_test(pio_comes_in_pieces_within_the_limit),
        cmocka_unit_test(without_a_byte_count_limit_data_is_aborted),
        cmocka_unit_test(long_reads_go_by_dma_and_by_pio),
        cmocka_unit_test(blocks_behind_the_last_are_an_illegal_request),
        cmocka_unit_test(a_bad_block_has_its_address_in_the_sense),
        cmocka_unit_test(power_on_is_told_to_the_first_command_that_asks),
        cmocka_unit_test(a_medium_comes_and_goes),
        cmocka_unit_test(the_tray_opens_unless_it_is_locked),
        cmocka_unit_test(a_medium_that_goes_in_the_middle_fails_the_read),
        cmocka_unit_test(device_reset_is_heard_while_the_drive_is_busy),
    };
    drivers[0] = &block_filter_fault;
    drivers[1] = memory_drivers[0];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
