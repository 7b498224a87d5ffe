/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that does what it likes to an IDE channel. Input: a byte (bit 0: a CD drive, bits 1 to 3:
 * how slow the disk is), then steps: port and bus master accesses, bytes put into the guest's
 * memory, turns of the loop; a disk that hangs, fails, is drained, or is another medium.
 *
 * Properties: BSY and DRQ are never set together; what is in flight, and so the memory it takes, is
 * bounded; the line is up only with an interrupt unread; and when the disk answers again, a reset
 * ends, and the device says what it is.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/node_options.h"
#include "common/endian.h"
#include "tests/fuzz/fuzz_image.h"
#include "tests/harness/ide_channel.h"
#include "tests/unit/block/memory_driver.h"

#define DISK_BYTES ((256u << 10) + 512)
#define MEMORY_BYTES (160u << 10)
#define STEPS_MAX 2000
#define IN_FLIGHT_MAX (IDE_LEFT_BEHIND_MAX + 1 + 32) /* a command's are 32 at most: TRIM */
#define TURNS_MAX 100000
#define HELD ((1u << MEMORY_READ) | (1u << MEMORY_WRITE) | (1u << MEMORY_DISCARD))

struct input {
    const uint8_t *data;
    size_t left;
};

struct machine {
    struct memory_disk disk;
    struct block_node *node;
    struct block_backend *backend;
    struct guest_memory memory;
    struct ide_channel channel;
    bool is_raised, is_drained;
};

static struct input input; /* what fuzz_image_run() was given */

static uint8_t take(void)
{
    if (input.left == 0)
        return 0;
    input.left--;
    return *input.data++;
}

static uint32_t take32(void)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++)
        value |= (uint32_t)take() << 8 * i;
    return value;
}

static void line_changed(void *arg, bool is_raised)
{
    struct machine *machine = arg;
    FUZZ_CHECK(machine->is_raised != is_raised);
    machine->is_raised = is_raised;
}

/* --- properties --------------------------------------------------------------------------------
 */

static unsigned length_of(const struct list *list)
{
    unsigned count = 0;
    list_for_each (link, list)
        count++;
    return count;
}

static void check(struct machine *machine)
{
    struct ide_channel *channel = &machine->channel;
    uint8_t status = ide_port_read(channel, IDE_ALTERNATE_STATUS);
    FUZZ_CHECK((status & (IDE_BSY | IDE_DRQ)) != (IDE_BSY | IDE_DRQ));
    FUZZ_CHECK(length_of(&channel->requests) + length_of(&channel->left_behind) <= IN_FLIGHT_MAX);
    FUZZ_CHECK(!machine->is_raised || channel->is_pending);
    FUZZ_CHECK(channel->data_at <= channel->data_end && channel->data_end <= IDE_BUFFER_BYTES);
}

static void co_wait_not_busy(struct machine *machine)
{
    for (unsigned i = 0; ide_port_read(&machine->channel, IDE_ALTERNATE_STATUS) & IDE_BSY; i++) {
        FUZZ_CHECK(i < TURNS_MAX);
        coroutine_co_pause();
    }
}

static void co_let_answer(struct machine *machine)
{
    machine->disk.fail_code = 0;
    machine->disk.pauses_max = 0;
    memory_disk_release(&machine->disk);
    if (machine->is_drained)
        block_backend_resume(machine->backend);
    machine->is_drained = false;
}

/* Whatever was done, this is a device. */
static void co_check_alive(struct machine *machine)
{
    struct ide_channel *channel = &machine->channel;
    uint8_t bytes[512];
    ide_port_write(channel, IDE_CONTROL, IDE_SRST | IDE_NIEN);
    ide_port_write(channel, IDE_CONTROL, IDE_NIEN);
    co_wait_not_busy(machine);
    ide_port_write(channel, IDE_COMMAND, channel->config.is_cd ? 0xa1 : 0xec);
    co_wait_not_busy(machine);
    FUZZ_CHECK(ide_port_read(channel, IDE_STATUS) & IDE_DRQ);
    for (unsigned i = 0; i < 512; i += 2)
        store_le16(bytes + i, (uint16_t)ide_data_read(channel, 2));
    FUZZ_CHECK(load_le16(bytes) == (channel->config.is_cd ? 0x85c0 : 0x0040));
    FUZZ_CHECK(channel->config.is_cd || load_le64(bytes + 200) == DISK_BYTES / IDE_SECTOR);
    FUZZ_CHECK(!(ide_port_read(channel, IDE_STATUS) & IDE_DRQ));
}

/* --- steps -------------------------------------------------------------------------------------
 */

static void move_data(struct ide_channel *channel, unsigned count)
{
    unsigned bytes = count % 2 ? 4 : 2;
    uint32_t value = take32();
    for (unsigned i = 0; i < 16 * count; i++) {
        ide_data_read(channel, bytes);
        ide_data_write(channel, value + i, bytes);
    }
}

