/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio_blk.c, virtio_submit.c, virtio_merge.c: what a guest sees of the device, and what the
 * block layer sees of the guest. */
#include "tests/unit/unit.h"

#include "block/coroutine.h"
#include "common/endian.h"
#include "tests/unit/harness/virtio_fixture.h"

static const struct virtio_blk_options plain = {
    .queue_count = 1, .queue_size = 128, .serial = "platter-0123456789-long"};

#define MACHINE_TEST(name) FIXTURE_TEST(name, MACHINE_DISK_BYTES, MACHINE_DISK_BYTES)

static void fill(uint8_t *data, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)(i * 7 + seed);
}

/* --- requests ----------------------------------------------------------------------------------
 */

static void co_what_is_written_is_read(struct fixture *fixture, void *arg)
{
    static struct machine machine;
    static struct answer answer;
    uint8_t data[4096];
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    fill(data, sizeof(data), 1);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_OUT, 8, data, sizeof(data), &answer),
                     VIRTIO_BLK_S_OK);
    assert_int_equal(answer.written, 1);
    assert_memory_equal(fixture->disk.data + 4096, data, sizeof(data));
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_IN, 8, NULL, sizeof(data), &answer),
                     VIRTIO_BLK_S_OK);
    assert_int_equal(answer.written, sizeof(data) + 1);
    assert_memory_equal(answer.data, data, sizeof(data));
    machine_co_fini(&machine);
}
MACHINE_TEST(what_is_written_is_read)

static void co_buffers_may_be_cut_anywhere(struct fixture *fixture, void *arg)
{
    static struct machine machine;
    static struct answer answer;
    struct virtio_driver_slot *slot;
    uint64_t data;
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    fill(fixture->disk.data, 1024, 3);
    slot = machine_slot(&machine, &answer);
    data = slot->address + 4096;
    virtio_driver_fill_header(slot, VIRTIO_BLK_T_IN, 1);
    /* The header in three parts; 512 bytes of data and the status cut at 100. */
    struct virtio_buffer buffers[] = {{slot->address, 4},
                                      {slot->address + 4, 5},
                                      {slot->address + 9, 7},
                                      {data, 100},
                                      {data + 100, 413}};
    slot->status = slot->data + 512;
    virtio_driver_send_buffers(slot, buffers, 3, 2);
    assert_int_equal(machine_co_wait(&answer), VIRTIO_BLK_S_OK);
    assert_int_equal(answer.written, 513);
    assert_memory_equal(answer.data, fixture->disk.data + 512, 512);
    machine_co_fini(&machine);
}
MACHINE_TEST(buffers_may_be_cut_anywhere)

static void co_a_flush_goes_to_the_disk(struct fixture *fixture, void *arg)
{
    static struct machine machine;
    static struct answer answer;
    uint8_t data[512] = {1};
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    machine_co_do(&machine, VIRTIO_BLK_T_OUT, 0, data, sizeof(data), &answer);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 0);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, &answer),
                     VIRTIO_BLK_S_OK);
    assert_int_equal(answer.written, 1);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], 1);
    machine_co_fini(&machine);
}
MACHINE_TEST(a_flush_goes_to_the_disk)

static void co_the_serial_has_twenty_bytes(struct fixture *fixture, void *arg)
{
    static struct machine machine;
    static struct answer answer;
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_GET_ID, 0, NULL, 20, &answer),
                     VIRTIO_BLK_S_OK);
    assert_memory_equal(answer.data, "platter-0123456789-l", 20);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_GET_ID, 0, NULL, 7, &answer),
                     VIRTIO_BLK_S_OK);
    assert_memory_equal(answer.data, "platter", 7);
    machine_co_fini(&machine);
}
MACHINE_TEST(the_serial_has_twenty_bytes)

static void set_segment(uint8_t *to, uint64_t sector, uint32_t count, uint32_t flags)
{
    store_le64(to, sector);
    store_le32(to + 8, count);
    store_le32(to + 12, flags);
}

