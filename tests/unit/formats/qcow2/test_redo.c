/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * redo.c: what a kill leaves, whose it is, and who gets it. A kill is simulated: what the disk and
 * the kept memory are at that moment is put aside, and put back when the node is closed.
 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/activity.h"
#include "block/reopen.h"
#include "cache/redo.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/image.h"
#include "tests/unit/block/block_fixture.h"
#include "tests/unit/formats/qcow2/memory_image.h"

#define CAPACITY_BYTES (8u << 20)
#define DISK_BYTES (1u << 20)
#define AUTOCLEAR_FIRST_BYTE 88
#define REDO_BIT 0x80

static const struct memory_image shapes[] = {
    {.cluster_bits = 12, .refcount_order = 4, .disk_bytes = DISK_BYTES},
    {.cluster_bits = 9, .refcount_order = 6, .disk_bytes = DISK_BYTES},
    {.cluster_bits = 14, .refcount_order = 4, .is_extended = true, .disk_bytes = DISK_BYTES},
};

/* The disk of memory_driver.h, which can be opened again, left and taken back. */
static struct block_driver disk_driver;
static struct block_driver_admin disk_admin;
static const struct block_driver *drivers[3];

static int disk_co_prepare(struct block_node *node, struct block_reopen *reopen, struct error *err)
{
    (void)node, (void)reopen, (void)err;
    return 0;
}

static struct block_backend *co_open(struct fixture *fixture, const char *text, int code)
{
    struct error err = {.message = ""};
    struct block_backend *backend = NULL;
    struct node_options *options = node_options_new();
    assert_int_equal(node_options_parse(options, text, NULL), 0);
    node_options_set(options, "driver", "qcow2", NULL);
    memory_disk_options(&fixture->disk, options, "file.", "disk");
    int ret = block_co_open(&fixture->env, options, &fixture->node, &err);
    if (ret != code)
        fail_msg("%d, not %d: %s", ret, code, err.message);
    if (ret == 0)
        assert_int_equal(block_backend_new(&backend, fixture->node, fixture->node->read_only, NULL),
                         0);
    return backend;
}

static void co_close(struct fixture *fixture, struct block_backend *backend)
{
    block_co_backend_free(backend);
    fixture_co_close(fixture);
}

/* What is left then is what a kill would have left now. */
static void co_kill(struct fixture *fixture, struct block_backend *backend)
{
    struct memory_disk *disk = &fixture->disk;
    uint64_t size_bytes = disk->size_bytes;
    size_t length = disk->kept.kept.length;
    void *bytes = malloc(disk->capacity_bytes);
    void *kept = disk->kept.bytes ? memory_kept_save(&disk->kept) : NULL;
    assert_non_null(bytes);
    memcpy(bytes, disk->data, disk->capacity_bytes);
    co_close(fixture, backend);
    memcpy(disk->data, bytes, disk->capacity_bytes);
    disk->size_bytes = size_bytes;
    if (kept)
        memory_kept_put_back(&disk->kept, kept, length);
    free(kept);
    free(bytes);
}

static int co_write(struct block_backend *backend, uint64_t offset, size_t length, int byte)
{
    static uint8_t data[DISK_BYTES];
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, data, length);
    memset(data, byte, length);
    return block_co_write(backend, offset, &vec, 0);
}

static int co_byte(struct block_backend *backend, uint64_t offset)
{
    uint8_t byte = 0;
    struct iovec iov;
    struct block_vec vec = vec_of_buffer(&iov, &byte, 1);
    assert_int_equal(block_co_read(backend, offset, &vec), 0);
    return byte;
}

/* And with it the number of the session, or both are not there. */
static bool has_bit(const struct fixture *fixture)
{
    const uint8_t *bits = &fixture->disk.data[AUTOCLEAR_FIRST_BYTE];
    if (!(bits[0] & REDO_BIT))
        assert_int_equal(bits[0] | bits[1] | bits[2] | bits[3], 0);
    return bits[0] & REDO_BIT;
}

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

