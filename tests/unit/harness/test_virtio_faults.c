/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio_policy.c, virtio_request.c: what the disk fails is reported, ignored or held; what a guest
 * gets wrong is answered, or breaks the device, and costs nothing else. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "common/endian.h"
#include "common/random.h"
#include "tests/unit/harness/virtio_fixture.h"

static const struct virtio_blk_options plain = {.queue_count = 2, .queue_size = 128};

#define MACHINE_TEST(name) FIXTURE_TEST(name, MACHINE_DISK_BYTES, MACHINE_DISK_BYTES)
#define SECTORS (MACHINE_DISK_BYTES / 512)

static void set_segment(uint8_t *to, uint64_t sector, uint32_t count, uint32_t flags)
{
    store_le64(to, sector);
    store_le32(to + 8, count);
    store_le32(to + 12, flags);
}

static void fail_ops(struct memory_disk *disk, unsigned ops, int code)
{
    disk->fail_ops = ops;
    disk->fail_code = code;
}

/* --- error policies ----------------------------------------------------------------------------
 */

static void co_reported_errors_reach_the_guest(struct fixture *fixture, void *arg)
{
    static struct machine machine;
    static struct answer answer;
    struct account_counts counts;
    uint8_t data[512] = {1};
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    fail_ops(&fixture->disk, 1 << MEMORY_READ, -EIO);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_IN, 0, NULL, 512, &answer),
                     VIRTIO_BLK_S_IOERR);
    assert_int_equal(answer.written, 0); /* nothing before the status is promised */
    fail_ops(&fixture->disk, 1 << MEMORY_WRITE, -ENOSPC);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_OUT, 0, data, 512, &answer),
                     VIRTIO_BLK_S_IOERR);
    fail_ops(&fixture->disk, 1 << MEMORY_FLUSH, -EIO);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, &answer),
                     VIRTIO_BLK_S_IOERR);
    fail_ops(&fixture->disk, 0, 0);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_IN, 0, NULL, 512, &answer),
                     VIRTIO_BLK_S_OK);
    account_read_counts(&machine.device->account, ACCOUNT_READ, &counts);
    assert_int_equal(counts.failed, 1);
    assert_int_equal(counts.operations, 1);
    machine_co_fini(&machine);
}
MACHINE_TEST(reported_errors_reach_the_guest)

static void co_ignored_errors_are_successes_and_zeroes(struct fixture *fixture, void *arg)
{
    struct virtio_blk_options options = plain;
    static struct machine machine;
    static struct answer answer;
    uint8_t data[512] = {1}, ranges[32];
    (void)arg;
    options.on_read = options.on_write = ERROR_IGNORE;
    machine_co_init(&machine, fixture, &options, NULL);
    memset(fixture->disk.data, 9, 4096);
    fail_ops(&fixture->disk, 1 << MEMORY_READ | 1 << MEMORY_WRITE | 1 << MEMORY_ZERO, -EIO);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_IN, 0, NULL, 512, &answer),
                     VIRTIO_BLK_S_OK);
    assert_int_equal(answer.written, 513);
    assert_int_equal(answer.data[0] | answer.data[511], 0);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_OUT, 0, data, 512, &answer),
                     VIRTIO_BLK_S_OK);
    assert_int_equal(fixture->disk.data[0], 9);
    set_segment(ranges, 2, 1, 0);
    set_segment(ranges + 16, 4, 1, 0);
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_WRITE_ZEROES, 0, ranges, 32, &answer),
                     VIRTIO_BLK_S_OK);
    assert_int_equal(fixture->disk.counts[MEMORY_ZERO], 2); /* the second was tried all the same */
    machine_co_fini(&machine);
}
MACHINE_TEST(ignored_errors_are_successes_and_zeroes)

