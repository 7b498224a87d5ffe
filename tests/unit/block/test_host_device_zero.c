/* SPDX-License-Identifier: BSD-3-Clause */
/* Zeroes and discards of a device: which request is made for which wish, and what comes back. */
#include "tests/unit/block/device_fixture.h"

#define SIZE ((size_t)64 << 10)
#define DEVICE(...) EXTRA("driver=host_device", __VA_ARGS__)

static const struct block_driver *const device_drivers[] = {&block_driver_host_device, NULL};

static const struct fake_attribute makes_zeroes[] = {{"queue/write_zeroes_max_bytes", "65536\n"},
                                                     {NULL, NULL}};

static struct block_node *open_device(struct posix_fixture *fixture, const char *discard)
{
    char option[32];
    snprintf(option, sizeof(option), "discard=%s", discard);
    return open_image(fixture, DEVICE(option));
}

static void expect_bytes(struct block_node *node, uint64_t offset, size_t length, int byte)
{
    static uint8_t data[SIZE];
    assert_int_equal(read_at(node, offset, data, length), 0);
    for (size_t i = 0; i < length; i++)
        assert_int_equal(data[i], byte < 0 ? pattern_at(offset + i) : byte);
}

static void keeps_body(struct posix_fixture *fixture)
{
    fake_device_init(fixture, SIZE);
    for (int unmap = 0; unmap < 2; unmap++) {
        struct block_node *node = open_device(fixture, unmap ? "unmap" : "ignore");
        fake.zeroes = (struct fake_range){0};
        assert_int_equal(node_co_zero(node, 1024, 8192, unmap ? BLOCK_NO_UNMAP : 0), 0);
        assert_int_equal(fake.zeroes.count, 1);
        assert_int_equal(fake.zeroes.offset, 1024);
        assert_int_equal(fake.zeroes.length, 8192);
        assert_int_equal(fake.punches, 0);
        expect_bytes(node, 0, 1024, -1);
        expect_bytes(node, 1024, 8192, 0);
        expect_bytes(node, 9216, 1000, -1);
        block_co_node_unref(node);
    }
    assert_int_equal(fake.discards.count, 0);
}

static void zeroes_that_keep_their_space_are_made_by_blkzeroout(void **state)
{
    with_device_drivers(state, device_drivers, keeps_body);
}

static void unmaps_body(struct posix_fixture *fixture)
{
    fake_device_init(fixture, SIZE);
    struct block_node *node = open_device(fixture, "unmap");
    assert_int_equal(node_co_zero(node, 0, 4096, 0), 0);
    assert_int_equal(fake.punches, 1);
    assert_int_equal(fake.zeroes.count, 0);
    expect_bytes(node, 0, 4096, 0);
    fake.punch_error = EBUSY; /* mounted, and dirty: this time not */
    assert_int_equal(node_co_zero(node, 4096, 4096, 0), 0);
    assert_int_equal(fake.zeroes.count, 1);
    fake.punch_error = EOPNOTSUPP; /* a device that makes no zeroes; asked once */
    for (int i = 0; i < 3; i++)
        assert_int_equal(node_co_zero(node, 8192, 4096, 0), 0);
    assert_int_equal(fake.punches, 3);
    assert_int_equal(fake.zeroes.count, 4);
    expect_bytes(node, 4096, 8192, 0);
    block_co_node_unref(node);
}

static void zeroes_that_may_free_their_space_are_punched_where_that_goes(void **state)
{
    with_device_drivers(state, device_drivers, unmaps_body);
}

static void fast_body(struct posix_fixture *fixture)
{
    fake_device_init(fixture, SIZE);
    struct block_node *node = open_device(fixture, "ignore"); /* the kernel would write them */
    assert_int_equal(node_co_zero(node, 0, 4096, BLOCK_FAST), -ENOTSUP);
    assert_int_equal(fake.zeroes.count, 0);
    block_co_node_unref(node);

    node = open_device(fixture, "unmap");
    assert_int_equal(node_co_zero(node, 0, 4096, BLOCK_FAST), 0); /* punched: quick or not at all */
    fake.punch_error = EOPNOTSUPP;
    assert_int_equal(node_co_zero(node, 4096, 4096, BLOCK_FAST), -ENOTSUP);
    expect_bytes(node, 4096, 4096, -1);
    block_co_node_unref(node);

    fake.attributes = makes_zeroes;
    node = open_device(fixture, "ignore");
    assert_int_equal(node_co_zero(node, 4096, 4096, BLOCK_FAST), 0);
    assert_int_equal(fake.zeroes.count, 1);
    block_co_node_unref(node);
}

static void fast_zeroes_are_refused_where_the_kernel_would_write_them(void **state)
{
    with_device_drivers(state, device_drivers, fast_body);
}

static void missing_body(struct posix_fixture *fixture)
{
    static const int missing[] = {-ENOTTY, -EOPNOTSUPP};
    for (int i = 0; i < 2; i++) {
        fake_device_init(fixture, SIZE);
        fake.zeroes.error = fake.discards.error = missing[i];
        struct block_node *node = open_device(fixture, "unmap");
        fake.punch_error = EOPNOTSUPP;
        for (int again = 0; again < 3; again++) {
            assert_int_equal(node_co_zero(node, 512, 4096, 0), 0); /* written instead */
            assert_int_equal(node_co_discard(node, 8192, 4096, 0), 0);
        }
        assert_int_equal(fake.zeroes.count, 1);
        assert_int_equal(fake.discards.count, 1);
        expect_bytes(node, 512, 4096, 0);
        expect_bytes(node, 8192, 4096, -1);
        block_co_node_unref(node);
    }
}