static void co_zeroes_and_discards_may_have_several_ranges(struct fixture *fixture, void *arg)
{
    static struct machine machine;
    static struct answer answer;
    uint8_t ranges[48];
    const struct memory_call *calls = fixture->disk.log;
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    memset(fixture->disk.data, 0x55, 65536);
    set_segment(ranges, 2, 4, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
    set_segment(ranges + 16, 100, 1, 0);
    set_segment(ranges + 32, 64, 8, 0);
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(
        machine_co_do(&machine, VIRTIO_BLK_T_WRITE_ZEROES, 0, ranges, sizeof(ranges), &answer),
        VIRTIO_BLK_S_OK);
    assert_int_equal(fixture->disk.log_count, 3);
    assert_int_equal(calls[0].offset, 1024);
    assert_int_equal(calls[0].length, 2048);
    assert_int_equal(calls[0].flags, 0);
    assert_int_equal(calls[1].offset, 51200);
    assert_int_equal(calls[1].flags, BLOCK_NO_UNMAP);
    assert_int_equal(fixture->disk.data[1023], 0x55);
    assert_int_equal(fixture->disk.data[1024], 0);
    assert_int_equal(fixture->disk.data[64 * 512], 0);

    set_segment(ranges, 2, 4, 0);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_DISCARD, 0, ranges, 32, &answer),
                     VIRTIO_BLK_S_OK);
    assert_int_equal(fixture->disk.counts[MEMORY_DISCARD], 2);
    machine_co_fini(&machine);
}
MACHINE_TEST(zeroes_and_discards_may_have_several_ranges)

/* --- merging -----------------------------------------------------------------------------------
 */

/* Sends reads of 512 bytes at these sectors together, and counts what the disk sees. */
static void check_reads(struct machine *machine, const uint64_t *sectors, unsigned count,
                        unsigned disk_reads, unsigned merged)
{
    struct memory_disk *disk = &machine->fixture->disk;
    struct answer *answers = calloc(count, sizeof(*answers));
    uint64_t merged_before = machine_merged(machine, ACCOUNT_READ);
    assert_non_null(answers);
    memory_disk_forget_calls(disk);
    for (unsigned i = 0; i < count; i++)
        machine_send(machine, VIRTIO_BLK_T_IN, sectors[i], NULL, 512, &answers[i]);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(machine_co_wait(&answers[i]), VIRTIO_BLK_S_OK);
        assert_memory_equal(answers[i].data, disk->data + sectors[i] * 512, 512);
    }
    assert_int_equal(disk->counts[MEMORY_READ], disk_reads);
    assert_int_equal(machine_merged(machine, ACCOUNT_READ) - merged_before, merged);
    free(answers);
}

static void co_neighbours_are_merged_and_counted(struct fixture *fixture, void *arg)
{
    static const uint64_t in_order[] = {10, 11, 12, 13}, mixed[] = {31, 20, 30, 22, 21, 40},
                          overlapping[] = {5, 5, 6};
    static struct machine machine;
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    fill(fixture->disk.data, 65536, 5);
    check_reads(&machine, in_order, 4, 1, 3);
    check_reads(&machine, mixed, 6, 3, 3);
    check_reads(&machine, overlapping, 3, 2, 1);
    machine_co_fini(&machine);
}
MACHINE_TEST(neighbours_are_merged_and_counted)

static void co_a_batch_is_merged_up_to_its_limits(struct fixture *fixture, void *arg)
{
    uint64_t sectors[40];
    static struct machine machine;
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    for (unsigned i = 0; i < 40; i++)
        sectors[i] = 39 - i;
    /* 32 requests make a batch, the other 8 the next one. */
    check_reads(&machine, sectors, 40, 2, 38);
    machine.device->merge_limits.bytes_max = 2048;
    check_reads(&machine, sectors, 40, 10, 30);
    machine.device->merge_limits.bytes_max = 1 << 20;
    machine.device->merge_limits.iov_max = 6; /* two a read: the data's and the status' */
    check_reads(&machine, sectors, 9, 3, 6);
    machine_co_fini(&machine);
}
MACHINE_TEST(a_batch_is_merged_up_to_its_limits)

