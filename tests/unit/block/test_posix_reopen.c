/* SPDX-License-Identifier: BSD-3-Clause */
/* posix_reopen.c, and reopen.c over it: rights, cache mode and options of an open file change, its
 * locks follow, and a change that fails in any step leaves everything as it was. */
#include "tests/unit/block/posix_fixture.h"

#include <dirent.h>

#include "block/backend.h"
#include "block/filters.h"
#include "block/node.h"
#include "block/posix.h"
#include "block/reopen.h"

#define SIZE 20000

static const struct block_driver *const drivers[] = {&block_filter_delay, &block_driver_file, NULL};

static struct node_options *options_of(const char *text)
{
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, text, NULL), 0);
    return options;
}

/* Whether somebody else may open the file so. */
static int co_try_other(struct posix_fixture *fixture, const char *read_only)
{
    struct block_node *other = NULL;
    struct error kept = fixture->err;
    struct node_options *options = options_of("driver=file");
    node_options_set(options, "filename", fixture->path, NULL);
    node_options_set(options, "read-only", read_only, NULL);
    int rc = block_co_open(&fixture->env, options, &other, &fixture->err);
    fixture->err = kept;
    block_co_node_unref(other);
    return rc;
}

/* The file below a filter. */
static struct block_backend *co_open(struct posix_fixture *fixture, bool read_only)
{
    struct block_backend *backend;
    struct block_node *node = NULL;
    struct node_options *options = options_of("driver=delay,file.driver=file");
    make_image(fixture, SIZE);
    node_options_set(options, "file.filename", fixture->path, NULL);
    node_options_set(options, "aio", fixture->engine->name, NULL);
    if (fixture->engine->needs_direct)
        node_options_set(options, "cache.direct", "on", NULL);
    node_options_set(options, "read-only", read_only ? "on" : "off", NULL);
    if (block_co_open(&fixture->env, options, &node, &fixture->err) < 0)
        fail_msg("%s", fixture->err.message);
    assert_int_equal(block_backend_new(&backend, node, read_only, NULL), 0);
    block_co_node_unref(node);                                /* the backend has its own */
    block_env_engine(&fixture->env, fixture->env.engines[0]); /* co_try_other()'s descriptor */
    return backend;
}

static int co_reopen(struct posix_fixture *fixture, struct block_backend *backend, const char *text)
{
    return block_co_reopen(backend, options_of(text), &fixture->err);
}

