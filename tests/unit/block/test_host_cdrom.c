/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver "host_cdrom" with a fake drive: each state of the drive and its disc. */
#include "tests/unit/block/device_fixture.h"

#include "block/graph.h"

#define SIZE ((size_t)64 << 10)
#define CDROM(...) EXTRA("driver=host_cdrom", "read-only=on", __VA_ARGS__)

static const struct block_driver *const drivers[] = {&block_driver_file, &block_driver_host_device,
                                                     &block_driver_host_cdrom,
                                                     &block_driver_host_floppy, NULL};

static uint8_t data[SIZE];

static struct block_node *open_drive(struct posix_fixture *fixture)
{
    fake_device_init(fixture, SIZE);
    fake.logical_bytes = 2048;
    fake_now_ns = NS_PER_S;
    return open_image(fixture, CDROM("locking=auto"));
}

static void refuse(struct posix_fixture *fixture, int code, const char *text)
{
    struct block_node *node = NULL;
    assert_int_equal(try_open(fixture, CDROM("locking=auto"), &node), code);
    if (!strstr(fixture->err.message, text) || !strstr(fixture->err.message, fixture->path))
        fail_msg("%s", fixture->err.message);
}

static void opening_body(struct posix_fixture *fixture)
{
    struct block_node *node = open_drive(fixture);
    assert_int_equal(atomic_load(&node->size_bytes), SIZE);
    assert_int_equal(node->limits.request_alignment, 2048);
    assert_int_equal(fake.last_flags & (O_ACCMODE | O_NONBLOCK), O_RDONLY | O_NONBLOCK);
    assert_int_equal(read_at(node, 3, data, SIZE - 5), 0);
    for (size_t i = 0; i < SIZE - 5; i++)
        assert_int_equal(data[i], pattern_at(i + 3));
    block_co_node_unref(node);

    assert_int_equal(try_open(fixture, EXTRA("driver=host_cdrom"), &node), -EROFS);
    static const int absent[] = {CDS_NO_DISC, CDS_TRAY_OPEN, CDS_DRIVE_NOT_READY};
    for (int i = 0; i < 3; i++) {
        fake.drive_status = absent[i];
        refuse(fixture, -ENOMEDIUM, "put one in");
    }
    fake.drive_status = CDS_NO_INFO; /* a drive that does not tell, with a disc that does not */
    fake.disc_status = CDS_NO_INFO;
    block_co_node_unref(open_image(fixture, CDROM("locking=auto")));
    fake.drive_status = -ENOSYS;
    block_co_node_unref(open_image(fixture, CDROM("locking=auto")));
    fake.drive_status = -EIO;
    refuse(fixture, -EIO, "nput/output");
    fake.drive_status = CDS_DISC_OK;
    fake.disc_status = CDS_AUDIO;
    refuse(fixture, -EMEDIUMTYPE, "audio");
    fake.disc_status = CDS_NO_DISC;
    refuse(fixture, -ENOMEDIUM, "put one in");
    fake.disc_status = CDS_MIXED;
    block_co_node_unref(open_image(fixture, CDROM("locking=auto")));
}

static void a_disc_with_data_is_opened_and_the_rest_refused(void **state)
{
    with_device_drivers(state, drivers, opening_body);
}

static void tries_body(struct posix_fixture *fixture)
{
    for (unsigned failing = 0; failing < 5; failing++) {
        struct block_node *node = open_drive(fixture);
        fake.reads = 0;
        fake.failing_reads = failing;
        assert_int_equal(read_at(node, 0, data, 2048), failing < 3 ? 0 : -EIO);
        assert_int_equal(fake.reads, failing < 3 ? failing + 1 : 3);
        block_co_node_unref(node);
    }
}

static void a_failed_read_is_tried_twice_more(void **state)
{
    with_device_drivers(state, drivers, tries_body);
}

static void absent_body(struct posix_fixture *fixture)
{
    struct block_node *node = open_drive(fixture);
    unsigned asked = fake.status_asked;
    for (int i = 0; i < 10; i++)
        assert_int_equal(read_at(node, 0, data, 2048), 0);
    assert_int_equal(fake.status_asked, asked); /* one look serves for a while */
    fake.drive_status = CDS_TRAY_OPEN;
    fake_pass(fixture, NS_PER_S);
    fake.reads = 0;
    for (int i = 0; i < 3; i++)
        assert_int_equal(read_at(node, 0, data, 2048), -ENOMEDIUM);
    assert_int_equal(fake.reads, 0);
    assert_int_equal(fake.status_asked, asked + 3); /* and none while there is no disc */
    unsigned opens = fake.opens;
    fake.drive_status = CDS_DISC_OK;
    assert_int_equal(read_at(node, 0, data, 2048), 0);
    assert_int_equal(fake.opens, opens + 1); /* put back: the kernel forgets what it had */
    assert_int_equal(read_at(node, 0, data, 2048), 0);
    assert_int_equal(fake.opens, opens + 1);
    block_co_node_unref(node);
}

static void a_disc_that_is_taken_out_is_missed_and_seen_again(void **state)
{
    with_device_drivers(state, drivers, absent_body);
}