static void co_a_stopped_device_holds_requests_until_it_is_resumed(struct fixture *fixture,
                                                                   void *arg)
{
    struct virtio_blk_options options = plain;
    static struct machine machine;
    static struct answer answers[5];
    uint8_t data[512] = {1};
    (void)arg;
    options.on_read = options.on_write = ERROR_STOP;
    machine_co_init(&machine, fixture, &options, NULL);
    fail_ops(&fixture->disk, 1 << MEMORY_WRITE, -EIO);
    for (unsigned i = 0; i < 3; i++) {
        data[0] = (uint8_t)(i + 1);
        machine_send(&machine, VIRTIO_BLK_T_OUT, i, data, 512, &answers[i]);
    }
    machine_co_settle();
    assert_true(machine.device->is_stopped);
    assert_int_equal(machine.device->counters.stops, 1);
    assert_int_equal(machine.device->counters.held, 3);
    /* What comes now, on any queue, is not even taken. */
    machine_send(&machine, VIRTIO_BLK_T_IN, 0, NULL, 512, &answers[3]);
    machine_send_on(&machine, 1, VIRTIO_BLK_T_IN, 8, NULL, 512, &answers[4]);
    memory_disk_forget_calls(&fixture->disk);
    machine_co_settle();
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 0);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(answers[i].status, NOT_ANSWERED);

    virtio_blk_resume(machine.device); /* too early: the disk is as bad as before */
    machine_co_settle();
    assert_true(machine.device->is_stopped);
    assert_int_equal(machine.device->counters.stops, 2);
    assert_int_equal(answers[0].status, NOT_ANSWERED);

    fail_ops(&fixture->disk, 0, 0);
    memory_disk_forget_calls(&fixture->disk);
    virtio_blk_resume(machine.device);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(machine_co_wait(&answers[i]), VIRTIO_BLK_S_OK);
    assert_false(machine.device->is_stopped);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 1); /* merged as they were at first */
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(fixture->disk.data[512 * i], i + 1);
    machine_co_fini(&machine);
}
MACHINE_TEST(a_stopped_device_holds_requests_until_it_is_resumed)

static void co_a_full_disk_alone_stops_where_that_is_the_policy(struct fixture *fixture, void *arg)
{
    struct virtio_blk_options options = plain;
    static struct machine machine;
    static struct answer answer;
    uint8_t data[512] = {1};
    (void)arg;
    options.on_write = ERROR_ENOSPC;
    machine_co_init(&machine, fixture, &options, NULL);
    fail_ops(&fixture->disk, 1 << MEMORY_WRITE, -EIO);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_OUT, 0, data, 512, &answer),
                     VIRTIO_BLK_S_IOERR);
    fail_ops(&fixture->disk, 1 << MEMORY_WRITE, -ENOSPC);
    machine_send(&machine, VIRTIO_BLK_T_OUT, 0, data, 512, &answer);
    machine_co_settle();
    assert_true(machine.device->is_stopped);
    fail_ops(&fixture->disk, 0, 0);
    virtio_blk_resume(machine.device);
    assert_int_equal(machine_co_wait(&answer), VIRTIO_BLK_S_OK);
    machine_co_fini(&machine);
}
MACHINE_TEST(a_full_disk_alone_stops_where_that_is_the_policy)

static void co_a_reset_drops_what_is_held(struct fixture *fixture, void *arg)
{
    struct virtio_blk_options options = plain;
    static struct machine machine;
    static struct answer answer;
    uint8_t data[512] = {1};
    (void)arg;
    options.on_write = ERROR_STOP;
    machine_co_init(&machine, fixture, &options, NULL);
    fail_ops(&fixture->disk, 1 << MEMORY_WRITE, -EIO);
    machine_send(&machine, VIRTIO_BLK_T_OUT, 0, data, 512, &answer);
    machine_co_settle();
    assert_true(machine.device->is_stopped);
    memory_disk_forget_calls(&fixture->disk);
    machine.driver.guest.ops->co_reset(&machine.driver.guest);
    assert_false(machine.device->is_stopped);
    assert_true(list_is_empty(&machine.device->held));
    fail_ops(&fixture->disk, 0, 0);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_IN, 0, NULL, 512, &answer),
                     VIRTIO_BLK_S_OK);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
    machine_co_fini(&machine);
}
MACHINE_TEST(a_reset_drops_what_is_held)

static void co_of_merged_requests_only_the_bad_one_fails(struct fixture *fixture, void *arg)
{
    static struct machine machine;
    static struct answer answers[3];
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    memory_disk_forget_calls(&fixture->disk);
    memory_disk_hold(&fixture->disk, 1 << MEMORY_READ);
    fail_ops(&fixture->disk, 1 << MEMORY_READ, -EIO);
    for (unsigned i = 0; i < 3; i++)
        machine_send(&machine, VIRTIO_BLK_T_IN, i, NULL, 512, &answers[i]);
    memory_disk_co_wait_held(&fixture->disk, 1); /* all three in one; it is going to fail */
    fail_ops(&fixture->disk, 0, -EIO);
    fixture->disk.fail_at_call = 2; /* of the three that follow, the second */
    memory_disk_release(&fixture->disk);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(machine_co_wait(&answers[i]),
                         i == 1 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 4);
    assert_int_equal(machine_merged(&machine, ACCOUNT_READ), 0);
    fixture->disk.fail_code = 0;
    machine_co_fini(&machine);
}
MACHINE_TEST(of_merged_requests_only_the_bad_one_fails)

