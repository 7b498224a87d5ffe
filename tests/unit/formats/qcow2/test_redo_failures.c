/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * redo.c when something fails: what a kill left is not lost by a try that came to nothing, and
 * nobody writes to an image as if nothing were left. The linker sends allocations to
 * tests/crash/no_memory.c.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <limits.h>

#include "block/activity.h"
#include "block/reopen.h"
#include "common/clock.h"
#include "tests/crash/no_memory.h"
#include "tests/unit/formats/qcow2/redo_scene.h"

/* --- calls of the file --------------------------------------------------------------------------
 */

/* Who cannot write it to the tables cannot open the image; the next one can, though the file is an
 * hour older than the try. But not where data may be lost that they point to. */
static void co_a_replay_that_fails_is_done_again(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    const unsigned ops[] = {1u << MEMORY_WRITE, 1u << MEMORY_FLUSH};
    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        scene_co_make_killed(fixture, "");
        disk->kept.now_ns += 3600 * NS_PER_S;
        disk->fail_ops = ops[i];
        disk->fail_code = -EIO;
        scene_co_open(fixture, "", -EIO);
        assert_true(scene_has_bit(fixture));
        assert_non_null(disk->kept.bytes);
        disk->fail_code = 0;
        scene_co_expect_there(fixture, ops[i] != 1u << MEMORY_FLUSH);
    }
}

FIXTURE_TEST_WITH(a_replay_that_fails_is_done_again, scene_drivers, 0, CAPACITY_BYTES)

/* Of a flush that failed nobody knows what it lost: maybe what the new tables point to. */
static void co_a_flush_that_failed_ends_it(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    struct block_backend *backend = scene_co_make_written(fixture, "");
    disk->fail_ops = 1u << MEMORY_FLUSH;
    disk->fail_code = -EIO;
    assert_int_equal(block_co_flush(backend), -EIO);
    disk->fail_code = 0;
    scene_co_kill(fixture, backend);
    assert_true(scene_has_bit(fixture));
    scene_co_expect_there(fixture, false);
}

FIXTURE_TEST_WITH(a_flush_that_failed_ends_it, scene_drivers, 0, CAPACITY_BYTES)

/* What could not be written at the end is left for the next one, as by a kill. */
static void co_tables_that_cannot_be_written_are_left(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    struct block_backend *backend = scene_co_make_written(fixture, "");
    disk->fail_ops = 1u << MEMORY_WRITE;
    disk->fail_code = -ENOSPC;
    scene_co_close(fixture, backend);
    disk->fail_code = 0;
    assert_non_null(disk->kept.bytes);
    scene_co_expect_there(fixture, true);
}

FIXTURE_TEST_WITH(tables_that_cannot_be_written_are_left, scene_drivers, 0, CAPACITY_BYTES)

/* A header that cannot be written costs the log, and no request. */
static void co_without_the_bit_there_is_no_log(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    memory_image_make(disk, &scene_shapes[0]);
    disk->kept.is_there = true;
    struct block_backend *backend = scene_co_open(fixture, "", 0);
    memory_disk_forget_calls(disk);
    disk->fail_at_call = 0;
    disk->fail_code = -EIO;
    assert_int_equal(scene_co_write(backend, 0, 50000, 1), 0);
    assert_int_equal(disk->log[0].offset, AUTOCLEAR_FIRST_BYTE);
    assert_int_equal(block_co_flush(backend), 0);
    assert_int_equal(scene_co_write(backend, 100000, 50000, 2), 0);
    assert_false(scene_has_bit(fixture));
    scene_co_kill(fixture, backend);
    scene_co_expect_there(fixture, false);
}

FIXTURE_TEST_WITH(without_the_bit_there_is_no_log, scene_drivers, 0, CAPACITY_BYTES)

