/* SPDX-License-Identifier: BSD-3-Clause */
/* reopen.c: an open image becomes read-only and writable again, or another server's and ours again,
 * or stays as it was. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

#include "block/activity.h"
#include "block/reopen.h"
#include "tests/unit/formats/gow1/gow1_fixture.h"

#define BLOCKS 20

static struct block_backend *co_new_backend(struct fixture *fixture, const char *read_only)
{
    struct block_backend *backend;
    gow_co_open(fixture, GOW_EXTRA("read-only", read_only));
    assert_int_equal(block_backend_new(&backend, fixture->node, strcmp(read_only, "on") == 0, NULL),
                     0);
    return backend;
}

static int co_reopen(struct block_backend *backend, const char *key, const char *value)
{
    struct error err;
    struct node_options *options = node_options_new();
    node_options_set(options, key, value, NULL);
    int rc = block_co_reopen(backend, options, &err);
    if (rc < 0)
        printf("%s\n", err.message);
    return rc;
}

static int co_put(struct block_backend *backend, uint32_t block, uint8_t byte)
{
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &byte, 1);
    return block_co_write(backend, (uint64_t)block * GOW_BLOCK, &vec, 0);
}

static void co_expect(struct block_backend *backend, uint32_t block, uint8_t byte)
{
    struct iovec iov;
    uint8_t data;
    struct block_vec vec = vec_of_buffer(&iov, &data, 1);
    assert_int_equal(block_co_read(backend, (uint64_t)block * GOW_BLOCK, &vec), 0);
    assert_int_equal(data, byte);
}

static void co_rights_come_and_go(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_backend(fixture, "on");
    for (uint8_t round = 0; round < 3; round++) {
        assert_int_equal(co_put(backend, round, 1), -EPERM);
        assert_int_equal(co_reopen(backend, "read-only", "off"), 0);
        assert_int_equal(co_put(backend, round, round + 1), 0);
        assert_int_equal(co_reopen(backend, "read-only", "on"), 0);
        struct gow_faults faults = gow_check(&fixture->disk); /* all of it is in the file */
        assert_int_equal(faults.errors + faults.leaks, 0);
        assert_int_equal(gow_field(&fixture->disk, 2), round + 1);
        for (uint8_t i = 0; i <= round; i++)
            co_expect(backend, i, i + 1);
    }
    assert_int_equal(block_co_backend_free(backend), 0);
}
GOW_TEST(rights_come_and_go, BLOCKS, 100)

static void co_what_cannot_be_written_stays_read_only(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_backend(fixture, "on");
    gow_set_entry(&fixture->disk, 9, 5);
    assert_int_equal(co_reopen(backend, "read-only", "off"), -EINVAL);
    co_expect(backend, 0, 0);
    gow_set_entry(&fixture->disk, 9, GOW_FREE);
    assert_int_equal(co_reopen(backend, "read-only", "off"), 0);
    assert_int_equal(co_put(backend, 9, 7), 0);
    assert_int_equal(co_reopen(backend, "magic", "5"), -EINVAL); /* of the opening alone */
    co_expect(backend, 9, 7);
    assert_int_equal(co_put(backend, 9, 8), 0);
    assert_int_equal(block_co_backend_free(backend), 0);
}
GOW_TEST(what_cannot_be_written_stays_read_only, BLOCKS, 100)

/* A flush that has failed is not forgotten, but what was written can be read and written again. */
static void co_what_cannot_be_settled_stays_writable(struct fixture *fixture, void *arg)
{
    (void)arg;
    struct block_backend *backend = co_new_backend(fixture, "off");
    assert_int_equal(co_put(backend, 3, 3), 0);
    fixture->disk.fail_ops = 1u << MEMORY_WRITE;
    fixture->disk.fail_code = -EIO;
    assert_int_equal(co_reopen(backend, "read-only", "on"), -EIO);
    fixture->disk.fail_ops = 0;
    assert_int_equal(co_put(backend, 4, 4), 0);
    co_expect(backend, 3, 3);
    assert_int_equal(co_reopen(backend, "read-only", "on"), -EIO);
    assert_int_equal(co_put(backend, 4, 5), 0);
    assert_int_equal(block_co_backend_free(backend), -EIO);
    fixture_co_close(fixture);
    struct gow_faults faults = gow_check(&fixture->disk); /* at the close it was written */
    assert_int_equal(faults.errors + faults.leaks, 0);
    assert_int_equal(gow_field(&fixture->disk, 2), 2);
}
GOW_TEST(what_cannot_be_settled_stays_writable, BLOCKS, 100)

