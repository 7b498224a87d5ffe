/* SPDX-License-Identifier: BSD-3-Clause */
/* The format raw over the driver "file", found by the registry: it adds nothing and loses nothing.
 */
#include "tests/unit/block/posix_fixture.h"

#include "formats/raw.h"
#include "formats/registry.h"

static struct block_node *open_raw(struct posix_fixture *fixture, const char *first,
                                   const char *value)
{
    struct block_node *node = NULL;
    struct node_options *options = node_options_new();
    node_options_set(options, "file.aio", "sync", NULL);
    node_options_set(options, first, value, NULL);
    int ret =
        block_co_open_image(&fixture->env, fixture->path, "raw", options, &node, &fixture->err);
    if (ret < 0)
        fail_msg("%s", fixture->err.message);
    return node;
}

static void data_body(struct posix_fixture *fixture)
{
    uint8_t data[5000], byte = 0xaa;
    struct block_extent extent;
    make_image(fixture, 5001);
    struct block_node *node = open_raw(fixture, "file.discard", "unmap");
    assert_string_equal(block_node_driver_name(node), "raw");
    assert_int_equal(atomic_load(&node->size_bytes), 5001);
    assert_int_equal(read_at(node, 1, data, sizeof(data)), 0);
    for (size_t i = 0; i < sizeof(data); i++)
        assert_int_equal(data[i], pattern_at(i + 1));
    assert_int_equal(write_at(node, 5000, &byte, 1), 0);
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &byte, 1);
    assert_int_equal(node_co_write(node, 4999, &vec, BLOCK_FUA), 0);
    assert_int_equal(write_at(node, 5000, data, 2), -ENOSPC); /* an image does not grow */
    assert_int_equal(node_co_zero(node, 100, 200, 0), 0);
    assert_int_equal(node_co_cache(node, 1, 5000), 0);
    assert_int_equal(fixture->odd.will_needs, 1);
    assert_int_equal(node_co_discard(node, 0, 5001, 0), 0);
    assert_int_equal(node_co_status(node, 0, 5001, &extent), 0);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ZERO);
    assert_int_equal(node_co_flush(node), 0);
    block_co_node_unref(node);
    assert_int_equal(image_size(fixture), 5001);
}

static void data_cases_pass_through(void **state)
{
    with_posix_drivers(state, formats_registry, data_body);
}

static void part_cache_body(struct posix_fixture *fixture)
{
    make_image(fixture, 5001);
    struct block_node *node = open_raw(fixture, "offset", "1000");
    assert_int_equal(node_co_cache(node, 1, 10), 0);
    assert_int_equal(fixture->odd.needed_offset, 1001);
    assert_int_equal(fixture->odd.needed_length, 10);
    block_co_node_unref(node);
}

static void a_cache_request_of_a_part_is_for_its_place_in_the_file(void **state)
{
    with_posix_drivers(state, formats_registry, part_cache_body);
}

static void limits_body(struct posix_fixture *fixture)
{
    make_image(fixture, 100000);
    fixture->odd.hide_alignment = true;
    fixture->odd.direct = fixture->odd.direct_memory = 1024;
    struct block_node *node = open_raw(fixture, "file.cache.direct", "on");
    assert_int_equal(node->limits.request_alignment, 1024);
    uint8_t data[3000];
    assert_int_equal(read_at(node, 777, data, sizeof(data)), 0);
    for (size_t i = 0; i < sizeof(data); i++)
        assert_int_equal(data[i], pattern_at(777 + i));
    block_co_node_unref(node);

    node = open_raw(fixture, "cache.direct", "on"); /* goes for the file as well */
    assert_int_equal(node->limits.request_alignment, 1024);
    block_co_node_unref(node);
}

static void limits_of_the_file_are_the_images(void **state)
{
    with_posix_drivers(state, formats_registry, limits_body);
}

static void admin_body(struct posix_fixture *fixture)
{
    struct node_options *options = node_options_new();
    node_options_set(options, "filename", fixture->path, NULL);
    node_options_set(options, "size", "64K", NULL);
    assert_int_equal(format_raw.admin->co_create(&fixture->env, options, &fixture->err), 0);
    node_options_free(options);
    struct block_node *node = open_raw(fixture, "read-only", "off");
    assert_int_equal(atomic_load(&node->size_bytes), 65536);
    assert_true(format_raw.admin->has_zero_init(node));
    assert_int_equal(format_raw.admin->co_resize(node, 100, &fixture->err), 0);
    assert_int_equal(atomic_load(&node->size_bytes), 100);
    assert_int_equal(image_size(fixture), 100);
    block_co_node_unref(node);
    node = open_raw(fixture, "read-only", "on");
    assert_int_equal(format_raw.admin->co_resize(node, 200, &fixture->err), -EPERM);
    assert_int_equal(atomic_load(&node->size_bytes), 100);
    block_co_node_unref(node);
}

static void an_image_is_made_and_resized_by_its_file(void **state)
{
    with_posix_drivers(state, formats_registry, admin_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_cases_pass_through),
        cmocka_unit_test(a_cache_request_of_a_part_is_for_its_place_in_the_file),
        cmocka_unit_test(limits_of_the_file_are_the_images),
        cmocka_unit_test(an_image_is_made_and_resized_by_its_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
