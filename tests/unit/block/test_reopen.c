/* SPDX-License-Identifier: BSD-3-Clause */
/* reopen.c: the order of its calls, the rights of each node, and what a failing one leaves. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/reopen.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536

/* What the drivers were called for: "pN" prepare of the node at depth N, "cN" commit, "fN" finish,
 * "aN" abort. */
static char calls[200];
static unsigned fails_at_depth; /* prepare fails there; 0: nowhere */

static void say_call(char what, const struct block_node *node)
{
    size_t length = strlen(calls);
    snprintf(calls + length, sizeof(calls) - length, "%c%u", what, node->depth);
}

static int noting_co_prepare(struct block_node *node, struct block_reopen *reopen,
                             struct error *err)
{
    const char *note = node_options_take(reopen->options, "note");
    uint8_t byte = 1;
    say_call('p', node);
    assert_null(reopen->state);
    /* A format may still write to its file. */
    if (node->file && !node->read_only)
        assert_int_equal(fixture_co_write(node->file, 9, &byte, 1, 0), 0);
    if (note && strcmp(note, "bad") == 0)
        return node_options_refuse(reopen->options, "note", -EINVAL, err, "is bad");
    if (node->depth == fails_at_depth)
        return error_set(err, -ENOMEM, "no memory at %u", node->depth);
    reopen->state = node;
    return 0;
}

static void noting_co_commit(struct block_node *node, struct block_reopen *reopen)
{
    assert_ptr_equal(reopen->state, node);
    say_call('c', node);
}

static void noting_co_abort(struct block_node *node, struct block_reopen *reopen)
{
    assert_ptr_equal(reopen->state, node);
    say_call('a', node);
}

/* The children can be used again. */
static void noting_co_finish(struct block_node *node, struct block_reopen *reopen)
{
    uint8_t byte = 1;
    assert_ptr_equal(reopen->state, node);
    say_call('f', node);
    if (node->file) {
        assert_int_equal(fixture_co_read(node->file, 9, &byte, 1), 0);
    }
}

static const struct block_driver_admin noting_admin = {
    .co_reopen_prepare = noting_co_prepare,
    .co_reopen_commit = noting_co_commit,
    .co_reopen_finish = noting_co_finish,
    .co_reopen_abort = noting_co_abort,
};

static struct block_driver noting_file, noting_pass;
static const struct block_driver *drivers[6];

static const struct block_driver *memory_driver_of(const char *name)
{
    for (unsigned i = 0; memory_drivers[i]; i++) {
        if (strcmp(memory_drivers[i]->name, name) == 0)
            return memory_drivers[i];
    }
    return NULL;
}

/* Three nodes: top over middle over the disk. bottom: the disk's driver. */
static struct block_backend *co_open(struct fixture *fixture, const char *bottom,
                                     const char *read_only)
{
    struct block_backend *backend;
    struct node_options *options = node_options_new();
    node_options_parse(options, "driver=noting,file.driver=noting", NULL);
    memory_disk_options(&fixture->disk, options, "file.file.", bottom);
    node_options_set(options, "read-only", read_only, NULL);
    assert_int_equal(block_co_open(&fixture->env, options, &fixture->node, NULL), 0);
    bool is_read_only = strcmp(read_only, "on") == 0;
    assert_int_equal(block_backend_new(&backend, fixture->node, is_read_only, NULL), 0);
    calls[0] = '\0';
    fails_at_depth = 0;
    return backend;
}

static int co_reopen(struct block_backend *backend, const char *text, struct error *err)
{
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, text, NULL), 0);
    calls[0] = '\0';
    return block_co_reopen(backend, options, err);
}

static void expect_rights(const struct fixture *fixture, const char *rights)
{
    const struct block_node *node = fixture->node;
    for (; node; node = node->file, rights++)
        assert_int_equal(node->read_only, *rights == 'r');
}

