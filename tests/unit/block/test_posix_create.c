/* SPDX-License-Identifier: BSD-3-Clause */
/* New files, with each kind of preallocation, and new sizes of old ones. */
#include "tests/unit/block/posix_fixture.h"

static int create(struct posix_fixture *fixture, const char *const *extra)
{
    struct node_options *options = node_options_new();
    node_options_set(options, "filename", fixture->path, NULL);
    for (; *extra; extra++) {
        char key[64];
        const char *equals = strchr(*extra, '=');
        snprintf(key, sizeof(key), "%.*s", (int)(equals - *extra), *extra);
        assert_int_equal(node_options_set(options, key, equals + 1, NULL), 0);
    }
    int ret = block_driver_file.admin->co_create(&fixture->env, options, &fixture->err);
    node_options_free(options);
    return ret;
}

static uint64_t image_space(const struct posix_fixture *fixture)
{
    struct stat stat_of_image;
    assert_int_equal(stat(fixture->path, &stat_of_image), 0);
    return (uint64_t)stat_of_image.st_blocks * 512;
}

static void preallocation_body(struct posix_fixture *fixture)
{
    assert_int_equal(create(fixture, EXTRA("size=3000001")), 0);
    assert_int_equal(image_size(fixture), 3000001);
    assert_true(image_space(fixture) < 100000);
    unlink(fixture->path);
    assert_int_equal(create(fixture, EXTRA("size=3000001", "preallocation=falloc")), 0);
    assert_int_equal(image_size(fixture), 3000001);
    assert_true(image_space(fixture) >= 3000001);
    unlink(fixture->path);
    fixture->odd.transfer_max = 70000;
    fixture->odd.interrupt = 1;
    assert_int_equal(create(fixture, EXTRA("size=3000001", "preallocation=full")), 0);
    assert_int_equal(image_size(fixture), 3000001);
    assert_true(image_space(fixture) >= 3000001);
    unlink(fixture->path);
    assert_int_equal(create(fixture, EXTRA("size=0", "preallocation=full")), 0);
    assert_int_equal(image_size(fixture), 0);
}

static void a_new_file_has_its_size_and_the_space_that_was_asked_for(void **state)
{
    with_posix(state, preallocation_body);
}

static void old_file_body(struct posix_fixture *fixture)
{
    make_image(fixture, 100000);
    assert_int_equal(create(fixture, EXTRA("size=50000")), 0);
    struct block_node *node = open_image(fixture, NULL);
    uint8_t data[50000];
    assert_int_equal(atomic_load(&node->size_bytes), 50000);
    assert_int_equal(read_at(node, 0, data, sizeof(data)), 0);
    for (size_t i = 0; i < sizeof(data); i++)
        assert_int_equal(data[i], 0);
    assert_true(block_driver_file.admin->has_zero_init(node));
    block_co_node_unref(node);
}

static void a_file_that_was_there_loses_its_content(void **state)
{
    with_posix(state, old_file_body);
}

static void failure_body(struct posix_fixture *fixture)
{
    fixture->odd.fallocate_error = -ENOSPC;
    assert_int_equal(create(fixture, EXTRA("size=1M", "preallocation=falloc")), -ENOSPC);
    assert_non_null(strstr(fixture->err.message, fixture->path));
    assert_non_null(strstr(fixture->err.message, "make room"));
    assert_int_equal(access(fixture->path, F_OK), -1); /* nothing is left behind */
    fixture->odd.fallocate_error = -EOPNOTSUPP;
    make_image(fixture, 10);
    assert_int_equal(create(fixture, EXTRA("size=1M", "preallocation=falloc")), -EOPNOTSUPP);
    assert_non_null(strstr(fixture->err.message, "preallocation=full"));
    assert_int_equal(access(fixture->path, F_OK), 0); /* it was not ours */
    fixture->odd.write_nothing = true;
    assert_int_equal(create(fixture, EXTRA("size=1M", "preallocation=full")), -EIO);

    assert_int_equal(create(fixture, EXTRA("preallocation=off")), -EINVAL);
    assert_non_null(strstr(fixture->err.message, "size"));
    assert_int_equal(create(fixture, EXTRA("size=1M", "preallocation=metadata")), -EINVAL);
    assert_int_equal(create(fixture, EXTRA("size=9E")), -EFBIG);
    assert_int_equal(create(fixture, EXTRA("size=1M", "filename=")), -EINVAL);
    assert_int_equal(create(fixture, EXTRA("size=1M", "filename=/tmp")), -EISDIR);
    assert_int_equal(create(fixture, EXTRA("size=1M", "filename=/nowhere/image")), -ENOENT);
    assert_non_null(strstr(fixture->err.message, "/nowhere/image"));
}

static void a_new_file_that_could_not_be_made_whole_is_removed(void **state)
{
    with_posix(state, failure_body);
}

static void resize_body(struct posix_fixture *fixture)
{
    const struct block_driver_admin *admin = block_driver_file.admin;
    struct block_extent extent;
    uint8_t data[4096];
    make_image(fixture, 100000);
    struct block_node *node = open_image(fixture, NULL);
    assert_int_equal(node_co_status(node, 0, 100000, &extent), 0); /* all data, remembered */
    assert_int_equal(extent.length, 100000);
    assert_int_equal(admin->co_resize(node, 8192, &fixture->err), 0);
    assert_int_equal(atomic_load(&node->size_bytes), 8192);
    assert_int_equal(image_size(fixture), 8192);
    assert_int_equal(admin->co_resize(node, 200000, &fixture->err), 0);
    assert_int_equal(image_size(fixture), 200000);
    assert_int_equal(read_at(node, 8192, data, sizeof(data)), 0);
    for (size_t i = 0; i < sizeof(data); i++)
        assert_int_equal(data[i], 0);
    assert_int_equal(node_co_status(node, 8192, 200000 - 8192, &extent), 0);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ZERO); /* what was cut off is forgotten */
    assert_int_equal(admin->co_resize(node, UINT64_MAX, &fixture->err), -EFBIG);
    assert_int_equal(atomic_load(&node->size_bytes), 200000);
    block_co_node_unref(node);

    node = open_image(fixture, EXTRA("read-only=on"));
    assert_int_equal(admin->co_resize(node, 1, &fixture->err), -EPERM);
    assert_int_equal(image_size(fixture), 200000);
    block_co_node_unref(node);
}

static void a_file_is_made_longer_with_zeroes_and_cut_off(void **state)
{
    with_posix(state, resize_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_file_has_its_size_and_the_space_that_was_asked_for),
        cmocka_unit_test(a_file_that_was_there_loses_its_content),
        cmocka_unit_test(a_new_file_that_could_not_be_made_whole_is_removed),
        cmocka_unit_test(a_file_is_made_longer_with_zeroes_and_cut_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