/* It goes in the middle of a read: that is no scratch, and not tried again. */
static void middle_body(struct posix_fixture *fixture)
{
    struct block_node *node = open_drive(fixture);
    fake.failing_reads = 10;
    fake.drive_status = CDS_NO_DISC;
    fake.reads = 0;
    assert_int_equal(read_at(node, 0, data, 2048), -ENOMEDIUM);
    assert_int_equal(fake.reads, 1);
    block_co_node_unref(node);
}

static void a_disc_that_goes_while_it_is_read_is_missed(void **state)
{
    with_device_drivers(state, drivers, middle_body);
}

static void changed_body(struct posix_fixture *fixture)
{
    struct block_node *node = open_drive(fixture);
    unsigned opens = fake.opens;
    fake.medium_changed = true;
    fake.size_bytes = SIZE / 2;
    fake_pass(fixture, NS_PER_S);
    assert_int_equal(read_at(node, 0, data, 2048), 0);
    assert_int_equal(fake.opens, opens + 1);
    assert_int_equal(read_at(node, SIZE - 2048, data, 2048), -EIO); /* not on this disc */
    assert_int_equal(atomic_load(&node->size_bytes), SIZE);         /* as the clients were told */
    assert_int_equal(node->driver->admin->co_resize(node, SIZE, NULL), -ENOTSUP);
    assert_int_equal(node->driver->admin->co_resize(node, SIZE / 2, NULL), 0);
    assert_int_equal(atomic_load(&node->size_bytes), SIZE / 2);

    fake.medium_changed = true; /* for one of music */
    fake.disc_status = CDS_AUDIO;
    fake_pass(fixture, NS_PER_S);
    assert_int_equal(read_at(node, 0, data, 2048), -EMEDIUMTYPE);
    fake.disc_status = CDS_DATA_1;
    assert_int_equal(read_at(node, 0, data, 2048), 0);

    fake.medium_changed = true; /* for one that cannot be asked */
    fake.size_error = -EIO;
    fake_pass(fixture, NS_PER_S);
    assert_int_equal(read_at(node, 0, data, 2048), -EIO);
    fake.size_error = 0;
    fake.medium_changed = true; /* for one with blocks that no request is made of */
    fake.logical_bytes = 4096;
    assert_int_equal(read_at(node, 0, data, 2048), -EIO);
    fake.logical_bytes = 512;
    assert_int_equal(read_at(node, 0, data, 2048), 0);
    assert_int_equal(node->limits.request_alignment, 2048);
    fake.drive_status = -ENXIO; /* the drive itself was pulled out */
    fake_pass(fixture, NS_PER_S);
    assert_int_equal(read_at(node, 0, data, 2048), -ENXIO);
    block_co_node_unref(node);
}

static void a_disc_that_is_changed_is_opened_anew(void **state)
{
    with_device_drivers(state, drivers, changed_body);
}

static void chosen_body(struct posix_fixture *fixture)
{
    fake_device_init(fixture, SIZE);
    fake.drive_status = CDS_NO_DISC;
    assert_string_equal(graph_co_protocol_of(&fixture->env, fixture->path), "host_cdrom");
    fake.drive_status = -ENOTTY;
    assert_string_equal(graph_co_protocol_of(&fixture->env, fixture->path), "host_device");
    fake.device_major = 2;
    assert_string_equal(graph_co_protocol_of(&fixture->env, fixture->path), "host_floppy");
    fixture->odd.kind = HOST_FILE_REGULAR;
    assert_string_equal(graph_co_protocol_of(&fixture->env, fixture->path), "file");
}

static void a_drive_is_known_by_its_answers(void **state)
{
    with_device_drivers(state, drivers, chosen_body);
}

/* --- many requests ------------------------------------------------------------------------------
 */

struct reader {
    struct block_node *node;
    struct coroutine *parent;
    unsigned *left;
};

static void read_some(void *arg)
{
    struct reader *reader = arg;
    uint8_t block[2048];
    for (int i = 0; i < 20; i++)
        assert_int_equal(read_at(reader->node, 2048 * (unsigned)i, block, 2048), 0);
    if (--*reader->left == 0)
        coroutine_wake(reader->parent);
}

static void together_body(struct posix_fixture *fixture)
{
    struct reader readers[8];
    unsigned left = 8;
    struct block_node *node = open_drive(fixture);
    for (int i = 0; i < 8; i++) {
        readers[i] = (struct reader){.node = node, .parent = coroutine_self(), .left = &left};
        assert_int_equal(coroutine_start(fixture->loop, read_some, &readers[i]), 0);
        fake.medium_changed = true;
        fake_now_ns += NS_PER_S;
    }
    if (left > 0)
        coroutine_yield();
    block_co_node_unref(node);
}

static void requests_that_come_together_have_the_drive_one_after_the_other(void **state)
{
    with_device_drivers(state, drivers, together_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disc_with_data_is_opened_and_the_rest_refused),
        cmocka_unit_test(a_failed_read_is_tried_twice_more),
        cmocka_unit_test(a_disc_that_is_taken_out_is_missed_and_seen_again),
        cmocka_unit_test(a_disc_that_goes_while_it_is_read_is_missed),
        cmocka_unit_test(a_disc_that_is_changed_is_opened_anew),
        cmocka_unit_test(a_drive_is_known_by_its_answers),
        {"threads: requests_that_come_together",
         requests_that_come_together_have_the_drive_one_after_the_other, NULL, NULL,
         (void *)&engine_threads},
        cmocka_unit_test(requests_that_come_together_have_the_drive_one_after_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
