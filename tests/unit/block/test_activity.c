/* SPDX-License-Identifier: BSD-3-Clause */
/* activity.c: the order of its calls, what an inactive graph answers, and what a failing call
 * leaves. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/activity.h"
#include "block/buffer.h"
#include "block/reopen.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536

/* "aN": the node at depth N was made inactive, "vN": valid. */
static char calls[200];
static char fails[4];
static bool is_active[4];

static int note(char what, const struct block_node *node, struct error *err)
{
    char call[4];
    snprintf(call, sizeof(call), "%c%u", what, node->depth);
    strcat(calls, call);
    assert_int_equal(is_active[node->depth], what == 'a');
    /* The children are active while this one goes, and when it comes. */
    if (node->file)
        assert_true(is_active[node->file->depth]);
    if (strcmp(call, fails) == 0)
        return error_set(err, -EBUSY, "%s fails", call);
    is_active[node->depth] = what == 'v';
    return 0;
}

static int noting_co_inactivate(struct block_node *node, struct error *err)
{
    return note('a', node, err);
}

static int noting_co_invalidate(struct block_node *node, struct error *err)
{
    return note('v', node, err);
}

static uint64_t stored_size;
static int noting_co_stored_size(struct block_node *node, uint64_t *ret_size_bytes)
{
    (void)node;
    *ret_size_bytes = stored_size;
    return stored_size == 13 ? -EIO : 0;
}

static const struct block_driver_admin noting_admin = {
    .co_inactivate = noting_co_inactivate,
    .co_invalidate = noting_co_invalidate,
    .co_stored_size = noting_co_stored_size,
};

static struct block_driver noting_file, noting_pass;
static const struct block_driver *drivers[6];

static struct block_backend *co_open(struct fixture *fixture)
{
    struct block_backend *backend;
    struct node_options *options = node_options_new();
    node_options_parse(options, "driver=noting,file.driver=noting", NULL);
    memory_disk_options(&fixture->disk, options, "file.file.", "noting-file");
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, NULL), 0);
    assert_int_equal(block_backend_new(&backend, fixture->node, false, NULL), 0);
    calls[0] = fails[0] = '\0';
    is_active[1] = is_active[2] = is_active[3] = true;
    stored_size = SIZE;
    return backend;
}

static int co_write(struct block_backend *backend)
{
    uint8_t byte = 1;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &byte, 1);
    return block_co_write(backend, 9, &vec, 0);
}

static void co_expect_active(struct block_backend *backend, bool expected)
{
    uint8_t byte;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &byte, 1);
    struct block_extent extent;
    int rc = expected ? 0 : -EPERM;
    assert_int_equal(co_write(backend), rc);
    assert_int_equal(block_co_read(backend, 9, &vec), rc);
    assert_int_equal(block_co_zero(backend, 9, 1, 0), rc);
    assert_int_equal(block_co_discard(backend, 9, 1, 0), rc);
    assert_int_equal(block_co_status(backend, 9, 1, &extent), rc);
    assert_int_equal(block_co_cache(backend, 9, 1), rc);
    assert_int_equal(block_co_flush(backend), 0); /* there is nothing to do */
    block_status_remembered(backend, 9, 1, &extent);
    assert_int_equal(extent.length, 1);
}

static void co_children_go_last_and_come_first(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_open(fixture);
    struct error err;
    (void)arg;
    co_expect_active(backend, true);
    unsigned flushes = fixture->disk.counts[MEMORY_FLUSH];
    assert_int_equal(co_write(backend), 0);
    assert_int_equal(block_co_inactivate(backend, &err), 0);
    assert_string_equal(calls, "a1a2a3");
    assert_true(fixture->disk.counts[MEMORY_FLUSH] > flushes);
    co_expect_active(backend, false);
    assert_int_equal(block_co_inactivate(backend, &err), 0);
    assert_string_equal(calls, "a1a2a3");
    stored_size = SIZE / 2; /* what the files say now */
    assert_int_equal(block_co_invalidate(backend, &err), 0);
    assert_string_equal(calls, "a1a2a3v3v2v1");
    assert_int_equal(block_backend_size_bytes(backend), SIZE / 2);
    co_expect_active(backend, true);
    calls[0] = '\0';
    assert_int_equal(block_co_invalidate(backend, &err), 0);
    assert_string_equal(calls, "a1a2a3v3v2v1");
    assert_int_equal(block_co_backend_free(backend), 0);
}

