/* SPDX-License-Identifier: BSD-3-Clause */
/* admin.c: new images and new sizes by way of the block layer, on real files. */
#include "tests/unit/block/posix_fixture.h"

static int create(struct posix_fixture *fixture, const char *driver, const char *const *extra)
{
    struct node_options *options = node_options_new();
    node_options_set(options, "filename", fixture->path, NULL);
    if (driver)
        node_options_set(options, "driver", driver, NULL);
    for (; *extra; extra += 2)
        node_options_set(options, extra[0], extra[1], NULL);
    return block_co_create(&fixture->env, options, &fixture->err);
}

static void create_body(struct posix_fixture *fixture)
{
    assert_int_equal(create(fixture, "file", EXTRA("size", "70000")), 0);
    assert_int_equal(image_size(fixture), 70000);
    assert_int_equal(create(fixture, "qcow3", EXTRA("size", "1M")), -EINVAL);
    assert_non_null(strstr(fixture->err.message, "qcow3"));
    assert_int_equal(create(fixture, NULL, EXTRA("size", "1M")), -EINVAL);
    assert_non_null(strstr(fixture->err.message, "'driver'"));
    assert_int_equal(create(fixture, "file", EXTRA("size", "1M", "colour", "red")), -EINVAL);
    assert_non_null(strstr(fixture->err.message, "colour"));
    assert_int_equal(image_size(fixture), 70000); /* and the old one is untouched */
}

static void a_new_image_is_made_by_the_driver_that_is_named(void **state)
{
    with_posix(state, create_body);
}

static void file_body(struct posix_fixture *fixture)
{
    struct block_node *file;
    assert_int_equal(block_co_create_file(&fixture->env, fixture->path, 3000, &fixture->err), 0);
    assert_int_equal(image_size(fixture), 3000);
    assert_int_equal(block_co_open_file(&fixture->env, fixture->path, &file, &fixture->err), 0);
    assert_int_equal(node_co_resize(file, 4000, &fixture->err), 0); /* so it can be written */
    assert_int_equal(block_co_check(file, NULL, NULL, NULL, &fixture->err), -ENOTSUP);
    assert_non_null(strstr(fixture->err.message, "the driver file has nothing to check"));
    block_co_node_unref(file);
    assert_int_equal(image_size(fixture), 4000);
    assert_int_equal(block_co_open_file(&fixture->env, "/no/such/file", &file, &fixture->err),
                     -ENOENT);
}

static void a_format_makes_and_opens_a_file(void **state)
{
    with_posix(state, file_body);
}

static void resize_body(struct posix_fixture *fixture)
{
    struct block_backend *backend;
    uint8_t byte = 7;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &byte, 1);
    make_image(fixture, 1000);
    struct block_node *node = open_image(fixture, NULL);
    assert_int_equal(block_backend_new(&backend, node, false, &fixture->err), 0);
    block_co_node_unref(node);
    assert_int_equal(block_co_read(backend, 1000, &vec), -EINVAL);
    assert_int_equal(block_co_resize(backend, 5000, &fixture->err), 0);
    assert_int_equal(block_backend_size_bytes(backend), 5000);
    assert_int_equal(block_co_read(backend, 4999, &vec), 0);
    assert_int_equal(byte, 0);
    assert_int_equal(block_co_resize(backend, 10, &fixture->err), 0);
    assert_int_equal(image_size(fixture), 10);
    assert_int_equal(block_co_write(backend, 10, &vec, 0), -ENOSPC);
    assert_int_equal(block_co_resize(backend, UINT64_MAX, &fixture->err), -EFBIG);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void an_image_gets_a_new_size_both_ways(void **state)
{
    with_posix(state, resize_body);
}

static void read_only_body(struct posix_fixture *fixture)
{
    struct block_backend *backend;
    make_image(fixture, 1000);
    struct block_node *node = open_image(fixture, NULL);
    assert_int_equal(block_backend_new(&backend, node, true, &fixture->err), 0);
    assert_int_equal(block_co_resize(backend, 5000, &fixture->err), -EPERM);
    assert_int_equal(block_co_backend_free(backend), 0);
    block_co_node_unref(node);
    node = open_image(fixture, EXTRA("read-only=on"));
    assert_int_equal(node_co_resize(node, 5000, &fixture->err), -EPERM);
    assert_non_null(strstr(fixture->err.message, fixture->path));
    block_co_node_unref(node);
    assert_int_equal(image_size(fixture), 1000);
}

static void who_may_not_write_may_not_resize(void **state)
{
    with_posix(state, read_only_body);
}

/* A resize waits for the write that is under way, and the next write for the resize. */
struct racer {
    struct block_node *node;
    struct coroutine *waiter;
    unsigned *running;
};

static void write_all(void *arg)
{
    struct racer *racer = arg;
    static uint8_t data[1 << 20];
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(write_at(racer->node, 0, data, sizeof(data)), 0);
    if (--*racer->running == 0)
        coroutine_wake(racer->waiter);
}

static void race_body(struct posix_fixture *fixture)
{
    unsigned running = 4;
    make_image(fixture, 1 << 20);
    struct block_node *node = open_image(fixture, EXTRA("aio=threads"));
    struct racer racers[4];
    for (unsigned i = 0; i < 4; i++) {
        racers[i] = (struct racer){node, coroutine_self(), &running};
        coroutine_start(fixture->loop, write_all, &racers[i]);
    }
    for (uint64_t size = 2 << 20; size < 12 << 20; size += 1 << 20)
        assert_int_equal(node_co_resize(node, size, &fixture->err), 0);
    if (running > 0)
        coroutine_yield();
    assert_int_equal(atomic_load(&node->size_bytes), 11 << 20);
    block_co_node_unref(node);
}

static void a_resize_and_writes_take_turns(void **state)
{
    with_posix(state, race_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_image_is_made_by_the_driver_that_is_named),
        cmocka_unit_test(a_format_makes_and_opens_a_file),
        cmocka_unit_test(an_image_gets_a_new_size_both_ways),
        cmocka_unit_test(who_may_not_write_may_not_resize),
        cmocka_unit_test(a_resize_and_writes_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