/* --- away, and back -----------------------------------------------------------------------------
 */

static void co_leave(struct fixture *fixture, struct block_backend *backend)
{
    struct error err = {.message = ""};
    assert_int_equal(block_co_inactivate(backend, &err), 0);
    struct gow_faults faults = gow_check(&fixture->disk); /* all of it is in the file */
    assert_int_equal(faults.errors + faults.leaks, 0);
}

/* What another server does: one block more, and a larger disk. */
static void write_elsewhere(struct memory_disk *disk, uint32_t disk_block, uint32_t size, int byte)
{
    uint32_t place = gow_field(disk, 2);
    gow_set_blocks(disk, place + 1, byte);
    gow_set_entry(disk, disk_block, place);
    gow_set_field(disk, 1, size);
}

static void co_another_server_may_have_it_meanwhile(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    struct block_backend *backend = co_new_backend(fixture, "off");
    assert_int_equal(co_put(backend, 3, 3), 0);
    co_expect(backend, 7, 0);
    co_leave(fixture, backend);
    assert_int_equal(co_put(backend, 4, 4), -EPERM);
    write_elsewhere(&fixture->disk, 7, BLOCKS + 5, 0x77);
    assert_int_equal(block_co_invalidate(backend, &err), 0);
    assert_int_equal(block_backend_size_bytes(backend), (BLOCKS + 5) * GOW_BLOCK);
    co_expect(backend, 3, 3);
    co_expect(backend, 7, 0x77);
    assert_int_equal(co_put(backend, BLOCKS + 1, 5), 0);
    co_expect(backend, BLOCKS + 1, 5);
    co_leave(fixture, backend);
    assert_int_equal(gow_entry(&fixture->disk, BLOCKS + 1), 2); /* behind the other's */
    assert_int_equal(block_co_backend_free(backend), 0);
}
GOW_TEST(another_server_may_have_it_meanwhile, BLOCKS, 100)

static void co_what_comes_back_broken_stays_away(struct fixture *fixture, void *arg)
{
    struct error err;
    (void)arg;
    struct block_backend *backend = co_new_backend(fixture, "off");
    assert_int_equal(co_put(backend, 3, 3), 0);
    co_leave(fixture, backend);
    gow_set_entry(&fixture->disk, 5, 0);
    assert_int_equal(block_co_invalidate(backend, &err), -EINVAL);
    assert_non_null(strstr(err.message, "which another entry before it is as well"));
    assert_int_equal(co_put(backend, 3, 4), -EPERM);
    gow_set_entry(&fixture->disk, 5, GOW_FREE);
    gow_set_field(&fixture->disk, 2, BLOCKS + 1);
    assert_int_equal(block_co_invalidate(backend, &err), -EINVAL);
    assert_non_null(strstr(err.message, "its allocated is 21"));
    gow_set_field(&fixture->disk, 2, 1);
    assert_int_equal(block_co_invalidate(backend, &err), 0);
    co_expect(backend, 3, 3);
    assert_int_equal(block_co_backend_free(backend), 0);
}
GOW_TEST(what_comes_back_broken_stays_away, BLOCKS, 100)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rights_come_and_go),
        cmocka_unit_test(what_cannot_be_written_stays_read_only),
        cmocka_unit_test(what_cannot_be_settled_stays_writable),
        cmocka_unit_test(another_server_may_have_it_meanwhile),
        cmocka_unit_test(what_comes_back_broken_stays_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
