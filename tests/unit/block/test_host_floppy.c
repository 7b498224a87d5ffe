/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver "host_floppy" with a fake drive: open, closed and failed, and disks that change. */
#include "tests/unit/block/device_fixture.h"

#define SIZE ((size_t)64 << 10)
#define FLOPPY(...) EXTRA("driver=host_floppy", __VA_ARGS__)

static const struct block_driver *const drivers[] = {&block_driver_host_floppy, NULL};

static uint8_t data[SIZE];

static struct block_node *open_drive(struct posix_fixture *fixture)
{
    fake_device_init(fixture, SIZE);
    fake.device_major = 2;
    fake.floppy_generation = 5;
    fake_now_ns = NS_PER_S;
    return open_image(fixture, FLOPPY("read-only=off"));
}

/* Descriptors of the drive that are open now. */
static unsigned opened(void)
{
    return fake.opens - fake.device_closes;
}

/* A second and more since the last request: a worker syncs and closes the drive, in its own time.
 */
static void pass_until_closed(struct posix_fixture *fixture, uint64_t ns)
{
    fake_pass(fixture, ns);
    for (unsigned i = 0; i < 50000 && opened() > 0; i++)
        workers_co_run(fixture->workers, fake_pause, NULL);
    assert_int_equal(opened(), 0);
}

static void idle_body(struct posix_fixture *fixture)
{
    struct block_node *node = open_drive(fixture);
    assert_int_equal(opened(), 1);
    fake_pass(fixture, NS_PER_S / 2);
    assert_int_equal(read_at(node, 0, data, 512), 0);
    fake_pass(fixture, NS_PER_S * 3 / 4); /* not a second since */
    assert_int_equal(opened(), 1);
    assert_int_equal(fake.opens, 1);
    pass_until_closed(fixture, NS_PER_S / 2);
    assert_int_equal(opened(), 0);
    assert_int_equal(read_at(node, 1000, data, 5000), 0);
    for (size_t i = 0; i < 5000; i++)
        assert_int_equal(data[i], pattern_at(i + 1000));
    assert_int_equal(opened(), 1);
    assert_int_equal(fake.opens, 2);
    pass_until_closed(fixture, 10 * NS_PER_S);
    assert_int_equal(opened(), 0);
    block_co_node_unref(node);
    assert_int_equal(opened(), 0);

    node = open_drive(fixture);
    block_co_node_unref(node); /* while it is open */
    assert_int_equal(opened(), 0);
}

static void the_drive_is_closed_a_second_after_the_last_request(void **state)
{
    with_device_drivers(state, drivers, idle_body);
}

static void written_body(struct posix_fixture *fixture)
{
    struct block_node *node = open_drive(fixture);
    memset(data, 'w', 1024);
    assert_int_equal(write_at(node, 512, data, 1024), 0);
    unsigned syncs = fixture->odd.syncs;
    pass_until_closed(fixture, 2 * NS_PER_S);
    assert_int_equal(opened(), 0);
    assert_int_equal(fixture->odd.syncs, syncs + 1); /* before it was closed */
    assert_int_equal(node_co_flush(node), 0);
    assert_int_equal(fixture->odd.syncs, syncs + 1);
    assert_int_equal(write_at(node, 512, data, 512), 0);
    assert_int_equal(node_co_flush(node), 0);
    assert_int_equal(fixture->odd.syncs, syncs + 2);
    pass_until_closed(fixture, 2 * NS_PER_S);
    assert_int_equal(fixture->odd.syncs, syncs + 2);
    assert_int_equal(read_at(node, 512, data, 1024), 0);
    for (size_t i = 0; i < 1024; i++)
        assert_int_equal(data[i], 'w');
    block_co_node_unref(node);
}

static void what_was_written_is_synced_before_the_drive_is_closed(void **state)
{
    with_device_drivers(state, drivers, written_body);
}

static void lost_body(struct posix_fixture *fixture)
{
    struct block_node *node = open_drive(fixture);
    assert_int_equal(write_at(node, 0, data, 512), 0);
    fake.sync_error = -EIO;
    pass_until_closed(fixture, 2 * NS_PER_S);
    fake.sync_error = 0;
    assert_int_equal(opened(), 0);
    assert_int_equal(node_co_flush(node), -EIO); /* the close found out, the flush tells */
    block_co_node_unref(node);

    node = open_drive(fixture);
    assert_int_equal(write_at(node, 0, data, 512), 0);
    fake.floppy_generation++; /* out it went */
    assert_int_equal(read_at(node, 0, data, 512), 0);
    assert_int_equal(node_co_flush(node), -EIO);
    block_co_node_unref(node);
}

static void what_did_not_come_to_the_disk_is_told_by_the_next_flush(void **state)
{
    with_device_drivers(state, drivers, lost_body);
}

