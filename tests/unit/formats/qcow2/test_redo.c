/* SPDX-License-Identifier: BSD-3-Clause */
/* redo.c: what a kill leaves, whose it is, and who gets it. What fails is in test_redo_failures.c.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/activity.h"
#include "block/reopen.h"
#include "cache/redo.h"
#include "tests/unit/formats/qcow2/redo_scene.h"

/* --- kills --------------------------------------------------------------------------------------
 */

static void co_change(struct block_backend *backend, struct random *random, uint8_t *model)
{
    uint64_t offset = random_below(random, DISK_BYTES);
    uint64_t length = 1 + random_below(random, random_once_in(random, 4) ? 200000 : 9000);
    if (offset + length > DISK_BYTES)
        length = DISK_BYTES - offset;
    int byte = 1 + (int)random_below(random, 255);
    switch (random_below(random, 8)) {
    case 0:
        assert_int_equal(block_co_zero(backend, offset, length, 0), 0);
        memset(model + offset, 0, length);
        return;
    case 1: {
        uint64_t from = offset & ~UINT64_C(16383);
        assert_int_equal(block_co_discard(backend, from, 16384, 0), 0);
        memset(model + from, 0, 16384);
        return;
    }
    case 2:
        if (random_once_in(random, 2)) {
            assert_int_equal(block_co_flush(backend), 0);
            return;
        }
        break;
    default:
        break;
    }
    assert_int_equal(scene_co_write(backend, offset, length, byte), 0);
    memset(model + offset, byte, length);
}

static void co_expect_model(struct block_backend *backend, const uint8_t *model)
{
    static uint8_t data[DISK_BYTES];
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, sizeof(data));
    assert_int_equal(block_co_read(backend, 0, &vec), 0);
    assert_memory_equal(data, model, DISK_BYTES);
}

static void co_kills_lose_nothing(struct fixture *fixture, void *arg)
{
    static uint8_t model[DISK_BYTES];
    struct memory_disk *disk = &fixture->disk;
    struct random random;
    random_seed(&random, fixture_seed("kills_lose_nothing"));
    memory_image_make(disk, arg);
    memset(model, 0, sizeof(model));
    disk->kept.is_there = true;
    for (unsigned turn = 0; turn < 30; turn++) {
        disk->kept.now_ns += NS_PER_S;
        struct block_backend *backend =
            scene_co_open(fixture, random_once_in(&random, 2) ? "lazy-refcounts=on" : "", 0);
        co_expect_model(backend, model);
        for (uint64_t i = random_below(&random, 30); i > 0; i--)
            co_change(backend, &random, model);
        if (random_once_in(&random, 5))
            scene_co_close(fixture, backend);
        else
            scene_co_kill(fixture, backend);
        disk->kept.file_changed_ns = disk->kept.now_ns;
    }
    struct block_backend *backend = scene_co_open(fixture, "", 0);
    co_expect_model(backend, model);
    scene_co_close(fixture, backend);
    scene_expect_no_errors(fixture);
    assert_null(disk->kept.bytes);
}

static void kills_lose_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < SCENE_SHAPES; i++) {
        struct fixture fixture;
        fixture_init(&fixture, scene_drivers, 0, CAPACITY_BYTES, 1);
        fixture_run(&fixture, co_kills_lose_nothing, (void *)(uintptr_t)&scene_shapes[i]);
        fixture_fini(&fixture);
    }
}

/* --- whose it is --------------------------------------------------------------------------------
 */

/* It is there from before the first change up to the end, and at no other time. */
static void co_the_bit_says_that_there_is_a_log(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    struct error err;
    (void)arg;
    memory_image_make(disk, &scene_shapes[0]);
    disk->kept.is_there = true;
    struct block_backend *backend = scene_co_open(fixture, "", 0);
    assert_int_equal(scene_co_byte(backend, 0), 0);
    assert_int_equal(block_co_flush(backend), 0);
    assert_false(scene_has_bit(fixture));
    for (unsigned i = 0; i < 4; i++) {
        switch (i) {
        case 0:
            assert_int_equal(scene_co_write(backend, 0, 10, 1), 0);
            break;
        case 1:
            assert_int_equal(block_co_discard(backend, 0, 4096, 0), 0);
            break;
        case 2:
            assert_int_equal(block_co_zero(backend, 0, 4096, 0), 0);
            break;
        case 3:
            assert_int_equal(block_co_resize(backend, DISK_BYTES * 2, &err), 0);
            break;
        }
        assert_true(scene_has_bit(fixture));
        assert_int_equal(block_co_flush(backend), 0);
        assert_true(scene_has_bit(fixture));
        assert_int_equal(block_co_inactivate(backend, &err), 0);
        assert_false(scene_has_bit(fixture));
        assert_null(disk->kept.bytes);
        assert_int_equal(block_co_invalidate(backend, &err), 0);
        assert_false(scene_has_bit(fixture));
        assert_non_null(disk->kept.bytes);
    }
    scene_co_close(fixture, backend);
    assert_false(scene_has_bit(fixture));
}