/* What a PACKET wants. */
static void send_packet(struct ide_channel *channel)
{
    for (unsigned i = 0; i < ATAPI_PACKET_BYTES; i += 4)
        ide_data_write(channel, take32(), 4);
}

static void access_bus_master(struct ide_channel *channel, unsigned offset)
{
    unsigned bytes = offset % 4 == 0 ? 4 : offset % 2 == 0 ? 2 : 1;
    ide_bus_master_write(channel, offset, take32(), bytes);
    ide_bus_master_read(channel, offset, bytes);
}

static void put_memory(struct machine *machine, unsigned length)
{
    uint32_t address = take() * 1024u % (MEMORY_BYTES - 32);
    for (unsigned i = 0; i < length; i++)
        machine->memory.regions[0].host[address + i] = take();
}

static void co_drain_or_resume(struct machine *machine)
{
    if (machine->is_drained) {
        block_backend_resume(machine->backend);
    } else {
        memory_disk_release(&machine->disk);
        block_co_backend_drain(machine->backend);
    }
    machine->is_drained = !machine->is_drained;
}

static void co_disturb(struct machine *machine, unsigned how)
{
    switch (how % 8) {
    case 0:
        memory_disk_hold(&machine->disk, HELD);
        break;
    case 1:
        memory_disk_release(&machine->disk);
        break;
    case 2:
        machine->disk.fail_code = -EIO;
        machine->disk.fail_at_call = machine->disk.call_count + take();
        break;
    case 3:
        machine->disk.fail_code = 0;
        break;
    case 4:
        co_drain_or_resume(machine);
        break;
    case 5:
        ide_channel_hard_reset(&machine->channel);
        break;
    default:
        if (machine->channel.config.is_cd)
            atapi_change_medium(&machine->channel, how % 8 == 6 ? machine->backend : NULL);
    }
}

static void co_step(struct machine *machine)
{
    uint8_t what = take();
    unsigned arg = what >> 3;
    switch (what & 7) {
    case 0:
        ide_port_write(&machine->channel, 1 + arg % 8, take());
        break;
    case 1:
        ide_port_read(&machine->channel, 1 + arg % 8);
        break;
    case 2:
        if (arg == 0)
            send_packet(&machine->channel);
        else
            move_data(&machine->channel, arg);
        break;
    case 3:
        access_bus_master(&machine->channel, arg % 8);
        break;
    case 4:
        put_memory(machine, arg);
        break;
    case 5:
        for (unsigned i = 0; i < arg; i++)
            coroutine_co_pause();
        break;
    case 6: /* a command of one's own choice, as it is most often given */
        ide_port_write(&machine->channel, IDE_DEVICE, 0x40);
        ide_port_write(&machine->channel, IDE_COMMAND, take());
        break;
    default:
        co_disturb(machine, arg);
    }
}

/* --- one input ---------------------------------------------------------------------------------
 */

static void co_open(struct machine *machine, struct block_env *env, unsigned pauses)
{
    struct node_options *options = node_options_new();
    memory_disk_init(&machine->disk, DISK_BYTES, DISK_BYTES, 1);
    machine->disk.pauses_max = pauses;
    memory_disk_options(&machine->disk, options, "", "file");
    FUZZ_CHECK(block_co_open(env, options, &machine->node, NULL) == 0);
    FUZZ_CHECK(block_backend_new(&machine->backend, machine->node, false, NULL) == 0);
}

static void co_run(void *env)
{
    static struct machine machine;
    uint8_t *memory = calloc(1, MEMORY_BYTES), head = take();
    FUZZ_CHECK(memory);
    memset(&machine, 0, sizeof(machine));
    co_open(&machine, env, head >> 1 & 7);
    machine.memory = (struct guest_memory){.region_count = 1,
                                           .regions = {{.length = MEMORY_BYTES, .host = memory}}};
    struct ide_config config = {
        .is_cd = head & 1,
        .backend = machine.backend,
        .memory = &machine.memory,
        .interrupt = line_changed,
        .interrupt_arg = &machine,
    };
    ide_channel_init(&machine.channel, &config);
    for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++) {
        co_step(&machine);
        check(&machine);
    }
    co_let_answer(&machine);
    co_check_alive(&machine);
    ide_channel_co_fini(&machine.channel);
    block_co_backend_free(machine.backend);
    block_co_node_unref(machine.node);
    memory_disk_fini(&machine.disk);
    free(memory);
}

static void keep_input(const uint8_t *data, size_t size)
{
    input = (struct input){.data = data, .left = size};
    file_length = 0; /* the disk is the machine's own */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fuzz_image image = {
        .drivers = memory_drivers, .bytes_max = 1, .fill = keep_input, .co_run = co_run};
    fuzz_image_run(&image, data, size);
    return 0;
}