/* Without a log the bit means nothing, so one that stays does no harm. */
static void co_a_bit_that_stays_is_of_no_log(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    unsigned last = UINT_MAX;
    struct error err;
    (void)arg;
    for (unsigned fails = 0; fails < 2; fails++) {
        struct block_backend *backend = scene_co_make_written(fixture, "");
        memory_disk_forget_calls(disk);
        disk->fail_at_call = last;
        disk->fail_code = fails ? -EIO : 0;
        assert_int_equal(block_co_inactivate(backend, &err), 0);
        disk->fail_code = 0;
        for (unsigned i = 0; i < disk->log_count; i++) {
            if (disk->log[i].op == MEMORY_WRITE && disk->log[i].offset == AUTOCLEAR_FIRST_BYTE)
                last = i;
        }
        assert_int_equal(scene_has_bit(fixture), fails);
        assert_null(disk->kept.bytes);
        assert_int_equal(block_co_invalidate(backend, &err), 0);
        assert_false(scene_has_bit(fixture));
        assert_int_equal(scene_co_byte(backend, 100000), 2);
        assert_int_equal(scene_co_write(backend, 100000, 50000, 2), 0);
        scene_co_kill(fixture, backend);
        scene_co_expect_there(fixture, true);
    }
}

FIXTURE_TEST_WITH(a_bit_that_stays_is_of_no_log, scene_drivers, 0, CAPACITY_BYTES)

/* The other server was killed. What it left is needed for the image to be active here, as for an
 * opening. */
static void co_who_takes_an_image_back_replays_what_was_left(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    struct error err = {.message = ""};
    (void)arg;
    memory_image_make(disk, &scene_shapes[0]);
    disk->kept.is_there = true;
    struct block_backend *backend = scene_co_open(fixture, "", 0);
    struct block_node *node = fixture->node;
    assert_int_equal(block_co_inactivate(backend, &err), 0);
    fixture->node = NULL;
    scene_co_make_killed(fixture, "");
    fixture->node = node;

    disk->fail_ops = 1u << MEMORY_WRITE;
    disk->fail_code = -EIO;
    assert_int_equal(block_co_invalidate(backend, &err), -EIO);
    assert_non_null(strstr(err.message, "cannot be written to the tables"));
    disk->fail_code = 0;
    assert_int_equal(scene_co_write(backend, 0, 10, 3), -EPERM);
    assert_true(scene_has_bit(fixture));
    assert_non_null(disk->kept.bytes);
    assert_false(disk->kept.is_open);

    assert_int_equal(block_co_invalidate(backend, &err), 0);
    assert_int_equal(scene_co_byte(backend, 0), 1);
    assert_int_equal(scene_co_byte(backend, 100000), 2);
    scene_co_kill(fixture, backend);
    scene_co_expect_there(fixture, true);
}

FIXTURE_TEST_WITH(who_takes_an_image_back_replays_what_was_left, scene_drivers, 0, CAPACITY_BYTES)

/* --- no memory ----------------------------------------------------------------------------------
 */

static int co_open_without_memory(struct fixture *fixture, uint64_t fail_at)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    node_options_set(options, "driver", "qcow2", NULL);
    memory_disk_options(&fixture->disk, options, "file.", "disk");
    crash_no_memory_arm(fail_at, false);
    int ret = block_co_open(&fixture->env, options, &fixture->node, &err);
    crash_no_memory_disarm();
    assert_true((ret < 0) == (err.message[0] != '\0'));
    return ret;
}

/* Whatever there is no memory for, all is there for who opens it next. */
static void co_an_opening_without_memory_leaves_it(struct fixture *fixture, void *arg)
{
    struct scene_state state;
    bool happened = true;
    unsigned failed = 0;
    (void)arg;
    scene_co_make_killed(fixture, "");
    scene_save(fixture, &state);
    for (uint64_t fail_at = 1; happened; fail_at++) {
        scene_put_back(fixture, &state);
        int ret = co_open_without_memory(fixture, fail_at);
        happened = crash_no_memory_failed() > 0;
        if (ret < 0) {
            assert_int_equal(ret, -ENOMEM);
            assert_true(happened && scene_has_bit(fixture));
            failed++;
        } else
            fixture_co_close(fixture);
        scene_co_expect_there(fixture, true);
    }
    assert_true(failed > 10);
    scene_state_fini(&state);
}

