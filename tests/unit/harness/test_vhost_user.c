/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_user_device.c, vhost_user_rings.c, vhost_user_socket.c: a disk by vhost-user, from the
 * other end of its socket. */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/sleep.h"
#include "common/endian.h"
#include "tests/unit/harness/vhost_user_front_end.h"

#define DISK_BYTES (1 << 20)
#define VHOST_TEST(name) FIXTURE_TEST(name, DISK_BYTES, DISK_BYTES)
#define DATA (FRONT_END_GUEST + 0xa0000)
#define FLAGS 1u
#define NEEDS_REPLY 9u
#define SHORT_MS 30 /* in which nothing shall happen */
#define LONG_MS 60000

static struct front_end front; /* larger than a coroutine's stack */

static unsigned fds_open(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

/* --- what is well ------------------------------------------------------------------------------
 */

static void co_questions_are_answered(struct fixture *fixture, void *arg)
{
    uint8_t config[12 + 60] = {0};
    uint64_t features;
    (void)arg;
    front_end_co_init(&front, fixture);
    features = front_end_co_ask(&front, VHOST_USER_GET_FEATURES);
    assert_true(features & VIRTIO_FEATURE(VHOST_USER_F_PROTOCOL_FEATURES));
    assert_true(features & VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
    assert_true(features & VIRTIO_FEATURE(VIRTIO_BLK_F_MQ));
    assert_int_equal(front_end_co_ask(&front, VHOST_USER_GET_PROTOCOL_FEATURES),
                     1 << 0 | 1 << 3 | 1 << 9 | 1 << 13);
    assert_int_equal(front_end_co_ask(&front, VHOST_USER_GET_QUEUE_NUM), FRONT_END_QUEUES);
    config[4] = 60;
    front_end_send(&front, VHOST_USER_GET_CONFIG, FLAGS, config, sizeof(config), NULL, 0);
    front_end_co_receive(&front, VHOST_USER_GET_CONFIG, config, sizeof(config));
    assert_int_equal(load_le64(config + 12), DISK_BYTES / 512);
    front_end_co_fini(&front);
    assert_int_equal(front.result, 0);
}
VHOST_TEST(questions_are_answered)

static void co_a_guest_reads_and_writes_by_two_queues(struct fixture *fixture, void *arg)
{
    uint64_t over_both = FRONT_END_MIDDLE - 1000; /* a buffer in two regions */
    (void)arg;
    front_end_co_init(&front, fixture);
    front_end_co_start(&front);
    memset(front_end_at(&front, over_both), 'a', 4096);
    assert_int_equal(front_end_co_do(&front, 0, VIRTIO_BLK_T_OUT, 8, over_both, 4096), 0);
    memset(front_end_at(&front, DATA), 'b', 512);
    assert_int_equal(front_end_co_do(&front, 1, VIRTIO_BLK_T_OUT, 9, DATA, 512), 0);
    assert_int_equal(fixture->disk.data[8 * 512], 'a');
    assert_int_equal(fixture->disk.data[9 * 512], 'b');
    assert_int_equal(fixture->disk.data[15 * 512 + 511], 'a');
    memset(front_end_at(&front, over_both), 0, 4096);
    assert_int_equal(front_end_co_do(&front, 1, VIRTIO_BLK_T_IN, 8, over_both, 4096), 0);
    assert_memory_equal(front_end_at(&front, over_both), &fixture->disk.data[8 * 512], 4096);
    front_end_co_fini(&front);
    assert_int_equal(front.result, 0);
}
VHOST_TEST(a_guest_reads_and_writes_by_two_queues)

static void co_a_ring_stops_and_goes_on(struct fixture *fixture, void *arg)
{
    (void)arg;
    front_end_co_init(&front, fixture);
    front_end_co_start(&front);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(front_end_co_do(&front, 0, VIRTIO_BLK_T_IN, i, DATA, 512), 0);
    /* One is on its way, and is waited for. */
    memory_disk_hold(&fixture->disk, 1 << MEMORY_READ);
    front_end_submit(&front, 0, VIRTIO_BLK_T_IN, 0, DATA, 512);
    memory_disk_co_wait_held(&fixture->disk, 1);
    memory_disk_release(&fixture->disk);
    assert_int_equal(front_end_co_stop_ring(&front, 0), 21);
    assert_int_equal(front_end_co_take(&front, 0, front.call_fds[0]), 0);
    /* What comes now waits for the ring. */
    front_end_submit(&front, 0, VIRTIO_BLK_T_IN, 0, DATA, 512);
    while (front_end_co_waits_for(front.call_fds[0], SHORT_MS))
        ;
    front_end_send_ring(&front, 0, 21);
    assert_int_equal(front_end_co_take(&front, 0, front.call_fds[0]), 0);
    assert_int_equal(front_end_co_stop_ring(&front, 1), 0);
    front_end_co_fini(&front);
    assert_int_equal(front.result, 0);
}
VHOST_TEST(a_ring_stops_and_goes_on)

static void co_a_ring_that_is_disabled_is_not_served(struct fixture *fixture, void *arg)
{
    (void)arg;
    front_end_co_init(&front, fixture);
    front_end_co_start(&front);
    assert_int_equal(front_end_co_do(&front, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), 0);
    for (unsigned way = 0; way < 2; way++) {
        if (way == 0)
            front_end_send_state(&front, VHOST_USER_SET_VRING_ENABLE, 0, 0);
        else
            front_end_send(&front, VHOST_USER_RESET_OWNER, FLAGS, NULL, 0, NULL, 0);
        front_end_co_ask(&front, VHOST_USER_GET_QUEUE_NUM); /* it has come there */
        front_end_submit(&front, 0, VIRTIO_BLK_T_IN, 0, DATA, 512);
        while (front_end_co_waits_for(front.call_fds[0], SHORT_MS))
            ;
        assert_int_equal(fixture->disk.counts[MEMORY_READ], 1 + way);
        front_end_send_state(&front, VHOST_USER_SET_VRING_ENABLE, 0, 1);
        assert_int_equal(front_end_co_take(&front, 0, front.call_fds[0]), 0);
    }
    front_end_co_fini(&front);
}
VHOST_TEST(a_ring_that_is_disabled_is_not_served)

static void co_without_protocol_features_rings_are_enabled(struct fixture *fixture, void *arg)
{
    uint64_t features;
    (void)arg;
    front_end_co_init(&front, fixture);
    front_end_co_start(&front);
    features = front_end_co_ask(&front, VHOST_USER_GET_FEATURES);
    for (unsigned i = 0; i < FRONT_END_QUEUES; i++) {
        front_end_co_stop_ring(&front, i);
        front_end_send_state(&front, VHOST_USER_SET_VRING_ENABLE, i, 0);
    }
    features &= ~VIRTIO_FEATURE(VHOST_USER_F_PROTOCOL_FEATURES);
    front_end_send_number(&front, VHOST_USER_SET_FEATURES, features, -1);
    front_end_send_number(&front, VHOST_USER_SET_VRING_KICK, 0, front.kick_fds[0]);
    assert_int_equal(front_end_co_do(&front, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), 0);
    front_end_co_fini(&front);
}
VHOST_TEST(without_protocol_features_rings_are_enabled)

static void co_memory_may_change_under_running_rings(struct fixture *fixture, void *arg)
{
    (void)arg;
    front_end_co_init(&front, fixture);
    front_end_co_start(&front);
    assert_int_equal(front_end_co_do(&front, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), 0);
    memory_disk_hold(&fixture->disk, 1 << MEMORY_READ);
    front_end_submit(&front, 0, VIRTIO_BLK_T_IN, 0, FRONT_END_MIDDLE + 512, 512);
    memory_disk_co_wait_held(&fixture->disk, 1);
    front_end_send_memory(&front);
    while (!front.device.model->queues[0].is_ending)
        sleep_co_ns(20000);
    /* Nothing is taken now; this kick may be read all the same, and must not be forgotten. */
    front_end_submit(&front, 0, VIRTIO_BLK_T_IN, 0, DATA, 512);
    while (front_end_co_waits_for(front.call_fds[0], SHORT_MS))
        ;
    memset(fixture->disk.data, 'x', 512);
    memory_disk_release(&fixture->disk); /* into the memory that was there when it began */
    assert_int_equal(front_end_co_take(&front, 0, front.call_fds[0]), 0);
    assert_int_equal(front_end_co_take(&front, 0, front.call_fds[0]), 0);
    assert_int_equal(*front_end_at(&front, FRONT_END_MIDDLE + 512), 'x');
    assert_int_equal(front_end_co_do(&front, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), 0);
    assert_int_equal(front_end_co_do(&front, 1, VIRTIO_BLK_T_IN, 0, DATA, 512), 0);
    front_end_co_fini(&front);
    assert_int_equal(front.result, 0);
}
VHOST_TEST(memory_may_change_under_running_rings)

static void co_calls_go_where_they_are_wanted(struct fixture *fixture, void *arg)
{
    int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)arg;
    front_end_co_init(&front, fixture);
    front_end_co_start(&front);
    assert_int_equal(front_end_co_do(&front, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), 0);
    front_end_send_number(&front, VHOST_USER_SET_VRING_CALL, 0, other);
    assert_true(front_end_co_waits_for(other, LONG_MS)); /* what the old one may have missed */
    front_end_submit(&front, 0, VIRTIO_BLK_T_IN, 0, DATA, 512);
    assert_int_equal(front_end_co_take(&front, 0, other), 0);
    /* Nobody is to be called: the other side polls. */
    front_end_send_number(&front, VHOST_USER_SET_VRING_CALL, 0x100, -1);
    front_end_submit(&front, 0, VIRTIO_BLK_T_IN, 0, DATA, 512);
    while (front_end_co_waits_for(other, SHORT_MS))
        ;
    assert_int_equal(front_end_co_take(&front, 0, other), 0);
    front_end_co_fini(&front);
    close(other);
}
VHOST_TEST(calls_go_where_they_are_wanted)

/* Pipes may take the place of eventfds, and their other ends may close. */
static void co_pipes_that_nobody_holds_do_no_harm(struct fixture *fixture, void *arg)
{
    const struct virtio_blk *model;
    int kicks[2], calls[2];
    const uint64_t one = 1;
    (void)arg;
    signal(SIGPIPE, SIG_IGN);
    front_end_co_init(&front, fixture);
    front_end_co_start(&front);
    assert_int_equal(front_end_co_do(&front, 0, VIRTIO_BLK_T_IN, 0, DATA, 512), 0);
    model = front.device.model;
    assert_int_equal(pipe(kicks) | pipe(calls), 0);
    front_end_send_number(&front, VHOST_USER_SET_VRING_KICK, 0, kicks[0]);
    front_end_send_number(&front, VHOST_USER_SET_VRING_CALL, 0, calls[1]);
    front_end_co_ask(&front, VHOST_USER_GET_QUEUE_NUM); /* it has come there */
    close(kicks[0]);
    close(calls[1]);
    close(calls[0]);
    assert_false(virtio_driver_ring_calls_on(&front.rings[0]));
    front_end_submit(&front, 0, VIRTIO_BLK_T_IN, 0, DATA, 512); /* kicks by the old descriptor */
    assert_int_equal(write(kicks[1], &one, sizeof(one)), sizeof(one));
    while (model->counters.calls_lost == 0)
        sleep_co_ns(20000);
    assert_int_equal(model->queues[0].kick.wanted, LOOP_READABLE);
    close(kicks[1]);
    while (model->queues[0].kick.wanted != 0)
        sleep_co_ns(20000);
    front_end_co_fini(&front);
    assert_int_equal(front.result, 0);
}
VHOST_TEST(pipes_that_nobody_holds_do_no_harm)

static void co_a_broken_ring_is_told_by_its_descriptor(struct fixture *fixture, void *arg)
{
    const uint64_t one = 1;
    (void)arg;
    front_end_co_init(&front, fixture);
    front_end_co_start(&front);
    front.rings[1].avail->idx = htole16(1000);
    assert_int_equal(write(front.kick_fds[1], &one, sizeof(one)), sizeof(one));
    assert_true(front_end_co_waits_for(front.err_fds[1], LONG_MS));
    assert_false(front_end_co_waits_for(front.err_fds[0], SHORT_MS));
    assert_non_null(front.device.model->broken);
    /* The guest resets the device: its front-end stops the rings, and begins anew. */
    front_end_co_stop_ring(&front, 0);
    front_end_co_stop_ring(&front, 1);
    front_end_co_start(&front);
    assert_int_equal(front_end_co_do(&front, 1, VIRTIO_BLK_T_IN, 0, DATA, 512), 0);
    front_end_co_fini(&front);
    assert_int_equal(front.result, 0);
}
VHOST_TEST(a_broken_ring_is_told_by_its_descriptor)

static void co_set_write_cache(bool on)
{
    const uint8_t payload[13] = {[0] = offsetof(struct virtio_blk_config, wce), [4] = 1, [12] = on};
    front_end_send(&front, VHOST_USER_SET_CONFIG, NEEDS_REPLY, payload, sizeof(payload), NULL, 0);
    assert_true(front_end_co_acknowledged(&front, VHOST_USER_SET_CONFIG));
}

static bool co_writes_are_fua(struct fixture *fixture)
{
    const struct memory_disk *disk = &fixture->disk;
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(front_end_co_do(&front, 0, VIRTIO_BLK_T_OUT, 0, DATA, 512), 0);
    return disk->log[0].flags & BLOCK_FUA;
}

static void co_the_write_cache_outlives_a_reset_of_the_guest(struct fixture *fixture, void *arg)
{
    (void)arg;
    front_end_co_init(&front, fixture);
    front_end_co_start(&front);
    assert_false(co_writes_are_fua(fixture));
    co_set_write_cache(false);
    assert_true(co_writes_are_fua(fixture));
    for (unsigned i = 0; i < FRONT_END_QUEUES; i++)
        front_end_co_stop_ring(&front, i);
    front_end_co_start(&front); /* with features, as after a reset */
    assert_true(co_writes_are_fua(fixture));
    /* A reset that the front-end tells of is another matter. */
    front_end_send(&front, VHOST_USER_RESET_DEVICE, FLAGS, NULL, 0, NULL, 0);
    front_end_co_start(&front);
    assert_false(co_writes_are_fua(fixture));
    front_end_co_fini(&front);
    assert_int_equal(front.result, 0);
}
VHOST_TEST(the_write_cache_outlives_a_reset_of_the_guest)

static void co_who_leaves_in_the_middle_leaves_nothing(struct fixture *fixture, void *arg)
{
    unsigned before = fds_open();
    (void)arg;
    front_end_co_init(&front, fixture);
    front_end_co_start(&front);
    memory_disk_hold(&fixture->disk, 1 << MEMORY_WRITE);
    front_end_submit(&front, 0, VIRTIO_BLK_T_OUT, 0, DATA, 512);
    memory_disk_co_wait_held(&fixture->disk, 1);
    shutdown(front.socket, SHUT_RDWR);
    memory_disk_release(&fixture->disk);
    front_end_co_fini(&front);
    assert_int_equal(front.result, 0);
    fixture_co_close(fixture);
    assert_int_equal(fds_open(), before);
}
VHOST_TEST(who_leaves_in_the_middle_leaves_nothing)

/* --- what is wrong -----------------------------------------------------------------------------
 */

/* How a connection ends when this is said on one where all is well. */
struct offence {
    const char *name;
    void (*co_commit)(void);
    const char *sentence;
};

static void co_unknown_message(void)
{
    front_end_send(&front, 99, FLAGS, NULL, 0, NULL, 0);
}

static void co_wrong_size(void)
{
    uint64_t huge[2] = {0, 0};
    front_end_send(&front, VHOST_USER_SET_FEATURES, FLAGS, huge, 16, NULL, 0);
}

static void co_half_a_message(void)
{
    const uint32_t header[] = {VHOST_USER_SET_FEATURES, FLAGS, 8};
    assert_int_equal(send(front.socket, header, sizeof(header), MSG_NOSIGNAL), sizeof(header));
    shutdown(front.socket, SHUT_WR);
}

static void co_too_many_descriptors(void)
{
    int fds[12];
    uint8_t table[8] = {0};
    for (unsigned i = 0; i < 12; i++)
        fds[i] = front.kick_fds[0];
    front_end_send(&front, VHOST_USER_SET_MEM_TABLE, FLAGS, table, 8, fds, 12);
}

static void co_missing_descriptor(void)
{
    front_end_send_number(&front, VHOST_USER_SET_VRING_KICK, 1, -1);
}

static void co_polling(void)
{
    front_end_send_number(&front, VHOST_USER_SET_VRING_KICK, 0x101, -1);
}

static void co_file_that_kicks(void)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    front_end_send_number(&front, VHOST_USER_SET_VRING_KICK, 1, fd);
    close(fd);
}

