/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk that is read, written and trimmed at random, on raw and on qcow2 images whose file is slow
 * and fails at times, against the flat oracle: by every way of transfer, with resets in the middle
 * of commands. After a reset nothing of the command before it may happen any more. SEED makes a run
 * again.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/align.h"
#include "formats/qcow2/driver.h"
#include "formats/raw.h"
#include "tests/harness/ide_fixture.h"
#include "tests/harness/oracle.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define DISK_BYTES (256u << 10)
#define SECTORS (DISK_BYTES / IDE_SECTOR)
#define CAPACITY_BYTES (2u << 20)
#define TRANSFER_MAX 300 /* sectors: more than the model's buffer has */
#define STEPS 250
#define RUNS 1

static const struct block_driver *drivers[4];

struct world {
    struct sim sim;
    struct oracle oracle;
    struct random random;
    struct fixture *fixture;
    struct ide_machine *machine;
    bool is_raw;
    unsigned failed_reads, failed_writes, resets;
};

/* --- what is done ------------------------------------------------------------------------------
 */

struct range {
    uint64_t lba;
    uint32_t count;
};

static struct range draw_range(struct world *world)
{
    struct range range;
    range.count = (uint32_t)draw_scaled(&world->random, 1, TRANSFER_MAX);
    range.lba = random_below(&world->random, SECTORS - range.count + 1);
    return range;
}

static enum ide_way draw_way(struct world *world)
{
    static const uint32_t region_bytes[] = {65536, 4096, 512, 1022};
    world->machine->driver.region_bytes = region_bytes[random_below(&world->random, 4)];
    return (enum ide_way)random_below(&world->random, 3);
}

static void let_fail(struct world *world, bool may)
{
    struct memory_disk *disk = &world->fixture->disk;
    disk->fail_code = may && random_once_in(&world->random, 6) ? -EIO : 0;
    disk->fail_at_call = disk->call_count + random_below(&world->random, 4);
}

static void co_read(struct world *world)
{
    struct range range = draw_range(world);
    struct ide_driver *driver = &world->machine->driver;
    struct oracle_view view;
    enum ide_way way = draw_way(world);
    oracle_view_open(&world->oracle, &view, range.lba * IDE_SECTOR, range.count * IDE_SECTOR);
    let_fail(world, true);
    int rc = ide_driver_co_read(driver, way, random_once_in(&world->random, 2), range.lba,
                                world->machine->bytes, range.count);
    world->fixture->disk.fail_code = 0;
    if (rc == 0) {
        oracle_view_check(&world->oracle, &view, world->machine->bytes, "the guest");
    } else {
        assert_int_equal(rc, -EIO);
        assert_int_equal(driver->error, IDE_UNC);
        world->failed_reads++;
    }
    oracle_view_close(&view);
}

static uint32_t send_write(struct world *world, struct range range)
{
    uint32_t number = oracle_send(&world->oracle, 0, ORACLE_WRITE, range.lba * IDE_SECTOR,
                                  range.count * IDE_SECTOR);
    oracle_pattern(&world->oracle, number, world->machine->bytes);
    return number;
}

/* A write that fails makes only raw go on as if nothing was. */
static void co_write(struct world *world)
{
    struct range range = draw_range(world);
    struct ide_driver *driver = &world->machine->driver;
    enum ide_way way = draw_way(world);
    uint32_t number = send_write(world, range);
    let_fail(world, world->is_raw && world->machine->channel.settings.write_cache);
    int rc = ide_driver_co_write(driver, way, random_once_in(&world->random, 2), range.lba,
                                 world->machine->bytes, range.count);
    world->fixture->disk.fail_code = 0;
    if (rc == 0) {
        oracle_answer(&world->oracle, number);
    } else {
        assert_int_equal(rc, -EIO);
        assert_int_equal(driver->error, IDE_ABRT);
        oracle_fail(&world->oracle, number);
        world->failed_writes++;
    }
}

static void co_trim(struct world *world)
{
    struct range range = draw_range(world);
    uint32_t number = oracle_send(&world->oracle, 0, ORACLE_TRIM, range.lba * IDE_SECTOR,
                                  range.count * IDE_SECTOR);
    assert_int_equal(ide_driver_co_trim(&world->machine->driver, range.lba, range.count), 0);
    oracle_answer(&world->oracle, number);
}

static void co_set_cache(struct world *world)
{
    bool on = random_once_in(&world->random, 2);
    assert_int_equal(ide_driver_co_set_feature(&world->machine->driver, on ? 0x02 : 0x82, 0), 0);
}

/* --- resets in the middle ----------------------------------------------------------------------
 */

static void co_pause(struct world *world)
{
    for (uint64_t i = random_below(&world->random, 12); i > 0; i--)
        coroutine_co_pause();
}

/* Some of the command's blocks, as far as it asks for them. */
static void co_move_some(struct world *world)
{
    struct ide_machine *machine = world->machine;
    uint8_t scrap[IDE_SECTOR];
    uint32_t at = 0;
    for (uint64_t i = random_below(&world->random, 5); i > 0; i--) {
        if (!(ide_machine_status(machine) & IDE_DRQ)) {
            co_pause(world);
            continue;
        }
        ide_driver_data_in(&machine->driver, scrap, IDE_SECTOR); /* one of the two does nothing */
        ide_driver_data_out(&machine->driver, machine->bytes + at, IDE_SECTOR);
        at += IDE_SECTOR;
    }
}