static void expect_no_errors(const struct fixture *fixture)
{
    assert_int_equal(memory_image_check(&fixture->disk).errors, 0);
}

/* A new image: 1 at 0 is flushed, 2 at 100000 is not. */
static struct block_backend *co_make_written(struct fixture *fixture, const char *options)
{
    struct memory_disk *disk = &fixture->disk;
    memory_image_make(disk, &shapes[0]);
    disk->kept.is_there = true;
    disk->kept.now_ns = 100 * NS_PER_S;
    struct block_backend *backend = co_open(fixture, options, 0);
    assert_int_equal(co_write(backend, 0, 50000, 1), 0);
    assert_int_equal(block_co_flush(backend), 0);
    assert_int_equal(co_write(backend, 100000, 50000, 2), 0);
    return backend;
}

/* The same, and its server was killed. */
static void co_make_killed(struct fixture *fixture, const char *options)
{
    struct memory_disk *disk = &fixture->disk;
    co_kill(fixture, co_make_written(fixture, options));
    disk->kept.file_changed_ns = disk->kept.now_ns;
    expect_no_errors(fixture);
}

/* Opens it, looks whether what was not flushed is there, and closes it. */
static void co_expect_there(struct fixture *fixture, bool is_there)
{
    struct block_backend *backend = co_open(fixture, "", 0);
    assert_int_equal(co_byte(backend, 0), 1);
    assert_int_equal(co_byte(backend, 100000), is_there ? 2 : 0);
    assert_int_equal(co_byte(backend, 149999), is_there ? 2 : 0);
    co_close(fixture, backend);
    assert_false(has_bit(fixture));
    assert_null(fixture->disk.kept.bytes);
    expect_no_errors(fixture);
}

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
    assert_int_equal(co_write(backend, offset, length, byte), 0);
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
            co_open(fixture, random_once_in(&random, 2) ? "lazy-refcounts=on" : "", 0);
        co_expect_model(backend, model);
        for (uint64_t i = random_below(&random, 30); i > 0; i--)
            co_change(backend, &random, model);
        if (random_once_in(&random, 5))
            co_close(fixture, backend);
        else
            co_kill(fixture, backend);
        disk->kept.file_changed_ns = disk->kept.now_ns;
    }
    struct block_backend *backend = co_open(fixture, "", 0);
    co_expect_model(backend, model);
    co_close(fixture, backend);
    expect_no_errors(fixture);
    assert_null(disk->kept.bytes);
}

static void kills_lose_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct fixture fixture;
        fixture_init(&fixture, drivers, 0, CAPACITY_BYTES, 1);
        fixture_run(&fixture, co_kills_lose_nothing, (void *)(uintptr_t)&shapes[i]);
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
    memory_image_make(disk, &shapes[0]);
    disk->kept.is_there = true;
    struct block_backend *backend = co_open(fixture, "", 0);
    assert_int_equal(co_byte(backend, 0), 0);
    assert_int_equal(block_co_flush(backend), 0);
    assert_false(has_bit(fixture));
    for (unsigned i = 0; i < 4; i++) {
        switch (i) {
        case 0:
            assert_int_equal(co_write(backend, 0, 10, 1), 0);
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
        assert_true(has_bit(fixture));
        assert_int_equal(block_co_flush(backend), 0);
        assert_true(has_bit(fixture));
        assert_int_equal(block_co_inactivate(backend, &err), 0);
        assert_false(has_bit(fixture));
        assert_null(disk->kept.bytes);
        assert_int_equal(block_co_invalidate(backend, &err), 0);
        assert_false(has_bit(fixture));
        assert_non_null(disk->kept.bytes);
    }
    co_close(fixture, backend);
    assert_false(has_bit(fixture));
}

FIXTURE_TEST_WITH(the_bit_says_that_there_is_a_log, drivers, 0, CAPACITY_BYTES)