static void co_parents_prepare_first_and_children_commit_first(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_open(fixture, "noting-file", "off");
    struct error err;
    (void)arg;
    assert_int_equal(co_reopen(backend, "", &err), 0);
    assert_string_equal(calls, "p1p2p3c3c2c1f3f2f1");
    expect_rights(fixture, "www");
    assert_int_equal(co_reopen(backend, "read-only=on,file.note=x", &err), 0);
    assert_string_equal(calls, "p1p2p3c3c2c1f3f2f1");
    expect_rights(fixture, "rrr");
    assert_true(block_backend_is_read_only(backend));
    assert_int_equal(co_reopen(backend, "file.file.read-only=off", &err), 0);
    expect_rights(fixture, "rrw");
    assert_int_equal(co_reopen(backend, "read-only=off", &err), 0);
    expect_rights(fixture, "www");
    assert_false(block_backend_is_read_only(backend));
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_who_prepared_before_a_failure_is_aborted(struct fixture *fixture, void *arg)
{
    static const char *const expected[] = {"p1", "p1p2a1", "p1p2p3a2a1"};
    struct block_backend *backend = co_open(fixture, "noting-file", "off");
    struct error err;
    (void)arg;
    for (unsigned depth = 1; depth <= 3; depth++) {
        fails_at_depth = depth;
        assert_int_equal(co_reopen(backend, "read-only=on", &err), -ENOMEM);
        assert_string_equal(calls, expected[depth - 1]);
        expect_rights(fixture, "www");
        assert_false(block_backend_is_read_only(backend));
    }
    fails_at_depth = 0;
    assert_int_equal(co_reopen(backend, "file.file.note=bad", &err), -EINVAL);
    assert_string_equal(err.message, "file.file.note: is bad");
    assert_string_equal(calls, "p1p2p3a2a1");
    /* What nobody knows is found when its driver has prepared. */
    assert_int_equal(co_reopen(backend, "file.colour=red", &err), -EINVAL);
    assert_string_equal(calls, "p1p2a2a1");
    assert_non_null(strstr(err.message, "file.colour: a change of the open driver noting knows"));
    assert_int_equal(co_reopen(backend, "file.file.read-only=on", &err), -EROFS);
    assert_non_null(strstr(err.message, "file.file.read-only: "));
    uint8_t byte = 1;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &byte, 1);
    assert_int_equal(block_co_write(backend, 0, &vec, 0), 0);
    assert_int_equal(block_co_backend_free(backend), 0);
}

static void co_a_driver_without_it_stays_as_it_is(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_open(fixture, "file", "off");
    struct error err;
    (void)arg;
    assert_int_equal(co_reopen(backend, "note=x", &err), 0);
    assert_string_equal(calls, "p1p2c2c1f2f1");
    assert_int_equal(co_reopen(backend, "read-only=on", &err), -ENOTSUP);
    assert_non_null(strstr(err.message, "file.file: "));
    assert_string_equal(calls, "p1p2a2a1");
    assert_int_equal(co_reopen(backend, "discard=unmap", &err), -ENOTSUP);
    expect_rights(fixture, "www");
    assert_int_equal(block_co_backend_free(backend), 0);
}

struct reader {
    struct block_backend *backend;
    int rc;
};

static void reader_entry(void *arg)
{
    struct reader *reader = arg;
    uint8_t byte;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &byte, 1);
    reader->rc = block_co_read(reader->backend, 0, &vec);
}

struct reopener {
    struct block_backend *backend;
    int rc;
};

static void reopener_entry(void *arg)
{
    struct reopener *reopener = arg;
    reopener->rc = co_reopen(reopener->backend, "read-only=on", NULL);
}

static void co_requests_are_waited_for_and_wait(struct fixture *fixture, void *arg)
{
    struct block_backend *backend = co_open(fixture, "noting-file", "off");
    struct reader before = {.backend = backend, .rc = 1}, after = before;
    struct reopener reopener = {.backend = backend, .rc = 1};
    struct group group;
    (void)arg;
    group_init(&group, fixture->loop);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_READ);
    group_start(&group, reader_entry, &before);
    memory_disk_co_wait_held(&fixture->disk, 1);
    group_start(&group, reopener_entry, &reopener);
    group_start(&group, reader_entry, &after);
    for (unsigned i = 0; i < 20; i++)
        coroutine_co_pause();
    assert_string_equal(calls, "");
    assert_int_equal(fixture->disk.counts[MEMORY_READ], 1);
    memory_disk_release(&fixture->disk);
    group_co_wait(&group);
    assert_int_equal(before.rc | after.rc | reopener.rc, 0);
    assert_string_equal(calls, "p1p2p3c3c2c1f3f2f1");
    assert_int_equal(block_co_backend_free(backend), 0);
}

#define TESTS(X)                                       \
    X(parents_prepare_first_and_children_commit_first) \
    X(who_prepared_before_a_failure_is_aborted)        \
    X(a_driver_without_it_stays_as_it_is)              \
    X(requests_are_waited_for_and_wait)

#define DEFINE_TEST(name) FIXTURE_TEST_WITH(name, drivers, SIZE, SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    noting_file = *memory_driver_of("file");
    noting_file.name = "noting-file";
    noting_file.admin = &noting_admin;
    noting_pass = *memory_driver_of("pass");
    noting_pass.name = "noting";
    noting_pass.admin = &noting_admin;
    drivers[0] = memory_driver_of("file");
    drivers[1] = &noting_file;
    drivers[2] = &noting_pass;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
