/* SPDX-License-Identifier: BSD-3-Clause */
/* posix_activity.c: two that have one file open, in turn: its locks, and what is believed of it. */
#include "tests/unit/block/posix_fixture.h"

#include "block/activity.h"

#define SIZE 20000

static struct block_backend *co_use(struct posix_fixture *fixture, const char *const *extra)
{
    struct block_backend *backend;
    struct block_node *node = open_image(fixture, extra);
    assert_int_equal(block_backend_new(&backend, node, false, NULL), 0);
    block_co_node_unref(node);
    return backend;
}

static unsigned forgotten;

static int forget_pages(struct host_files *files, int fd)
{
    (void)files;
    forgotten++;
    return host_files_linux.forget_pages(&host_files_linux, fd);
}

static void co_in_turn(struct posix_fixture *fixture, const char *const *extra)
{
    struct error *err = &fixture->err;
    struct block_backend *backends[2];
    fixture->odd.files.forget_pages = forget_pages;
    forgotten = 0;
    make_image(fixture, SIZE);
    backends[0] = co_use(fixture, extra);
    assert_int_equal(block_co_inactivate(backends[0], err), 0);
    backends[1] = co_use(fixture, extra); /* nobody is in the way */
    for (unsigned turn = 0; turn < 6; turn++) {
        struct block_backend *active = backends[(turn + 1) % 2], *other = backends[turn % 2];
        assert_int_equal(block_co_invalidate(other, err), -EBUSY);
        assert_non_null(strstr(err->message, "another export of this server"));
        assert_int_equal(backend_co_write_byte(active, 5000, (uint8_t)turn), 0);
        assert_int_equal(backend_co_write_byte(active, 6000 + turn, 1), 0);
        /* The file grows, by the hand of the other one. */
        assert_int_equal(truncate(fixture->path, SIZE + 512 * (turn + 1)), 0);
        assert_int_equal(block_co_inactivate(active, err), 0);
        if (block_co_invalidate(other, err) < 0)
            fail_msg("%s", err->message);
        assert_int_equal(backend_co_byte(other, 5000), turn);
        assert_int_equal(backend_co_byte(other, 6000 + turn), 1);
        assert_int_equal(block_backend_size_bytes(other), SIZE + 512 * (turn + 1));
    }
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(block_co_backend_free(backends[i]), 0);
}

static void turns_body(struct posix_fixture *fixture)
{
    co_in_turn(fixture, NULL);
    assert_int_equal(forgotten, 6);
    co_in_turn(fixture, EXTRA("discard=unmap", "locking=on"));
}

static void two_servers_in_turn(void **state)
{
    with_posix(state, turns_body);
}

/* Where nobody locks, everybody may have it; and a host that cannot forget need not. */
static void unlocked_body(struct posix_fixture *fixture)
{
    make_image(fixture, SIZE);
    fixture->odd.files.forget_pages = NULL;
    struct block_backend *one = co_use(fixture, EXTRA("locking=off"));
    struct block_backend *other = co_use(fixture, NULL);
    assert_int_equal(block_co_inactivate(one, &fixture->err), 0);
    assert_int_equal(backend_co_write_byte(other, 7, 3), 0);
    assert_int_equal(block_co_invalidate(one, &fixture->err), 0);
    assert_int_equal(backend_co_byte(one, 7), 3);
    struct block_node *node = NULL;
    assert_int_equal(try_open(fixture, NULL, &node), -EBUSY); /* the other's lock is still there */
    assert_int_equal(block_co_backend_free(one), 0);
    assert_int_equal(block_co_backend_free(other), 0);
}

static void without_locks_nobody_is_in_the_way(void **state)
{
    with_posix(state, unlocked_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_servers_in_turn),
        cmocka_unit_test(without_locks_nobody_is_in_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