FIXTURE_TEST_WITH(an_opening_without_memory_leaves_it, scene_drivers, 0, CAPACITY_BYTES)

static int co_reopen_without_memory(struct block_backend *backend, uint64_t fail_at)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_set(options, "read-only", "off", NULL), 0);
    crash_no_memory_arm(fail_at, false);
    int ret = block_co_reopen(backend, options, &err);
    crash_no_memory_disarm();
    assert_true((ret < 0) == (err.message[0] != '\0'));
    return ret;
}

/* Who cannot look whether something is left must not write: it would be replayed below a writer
 * that has looked at the tables already. */
static void co_what_nobody_could_look_at_is_not_written(struct fixture *fixture, void *arg)
{
    bool happened = true;
    (void)arg;
    scene_co_make_killed(fixture, "");
    struct block_backend *backend = scene_co_open(fixture, "read-only=on", 0);
    for (uint64_t fail_at = 1; happened; fail_at++) {
        int ret = co_reopen_without_memory(backend, fail_at);
        happened = crash_no_memory_failed() > 0;
        if (ret != -EACCES && !(happened && ret == -ENOMEM))
            fail_msg("%d without allocation %u", ret, (unsigned)fail_at);
        assert_true(fixture->node->read_only);
        assert_true(scene_has_bit(fixture));
        assert_int_equal(scene_co_byte(backend, 100000), 0);
    }
    scene_co_close(fixture, backend);
    scene_co_expect_there(fixture, true);
}

FIXTURE_TEST_WITH(what_nobody_could_look_at_is_not_written, scene_drivers, 0, CAPACITY_BYTES)

/* Rights that were given cannot be taken back any more, so nothing is written with them. */
static void co_who_has_no_memory_for_a_log_does_not_write(struct fixture *fixture, void *arg)
{
    struct scene_state state;
    bool happened = true;
    unsigned refused = 0;
    (void)arg;
    scene_co_close(fixture, scene_co_make_written(fixture, ""));
    scene_save(fixture, &state);
    for (uint64_t fail_at = 1; happened; fail_at++) {
        struct block_backend *backend = scene_co_open(fixture, "read-only=on", 0);
        int ret = co_reopen_without_memory(backend, fail_at);
        happened = crash_no_memory_failed() > 0;
        assert_int_equal(ret < 0 ? ret : -ENOMEM, -ENOMEM);
        assert_int_equal(fixture->node->read_only, ret < 0);
        assert_true(ret == 0 || happened);
        int written = ret == 0 ? scene_co_write(backend, 200000, 50000, 3) : 0;
        assert_int_equal(scene_co_byte(backend, 100000), 2);
        if (ret == 0)
            assert_int_equal(scene_co_byte(backend, 200000), written == 0 ? 3 : 0);
        scene_co_close(fixture, backend);
        if (written < 0) {
            assert_true(happened);
            assert_memory_equal(fixture->disk.data, state.bytes, CAPACITY_BYTES);
            refused++;
        }
        scene_co_expect_there(fixture, true);
        scene_put_back(fixture, &state);
    }
    assert_int_equal(refused, 2); /* what redo.c has of a log, and what the cache has */
    scene_state_fini(&state);
}

FIXTURE_TEST_WITH(who_has_no_memory_for_a_log_does_not_write, scene_drivers, 0, CAPACITY_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_that_fails_is_done_again),
        cmocka_unit_test(a_flush_that_failed_ends_it),
        cmocka_unit_test(tables_that_cannot_be_written_are_left),
        cmocka_unit_test(without_the_bit_there_is_no_log),
        cmocka_unit_test(a_bit_that_stays_is_of_no_log),
        cmocka_unit_test(who_takes_an_image_back_replays_what_was_left),
        cmocka_unit_test(an_opening_without_memory_leaves_it),
        cmocka_unit_test(what_nobody_could_look_at_is_not_written),
        cmocka_unit_test(who_has_no_memory_for_a_log_does_not_write),
    };
    scene_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