static void co_who_clears_the_bit_has_written(struct fixture *fixture, void *arg)
{
    (void)arg;
    co_make_killed(fixture, "");
    assert_true(has_bit(fixture));
    fixture->disk.data[AUTOCLEAR_FIRST_BYTE] = 0;
    co_expect_there(fixture, false);
    co_make_killed(fixture, "");
    co_expect_there(fixture, true);
}

FIXTURE_TEST_WITH(who_clears_the_bit_has_written, drivers, 0, CAPACITY_BYTES)

/* An image that was put back in its place, from a time in which it had another log. */
static void co_a_log_is_of_one_session(struct fixture *fixture, void *arg)
{
    (void)arg;
    for (unsigned byte = 0; byte < 4; byte++) {
        co_make_killed(fixture, "");
        fixture->disk.data[AUTOCLEAR_FIRST_BYTE + byte] ^= 0x10;
        co_expect_there(fixture, false);
    }
}

FIXTURE_TEST_WITH(a_log_is_of_one_session, drivers, 0, CAPACITY_BYTES)

static void co_who_changes_it_later_is_another(struct fixture *fixture, void *arg)
{
    (void)arg;
    for (unsigned seconds = 8; seconds < 13; seconds++) {
        co_make_killed(fixture, "");
        fixture->disk.kept.file_changed_ns = (100 + seconds) * NS_PER_S;
        co_expect_there(fixture, seconds <= 10);
    }
}

FIXTURE_TEST_WITH(who_changes_it_later_is_another, drivers, 0, CAPACITY_BYTES)

/* As it is after a rollback of the file system below: the session is the same. */
static void co_an_older_file_was_put_back(struct fixture *fixture, void *arg)
{
    (void)arg;
    for (unsigned seconds = 38; seconds < 43; seconds++) {
        co_make_killed(fixture, "");
        fixture->disk.kept.file_changed_ns = seconds * NS_PER_S;
        co_expect_there(fixture, seconds >= 40);
    }
}

FIXTURE_TEST_WITH(an_older_file_was_put_back, drivers, 0, CAPACITY_BYTES)

/* Each write of the file says when it was, those of the cache too. */
static void co_the_heart_beats(struct fixture *fixture, void *arg)
{
    struct memory_kept *kept = &fixture->disk.kept;
    (void)arg;
    memory_image_make(&fixture->disk, &shapes[0]);
    kept->is_there = true;
    kept->now_ns = 5;
    struct block_backend *backend = co_open(fixture, "", 0);
    assert_int_equal(co_write(backend, 0, 100, 1), 0);
    assert_int_equal(heartbeat_ns(fixture), 5);
    kept->now_ns = 7;
    assert_int_equal(co_byte(backend, 0), 1);
    assert_int_equal(heartbeat_ns(fixture), 5);
    assert_int_equal(block_co_flush(backend), 0);
    assert_int_equal(heartbeat_ns(fixture), 7);
    kept->now_ns = 9;
    assert_int_equal(co_write(backend, 0, 100, 1), 0); /* where it lies */
    assert_int_equal(heartbeat_ns(fixture), 9);
    co_kill(fixture, backend);
    kept->now_ns = 11;
    backend = co_open(fixture, "", 0);
    assert_int_equal(co_write(backend, 500000, 100, 1), 0);
    co_kill(fixture, backend);
    kept->now_ns = 13;
    kept->file_changed_ns = 13;
    backend = co_open(fixture, "", 0); /* which replays */
    assert_int_equal(heartbeat_ns(fixture), 13);
    assert_int_equal(co_byte(backend, 500000), 1);
    co_close(fixture, backend);
}

FIXTURE_TEST_WITH(the_heart_beats, drivers, 0, CAPACITY_BYTES)

/* --- who gets it --------------------------------------------------------------------------------
 */