FIXTURE_TEST_WITH(the_bit_says_that_there_is_a_log, scene_drivers, 0, CAPACITY_BYTES)

static void co_who_clears_the_bit_has_written(struct fixture *fixture, void *arg)
{
    (void)arg;
    scene_co_make_killed(fixture, "");
    assert_true(scene_has_bit(fixture));
    fixture->disk.data[AUTOCLEAR_FIRST_BYTE] = 0;
    scene_co_expect_there(fixture, false);
    scene_co_make_killed(fixture, "");
    scene_co_expect_there(fixture, true);
}

FIXTURE_TEST_WITH(who_clears_the_bit_has_written, scene_drivers, 0, CAPACITY_BYTES)

/* An image that was put back in its place, from a time in which it had another log. */
static void co_a_log_is_of_one_session(struct fixture *fixture, void *arg)
{
    (void)arg;
    for (unsigned byte = 0; byte < 4; byte++) {
        scene_co_make_killed(fixture, "");
        fixture->disk.data[AUTOCLEAR_FIRST_BYTE + byte] ^= 0x10;
        scene_co_expect_there(fixture, false);
    }
}

FIXTURE_TEST_WITH(a_log_is_of_one_session, scene_drivers, 0, CAPACITY_BYTES)

static void co_who_changes_it_later_is_another(struct fixture *fixture, void *arg)
{
    (void)arg;
    for (unsigned seconds = 8; seconds < 13; seconds++) {
        scene_co_make_killed(fixture, "");
        fixture->disk.kept.file_changed_ns = (100 + seconds) * NS_PER_S;
        scene_co_expect_there(fixture, seconds <= 10);
    }
}

FIXTURE_TEST_WITH(who_changes_it_later_is_another, scene_drivers, 0, CAPACITY_BYTES)

/* As it is after a rollback of the file system below: the session is the same. */
static void co_an_older_file_was_put_back(struct fixture *fixture, void *arg)
{
    (void)arg;
    for (unsigned seconds = 38; seconds < 43; seconds++) {
        scene_co_make_killed(fixture, "");
        fixture->disk.kept.file_changed_ns = seconds * NS_PER_S;
        scene_co_expect_there(fixture, seconds >= 40);
    }
}

FIXTURE_TEST_WITH(an_older_file_was_put_back, scene_drivers, 0, CAPACITY_BYTES)

static uint64_t heartbeat_ns(const struct fixture *fixture)
{
    struct redo *redo;
    const struct memory_kept *kept = &fixture->disk.kept;
    assert_int_equal(redo_new(&redo, kept->bytes, kept->kept.length), 0);
    uint64_t beat_ns = redo_heartbeat_ns(redo);
    uint64_t replay_ns = redo_replay_ns(redo);
    redo_free(redo);
    return beat_ns > replay_ns ? beat_ns : replay_ns;
}

/* Each write of the file says when it was, those of the cache too. */
static void co_the_heart_beats(struct fixture *fixture, void *arg)
{
    struct memory_kept *kept = &fixture->disk.kept;
    (void)arg;
    memory_image_make(&fixture->disk, &scene_shapes[0]);
    kept->is_there = true;
    kept->now_ns = 5;
    struct block_backend *backend = scene_co_open(fixture, "", 0);
    assert_int_equal(scene_co_write(backend, 0, 100, 1), 0);
    assert_int_equal(heartbeat_ns(fixture), 5);
    kept->now_ns = 7;
    assert_int_equal(scene_co_byte(backend, 0), 1);
    assert_int_equal(heartbeat_ns(fixture), 5);
    assert_int_equal(block_co_flush(backend), 0);
    assert_int_equal(heartbeat_ns(fixture), 7);
    kept->now_ns = 9;
    assert_int_equal(scene_co_write(backend, 0, 100, 1), 0); /* where it lies */
    assert_int_equal(heartbeat_ns(fixture), 9);
    scene_co_kill(fixture, backend);
    kept->now_ns = 11;
    backend = scene_co_open(fixture, "", 0);
    assert_int_equal(scene_co_write(backend, 500000, 100, 1), 0);
    scene_co_kill(fixture, backend);
    kept->now_ns = 13;
    kept->file_changed_ns = 13;
    backend = scene_co_open(fixture, "", 0); /* which replays */
    assert_int_equal(heartbeat_ns(fixture), 13);
    assert_int_equal(scene_co_byte(backend, 500000), 1);
    scene_co_close(fixture, backend);
}

FIXTURE_TEST_WITH(the_heart_beats, scene_drivers, 0, CAPACITY_BYTES)

/* --- who gets it --------------------------------------------------------------------------------
 */

static void co_who_only_reads_leaves_it(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    (void)arg;
    scene_co_make_killed(fixture, "");
    struct block_backend *backend = scene_co_open(fixture, "read-only=on", 0);
    assert_int_equal(scene_co_byte(backend, 0), 1);
    assert_int_equal(scene_co_byte(backend, 100000), 0);
    assert_int_equal(node_options_set(options, "read-only", "off", NULL), 0);
    assert_int_equal(block_co_reopen(backend, options, &err), -EACCES);
    assert_non_null(strstr(err.message, "its server was killed"));
    scene_co_close(fixture, backend);
    assert_true(scene_has_bit(fixture));
    scene_co_expect_there(fixture, true);
}