static void co_ring_that_is_not_there(void)
{
    front_end_send_state(&front, VHOST_USER_SET_VRING_ENABLE, FRONT_END_QUEUES, 1);
}

static void co_size_of_a_running_ring(void)
{
    front_end_send_state(&front, VHOST_USER_SET_VRING_NUM, 0, 8);
}

static void co_ring_of_seven(void)
{
    front_end_co_stop_ring(&front, 0);
    front_end_send_state(&front, VHOST_USER_SET_VRING_NUM, 0, 7);
}

static void co_base_beyond_the_end(void)
{
    front_end_co_stop_ring(&front, 0);
    front_end_send_state(&front, VHOST_USER_SET_VRING_BASE, 0, 65536);
}

static void co_ring_outside_of_memory(void)
{
    const uint64_t addresses[] = {0, 0x1000, 0x2000, 0x3000, 0};
    front_end_co_stop_ring(&front, 0);
    front_end_send(&front, VHOST_USER_SET_VRING_ADDR, FLAGS, addresses, 40, NULL, 0);
    front_end_send_number(&front, VHOST_USER_SET_VRING_KICK, 0, front.kick_fds[0]);
}

static void co_ring_beyond_memory(void)
{
    const uint64_t addresses[] = {0, FRONT_END_USER_SECOND + FRONT_END_REGION_BYTES - 16,
                                  FRONT_END_USER_FIRST, FRONT_END_USER_FIRST, 0};
    front_end_co_stop_ring(&front, 0);
    front_end_send(&front, VHOST_USER_SET_VRING_ADDR, FLAGS, addresses, 40, NULL, 0);
    front_end_send_number(&front, VHOST_USER_SET_VRING_KICK, 0, front.kick_fds[0]);
}