/* What another server wrote, which was killed, is with the kernel and not on the disk. */
static void co_the_first_flush_of_an_active_graph_is_made(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_open(fixture);
    struct error err;
    (void)arg;
    assert_int_equal(block_co_flush(backend), 0);
    assert_int_equal(block_co_inactivate(backend, &err), 0);
    assert_int_equal(block_co_invalidate(backend, &err), 0);
    unsigned flushes = fixture->disk.counts[MEMORY_FLUSH];
    assert_int_equal(block_co_flush(backend), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], flushes + 1);
    assert_int_equal(block_co_flush(backend), 0);
    assert_int_equal(fixture->disk.counts[MEMORY_FLUSH], flushes + 1);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_a_failure_leaves_it_active_or_inactive(struct fixture *fixture, void *arg)
{
    static const struct {
        const char *fails, *calls;
    } leaving[] = {{"a1", "a1"}, {"a2", "a1a2v1"}, {"a3", "a1a2a3v2v1"}},
      coming[] = {{"v3", "v3"}, {"v2", "v3v2a3"}, {"v1", "v3v2v1a2a3"}};
    struct block_backend *backend = co_open(fixture);
    struct error err;
    (void)arg;
    for (unsigned i = 0; i < 3; i++) {
        calls[0] = '\0';
        strcpy(fails, leaving[i].fails);
        assert_int_equal(block_co_inactivate(backend, &err), -EBUSY);
        assert_string_equal(calls, leaving[i].calls);
        co_expect_active(backend, true);
    }
    fails[0] = '\0';
    assert_int_equal(block_co_inactivate(backend, &err), 0);
    for (unsigned i = 0; i < 3; i++) {
        calls[0] = '\0';
        strcpy(fails, coming[i].fails);
        assert_int_equal(block_co_invalidate(backend, &err), -EBUSY);
        assert_string_equal(calls, coming[i].calls);
        co_expect_active(backend, false);
    }
    fails[0] = '\0';
    assert_int_equal(block_co_invalidate(backend, &err), 0);
    co_expect_active(backend, true);

    /* What was written is not durable: nobody else may have it. */
    assert_int_equal(co_write(backend), 0);
    fixture->disk.fail_ops = 1u << MEMORY_FLUSH;
    fixture->disk.fail_code = -EIO;
    calls[0] = '\0';
    assert_int_equal(block_co_inactivate(backend, &err), -EIO);
    assert_string_equal(calls, "");
    assert_non_null(strstr(err.message, "stays active"));
    fixture->disk.fail_code = 0;
    assert_int_equal(co_write(backend), 0);
    assert_true(block_co_backend_free(backend) < 0);
}

/* A size that cannot be asked for: the node is given back, and those below it. */
static void co_a_size_that_is_not_known_fails(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_open(fixture);
    struct error err;
    (void)arg;
    assert_int_equal(block_co_inactivate(backend, &err), 0);
    calls[0] = '\0';
    stored_size = 13;
    assert_int_equal(block_co_invalidate(backend, &err), -EIO);
    assert_string_equal(calls, "v3a3");
    stored_size = UINT64_MAX;
    calls[0] = '\0';
    assert_int_equal(block_co_invalidate(backend, &err), -EFBIG);
    assert_string_equal(calls, "v3a3");
    co_expect_active(backend, false);
    struct node_options *options = node_options_new();
    assert_int_equal(block_co_reopen(backend, options, &err), -EPERM);
    assert_int_equal(block_co_resize(backend, SIZE, &err), -EPERM);
    assert_int_equal(block_co_refresh_size(backend), 0);
    assert_int_equal(block_co_backend_free(backend), 0);
}

#define TESTS(X)                                  \
    X(children_go_last_and_come_first)            \
    X(the_first_flush_of_an_active_graph_is_made) \
    X(a_failure_leaves_it_active_or_inactive)     \
    X(a_size_that_is_not_known_fails)

#define DEFINE_TEST(name) FIXTURE_TEST_WITH(name, drivers, SIZE, SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    for (unsigned i = 0; memory_drivers[i]; i++) {
        if (strcmp(memory_drivers[i]->name, "file") == 0)
            noting_file = *memory_drivers[i];
        if (strcmp(memory_drivers[i]->name, "pass") == 0)
            noting_pass = *memory_drivers[i];
    }
    noting_file.name = "noting-file";
    noting_file.admin = &noting_admin;
    noting_pass.name = "noting";
    noting_pass.admin = &noting_admin;
    drivers[0] = &noting_file;
    drivers[1] = &noting_pass;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