static void co_break_off(struct world *world, bool is_write)
{
    static const uint8_t codes[2][2] = {{0x20, 0xc8}, {0x30, 0xca}};
    struct ide_driver *driver = &world->machine->driver;
    struct range range = draw_range(world);
    bool by_dma = random_once_in(&world->random, 2);
    range.count = (uint32_t)smaller(range.count, 255);
    struct ide_taskfile taskfile = {
        .command = codes[is_write][by_dma], .lba = range.lba, .count = (uint16_t)range.count};
    uint32_t number = is_write ? send_write(world, range) : 0;
    if (by_dma) {
        memcpy(world->machine->memory + IDE_DRIVER_DATA, world->machine->bytes,
               range.count * IDE_SECTOR);
        ide_driver_make_table(driver, range.count * IDE_SECTOR, !is_write);
    }
    ide_driver_issue(driver, &taskfile);
    if (by_dma)
        ide_driver_start_dma(driver, !is_write);
    else
        co_move_some(world);
    co_pause(world);
    assert_int_equal(ide_driver_co_start(driver), 0);
    if (is_write)
        oracle_fail(&world->oracle, number);
    world->resets++;
}

/* --- a run -------------------------------------------------------------------------------------
 */

static void co_step(struct world *world)
{
    uint64_t what = random_below(&world->random, 20);
    if (what < 7)
        co_read(world);
    else if (what < 13)
        co_write(world);
    else if (what < 15)
        co_trim(world);
    else if (what < 16)
        assert_int_equal(ide_driver_co_flush(&world->machine->driver), 0);
    else if (what < 17)
        co_set_cache(world);
    else
        co_break_off(world, what < 19);
}

static void co_read_all(struct world *world)
{
    struct oracle_view view;
    oracle_view_open(&world->oracle, &view, 0, DISK_BYTES);
    assert_int_equal(ide_driver_co_read(&world->machine->driver, IDE_WAY_DMA, true, 0,
                                        world->machine->bytes, SECTORS),
                     0);
    oracle_view_check(&world->oracle, &view, world->machine->bytes, "the guest at the end");
    oracle_view_close(&view);
}

static void co_open_image(struct world *world)
{
    struct fixture *fixture = world->fixture;
    struct error err = {""};
    struct node_options *options = node_options_new();
    memory_disk_options(&fixture->disk, options, "file.", "growing");
    node_options_set(options, "driver", world->is_raw ? "raw" : "qcow2", NULL);
    if (block_co_open(&fixture->env, options, &fixture->node, &err) < 0)
        fail_msg("%s", err.message);
    for (uint64_t offset = 0; offset < DISK_BYTES; offset += ORACLE_INITIAL_UNIT) {
        const uint8_t *bytes = oracle_initial(&world->oracle, offset);
        if (bytes)
            assert_int_equal(fixture_co_write(fixture->node, offset, bytes, ORACLE_INITIAL_UNIT, 0),
                             0);
    }
}

static void co_run(struct fixture *fixture, void *arg)
{
    struct world *world = arg;
    world->fixture = fixture;
    co_open_image(world);
    world->machine = ide_machine_co_new(fixture);
    fixture->disk.pauses_max = 3;
    for (unsigned i = 0; i < STEPS && !sim_failed(&world->sim); i++)
        co_step(world);
    fixture->disk.pauses_max = 0;
    if (!sim_failed(&world->sim))
        co_read_all(world);
    ide_machine_co_free(world->machine);
}

static void run_seed(uint64_t seed, bool is_raw, struct world *total)
{
    static const struct memory_image image = {
        .cluster_bits = 12, .refcount_order = 4, .disk_bytes = DISK_BYTES};
    struct world *world = calloc(1, sizeof(*world));
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_true(world && fixture);
    world->is_raw = is_raw;
    random_seed(&world->random, seed);
    sim_init(&world->sim, seed, false);
    oracle_init(&world->oracle, &world->sim, DISK_BYTES);
    fixture_init(fixture, drivers, is_raw ? DISK_BYTES : 0, CAPACITY_BYTES, seed);
    if (!is_raw)
        memory_image_make(&fixture->disk, &image);
    fixture_run(fixture, co_run, world);
    fixture_fini(fixture);
    if (sim_failed(&world->sim))
        fail_msg("SEED=%llu: %s", (unsigned long long)seed, world->sim.failure);
    total->failed_reads += world->failed_reads;
    total->failed_writes += world->failed_writes;
    total->resets += world->resets;
    oracle_fini(&world->oracle);
    sim_fini(&world->sim);
    free(fixture);
    free(world);
}

static void run_seeds(bool is_raw)
{
    struct world total = {.is_raw = is_raw};
    uint64_t seed = fixture_seed(is_raw ? "raw" : "qcow2");
    for (unsigned i = 0; i < RUNS; i++)
        run_seed(seed + i, is_raw, &total);
    print_message("%u reads and %u writes failed, %u commands were broken off\n",
                  total.failed_reads, total.failed_writes, total.resets);
    assert_true(total.resets > 0);
}

static void a_raw_disk_shows_what_was_written(void **state)
{
    (void)state;
    run_seeds(true);
}

static void a_qcow2_disk_shows_what_was_written(void **state)
{
    (void)state;
    run_seeds(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_raw_disk_shows_what_was_written),
        cmocka_unit_test(a_qcow2_disk_shows_what_was_written),
    };
    drivers[0] = memory_drivers[1]; /* growing */
    drivers[1] = &format_raw;
    drivers[2] = &format_qcow2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
