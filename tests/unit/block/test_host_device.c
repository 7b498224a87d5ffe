/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver "host_device" on a device that is not there: opening, blocks, ends and failures. */
#include "tests/unit/block/device_fixture.h"

#include "block/graph.h"

static const struct block_driver *const device_drivers[] = {&block_driver_file,
                                                            &block_driver_host_device, NULL};

#define DEVICE(...) EXTRA("driver=host_device", __VA_ARGS__)
#define SIZE ((size_t)64 << 10)

static void with_device(void **state, void (*body)(struct posix_fixture *fixture))
{
    with_device_drivers(state, device_drivers, body);
}

static void expect_refusal(struct posix_fixture *fixture, const char *const *extra, int code,
                           const char *text)
{
    struct block_node *node = NULL;
    unsigned opened = fake.opens - fake.device_closes;
    assert_int_equal(try_open(fixture, extra, &node), code);
    assert_null(node);
    if (!strstr(fixture->err.message, text) || !strstr(fixture->err.message, fixture->path))
        fail_msg("'%s' lacks '%s'", fixture->err.message, text);
    assert_int_equal(fake.opens - fake.device_closes, opened); /* nothing is left open */
}

static void open_body(struct posix_fixture *fixture)
{
    fake_device_init(fixture, SIZE + 100);
    fake.physical_bytes = 4096;
    struct block_node *node = open_image(fixture, DEVICE("read-only=off"));
    assert_int_equal(atomic_load(&node->size_bytes), SIZE);
    assert_int_equal(node->limits.request_alignment, 512);
    assert_int_equal(node->limits.preferred_bytes, 4096);
    block_co_node_unref(node);

    fake.logical_bytes = 4096;
    node = open_image(fixture, DEVICE("cache.direct=on"));
    assert_int_equal(node->limits.request_alignment, 4096);
    assert_int_equal(node->limits.memory_alignment, 4096);
    assert_true(fake.last_flags & O_DIRECT);
    block_co_node_unref(node);

    fake.size_bytes = 512; /* less than a block; a loop device without a file has nothing at all */
    node = open_image(fixture, DEVICE("read-only=on"));
    assert_int_equal(atomic_load(&node->size_bytes), 0);
    assert_int_equal(fake.last_flags & O_ACCMODE, O_RDONLY);
    block_co_node_unref(node);
}

static void size_and_blocks_are_the_devices_own(void **state)
{
    with_device(state, open_body);
}

static void refused_body(struct posix_fixture *fixture)
{
    fake_device_init(fixture, SIZE);
    fixture->odd.kind = HOST_FILE_REGULAR;
    expect_refusal(fixture, DEVICE("read-only=on"), -ENOTBLK, "driver=file");
    fixture->odd.kind = HOST_FILE_OTHER;
    expect_refusal(fixture, DEVICE("read-only=on"), -ENOTBLK, "not a block device");
    fixture->odd.kind = HOST_FILE_BLOCK_DEVICE;
    expect_refusal(fixture, EXTRA("driver=file"), -ENOTSUP, "driver=host_device");

    fake.read_only = 1;
    expect_refusal(fixture, DEVICE("read-only=off"), -EROFS, "--read-only");
    block_co_node_unref(open_image(fixture, DEVICE("read-only=on")));
    fake.read_only = 0;

    fake.size_error = -ENXIO;
    expect_refusal(fixture, DEVICE("read-only=off"), -ENXIO, "how large");
    fake.size_error = 0;
    static const struct {
        int error;
        const char *text;
    } failed[] = {
        {-EBUSY, "mounted"}, {-ENXIO, "no such device"}, {-ENOMEDIUM, "put one in"},
        {-EACCES, "change"}, {-EIO, "nput/output"},
    };
    for (size_t i = 0; i < sizeof(failed) / sizeof(failed[0]); i++) {
        fake.error = failed[i].error;
        expect_refusal(fixture, DEVICE("read-only=off"), failed[i].error, failed[i].text);
    }
    fake.error = 0;
    expect_refusal(fixture, DEVICE("aio=native", "cache.direct=off"), -EINVAL, "cache.direct=on");
}

static void what_cannot_be_served_is_refused_with_a_sentence(void **state)
{
    with_device(state, refused_body);
}