static void co_without_merging_every_request_stays_alone(struct fixture *fixture, void *arg)
{
    static const uint64_t in_order[] = {10, 11, 12, 13};
    struct virtio_blk_options options = plain;
    static struct machine machine;
    (void)arg;
    options.no_merging = true;
    machine_co_init(&machine, fixture, &options, NULL);
    check_reads(&machine, in_order, 4, 4, 0);
    machine_co_fini(&machine);
}
MACHINE_TEST(without_merging_every_request_stays_alone)

static void co_reads_and_writes_are_merged_apart(struct fixture *fixture, void *arg)
{
    static struct machine machine;
    static struct answer answers[4];
    uint8_t data[512];
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    fill(data, sizeof(data), 9);
    memory_disk_forget_calls(&fixture->disk);
    machine_send(&machine, VIRTIO_BLK_T_OUT, 1, data, 512, &answers[0]);
    machine_send(&machine, VIRTIO_BLK_T_IN, 2, NULL, 512, &answers[1]);
    machine_send(&machine, VIRTIO_BLK_T_OUT, 0, data, 512, &answers[2]);
    machine_send(&machine, VIRTIO_BLK_T_IN, 3, NULL, 512, &answers[3]);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(machine_co_wait(&answers[i]), VIRTIO_BLK_S_OK);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 1);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 1);
    assert_int_equal(machine_merged(&machine, ACCOUNT_READ), 1);
    assert_int_equal(machine_merged(&machine, ACCOUNT_WRITE), 1);
    assert_memory_equal(fixture->disk.data + 512, data, 512);
    machine_co_fini(&machine);
}
MACHINE_TEST(reads_and_writes_are_merged_apart)

/* --- notifications -----------------------------------------------------------------------------
 */

static void check_notifications(struct fixture *fixture, uint64_t left_out)
{
    struct virtio_driver_options options;
    static struct machine machine;
    static struct answer answers[20];
    struct virtio_blk_shape shape = {.queue_count = 1};
    options = (struct virtio_driver_options){.features = virtio_blk_offered(&shape) & ~left_out};
    machine_co_init(&machine, fixture, &plain, &options);
    for (unsigned i = 0; i < 20; i++)
        machine_send(&machine, VIRTIO_BLK_T_IN, 2 * i, NULL, 512, &answers[i]);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(machine_co_wait(&answers[i]), VIRTIO_BLK_S_OK);
    assert_int_equal(machine.driver.kicks, 1);
    assert_int_equal(machine.device->counters.kicks, 1);
    assert_int_equal(machine.device->counters.looks, 1);
    assert_int_equal(machine.device->counters.calls, 1);
    assert_int_equal(machine.driver.calls, 1);
    machine_co_fini(&machine);
}

static void co_one_kick_and_one_call_are_enough_for_a_batch(struct fixture *fixture, void *arg)
{
    (void)arg;
    check_notifications(fixture, 0);
    check_notifications(fixture, VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));
    check_notifications(fixture, VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC));
}
MACHINE_TEST(one_kick_and_one_call_are_enough_for_a_batch)

static void co_every_queue_is_served(struct fixture *fixture, void *arg)
{
    struct virtio_blk_options options = plain;
    static struct machine machine;
    static struct answer answers[4][3];
    uint8_t data[512];
    (void)arg;
    options.queue_count = 4;
    machine_co_init(&machine, fixture, &options, NULL);
    for (unsigned q = 0; q < 4; q++)
        for (unsigned i = 0; i < 3; i++) {
            fill(data, sizeof(data), q * 3 + i);
            machine_send_on(&machine, q, VIRTIO_BLK_T_OUT, q * 3 + i, data, 512, &answers[q][i]);
        }
    for (unsigned q = 0; q < 4; q++)
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(machine_co_wait(&answers[q][i]), VIRTIO_BLK_S_OK);
            fill(data, sizeof(data), q * 3 + i);
            assert_memory_equal(fixture->disk.data + (q * 3 + i) * 512, data, 512);
        }
    /* Neighbours on different queues stay apart. */
    assert_int_equal(machine_merged(&machine, ACCOUNT_WRITE), 8);
    assert_int_equal(machine.device->counters.looks, 4);
    machine_co_fini(&machine);
}
MACHINE_TEST(every_queue_is_served)