static void co_who_only_reads_leaves_it(struct fixture *fixture, void *arg)
{
    struct error err = {.message = ""};
    struct node_options *options = node_options_new();
    (void)arg;
    co_make_killed(fixture, "");
    struct block_backend *backend = co_open(fixture, "read-only=on", 0);
    assert_int_equal(co_byte(backend, 0), 1);
    assert_int_equal(co_byte(backend, 100000), 0);
    assert_int_equal(node_options_set(options, "read-only", "off", NULL), 0);
    assert_int_equal(block_co_reopen(backend, options, &err), -EACCES);
    assert_non_null(strstr(err.message, "its server was killed"));
    co_close(fixture, backend);
    assert_true(has_bit(fixture));
    co_expect_there(fixture, true);
}

FIXTURE_TEST_WITH(who_only_reads_leaves_it, drivers, 0, CAPACITY_BYTES)

/* Rights and caches change, the log stays what it is. */
static void co_reopened_images_have_one(struct fixture *fixture, void *arg)
{
    static const char *const changes[] = {"read-only=on", "read-only=off", "cache-size=1M",
                                          "read-only=on,cache-size=2M",
                                          "read-only=off,cache-size=1M"};
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    memory_image_make(disk, &shapes[0]);
    disk->kept.is_there = true;
    for (unsigned i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
        struct block_backend *backend = co_open(fixture, "", 0);
        for (unsigned n = 0; n <= i; n++) {
            struct error err = {.message = ""};
            struct node_options *options = node_options_new();
            if (!fixture->node->read_only)
                assert_int_equal(co_write(backend, n * 50000, 50000, (int)(i + n + 1)), 0);
            assert_int_equal(node_options_parse(options, changes[n], NULL), 0);
            if (block_co_reopen(backend, options, &err) < 0)
                fail_msg("%s", err.message);
            assert_false(has_bit(fixture));
            assert_int_equal(disk->kept.bytes != NULL, !fixture->node->read_only);
        }
        if (!fixture->node->read_only)
            assert_int_equal(co_write(backend, 900000, 10, (int)i + 1), 0);
        bool was_written = !fixture->node->read_only;
        co_kill(fixture, backend);
        backend = co_open(fixture, "", 0);
        for (unsigned n = 0; n <= i; n++) {
            bool was_read_only = n == 1 || n == 4;
            if (!was_read_only)
                assert_int_equal(co_byte(backend, n * 50000 + 49999), i + n + 1);
        }
        if (was_written)
            assert_int_equal(co_byte(backend, 900000), i + 1);
        co_close(fixture, backend);
    }
    expect_no_errors(fixture);
}

FIXTURE_TEST_WITH(reopened_images_have_one, drivers, 0, CAPACITY_BYTES)

static void co_where_none_is_wanted_none_is_made(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    co_make_killed(fixture, "redo-log=off");
    assert_false(has_bit(fixture));
    assert_null(disk->kept.bytes);
    co_expect_there(fixture, false);

    co_make_killed(fixture, ""); /* what another one left is not lost for it */
    struct block_backend *backend = co_open(fixture, "redo-log=off", 0);
    assert_false(has_bit(fixture));
    assert_null(disk->kept.bytes);
    assert_int_equal(co_byte(backend, 100000), 2);
    co_close(fixture, backend);

    co_make_killed(fixture, ""); /* nor is it left where nobody wants it */
    disk->data[AUTOCLEAR_FIRST_BYTE] = 0;
    backend = co_open(fixture, "redo-log=off", 0);
    assert_null(disk->kept.bytes);
    assert_int_equal(co_byte(backend, 100000), 0);
    co_close(fixture, backend);
}

FIXTURE_TEST_WITH(where_none_is_wanted_none_is_made, drivers, 0, CAPACITY_BYTES)

/* --- what fails ---------------------------------------------------------------------------------
 */

/* Who cannot write it to the tables cannot open the image; the next one can, though the file is an
 * hour older than the try. But not where data may be lost that they point to. */