static void held_body(struct posix_fixture *fixture)
{
    fake_device_init(fixture, SIZE);
    fake.held = true; /* a warning, as qemu-nbd would serve it */
    block_co_node_unref(open_image(fixture, DEVICE("read-only=off")));
    assert_int_equal(fake.opens, 1);
    assert_int_equal(fake.closes, 2); /* the look at what it is, and the device */
    fake.held = false;
    block_co_node_unref(open_image(fixture, DEVICE("read-only=off")));
    assert_int_equal(fake.closes, 5); /* and the question whether it is held, which is not kept */
}

static void a_device_that_the_system_holds_is_served(void **state)
{
    with_device(state, held_body);
}

static void locks_body(struct posix_fixture *fixture)
{
    fake_device_init(fixture, SIZE);
    struct block_node *node = open_image(fixture, DEVICE("locking=on"));
    expect_refusal(fixture, DEVICE("read-only=off"), -EBUSY, "another export of this server");
    block_co_node_unref(open_image(fixture, DEVICE("locking=off")));
    block_co_node_unref(node);
}

static void a_device_is_locked_as_a_file_is(void **state)
{
    with_device(state, locks_body);
}

static void chosen_body(struct posix_fixture *fixture)
{
    for (int i = 0; i < 2; i++) {
        fake_device_init(fixture, SIZE);
        fixture->odd.kind = i ? HOST_FILE_REGULAR : HOST_FILE_BLOCK_DEVICE;
        const struct block_driver *const drivers[] = {&block_driver_file, NULL};
        struct block_env without = fixture->env;
        without.drivers = drivers;
        assert_string_equal(graph_co_protocol_of(&fixture->env, fixture->path),
                            i ? "file" : "host_device");
        assert_string_equal(graph_co_protocol_of(&without, fixture->path), "file");
    }
    assert_string_equal(graph_co_protocol_of(&fixture->env, "/no/such/file"), "file");
}

static void a_path_alone_is_opened_by_the_driver_it_is_for(void **state)
{
    with_device(state, chosen_body);
}

static void bytes_body(struct posix_fixture *fixture)
{
    static uint8_t data[SIZE], there[SIZE];
    fake_device_init(fixture, SIZE);
    fake.logical_bytes = 4096; /* what the folder's own disk takes with O_DIRECT */
    /* The kernel gives less at a time, past its cache whole blocks. tmpfs leaves what native asks
     * for to the threads, and so to this table. */
    fixture->odd.transfer_max = fixture->engine == &engine_native ? 8192 : 5000;
    fixture->odd.interrupt = 1;
    struct block_node *node = open_image(fixture, DEVICE("read-only=off"));
    for (size_t i = 0; i < SIZE; i++)
        there[i] = pattern_at(i);
    memset(data, 'x', SIZE);
    assert_int_equal(write_at(node, 700, data, 3000), 0);
    assert_int_equal(write_at(node, 5, data, 1), 0);
    assert_int_equal(write_at(node, SIZE - 1, data, 1), 0);
    memset(there + 700, 'x', 3000);
    there[5] = there[SIZE - 1] = 'x';
    assert_int_equal(node_co_flush(node), 0);
    assert_int_equal(read_at(node, 0, data, SIZE), 0);
    assert_memory_equal(data, there, SIZE);
    assert_int_equal(write_at(node, SIZE, data, 512), -ENOSPC); /* it does not grow */
    struct block_extent extent;
    assert_int_equal(node_co_status(node, 3, 1000, &extent), 0);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ALLOCATED);
    assert_int_equal(extent.length, 1000);
    block_co_node_unref(node);
    assert_int_equal(image_size(fixture), SIZE);
}

static void any_range_is_read_and_written(void **state)
{
    with_device(state, bytes_body);
}

static void gone_body(struct posix_fixture *fixture)
{
    static uint8_t data[4096];
    static const int gone[] = {-ENXIO, -ENODEV, -ENOMEDIUM, -EIO};
    for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
        fake_device_init(fixture, SIZE);
        struct block_node *node = open_image(fixture, DEVICE("discard=unmap"));
        assert_int_equal(write_at(node, 0, data, sizeof(data)), 0);
        fake.error = gone[i];
        fake.punch_error = (unsigned)-gone[i];
        fake.discards.error = gone[i];
        for (int again = 0; again < 2; again++) {
            assert_int_equal(read_at(node, 0, data, sizeof(data)), -EIO);
            assert_int_equal(write_at(node, 0, data, sizeof(data)), -EIO);
            assert_int_equal(node_co_zero(node, 0, 4096, 0), -EIO);
            assert_int_equal(node_co_discard(node, 0, 4096, 0), -EIO);
            assert_int_equal(node_co_flush(node), -EIO);
        }
        block_co_node_unref(node);
    }
}