static void what_a_device_has_not_is_asked_for_once(void **state)
{
    with_device_drivers(state, device_drivers, missing_body);
}

static void failing_body(struct posix_fixture *fixture)
{
    fake_device_init(fixture, SIZE);
    struct block_node *node = open_device(fixture, "unmap");
    fake.punch_error = EIO;
    assert_int_equal(node_co_zero(node, 0, 4096, 0), -EIO);
    assert_int_equal(fake.zeroes.count, 0);
    fake.zeroes.error = -EIO;
    assert_int_equal(node_co_zero(node, 0, 4096, BLOCK_NO_UNMAP), -EIO);
    fake.discards.error = -EREMOTEIO;
    assert_int_equal(node_co_discard(node, 0, 4096, 0), -EREMOTEIO);
    assert_int_equal(node_co_discard(node, 0, 4096, 0), -EREMOTEIO);
    assert_int_equal(fake.discards.count, 2);
    fake.discards.error = -EBUSY; /* a hint that cannot be taken now */
    assert_int_equal(node_co_discard(node, 0, 4096, 0), 0);
    fake.discards.error = 0;
    fake.interrupt_ioctls = 3;
    assert_int_equal(node_co_discard(node, 0, 4096, 0), 0);
    expect_bytes(node, 0, 4096, FAKE_DISCARD_BYTE);
    block_co_node_unref(node);
}

static void what_fails_is_told(void **state)
{
    with_device_drivers(state, device_drivers, failing_body);
}

static void discard_body(struct posix_fixture *fixture)
{
    static const struct fake_attribute granules[] = {
        {"queue/discard_granularity", "4096\n"}, {"discard_alignment", "512\n"}, {NULL, NULL}};
    static const struct fake_attribute none[] = {{"queue/discard_max_bytes", "0\n"}, {NULL, NULL}};
    fake_device_init(fixture, SIZE);
    fake.attributes = granules;
    struct block_node *node = open_device(fixture, "ignore");
    assert_int_equal(node_co_discard(node, 0, SIZE, 0), 0);
    assert_int_equal(fake.discards.count, 0);
    block_co_node_unref(node);

    node = open_device(fixture, "unmap");
    assert_int_equal(node_co_discard(node, 1024, 4096, 0), 0); /* no whole one in it */
    assert_int_equal(fake.discards.count, 0);
    assert_int_equal(node_co_discard(node, 100, 20000, 0), 0);
    assert_int_equal(fake.discards.offset, 512);
    assert_int_equal(fake.discards.length, 16384);
    assert_int_equal(node_co_discard(node, SIZE - 8192, 8192, 0), 0);
    assert_int_equal(fake.discards.offset, SIZE - 8192 + 512);
    assert_int_equal(fake.discards.length, 8192 - 512); /* to the device's end */
    block_co_node_unref(node);

    fake.attributes = none;
    fake.discards.count = 0;
    node = open_device(fixture, "unmap");
    assert_int_equal(node_co_discard(node, 0, SIZE, 0), 0);
    assert_int_equal(fake.discards.count, 0);
    block_co_node_unref(node);
}

static void discards_are_made_of_whole_granules_and_only_where_asked_for(void **state)
{
    with_device_drivers(state, device_drivers, discard_body);
}

static void pieces_body(struct posix_fixture *fixture)
{
    static const struct fake_attribute granules[] = {{"queue/discard_granularity", "3145728\n"},
                                                     {NULL, NULL}};
    const uint64_t size = UINT64_C(3145728) * 700;
    fake_device_init(fixture, SIZE);
    fake.size_bytes = size;
    fake.attributes = granules;
    struct block_node *node = open_device(fixture, "unmap");
    assert_int_equal(node_co_discard(node, 0, size, 0), 0);
    assert_true(fake.discards.count > 4);
    assert_int_equal(fake.discards.total, size);
    assert_int_equal(fake.discards.offset % 3145728, 0); /* cut between granules */
    fake.punch_error = EOPNOTSUPP;
    assert_int_equal(node_co_zero(node, UINT64_C(64) << 20, size - (UINT64_C(64) << 20), 0), 0);
    assert_true(fake.zeroes.count > 4);
    assert_int_equal(fake.zeroes.total, size - (UINT64_C(64) << 20));
    block_co_node_unref(node);
}

static void long_ranges_go_in_pieces_and_lose_no_granule(void **state)
{
    with_device_drivers(state, device_drivers, pieces_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroes_that_keep_their_space_are_made_by_blkzeroout),
        cmocka_unit_test(zeroes_that_may_free_their_space_are_punched_where_that_goes),
        cmocka_unit_test(fast_zeroes_are_refused_where_the_kernel_would_write_them),
        cmocka_unit_test(what_a_device_has_not_is_asked_for_once),
        cmocka_unit_test(what_fails_is_told),
        cmocka_unit_test(discards_are_made_of_whole_granules_and_only_where_asked_for),
        cmocka_unit_test(long_ranges_go_in_pieces_and_lose_no_granule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