/* --- requests that make no sense ---------------------------------------------------------------
 */

static void co_ranges_that_do_not_fit_fail(struct fixture *fixture, void *arg)
{
    struct virtio_blk_options options = plain;
    static struct machine machine;
    static struct answer answer;
    uint8_t data[4096] = {1};
    (void)arg;
    options.block_bytes = 4096;
    machine_co_init(&machine, fixture, &options, NULL);
    memory_disk_forget_calls(&fixture->disk);
#define FAILS(type, sector, data, bytes)                                          \
    assert_int_equal(machine_co_do(&machine, type, sector, data, bytes, &answer), \
                     VIRTIO_BLK_S_IOERR)
    FAILS(VIRTIO_BLK_T_IN, SECTORS, NULL, 4096);          /* beyond capacity */
    FAILS(VIRTIO_BLK_T_IN, SECTORS - 8, NULL, 8192);      /* in part */
    FAILS(VIRTIO_BLK_T_IN, UINT64_MAX - 7, NULL, 4096);   /* the end wraps */
    FAILS(VIRTIO_BLK_T_IN, UINT64_MAX / 512, NULL, 4096); /* so does the offset */
    FAILS(VIRTIO_BLK_T_IN, 1, NULL, 4096);                /* bad alignment */
    FAILS(VIRTIO_BLK_T_IN, 8, NULL, 512);
    FAILS(VIRTIO_BLK_T_IN, 8, NULL, 4000);
    FAILS(VIRTIO_BLK_T_IN, 8, NULL, 0); /* zero length */
    FAILS(VIRTIO_BLK_T_OUT, SECTORS, data, 4096);
    FAILS(VIRTIO_BLK_T_OUT, 8, data, 100);
    FAILS(VIRTIO_BLK_T_OUT, 8, NULL, 0);
    FAILS(VIRTIO_BLK_T_GET_ID, 0, NULL, 0);
#undef FAILS
    assert_int_equal(fixture->disk.log_count, 0);
    assert_null(machine.device->broken);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_IN, SECTORS - 8, NULL, 4096, &answer),
                     VIRTIO_BLK_S_OK);
    machine_co_fini(&machine);
}
MACHINE_TEST(ranges_that_do_not_fit_fail)

static uint8_t co_segment(struct machine *machine, uint32_t type, uint64_t sector, uint32_t count,
                          uint32_t flags)
{
    static struct answer answer;
    uint8_t range[16];
    set_segment(range, sector, count, flags);
    return machine_co_do(machine, type, 0, range, sizeof(range), &answer);
}