static void a_device_that_is_gone_is_an_io_error(void **state)
{
    with_device(state, gone_body);
}

static void shrunk_body(struct posix_fixture *fixture)
{
    static uint8_t data[8192];
    fake_device_init(fixture, SIZE);
    struct block_node *node = open_image(fixture, DEVICE("read-only=off"));
    fake.ends_at = SIZE / 2;
    assert_int_equal(read_at(node, 0, data, sizeof(data)), 0);
    /* zeroes, as for a sparse file, would be a lie */
    assert_int_equal(read_at(node, SIZE - 8192, data, 8192), -EIO);
    assert_int_equal(write_at(node, SIZE - 8192, data, 8192), -EIO);
    fake.ends_at = 0;
    fake.error = -ENOSPC; /* a thin volume is full, and as large as ever */
    assert_int_equal(write_at(node, 0, data, 8192), -ENOSPC);
    fake.size_error = -ENXIO;
    assert_int_equal(write_at(node, 0, data, 8192), -EIO);
    fake.error = 0;
    block_co_node_unref(node);
}

static void the_end_of_a_device_that_shrank_is_an_error_and_no_zeroes(void **state)
{
    with_device(state, shrunk_body);
}

static void resize_body(struct posix_fixture *fixture)
{
    fake_device_init(fixture, SIZE);
    struct block_node *node = open_image(fixture, DEVICE("read-only=off"));
    const struct block_driver_admin *admin = block_driver_host_device.admin;
    assert_int_equal(admin->co_resize(node, 2 * SIZE, &fixture->err), -ENOTSUP);
    assert_non_null(strstr(fixture->err.message, "it is a device, and has 65536"));
    fake.size_bytes = 2 * SIZE; /* somebody made the volume larger */
    assert_int_equal(admin->co_resize(node, 2 * SIZE, &fixture->err), 0);
    assert_int_equal(atomic_load(&node->size_bytes), 2 * SIZE);
    fake.size_error = -EIO;
    assert_int_equal(admin->co_resize(node, 2 * SIZE, &fixture->err), -EIO);
    block_co_node_unref(node);
}

static void a_device_that_grew_is_taken_over_on_demand(void **state)
{
    with_device(state, resize_body);
}

static void flush_body(struct posix_fixture *fixture)
{
    static const struct fake_attribute through[] = {{"queue/write_cache", "write through\n"},
                                                    {NULL, NULL}};
    static uint8_t data[512];
    fake_device_init(fixture, SIZE);
    fake.attributes = through;
    struct block_node *node = open_image(fixture, DEVICE("cache.direct=on"));
    unsigned before = fixture->odd.syncs;
    assert_int_equal(write_at(node, 0, data, 512), 0);
    assert_int_equal(node_co_flush(node), 0);
    assert_int_equal(fixture->odd.syncs, before + 1);
    block_co_node_unref(node);
    node = open_image(fixture, DEVICE("cache.no-flush=on"));
    before = fixture->odd.syncs;
    assert_int_equal(write_at(node, 0, data, 512), 0);
    assert_int_equal(node_co_flush(node), 0);
    assert_int_equal(fixture->odd.syncs, before);
    block_co_node_unref(node);
}

static void a_flush_is_never_left_out_because_of_what_the_queue_says(void **state)
{
    with_device(state, flush_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_and_blocks_are_the_devices_own),
        cmocka_unit_test(what_cannot_be_served_is_refused_with_a_sentence),
        cmocka_unit_test(a_device_that_the_system_holds_is_served),
        cmocka_unit_test(a_device_is_locked_as_a_file_is),
        cmocka_unit_test(a_path_alone_is_opened_by_the_driver_it_is_for),
        ON_EACH_ENGINE(any_range_is_read_and_written),
        cmocka_unit_test(a_device_that_is_gone_is_an_io_error),
        cmocka_unit_test(the_end_of_a_device_that_shrank_is_an_error_and_no_zeroes),
        cmocka_unit_test(a_device_that_grew_is_taken_over_on_demand),
        cmocka_unit_test(a_flush_is_never_left_out_because_of_what_the_queue_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