static void co_memory_without_the_rings(void)
{
    const uint64_t none = 0;
    front_end_send(&front, VHOST_USER_SET_MEM_TABLE, FLAGS, &none, 8, NULL, 0);
}

static void co_unknown_features(void)
{
    front_end_send_number(&front, VHOST_USER_SET_FEATURES,
                          VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | UINT64_C(1) << 34, -1);
}

static void co_old_driver(void)
{
    front_end_send_number(&front, VHOST_USER_SET_FEATURES, 0, -1);
}

static void co_new_features_of_a_running_device(void)
{
    front_end_send_number(&front, VHOST_USER_SET_FEATURES, VIRTIO_FEATURE(VIRTIO_F_VERSION_1), -1);
}

static void co_unknown_protocol_features(void)
{
    front_end_send_number(&front, VHOST_USER_SET_PROTOCOL_FEATURES, 1 << 12 | 1, -1);
}

static void co_capacity_written(void)
{
    const uint8_t payload[20] = {[4] = 8};
    front_end_send(&front, VHOST_USER_SET_CONFIG, FLAGS, payload, 20, NULL, 0);
}

static const struct offence offences[] = {
    {"unknown message", co_unknown_message, "message 99 is not served"},
    {"wrong size", co_wrong_size, "SET_FEATURES cannot have 16 bytes"},
    {"half a message", co_half_a_message, "the connection ends in the middle of a message"},
    {"descriptors", co_too_many_descriptors, "a message came with more than 8 descriptors"},
    {"no descriptor", co_missing_descriptor, "SET_VRING_KICK came with 0 descriptors, not 1"},
    {"polling", co_polling, "ring 1 has no kicks; polling is not served"},
    {"a file", co_file_that_kicks, "a descriptor is neither an eventfd nor a pipe"},
    {"no such ring", co_ring_that_is_not_there, "SET_VRING_ENABLE of ring 2; there are 2"},
    {"size of a ring that runs", co_size_of_a_running_ring, "SET_VRING_NUM of ring 0, which runs"},
    {"ring of seven", co_ring_of_seven,
     "ring 0 of 7 entries; it can have a power of two, up to 1024"},
    {"base", co_base_beyond_the_end, "ring 0 is to begin with entry 65536; there are 65536"},
    {"ring outside", co_ring_outside_of_memory,
     "ring 0 of 16 entries cannot lie at 0x1000, 0x3000 and 0x2000"},
    {"ring beyond", co_ring_beyond_memory,
     "ring 0 of 16 entries cannot lie at 0x6000000ffff0, 0x7f0000000000 and 0x7f0000000000"},
    {"rings without memory", co_memory_without_the_rings,
     "ring 0 of 16 entries cannot lie at 0x7f0000000000, 0x7f0000000100 and 0x7f0000001000"},
    {"features", co_unknown_features,
     "the features 0x500000000, of which 0x400000000 were not offered"},
    {"old driver", co_old_driver, "the guest's driver is older than VIRTIO 1"},
    {"features of a device that runs", co_new_features_of_a_running_device,
     "the features change while the rings run"},
    {"protocol features", co_unknown_protocol_features,
     "the protocol features 0x1001, of which 0x1 are offered"},
    {"capacity", co_capacity_written, "SET_CONFIG of 8 bytes at 0; only wce can be written"},
};