static void co_segments_that_make_no_sense_are_refused(struct fixture *fixture, void *arg)
{
    static struct machine machine;
    static struct answer answer;
    static uint8_t many[33 * 16];
    const uint32_t zero = VIRTIO_BLK_T_WRITE_ZEROES, discard = VIRTIO_BLK_T_DISCARD;
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(co_segment(&machine, zero, SECTORS, 1, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(co_segment(&machine, zero, 0, SECTORS + 1, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(co_segment(&machine, zero, 0, 0, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(co_segment(&machine, discard, UINT64_MAX, 2, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(co_segment(&machine, discard, 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(co_segment(&machine, zero, 0, 1, 2), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(co_segment(&machine, discard, 0, 1, 1), VIRTIO_BLK_S_UNSUPP);
    for (unsigned i = 0; i < 33; i++)
        set_segment(many + 16 * i, i, 1, 0);
    assert_int_equal(machine_co_do(&machine, zero, 0, many, 33 * 16, &answer), VIRTIO_BLK_S_IOERR);
    assert_int_equal(machine_co_do(&machine, zero, 0, many, 15, &answer), VIRTIO_BLK_S_IOERR);
    assert_int_equal(machine_co_do(&machine, zero, 0, NULL, 0, &answer), VIRTIO_BLK_S_IOERR);
    assert_int_equal(fixture->disk.log_count, 0);
    assert_int_equal(machine_co_do(&machine, zero, 0, many, 32 * 16, &answer), VIRTIO_BLK_S_OK);
    machine_co_fini(&machine);
}
MACHINE_TEST(segments_that_make_no_sense_are_refused)

static void co_unknown_and_unnegotiated_types_are_not_supported(struct fixture *fixture, void *arg)
{
    struct virtio_driver_options options = {.features = VIRTIO_FEATURE(VIRTIO_F_VERSION_1)};
    static struct machine machine;
    static struct answer answer;
    (void)arg;
    machine_co_init(&machine, fixture, &plain, &options);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_SCSI_CMD, 0, NULL, 512, &answer),
                     VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(machine_co_do(&machine, 0x7fffffff, 0, NULL, 0, &answer), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(co_segment(&machine, VIRTIO_BLK_T_DISCARD, 0, 1, 0), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(co_segment(&machine, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_UNSUPP);
    machine_co_fini(&machine);
}
MACHINE_TEST(unknown_and_unnegotiated_types_are_not_supported)

/* Sends what cannot be answered, beside a good request that the disk still has. */
static void check_breaks(struct fixture *fixture, const struct virtio_buffer *buffers,
                         unsigned readable, unsigned writable, const char *why)
{
    static struct machine machine;
    static struct answer good, bad, later;
    struct virtio_buffer at[3];
    struct virtio_driver_slot *slot;
    machine_co_init(&machine, fixture, &plain, NULL);
    memory_disk_hold(&fixture->disk, 1 << MEMORY_READ);
    machine_send_on(&machine, 1, VIRTIO_BLK_T_IN, 0, NULL, 512, &good);
    memory_disk_co_wait_held(&fixture->disk, 1);
    slot = machine_slot(&machine, &bad);
    virtio_driver_fill_header(slot, VIRTIO_BLK_T_IN, 0);
    for (unsigned i = 0; i < readable + writable; i++)
        at[i] = (struct virtio_buffer){slot->address + buffers[i].address, buffers[i].length};
    virtio_driver_send_buffers(slot, at, readable, writable);
    machine_co_settle();
    assert_string_equal(machine.device->broken, why);
    assert_true(machine.device->status & VIRTIO_CONFIG_S_NEEDS_RESET);
    memory_disk_release(&fixture->disk);
    machine_send_on(&machine, 1, VIRTIO_BLK_T_IN, 0, NULL, 512, &later);
    machine_co_settle();
    assert_int_equal(good.status, NOT_ANSWERED); /* a broken device says nothing more */
    assert_int_equal(later.status, NOT_ANSWERED);
    machine.driver.guest.ops->co_reset(&machine.driver.guest);
    assert_null(machine.device->broken);
    assert_int_equal(machine_co_do(&machine, VIRTIO_BLK_T_IN, 0, NULL, 512, &good),
                     VIRTIO_BLK_S_OK);
    machine_co_fini(&machine);
}

static void co_a_request_that_cannot_be_answered_breaks_the_device(struct fixture *fixture,
                                                                   void *arg)
{
    static const struct virtio_buffer short_header[] = {{0, 15}, {64, 1}}, no_status[] = {{0, 16}},
                                      no_header[] = {{64, 1}}, no_length[] = {{0, 16}, {64, 0}},
                                      backwards[] = {{UINT32_MAX, 16}, {64, 1}};
    (void)arg;
    check_breaks(fixture, short_header, 1, 1, "a request's header is too short");
    check_breaks(fixture, no_header, 0, 1, "a request's header is too short");
    check_breaks(fixture, no_status, 1, 0, "a request has no room for its status");
    check_breaks(fixture, no_length, 1, 1, "a descriptor has no length");
    check_breaks(fixture, backwards, 1, 1, "a buffer lies outside of the guest's memory");
}
MACHINE_TEST(a_request_that_cannot_be_answered_breaks_the_device)

static void co_a_loop_in_the_chain_breaks_the_device(struct fixture *fixture, void *arg)
{
    struct virtio_driver_options options = {.features = VIRTIO_FEATURE(VIRTIO_F_VERSION_1)};
    static struct machine machine;
    static struct answer answer;
    struct virtio_driver_ring *ring = &machine.driver.queues[0].ring;
    (void)arg;
    machine_co_init(&machine, fixture, &plain, &options);
    machine_send(&machine, VIRTIO_BLK_T_IN, 0, NULL, 512, &answer);
    ring->desc[1].next = htole16(1);
    virtio_driver_kick(&machine.driver);
    machine_co_settle();
    assert_string_equal(machine.device->broken, "a chain goes in a circle");
    machine_co_fini(&machine);
}
MACHINE_TEST(a_loop_in_the_chain_breaks_the_device)

/* --- features and configuration space ----------------------------------------------------------
 */

static void co_a_driver_without_version_1_is_refused(struct fixture *fixture, void *arg)
{
    static struct machine machine;
    (void)arg;
    machine_co_init(&machine, fixture, &plain, NULL);
    virtio_blk_co_reset(machine.device);
    virtio_blk_set_features(machine.device, VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH));
    virtio_blk_set_status(machine.device, VIRTIO_CONFIG_S_FEATURES_OK | 3);
    assert_int_equal(machine.device->status, 3);
    virtio_blk_set_features(machine.device, UINT64_MAX);
    assert_int_equal(machine.device->features, virtio_blk_offered(&machine.device->shape));
    virtio_blk_set_status(machine.device, VIRTIO_CONFIG_S_FEATURES_OK | 3);
    assert_int_equal(machine.device->status, VIRTIO_CONFIG_S_FEATURES_OK | 3);
    virtio_blk_set_features(machine.device, 0); /* too late */
    assert_int_equal(machine.device->features, virtio_blk_offered(&machine.device->shape));
    machine_co_fini(&machine);
}
MACHINE_TEST(a_driver_without_version_1_is_refused)

static void co_the_configuration_space_says_what_the_disk_is(struct fixture *fixture, void *arg)
{
    struct virtio_blk_options options = plain;
    static struct machine machine;
    struct virtio_blk_config config;
    uint8_t behind[4] = {1, 1, 1, 1}, junk[sizeof(config)];
    (void)arg;
    options.block_bytes = 4096;
    machine_co_init(&machine, fixture, &options, NULL);
    virtio_blk_read_config(machine.device, 0, &config, sizeof(config));
    assert_int_equal(le64toh(config.capacity), SECTORS);
    assert_int_equal(le32toh(config.blk_size), 4096);
    assert_int_equal(le32toh(config.seg_max), 126);
    assert_int_equal(le16toh(config.num_queues), 2);
    assert_int_equal(config.wce, 1);
    assert_int_equal(le32toh(config.max_discard_seg), VIRTIO_SEGMENTS_MAX);
    assert_int_equal(le32toh(config.discard_sector_alignment), 8);
    assert_int_equal(config.write_zeroes_may_unmap, 1);
    virtio_blk_read_config(machine.device, UINT32_MAX - 1, behind, sizeof(behind));
    assert_int_equal(behind[0] | behind[1] | behind[2] | behind[3], 0);
    memset(junk, 0, sizeof(junk));
    virtio_blk_write_config(machine.device, 0, junk, sizeof(junk)); /* wce is all that changes */
    config.wce = 0;
    virtio_blk_read_config(machine.device, 0, junk, sizeof(junk));
    assert_memory_equal(junk, &config, sizeof(config));
    machine_co_fini(&machine);
}
MACHINE_TEST(the_configuration_space_says_what_the_disk_is)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reported_errors_reach_the_guest),
        cmocka_unit_test(ignored_errors_are_successes_and_zeroes),
        cmocka_unit_test(a_stopped_device_holds_requests_until_it_is_resumed),
        cmocka_unit_test(a_full_disk_alone_stops_where_that_is_the_policy),
        cmocka_unit_test(a_reset_drops_what_is_held),
        cmocka_unit_test(of_merged_requests_only_the_bad_one_fails),
        cmocka_unit_test(ranges_that_do_not_fit_fail),
        cmocka_unit_test(segments_that_make_no_sense_are_refused),
        cmocka_unit_test(unknown_and_unnegotiated_types_are_not_supported),
        cmocka_unit_test(a_request_that_cannot_be_answered_breaks_the_device),
        cmocka_unit_test(a_loop_in_the_chain_breaks_the_device),
        cmocka_unit_test(a_driver_without_version_1_is_refused),
        cmocka_unit_test(the_configuration_space_says_what_the_disk_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
