/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "common/endian.h"
#include "tests/harness/ide_fixture.h"

static void co_open(struct fixture *fixture)
{
    struct random random;
    random_seed(&random, 8);
    for (uint64_t i = 0; i < fixture->disk.size_bytes; i += 8)
        store_le64(fixture->disk.data + i, random_u64(&random));
    fixture_co_open(fixture, "file", true);
}

static struct ide_machine *co_new(struct fixture *fixture, bool is_cd)
{
    struct ide_machine *machine = calloc(1, sizeof(*machine));
    assert_non_null(machine);
    if (!fixture->node)
        co_open(fixture);
    machine->fixture = fixture;
    assert_int_equal(block_backend_new(&machine->backend, fixture->node, is_cd, NULL), 0);
    struct ide_config config =
        ide_driver_init(&machine->driver, &machine->channel, fixture->loop, &machine->guest_memory,
                        machine->memory, machine->backend);
    config.is_cd = is_cd;
    ide_channel_init(&machine->channel, &config);
    return machine;
}

struct ide_machine *ide_machine_co_new(struct fixture *fixture)
{
    struct ide_machine *machine = co_new(fixture, false);
    assert_int_equal(ide_driver_co_start(&machine->driver), 0);
    memory_disk_forget_calls(&fixture->disk);
    return machine;
}

struct ide_machine *ide_machine_co_new_cd(struct fixture *fixture)
{
    struct ide_machine *machine = co_new(fixture, true);
    memory_disk_forget_calls(&fixture->disk);
    return machine;
}

void ide_machine_co_free(struct ide_machine *machine)
{
    ide_channel_co_fini(&machine->channel);
    assert_int_equal(block_co_backend_free(machine->backend), 0);
    free(machine);
}

uint8_t *ide_machine_sector(struct ide_machine *machine, uint64_t lba)
{
    return machine->fixture->disk.data + lba * IDE_SECTOR;
}

void ide_machine_co_wait(struct ide_machine *machine)
{
    assert_int_equal(ide_driver_co_interrupt(&machine->driver), 0);
}

void ide_machine_co_settle(void)
{
    for (unsigned i = 0; i < 20; i++)
        coroutine_co_pause();
}

uint8_t ide_machine_status(struct ide_machine *machine)
{
    return ide_port_read(&machine->channel, IDE_ALTERNATE_STATUS);
}