static void co_a_kick_before_driver_ok_is_served(struct fixture *fixture, void *arg)
{
    struct virtio_driver_options options = {.kicks_early = true};
    static struct machine machine;
    static struct answer answer;
    (void)arg;
    machine_co_init(&machine, fixture, &plain, &options);
    assert_false(machine.device->status & VIRTIO_CONFIG_S_DRIVER_OK);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_IN, 0, NULL, 512, &answer),
                     VIRTIO_BLK_S_OK);
    virtio_blk_set_status(machine.device, machine.device->status | VIRTIO_CONFIG_S_DRIVER_OK);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_IN, 0, NULL, 512, &answer),
                     VIRTIO_BLK_S_OK);
    machine_co_fini(&machine);
}
MACHINE_TEST(a_kick_before_driver_ok_is_served)

/* --- the write cache ---------------------------------------------------------------------------
 */

static unsigned co_flags_of_a_write(struct machine *machine)
{
    static struct answer answer;
    uint8_t data[512] = {7};
    memory_disk_forget_calls(&machine->fixture->disk);
    assert_int_equal(machine_co_do(machine, VIRTIO_BLK_T_OUT, 3, data, 512, &answer),
                     VIRTIO_BLK_S_OK);
    assert_int_equal(machine->fixture->disk.log[0].op, MEMORY_WRITE);
    return machine->fixture->disk.log[0].flags;
}

static void co_without_write_cache_writes_are_fua(struct fixture *fixture, void *arg)
{
    static struct machine machine;
    static struct answer answer;
    uint8_t range[16], wce;
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    assert_int_equal(co_flags_of_a_write(&machine), 0);
    machine.driver.guest.ops->co_set_write_cache(&machine.driver.guest, false);
    virtio_blk_read_config(machine.device, offsetof(struct virtio_blk_config, wce), &wce, 1);
    assert_int_equal(wce, 0);
    assert_int_equal(co_flags_of_a_write(&machine), BLOCK_FUA);
    set_segment(range, 2, 4, 0);
    memory_disk_forget_calls(&fixture->disk);
    machine_co_do(&machine, VIRTIO_BLK_T_WRITE_ZEROES, 0, range, 16, &answer);
    assert_int_equal(fixture->disk.log[0].flags, BLOCK_FUA | BLOCK_NO_UNMAP);
    machine.driver.guest.ops->co_set_write_cache(&machine.driver.guest, true);
    assert_int_equal(co_flags_of_a_write(&machine), 0);
    machine_co_fini(&machine);
}
MACHINE_TEST(without_write_cache_writes_are_fua)

static void co_a_reset_restores_the_write_cache(struct fixture *fixture, void *arg)
{
    struct virtio_blk_options options = plain;
    static struct machine machine;
    (void)arg;
    for (unsigned off = 0; off < 2; off++) {
        options.no_write_cache = off;
        machine_co_init(&machine, fixture, &options, NULL);
        machine.driver.guest.ops->co_set_write_cache(&machine.driver.guest, off);
        assert_int_equal(co_flags_of_a_write(&machine), off ? 0 : BLOCK_FUA);
        machine.driver.guest.ops->co_reset(&machine.driver.guest);
        assert_int_equal(co_flags_of_a_write(&machine), off ? BLOCK_FUA : 0);
        machine_co_fini(&machine);
    }
}
MACHINE_TEST(a_reset_restores_the_write_cache)

static void co_a_driver_that_cannot_flush_gets_no_cache(struct fixture *fixture, void *arg)
{
    struct virtio_driver_options options = {.features = VIRTIO_FEATURE(VIRTIO_F_VERSION_1)};
    static struct machine machine;
    (void)arg;
    machine_co_init(&machine, fixture, &plain, &options);
    assert_int_equal(co_flags_of_a_write(&machine), BLOCK_FUA);
    machine_co_fini(&machine);
    options.features |= VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH);
    machine_co_init(&machine, fixture, &plain, &options);
    assert_int_equal(co_flags_of_a_write(&machine), 0);
    machine_co_fini(&machine);
}
MACHINE_TEST(a_driver_that_cannot_flush_gets_no_cache)

/* --- reset -------------------------------------------------------------------------------------
 */

struct reset {
    struct machine *machine;
    bool has_ended;
};

