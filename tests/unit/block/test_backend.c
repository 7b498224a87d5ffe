/* SPDX-License-Identifier: BSD-3-Clause */
/* backend.c: bounds, rights and counters at the user's doorway. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/block/block_fixture.h"

#define SIZE 100001

static struct block_backend *co_new_backend(struct fixture *fixture, bool read_only)
{
    struct block_backend *backend;
    fixture_co_open(fixture, "growing", true);
    assert_int_equal(block_backend_new(&backend, fixture->node, read_only, NULL), 0);
    return backend;
}

static struct block_vec view(struct iovec *iov, size_t length)
{
    static uint8_t bytes[4096];
    return vec_of_buffer(iov, bytes, length);
}

static void co_ranges_past_the_end_are_refused_and_never_grow(struct fixture *fixture, void *arg)
{
    static const struct {
        uint64_t offset, length;
    } outside[] = {{SIZE, 1}, {SIZE - 1, 2}, {SIZE + 1, 0}, {UINT64_MAX, 1}, {UINT64_MAX, 4096}};
    struct block_backend *backend = co_new_backend(fixture, false);
    struct block_extent extent;
    (void)arg;
    for (unsigned i = 0; i < sizeof(outside) / sizeof(*outside); i++) {
        struct iovec iov;
        struct block_vec vec = view(&iov, outside[i].length);
        uint64_t offset = outside[i].offset, length = outside[i].length;
        assert_int_equal(block_co_read(backend, offset, &vec), -EINVAL);
        assert_int_equal(block_co_write(backend, offset, &vec, 0), -ENOSPC);
        assert_int_equal(block_co_zero(backend, offset, length, 0), -ENOSPC);
        assert_int_equal(block_co_discard(backend, offset, length, 0), -EINVAL);
        assert_int_equal(block_co_status(backend, offset, length, &extent), -EINVAL);
    }
    assert_int_equal(block_co_zero(backend, 1, UINT64_MAX, 0), -ENOSPC);
    assert_int_equal(block_backend_size_bytes(backend), SIZE);
    assert_int_equal(fixture->disk.size_bytes, SIZE);
    assert_int_equal(fixture->disk.call_count, 1);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_the_last_byte_can_be_reached(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, false);
    struct block_extent extent;
    struct iovec iov;
    struct block_vec vec = view(&iov, 1);
    (void)arg;
    assert_int_equal(block_co_write(backend, SIZE - 1, &vec, 0), 0);
    assert_int_equal(block_co_read(backend, SIZE - 1, &vec), 0);
    assert_int_equal(block_co_zero(backend, SIZE - 1, 1, 0), 0);
    assert_int_equal(block_co_discard(backend, SIZE - 1, 1, 0), 0);
    assert_int_equal(block_co_status(backend, SIZE - 1, 1, &extent), 0);
    assert_int_equal(extent.length, 1);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_a_length_of_zero_inside_succeeds(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, false);
    struct iovec iov;
    struct block_vec vec = view(&iov, 0);
    (void)arg;
    assert_int_equal(block_co_write(backend, SIZE, &vec, 0), 0);
    assert_int_equal(block_co_read(backend, SIZE, &vec), 0);
    assert_int_equal(block_co_zero(backend, 0, 0, 0), 0);
    assert_int_equal(block_co_discard(backend, 0, 0, 0), 0);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_a_read_only_backend_changes_nothing(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, true);
    struct iovec iov;
    struct block_vec vec = view(&iov, 512);
    (void)arg;
    assert_true(block_backend_is_read_only(backend));
    assert_int_equal(block_co_write(backend, 0, &vec, 0), -EPERM);
    assert_int_equal(block_co_write(backend, UINT64_MAX, &vec, 0), -EPERM);
    assert_int_equal(block_co_zero(backend, 0, 512, 0), -EPERM);
    assert_int_equal(block_co_discard(backend, 0, 512, 0), -EPERM);
    assert_int_equal(block_co_read(backend, 0, &vec), 0);
    assert_int_equal(block_co_flush(backend), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
    assert_int_equal(fixture->disk.counts[MEMORY_ZERO], 0);
    assert_int_equal(fixture->disk.counts[MEMORY_DISCARD], 0);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_a_node_opened_read_only_has_no_writing_backend(struct fixture *fixture, void *arg)
{
    struct block_backend *backend;
    struct error err;
    struct node_options *options = node_options_new();
    (void)arg;
    memory_disk_options(&fixture->disk, options, "", "file");
    assert_int_equal(node_options_set(options, "read-only", "on", NULL), 0);
    assert_int_equal(node_options_set(options, "filename", "disk.img", NULL), 0);
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, NULL), 0);
    assert_int_equal(block_backend_new(&backend, fixture->node, false, &err), -EROFS);
    assert_non_null(strstr(err.message, "'disk.img'"));
    assert_int_equal(block_backend_new(&backend, fixture->node, true, &err), 0);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_requests_bytes_and_failures_are_counted(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, false);
    struct block_counters counters;
    struct block_extent extent;
    struct iovec iov;
    struct block_vec vec = view(&iov, 100);
    (void)arg;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(block_co_read(backend, i, &vec), 0);
    assert_int_equal(block_co_read(backend, SIZE, &vec), -EINVAL);
    assert_int_equal(block_co_write(backend, 0, &vec, 0), 0);
    assert_int_equal(block_co_zero(backend, 0, 7, 0), 0);
    assert_int_equal(block_co_discard(backend, 0, 7, 0), 0);
    assert_int_equal(block_co_flush(backend), 0);
    assert_int_equal(block_co_status(backend, 0, 7, &extent), 0);
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_ops = 1u << MEMORY_WRITE;
    assert_int_equal(block_co_write(backend, 0, &vec, 0), -EIO);
    fixture->disk.fail_code = 0;
    block_backend_counters(backend, &counters);
    assert_int_equal(counters.reads, 4);
    assert_int_equal(counters.read_bytes, 300);
    assert_int_equal(counters.writes, 2);
    assert_int_equal(counters.written_bytes, 100);
    assert_int_equal(counters.zeroes, 1);
    assert_int_equal(counters.discards, 1);
    assert_int_equal(counters.flushes, 1);
    assert_int_equal(counters.statuses, 1);
    assert_int_equal(counters.failed, 2);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_freeing_returns_what_the_last_flush_said(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, false);
    struct iovec iov;
    struct block_vec vec = view(&iov, 100);
    (void)arg;
    assert_int_equal(block_co_write(backend, 0, &vec, 0), 0);
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_ops = 1u << MEMORY_FLUSH;
    assert_int_equal(block_co_backend_free(backend), -EIO);
    assert_int_equal(block_co_backend_free(NULL), 0);
}

static void co_the_limits_are_the_top_nodes(struct fixture *fixture, void *arg)
{
    struct block_backend *backend;
    struct block_extent extent;
    (void)arg;
    fixture->disk.limits.request_alignment = 512;
    fixture_co_open(fixture, "file", false);
    assert_int_equal(block_backend_new(&backend, fixture->node, false, NULL), 0);
    assert_int_equal(block_backend_limits(backend)->request_alignment, 512);
    block_status_remembered(backend, 0, SIZE, &extent);
    assert_int_equal(extent.length, SIZE);
    assert_int_equal(extent.flags, BLOCK_EXTENT_ALLOCATED);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_a_cache_request_goes_to_the_driver_or_reads_into_nothing(struct fixture *fixture,
                                                                        void *arg)
{
    struct block_backend *backend = co_new_backend(fixture, true);
    struct block_counters counters;
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    memory_disk_forget_calls(disk);
    assert_int_equal(block_co_cache(backend, 3, SIZE - 5), 0);
    assert_int_equal(disk->log_count, 1);
    assert_int_equal(disk->log[0].op, MEMORY_CACHE);
    assert_int_equal(disk->log[0].offset, 3);
    assert_int_equal(disk->log[0].length, SIZE - 5);

    disk->refuses_cache = true;
    assert_int_equal(block_co_cache(backend, 3, SIZE - 5), 0);
    assert_int_equal(disk->counts[MEMORY_CACHE], 2);
    assert_true(disk->counts[MEMORY_READ] >= 1);
    assert_int_equal(disk->log[2].op, MEMORY_READ);
    assert_int_equal(disk->log[2].offset, 3);

    assert_int_equal(block_co_cache(backend, SIZE, 1), -EINVAL);
    assert_int_equal(block_co_cache(backend, UINT64_MAX, 2), -EINVAL);
    assert_int_equal(block_co_cache(backend, SIZE, 0), 0);
    disk->fail_code = -EIO;
    disk->fail_ops = 1u << MEMORY_READ;
    assert_int_equal(block_co_cache(backend, 0, 100), -EIO);
    disk->fail_code = 0;
    block_backend_counters(backend, &counters);
    assert_int_equal(counters.caches, 6);
    assert_int_equal(counters.failed, 3);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_what_a_client_shall_prefer_is_a_power_of_two_in_bounds(struct fixture *fixture,
                                                                      void *arg)
{
    static const struct {
        uint32_t preferred, alignment, want;
    } cases[] = {{0, 1, 4096},       {512, 1, 4096},
                 {65536, 1, 65536},  {65536, 1 << 20, 1 << 20},
                 {12288, 512, 4096}, {1u << 30, 1, 32u << 20}};
    (void)arg;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        fixture->disk.limits.preferred_bytes = cases[i].preferred;
        fixture->disk.limits.request_alignment = cases[i].alignment;
        struct block_backend *backend;
        fixture_co_open(fixture, "growing", false);
        assert_int_equal(block_backend_new(&backend, fixture->node, false, NULL), 0);
        assert_int_equal(block_backend_preferred_bytes(backend, 4096, 32u << 20), cases[i].want);
        assert_int_equal(block_co_backend_free(backend), 0);
        fixture_co_close(fixture);
    }
}

#define TESTS(X)                                              \
    X(ranges_past_the_end_are_refused_and_never_grow)         \
    X(the_last_byte_can_be_reached)                           \
    X(a_length_of_zero_inside_succeeds)                       \
    X(a_read_only_backend_changes_nothing)                    \
    X(a_node_opened_read_only_has_no_writing_backend)         \
    X(requests_bytes_and_failures_are_counted)                \
    X(freeing_returns_what_the_last_flush_said)               \
    X(the_limits_are_the_top_nodes)                           \
    X(what_a_client_shall_prefer_is_a_power_of_two_in_bounds) \
    X(a_cache_request_goes_to_the_driver_or_reads_into_nothing)

#define DEFINE_TEST(name) FIXTURE_TEST(name, SIZE, 2 * SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