static void failed_body(struct posix_fixture *fixture)
{
    struct block_node *node = open_drive(fixture);
    pass_until_closed(fixture, 2 * NS_PER_S);
    fake.has_medium = false;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(read_at(node, 0, data, 512), -EIO);
        assert_int_equal(write_at(node, 0, data, 512), -EIO);
    }
    assert_int_equal(fake.failed_opens, 1);
    fake.has_medium = true; /* it is put in, but that is not looked for yet */
    fake_pass(fixture, NS_PER_S / 2);
    assert_int_equal(read_at(node, 0, data, 512), -EIO);
    assert_int_equal(opened(), 0);
    fake_pass(fixture, NS_PER_S / 2);
    assert_int_equal(read_at(node, 0, data, 512), 0);
    assert_int_equal(opened(), 1);

    fake.has_medium = false; /* out while the drive is open */
    fake.floppy_flags = FD_DISK_CHANGED;
    fake.floppy_generation++;
    assert_int_equal(read_at(node, 0, data, 512), -EIO);
    assert_int_equal(fake.failed_opens, 2);
    assert_int_equal(opened(), 0);
    fake_pass(fixture, NS_PER_S);
    assert_int_equal(read_at(node, 0, data, 512), -EIO);
    assert_int_equal(fake.failed_opens, 3); /* once a second */
    block_co_node_unref(node);
}

static void an_empty_drive_is_left_alone_for_a_second(void **state)
{
    with_device_drivers(state, drivers, failed_body);
}

static void changed_body(struct posix_fixture *fixture)
{
    static const unsigned long flags[] = {FD_DISK_NEWCHANGE, FD_DISK_CHANGED};
    for (int i = 0; i < 3; i++) {
        struct block_node *node = open_drive(fixture);
        assert_int_equal(read_at(node, 0, data, 512), 0);
        assert_int_equal(fake.opens, 1);
        assert_int_equal(fake.status_asked, 2); /* at the opening and at the request */
        fake.size_bytes = SIZE / 4;
        if (i < 2)
            fake.floppy_flags = flags[i];
        else
            fake.floppy_generation++;
        assert_int_equal(read_at(node, 0, data, 512), 0);
        assert_int_equal(fake.opens, 2);
        fake.floppy_flags = 0;
        assert_int_equal(read_at(node, 0, data, 512), 0);
        assert_int_equal(fake.opens, 2);
        assert_int_equal(read_at(node, SIZE / 2, data, 512), -EIO); /* not on this disk */
        assert_int_equal(write_at(node, SIZE / 2, data, 512), -EIO);
        assert_int_equal(node->driver->admin->co_resize(node, SIZE / 4, NULL), 0);
        assert_int_equal(read_at(node, SIZE / 2, data, 512), 0); /* behind the end: zeroes */
        block_co_node_unref(node);
    }
}

static void a_changed_disk_is_noticed_and_its_size_read(void **state)
{
    with_device_drivers(state, drivers, changed_body);
}

static void drives_body(struct posix_fixture *fixture)
{
    struct block_node *node = open_drive(fixture);
    fake.failing_reads = 1;
    assert_int_equal(read_at(node, 0, data, 512), -EIO);
    assert_int_equal(fake.resets, 1);
    assert_int_equal(read_at(node, 0, data, 512), 0);
    assert_int_equal(fake.resets, 1);
    fake.poll_error = -ENXIO; /* the drive is gone */
    fake.has_medium = false;
    assert_int_equal(read_at(node, 0, data, 512), -EIO);
    block_co_node_unref(node);

    fake_device_init(fixture, SIZE);
    fake.poll_error = -ENOTTY; /* on another kind of device it still works, without the question */
    node = open_image(fixture, FLOPPY("read-only=off"));
    assert_int_equal(read_at(node, 0, data, 512), 0);
    assert_int_equal(fake.opens, 1);
    block_co_node_unref(node);
}

static void a_drive_that_fails_is_reset_and_one_that_cannot_tell_is_used(void **state)
{
    with_device_drivers(state, drivers, drives_body);
}

static void refused_body(struct posix_fixture *fixture)
{
    struct block_node *node = NULL;
    fake_device_init(fixture, SIZE);
    fake.has_medium = false;
    assert_int_equal(try_open(fixture, FLOPPY("read-only=off"), &node), -ENXIO);
    assert_non_null(strstr(fixture->err.message, "no medium"));
    fake.has_medium = true;
    fake.read_only = 1;
    assert_int_equal(try_open(fixture, FLOPPY("read-only=off"), &node), -EROFS);
    assert_non_null(strstr(fixture->err.message, "write-protected"));
    block_co_node_unref(open_image(fixture, FLOPPY("read-only=on")));
    fake.error = -EROFS; /* as the kernel says it */
    assert_int_equal(try_open(fixture, FLOPPY("read-only=off"), &node), -EROFS);
    assert_non_null(strstr(fixture->err.message, "--read-only"));
    assert_int_equal(opened(), 0);
}

static void without_a_disk_that_can_be_used_it_is_not_opened(void **state)
{
    with_device_drivers(state, drivers, refused_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_drive_is_closed_a_second_after_the_last_request),
        cmocka_unit_test(what_was_written_is_synced_before_the_drive_is_closed),
        cmocka_unit_test(what_did_not_come_to_the_disk_is_told_by_the_next_flush),
        cmocka_unit_test(an_empty_drive_is_left_alone_for_a_second),
        cmocka_unit_test(a_changed_disk_is_noticed_and_its_size_read),
        cmocka_unit_test(a_drive_that_fails_is_reset_and_one_that_cannot_tell_is_used),
        cmocka_unit_test(without_a_disk_that_can_be_used_it_is_not_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