FIXTURE_TEST_WITH(who_only_reads_leaves_it, scene_drivers, 0, CAPACITY_BYTES)

/* Then there is nothing to wait for. */
static void co_who_only_reads_may_write_where_it_is_of_no_use(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    (void)arg;
    scene_co_make_killed(fixture, "");
    fixture->disk.kept.file_changed_ns = 200 * NS_PER_S;
    struct block_backend *backend = scene_co_open(fixture, "read-only=on", 0);
    assert_int_equal(node_options_set(options, "read-only", "off", NULL), 0);
    if (block_co_reopen(backend, options, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(scene_co_byte(backend, 100000), 0);
    assert_int_equal(scene_co_write(backend, 100000, 50000, 2), 0);
    fixture->disk.kept.file_changed_ns = fixture->disk.kept.now_ns;
    scene_co_kill(fixture, backend);
    scene_co_expect_there(fixture, true);
}

FIXTURE_TEST_WITH(who_only_reads_may_write_where_it_is_of_no_use, scene_drivers, 0, CAPACITY_BYTES)

/* Rights and caches change, the log stays what it is. */
static void co_reopened_images_have_one(struct fixture *fixture, void *arg)
{
    static const char *const changes[] = {"read-only=on", "read-only=off", "cache-size=1M",
                                          "read-only=on,cache-size=2M",
                                          "read-only=off,cache-size=1M"};
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    memory_image_make(disk, &scene_shapes[0]);
    disk->kept.is_there = true;
    for (unsigned i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
        struct block_backend *backend = scene_co_open(fixture, "", 0);
        for (unsigned n = 0; n <= i; n++) {
            struct error err = {.message = ""};
            struct node_options *options = node_options_new();
            if (!fixture->node->read_only)
                assert_int_equal(scene_co_write(backend, n * 50000, 50000, (int)(i + n + 1)), 0);
            assert_int_equal(node_options_parse(options, changes[n], NULL), 0);
            if (block_co_reopen(backend, options, &err) < 0)
                fail_msg("%s", err.message);
            assert_false(scene_has_bit(fixture));
            assert_int_equal(disk->kept.bytes != NULL, !fixture->node->read_only);
        }
        if (!fixture->node->read_only)
            assert_int_equal(scene_co_write(backend, 900000, 10, (int)i + 1), 0);
        bool was_written = !fixture->node->read_only;
        scene_co_kill(fixture, backend);
        backend = scene_co_open(fixture, "", 0);
        for (unsigned n = 0; n <= i; n++) {
            bool was_read_only = n == 1 || n == 4;
            if (!was_read_only)
                assert_int_equal(scene_co_byte(backend, n * 50000 + 49999), i + n + 1);
        }
        if (was_written)
            assert_int_equal(scene_co_byte(backend, 900000), i + 1);
        scene_co_close(fixture, backend);
    }
    scene_expect_no_errors(fixture);
}

FIXTURE_TEST_WITH(reopened_images_have_one, scene_drivers, 0, CAPACITY_BYTES)

static void co_where_none_is_wanted_none_is_made(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    scene_co_make_killed(fixture, "redo-log=off");
    assert_false(scene_has_bit(fixture));
    assert_null(disk->kept.bytes);
    scene_co_expect_there(fixture, false);

    scene_co_make_killed(fixture, ""); /* what another one left is not lost for it */
    struct block_backend *backend = scene_co_open(fixture, "redo-log=off", 0);
    assert_false(scene_has_bit(fixture));
    assert_null(disk->kept.bytes);
    assert_int_equal(scene_co_byte(backend, 100000), 2);
    scene_co_close(fixture, backend);

    scene_co_make_killed(fixture, ""); /* nor is it left where nobody wants it */
    disk->data[AUTOCLEAR_FIRST_BYTE] = 0;
    backend = scene_co_open(fixture, "redo-log=off", 0);
    assert_null(disk->kept.bytes);
    assert_int_equal(scene_co_byte(backend, 100000), 0);
    scene_co_close(fixture, backend);
}

FIXTURE_TEST_WITH(where_none_is_wanted_none_is_made, scene_drivers, 0, CAPACITY_BYTES)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kills_lose_nothing),
        cmocka_unit_test(the_bit_says_that_there_is_a_log),
        cmocka_unit_test(who_clears_the_bit_has_written),
        cmocka_unit_test(a_log_is_of_one_session),
        cmocka_unit_test(who_changes_it_later_is_another),
        cmocka_unit_test(an_older_file_was_put_back),
        cmocka_unit_test(the_heart_beats),
        cmocka_unit_test(who_only_reads_leaves_it),
        cmocka_unit_test(who_only_reads_may_write_where_it_is_of_no_use),
        cmocka_unit_test(reopened_images_have_one),
        cmocka_unit_test(where_none_is_wanted_none_is_made),
    };
    scene_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