static void co_reopen_well(struct posix_fixture *fixture, struct block_backend *backend,
                           const char *text)
{
    if (co_reopen(fixture, backend, text) < 0)
        fail_msg("%s: %s", text, fixture->err.message);
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

/* Written, read and counted as a node that is open for writing, or not, and with its lock. */
static void co_expect(struct posix_fixture *fixture, struct block_backend *backend, bool read_only,
                      uint8_t byte)
{
    assert_int_equal(block_backend_is_read_only(backend), read_only);
    assert_int_equal(backend_co_write_byte(backend, 5000, byte), read_only ? -EPERM : 0);
    if (!read_only)
        assert_int_equal(backend_co_byte(backend, 5000), byte);
    assert_int_equal(backend_co_byte(backend, 6000), pattern_at(6000));
    assert_int_equal(co_try_other(fixture, "on"), read_only ? 0 : -EBUSY);
    assert_int_equal(co_try_other(fixture, "off"), -EBUSY);
}

static void co_rights_come_and_go(struct posix_fixture *fixture)
{
    struct block_backend *backend = co_open(fixture, false);
    unsigned descriptors = open_descriptors();
    for (uint8_t i = 1; i < 4; i++) {
        co_expect(fixture, backend, false, i);
        co_reopen_well(fixture, backend, "read-only=on");
        co_expect(fixture, backend, true, 0);
        assert_int_equal(backend_co_byte(backend, 5000), i);
        co_reopen_well(fixture, backend, "read-only=off");
    }
    co_expect(fixture, backend, false, 9);
    co_reopen_well(fixture, backend, "");
    co_expect(fixture, backend, false, 8);
    assert_int_equal(open_descriptors(), descriptors);
    assert_int_equal(block_co_backend_free(backend), 0);

    backend = co_open(fixture, true);
    co_expect(fixture, backend, true, 0);
    co_reopen_well(fixture, backend, "read-only=off");
    co_expect(fixture, backend, false, 7);
    assert_int_equal(block_co_backend_free(backend), 0);
    assert_int_equal(co_try_other(fixture, "off"), 0);
}

static void co_nobody_else_is_written_under(struct posix_fixture *fixture)
{
    struct block_node *other = NULL;
    struct block_backend *backend = co_open(fixture, true);
    struct node_options *options = options_of("driver=file,read-only=on");
    node_options_set(options, "filename", fixture->path, NULL);
    assert_int_equal(block_co_open(&fixture->env, options, &other, &fixture->err), 0);
    unsigned descriptors = open_descriptors();
    assert_int_equal(co_reopen(fixture, backend, "read-only=off"), -EBUSY);
    assert_non_null(strstr(fixture->err.message, "in use"));
    co_expect(fixture, backend, true, 0); /* and is still locked as it was */
    assert_int_equal(open_descriptors(), descriptors);
    block_co_node_unref(other);
    co_reopen_well(fixture, backend, "read-only=off");
    co_expect(fixture, backend, false, 3);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_options_change(struct posix_fixture *fixture)
{
    struct block_backend *backend = co_open(fixture, false);
    struct block_node *node = block_node_ref(backend->node);
    const struct posix_file *file = posix_of(node->file);
    int fd = file->fd;
    co_reopen_well(fixture, backend, "discard=unmap,file.cache.no-flush=on");
    assert_true(file->unmap && file->no_flush && file->fd == fd);
    co_reopen_well(fixture, backend, "file.aio=threads");
    assert_ptr_equal(file->engine_ops, &engine_threads);
    assert_true(file->unmap && file->no_flush && file->fd == fd);
    co_reopen_well(fixture, backend, "discard=ignore,file.cache.no-flush=off,file.locking=auto");
    assert_true(!file->unmap && !file->no_flush && file->fd == fd);
    co_expect(fixture, backend, false, 4);
    block_co_node_unref(node);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_the_cache_mode_changes(struct posix_fixture *fixture)
{
    struct block_backend *backend = co_open(fixture, false);
    struct block_node *node = block_node_ref(backend->node);
    const struct posix_file *file = posix_of(node->file);
    unsigned descriptors = open_descriptors();
    for (uint8_t i = 1; i < 4; i++) {
        if (co_reopen(fixture, backend, "cache.direct=on") < 0) {
            assert_non_null(strstr(fixture->err.message, "O_DIRECT"));
            break; /* not on this file system; and nothing is changed */
        }
        assert_true(file->direct && file->fd != file->buffered_fd);
        assert_true(node->limits.request_alignment == node->file->limits.request_alignment);
        assert_true(node->limits.request_alignment >= 512);
        co_expect(fixture, backend, false, i);
        co_reopen_well(fixture, backend, "cache.direct=off,file.read-only=off");
        assert_int_equal(backend_co_byte(backend, 5000), i);
        assert_int_equal(node->limits.request_alignment, 1);
    }
    assert_true(!file->direct && file->fd == file->buffered_fd);
    co_expect(fixture, backend, false, 77);
    assert_int_equal(open_descriptors(), descriptors);
    block_co_node_unref(node);
    assert_int_equal(block_co_backend_free(backend), 0);
}

/* --- failures -----------------------------------------------------------------------------------
 */

static void co_expect_failure(struct posix_fixture *fixture, struct block_backend *backend,
                              const char *text, int code, const char *part)
{
    bool read_only = block_backend_is_read_only(backend);
    unsigned descriptors = open_descriptors();
    int rc = co_reopen(fixture, backend, text);
    fixture->odd.open_error = fixture->odd.lock_error = 0;
    fixture->odd.no_direct = false;
    fixture->odd.kind = -1;
    if (rc != code || !strstr(fixture->err.message, part))
        fail_msg("%s gives %d: %s", text, rc, fixture->err.message);
    assert_int_equal(open_descriptors(), descriptors);
    co_expect(fixture, backend, read_only, 5);
}

static void co_a_failure_in_any_step_changes_nothing(struct posix_fixture *fixture)
{
    struct block_backend *backend = co_open(fixture, true);
    co_expect_failure(fixture, backend, "read-only=off,file.read-only=on", -EROFS,
                      "file.read-only: ");
    fixture->odd.open_error = -EACCES;
    co_expect_failure(fixture, backend, "read-only=off", -EACCES, "for writing");
    fixture->odd.open_error = -ENOMEM;
    co_expect_failure(fixture, backend, "read-only=off", -ENOMEM, "cannot open");
    fixture->odd.lock_error = -EIO;
    co_expect_failure(fixture, backend, "read-only=off", -EIO, "cannot lock");
    fixture->odd.kind = HOST_FILE_OTHER;
    co_expect_failure(fixture, backend, "read-only=off", -EINVAL, "not a regular file");
    fixture->odd.no_direct = true;
    co_expect_failure(fixture, backend, "cache.direct=on", -EINVAL, "O_DIRECT");
    co_expect_failure(fixture, backend, "file.aio=native", -EINVAL, "file.aio: ");
    co_expect_failure(fixture, backend, "file.discard=perhaps", -EINVAL, "file.discard: ");
    co_expect_failure(fixture, backend, "read-only=perhaps", -EINVAL, "read-only: ");
    co_expect_failure(fixture, backend, "colour=red", -EINVAL, "colour: ");
    co_expect_failure(fixture, backend, "read-only=off,file.colour=red", -EINVAL, "file.colour: ");
    co_expect_failure(fixture, backend, "file.filename=/x", -ENOTSUP, "file.filename: cannot be");
    co_expect_failure(fixture, backend, "file.locking=off", -ENOTSUP, "file.locking: cannot be");
    co_expect_failure(fixture, backend, "driver=file", -EINVAL, "driver: ");
    co_reopen_well(fixture, backend, "read-only=off");
    co_expect(fixture, backend, false, 6);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_another_file_of_that_name_is_not_taken(struct posix_fixture *fixture)
{
    char moved[128];
    struct block_backend *backend = co_open(fixture, false);
    snprintf(moved, sizeof(moved), "%s/moved", fixture->folder);
    assert_int_equal(rename(fixture->path, moved), 0);
    assert_int_equal(co_reopen(fixture, backend, "read-only=on"), -ENOENT);
    make_image(fixture, 100);
    assert_int_equal(co_reopen(fixture, backend, "read-only=on"), -ESTALE);
    assert_non_null(strstr(fixture->err.message, "another file has its name now"));
    assert_int_equal(backend_co_write_byte(backend, 5000, 1), 0);
    assert_int_equal(backend_co_byte(backend, 6000), pattern_at(6000));
    assert_int_equal(block_co_backend_free(backend), 0);
    assert_int_equal(unlink(moved), 0);
}

static int odd_sync_fails(struct host_files *files, int fd)
{
    (void)files;
    (void)fd;
    return -EIO;
}

static void co_what_cannot_be_made_durable_is_not_reopened(struct posix_fixture *fixture)
{
    struct block_backend *backend = co_open(fixture, false);
    assert_int_equal(backend_co_write_byte(backend, 5000, 1), 0);
    fixture->odd.files.sync = odd_sync_fails;
    assert_int_equal(co_reopen(fixture, backend, "read-only=on"), -EIO);
    assert_non_null(strstr(fixture->err.message, "durable"));
    fixture->odd.files.sync = odd_sync;
    assert_false(block_backend_is_read_only(backend));
    assert_int_equal(backend_co_write_byte(backend, 5000, 2), 0);
    block_co_backend_free(backend);
}

#define POSIX_TEST(name)                               \
    static void name(void **state)                     \
    {                                                  \
        with_posix_drivers(state, drivers, co_##name); \
    }

POSIX_TEST(rights_come_and_go)
POSIX_TEST(nobody_else_is_written_under)
POSIX_TEST(options_change)
POSIX_TEST(the_cache_mode_changes)
POSIX_TEST(a_failure_in_any_step_changes_nothing)
POSIX_TEST(another_file_of_that_name_is_not_taken)
POSIX_TEST(what_cannot_be_made_durable_is_not_reopened)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_EACH_ENGINE(rights_come_and_go),
        ON_EACH_ENGINE(nobody_else_is_written_under),
        cmocka_unit_test(options_change),
        cmocka_unit_test(the_cache_mode_changes),
        cmocka_unit_test(a_failure_in_any_step_changes_nothing),
        cmocka_unit_test(another_file_of_that_name_is_not_taken),
        cmocka_unit_test(what_cannot_be_made_durable_is_not_reopened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
