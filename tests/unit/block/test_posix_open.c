/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening a file: each thing a person can get wrong ends in one sentence that names the path or the
 * option and says what to do. */
#include "tests/unit/block/posix_fixture.h"

static void expect_refusal(struct posix_fixture *fixture, const char *const *extra, int code,
                           const char *first, const char *second)
{
    struct block_node *node = NULL;
    fixture->err.message[0] = '\0';
    assert_int_equal(try_open(fixture, extra, &node), code);
    assert_null(node);
    const char *message = fixture->err.message;
    if (!strstr(message, first) || !strstr(message, second))
        fail_msg("'%s' lacks '%s' or '%s'", message, first, second);
    assert_null(strchr(message, '\n'));
    assert_true(strlen(message) < ERROR_MESSAGE_MAX - 1); /* not cut */
}

static void wrong_files_body(struct posix_fixture *fixture)
{
    expect_refusal(fixture, NULL, -ENOENT, fixture->path, "check the path");
    assert_int_equal(mkdir(fixture->path, 0700), 0);
    expect_refusal(fixture, NULL, -EISDIR, fixture->path, "a directory");
    expect_refusal(fixture, EXTRA("cache.direct=on"), -EISDIR, fixture->path, "a directory");
    rmdir(fixture->path);
    assert_int_equal(mkfifo(fixture->path, 0600), 0); /* opening it would wait for ever */
    expect_refusal(fixture, NULL, -EINVAL, fixture->path, "not a regular file");
    expect_refusal(fixture, EXTRA("read-only=on"), -EINVAL, fixture->path, "not a regular file");
    unlink(fixture->path);
    expect_refusal(fixture, EXTRA("filename=/dev/null"), -EINVAL, "/dev/null",
                   "not a regular file");
    expect_refusal(fixture, EXTRA("filename="), -EINVAL, "filename", "path of an image");
    make_image(fixture, 10);
    char below[120];
    snprintf(below, sizeof(below), "filename=%s/x", fixture->path);
    expect_refusal(fixture, EXTRA(below), -ENOTDIR, fixture->path, "not a directory");
    fixture->odd.kind = HOST_FILE_BLOCK_DEVICE;
    expect_refusal(fixture, NULL, -ENOTSUP, fixture->path, "block device");
}

static void what_is_no_regular_file_is_refused_at_once(void **state)
{
    with_posix(state, wrong_files_body);
}

static void permission_body(struct posix_fixture *fixture)
{
    make_image(fixture, 10);
    fixture->odd.open_error = -EACCES;
    expect_refusal(fixture, NULL, -EACCES, fixture->path, "--read-only");
    fixture->odd.open_error = -EROFS;
    expect_refusal(fixture, NULL, -EROFS, fixture->path, "--read-only");
    fixture->odd.open_error = -ETXTBSY;
    expect_refusal(fixture, NULL, -ETXTBSY, fixture->path, "--read-only");
    fixture->odd.open_error = -EMFILE;
    expect_refusal(fixture, NULL, -EMFILE, fixture->path, "ulimit -n");
    fixture->odd.open_error = -EIO;
    expect_refusal(fixture, NULL, -EIO, fixture->path, "nput/output error");
    block_co_node_unref(open_image(fixture, EXTRA("read-only=on")));
}

static void what_may_not_be_written_may_be_opened_read_only(void **state)
{
    with_posix(state, permission_body);
}

static void options_body(struct posix_fixture *fixture)
{
    make_image(fixture, 10);
    expect_refusal(fixture, EXTRA("aio=native2"), -EINVAL, "native2",
                   "io_uring, threads, native or sync");
    expect_refusal(fixture, EXTRA("cache.no-flush=unsafe"), -EINVAL, "unsafe", "on or off");
    expect_refusal(fixture, EXTRA("aio=native"), -EINVAL, fixture->path, "cache.direct=on");
    expect_refusal(fixture, EXTRA("aio=native", "cache.direct=off"), -EINVAL, "aio=native",
                   "--cache=none");
    block_co_node_unref(open_image(fixture, EXTRA("aio=native", "cache.direct=on")));
    expect_refusal(fixture, EXTRA("cache.direct=maybe"), -EINVAL, "maybe", "on or off");
    expect_refusal(fixture, EXTRA("discard=perhaps"), -EINVAL, "perhaps", "unmap");
    expect_refusal(fixture, EXTRA("colour=red"), -EINVAL, "colour", "file");
    for (int i = 0; i < 2; i++)
        block_co_node_unref(
            open_image(fixture, EXTRA("aio=threads", i ? "discard=on" : "discard=ignore",
                                      "cache.direct=off")));
}

static void wrong_values_of_options_are_told_with_the_right_ones(void **state)
{
    with_posix(state, options_body);
}

static void direct_body(struct posix_fixture *fixture)
{
    make_image(fixture, 10000);
    fixture->odd.no_direct = true;
    expect_refusal(fixture, EXTRA("cache.direct=on"), -EINVAL, fixture->path, "--cache=writeback");
    block_co_node_unref(open_image(fixture, EXTRA("cache.direct=off")));
}

static void a_file_system_without_o_direct_is_told_with_the_remedy(void **state)
{
    with_posix(state, direct_body);
}

static void interrupted_body(struct posix_fixture *fixture)
{
    make_image(fixture, 700);
    fixture->odd.interrupt = 3;
    struct block_node *node = open_image(fixture, EXTRA("cache.direct=on"));
    assert_int_equal(atomic_load(&node->size_bytes), 700);
    block_co_node_unref(node);
}

static void opening_is_carried_on_when_it_is_interrupted(void **state)
{
    with_posix(state, interrupted_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_regular_file_is_refused_at_once),
        cmocka_unit_test(what_may_not_be_written_may_be_opened_read_only),
        cmocka_unit_test(wrong_values_of_options_are_told_with_the_right_ones),
        cmocka_unit_test(a_file_system_without_o_direct_is_told_with_the_remedy),
        cmocka_unit_test(opening_is_carried_on_when_it_is_interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