static void co_reset(void *arg)
{
    struct reset *reset = arg;
    virtio_blk_co_reset(reset->machine->device);
    reset->has_ended = true;
}

static void co_a_reset_waits_for_what_the_disk_has(struct fixture *fixture, void *arg)
{
    static struct machine machine;
    struct group group;
    struct reset reset = {.machine = &machine};
    static struct answer answers[2];
    uint8_t ranges[32];
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    memory_disk_hold(&fixture->disk, 1 << MEMORY_READ | 1 << MEMORY_ZERO);
    set_segment(ranges, 2, 4, 0);
    set_segment(ranges + 16, 10, 4, 0);
    machine_send(&machine, VIRTIO_BLK_T_IN, 1, NULL, 512, &answers[0]);
    machine_send(&machine, VIRTIO_BLK_T_WRITE_ZEROES, 0, ranges, 32, &answers[1]);
    memory_disk_co_wait_held(&fixture->disk, 2);
    group_init(&group, fixture->loop);
    group_start(&group, co_reset, &reset);
    machine_co_settle();
    assert_false(reset.has_ended);
    assert_int_not_equal(machine.device->status, 0); /* which is how a driver knows */
    memory_disk_release(&fixture->disk);
    group_co_wait(&group);
    assert_true(reset.has_ended);
    assert_int_equal(machine.device->status, 0);
    assert_int_equal(fixture->disk.counts[MEMORY_ZERO], 1); /* the second range was not begun */
    machine_co_settle();
    assert_int_equal(answers[0].status, VIRTIO_BLK_S_OK);
    assert_int_equal(answers[1].status, VIRTIO_BLK_S_IOERR);
    virtio_driver_start(&machine.driver);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_IN, 1, NULL, 512, &answers[0]),
                     VIRTIO_BLK_S_OK);
    machine_co_fini(&machine);
}
MACHINE_TEST(a_reset_waits_for_what_the_disk_has)

static void co_a_queue_that_is_taken_away_can_go_on(struct fixture *fixture, void *arg)
{
    static struct machine machine;
    struct virtio_driver_queue *queue = &machine.driver.queues[0];
    static struct answer answer;
    uint16_t next;
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    for (unsigned i = 0; i < 300; i++)
        machine_co_do(&machine, VIRTIO_BLK_T_IN, i, NULL, 512, &answer);
    next = virtio_blk_co_stop_queue(machine.device, 0);
    assert_int_equal(next, 300);
    machine_send(&machine, VIRTIO_BLK_T_IN, 1, NULL, 512, &answer);
    machine_co_settle();
    assert_int_equal(answer.status, NOT_ANSWERED);
    assert_int_equal(virtio_blk_start_queue(machine.device, 0, 128, &queue->ring.place, next,
                                            queue->kick_fd, queue->call.fd),
                     0);
    virtio_blk_kick(machine.device, 0);
    assert_int_equal(machine_co_wait(&answer), VIRTIO_BLK_S_OK);
    machine_co_fini(&machine);
}
MACHINE_TEST(a_queue_that_is_taken_away_can_go_on)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(buffers_may_be_cut_anywhere),
        cmocka_unit_test(a_flush_goes_to_the_disk),
        cmocka_unit_test(the_serial_has_twenty_bytes),
        cmocka_unit_test(zeroes_and_discards_may_have_several_ranges),
        cmocka_unit_test(neighbours_are_merged_and_counted),
        cmocka_unit_test(a_batch_is_merged_up_to_its_limits),
        cmocka_unit_test(without_merging_every_request_stays_alone),
        cmocka_unit_test(reads_and_writes_are_merged_apart),
        cmocka_unit_test(one_kick_and_one_call_are_enough_for_a_batch),
        cmocka_unit_test(every_queue_is_served),
        cmocka_unit_test(a_kick_before_driver_ok_is_served),
        cmocka_unit_test(without_write_cache_writes_are_fua),
        cmocka_unit_test(a_reset_restores_the_write_cache),
        cmocka_unit_test(a_driver_that_cannot_flush_gets_no_cache),
        cmocka_unit_test(a_reset_waits_for_what_the_disk_has),
        cmocka_unit_test(a_queue_that_is_taken_away_can_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