static void co_each_offence_ends_the_connection(struct fixture *fixture, void *arg)
{
    unsigned before = fds_open();
    (void)arg;
    for (size_t i = 0; i < sizeof(offences) / sizeof(*offences); i++) {
        const char *sentence;
        front_end_co_init(&front, fixture);
        front_end_co_start(&front);
        assert_int_equal(front_end_co_do(&front, 1, VIRTIO_BLK_T_IN, 0, DATA, 512), 0);
        offences[i].co_commit();
        sentence = front_end_co_refusal(&front);
        if (strcmp(sentence, offences[i].sentence) != 0)
            fail_msg("%s: '%s'", offences[i].name, sentence);
        front_end_co_fini(&front);
        fixture_co_close(fixture);
        assert_int_equal(fds_open(), before);
    }
}
VHOST_TEST(each_offence_ends_the_connection)

static void co_who_asks_for_a_reply_is_told(struct fixture *fixture, void *arg)
{
    uint64_t wrong = 0;
    (void)arg;
    front_end_co_init(&front, fixture);
    front_end_co_start(&front);
    front_end_send(&front, VHOST_USER_SET_OWNER, NEEDS_REPLY, NULL, 0, NULL, 0);
    assert_true(front_end_co_acknowledged(&front, VHOST_USER_SET_OWNER));
    front_end_send(&front, VHOST_USER_SET_FEATURES, NEEDS_REPLY, &wrong, sizeof(wrong), NULL, 0);
    assert_false(front_end_co_acknowledged(&front, VHOST_USER_SET_FEATURES));
    assert_string_equal(front_end_co_refusal(&front), "the guest's driver is older than VIRTIO 1");
    front_end_co_fini(&front);
}
VHOST_TEST(who_asks_for_a_reply_is_told)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(questions_are_answered),
        cmocka_unit_test(a_guest_reads_and_writes_by_two_queues),
        cmocka_unit_test(a_ring_stops_and_goes_on),
        cmocka_unit_test(a_ring_that_is_disabled_is_not_served),
        cmocka_unit_test(without_protocol_features_rings_are_enabled),
        cmocka_unit_test(memory_may_change_under_running_rings),
        cmocka_unit_test(calls_go_where_they_are_wanted),
        cmocka_unit_test(pipes_that_nobody_holds_do_no_harm),
        cmocka_unit_test(a_broken_ring_is_told_by_its_descriptor),
        cmocka_unit_test(the_write_cache_outlives_a_reset_of_the_guest),
        cmocka_unit_test(who_leaves_in_the_middle_leaves_nothing),
        cmocka_unit_test(each_offence_ends_the_connection),
        cmocka_unit_test(who_asks_for_a_reply_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