static void co_a_replay_that_fails_is_done_again(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    const unsigned ops[] = {1u << MEMORY_WRITE, 1u << MEMORY_FLUSH};
    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        co_make_killed(fixture, "");
        disk->kept.now_ns += 3600 * NS_PER_S;
        disk->fail_ops = ops[i];
        disk->fail_code = -EIO;
        co_open(fixture, "", -EIO);
        assert_true(has_bit(fixture));
        assert_non_null(disk->kept.bytes);
        disk->fail_code = 0;
        co_expect_there(fixture, ops[i] != 1u << MEMORY_FLUSH);
    }
}

FIXTURE_TEST_WITH(a_replay_that_fails_is_done_again, drivers, 0, CAPACITY_BYTES)

/* Of a flush that failed nobody knows what it lost: maybe what the new tables point to. */
static void co_a_flush_that_failed_ends_it(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    struct block_backend *backend = co_make_written(fixture, "");
    disk->fail_ops = 1u << MEMORY_FLUSH;
    disk->fail_code = -EIO;
    assert_int_equal(block_co_flush(backend), -EIO);
    disk->fail_code = 0;
    co_kill(fixture, backend);
    assert_true(has_bit(fixture));
    co_expect_there(fixture, false);
}

FIXTURE_TEST_WITH(a_flush_that_failed_ends_it, drivers, 0, CAPACITY_BYTES)

/* What could not be written at the end is left for the next one, as by a kill. */
static void co_tables_that_cannot_be_written_are_left(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    struct block_backend *backend = co_make_written(fixture, "");
    disk->fail_ops = 1u << MEMORY_WRITE;
    disk->fail_code = -ENOSPC;
    co_close(fixture, backend);
    disk->fail_code = 0;
    assert_non_null(disk->kept.bytes);
    co_expect_there(fixture, true);
}

FIXTURE_TEST_WITH(tables_that_cannot_be_written_are_left, drivers, 0, CAPACITY_BYTES)

/* A header that cannot be written costs the log, and no request. */
static void co_without_the_bit_there_is_no_log(struct fixture *fixture, void *arg)
{
    struct memory_disk *disk = &fixture->disk;
    (void)arg;
    memory_image_make(disk, &shapes[0]);
    disk->kept.is_there = true;
    struct block_backend *backend = co_open(fixture, "", 0);
    memory_disk_forget_calls(disk);
    disk->fail_at_call = 0;
    disk->fail_code = -EIO;
    assert_int_equal(co_write(backend, 0, 50000, 1), 0);
    assert_int_equal(disk->log[0].offset, AUTOCLEAR_FIRST_BYTE);
    assert_int_equal(block_co_flush(backend), 0);
    assert_int_equal(co_write(backend, 100000, 50000, 2), 0);
    assert_false(has_bit(fixture));
    co_kill(fixture, backend);
    co_expect_there(fixture, false);
}

FIXTURE_TEST_WITH(without_the_bit_there_is_no_log, drivers, 0, CAPACITY_BYTES)

int main(void)
{
    disk_admin = *memory_drivers[1]->admin;
    disk_admin.co_reopen_prepare = disk_co_prepare;
    disk_driver = *memory_drivers[1];
    disk_driver.name = "disk";
    disk_driver.admin = &disk_admin;
    drivers[0] = &disk_driver;
    drivers[1] = &format_qcow2;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kills_lose_nothing),
        cmocka_unit_test(the_bit_says_that_there_is_a_log),
        cmocka_unit_test(who_clears_the_bit_has_written),
        cmocka_unit_test(a_log_is_of_one_session),
        cmocka_unit_test(who_changes_it_later_is_another),
        cmocka_unit_test(an_older_file_was_put_back),
        cmocka_unit_test(the_heart_beats),
        cmocka_unit_test(who_only_reads_leaves_it),
        cmocka_unit_test(reopened_images_have_one),
        cmocka_unit_test(where_none_is_wanted_none_is_made),
        cmocka_unit_test(a_replay_that_fails_is_done_again),
        cmocka_unit_test(a_flush_that_failed_ends_it),
        cmocka_unit_test(tables_that_cannot_be_written_are_left),
        cmocka_unit_test(without_the_bit_there_is_no_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
