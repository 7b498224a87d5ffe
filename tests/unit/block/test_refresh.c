/* SPDX-License-Identifier: BSD-3-Clause */
/* refresh.c: a file that another program made longer is seen on demand, and at no other time. */
#include "tests/unit/block/posix_fixture.h"

#include "block/backend.h"
#include "block/filters.h"
#include "block/reopen.h"

static const struct block_driver *const drivers[] = {&block_filter_delay, &block_driver_file, NULL};

static struct block_backend *co_open(struct posix_fixture *fixture, const char *read_only)
{
    struct block_backend *backend;
    struct block_node *node = NULL;
    struct node_options *options = node_options_new();
    make_image(fixture, 10000);
    assert_int_equal(node_options_parse(options, "driver=delay,file.driver=file", NULL), 0);
    node_options_set(options, "file.filename", fixture->path, NULL);
    node_options_set(options, "read-only", read_only, NULL);
    assert_int_equal(block_co_open(&fixture->env, options, &node, &fixture->err), 0);
    assert_int_equal(block_backend_new(&backend, node, strcmp(read_only, "on") == 0, &fixture->err),
                     0);
    block_co_node_unref(node);
    return backend;
}

static void co_a_longer_file_is_seen_when_it_is_asked_for(struct posix_fixture *fixture)
{
    struct block_backend *backend = co_open(fixture, "on");
    uint8_t byte = 1;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &byte, 1);
    assert_int_equal(truncate(fixture->path, 30001), 0);
    assert_int_equal(block_backend_size_bytes(backend), 10000);
    assert_int_equal(block_co_read(backend, 30000, &vec), -EINVAL);
    assert_int_equal(block_co_refresh_size(backend), 0);
    assert_int_equal(block_backend_size_bytes(backend), 30001);
    assert_int_equal(atomic_load(&backend->node->file->size_bytes), 30001);
    assert_int_equal(block_co_read(backend, 30000, &vec), 0);
    assert_int_equal(byte, 0);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_a_shorter_file_keeps_its_size(struct posix_fixture *fixture)
{
    struct block_backend *backend = co_open(fixture, "off");
    assert_int_equal(truncate(fixture->path, 5000), 0);
    assert_int_equal(block_co_refresh_size(backend), 0);
    assert_int_equal(block_backend_size_bytes(backend), 10000);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static int info_fails(struct host_files *files, int fd, struct host_file_info *ret_info)
{
    (void)files;
    (void)fd;
    (void)ret_info;
    return -EIO;
}

static void co_a_host_that_does_not_answer_changes_nothing(struct posix_fixture *fixture)
{
    struct block_backend *backend = co_open(fixture, "off");
    int (*info)(struct host_files * files, int fd, struct host_file_info *ret_info) =
        fixture->odd.files.info;
    assert_int_equal(truncate(fixture->path, 50000), 0);
    fixture->odd.files.info = info_fails;
    assert_int_equal(block_co_refresh_size(backend), -EIO);
    assert_int_equal(block_backend_size_bytes(backend), 10000);
    fixture->odd.files.info = info;
    assert_int_equal(block_co_refresh_size(backend), 0);
    assert_int_equal(block_backend_size_bytes(backend), 50000);
    assert_int_equal(block_co_backend_free(backend), 0);
}

#define POSIX_TEST(name)                               \
    static void name(void **state)                     \
    {                                                  \
        with_posix_drivers(state, drivers, co_##name); \
    }

POSIX_TEST(a_longer_file_is_seen_when_it_is_asked_for)
POSIX_TEST(a_shorter_file_keeps_its_size)
POSIX_TEST(a_host_that_does_not_answer_changes_nothing)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_longer_file_is_seen_when_it_is_asked_for),
        cmocka_unit_test(a_shorter_file_keeps_its_size),
        cmocka_unit_test(a_host_that_does_not_answer_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
