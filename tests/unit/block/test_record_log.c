/* SPDX-License-Identifier: BSD-3-Clause */
/* record_log.c and the reader of its logs (tests/harness/write_log.c): logs that go on, logs that
 * are none, and replay on files. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <unistd.h>

#include "tests/unit/block/record_fixture.h"

static void co_write_some(struct record_scene *scene, uint8_t byte)
{
    uint8_t data[1024];
    memset(data, byte, sizeof(data));
    assert_int_equal(fixture_co_write(scene->fixture->node, byte * 512ul, data, sizeof(data), 0),
                     0);
}

static void co_a_log_goes_on_behind_what_is_there(struct record_scene *scene)
{
    struct write_log log;
    uint8_t *image = calloc(1, RECORD_SIZE);
    assert_non_null(image);
    record_co_open(scene, RECORD_OPTIONS("log-sector-size", "1024"));
    co_write_some(scene, 2);
    fixture_co_close(scene->fixture);
    record_open_log(scene, &log);
    uint64_t before = log.super.nr_entries;
    record_co_open(scene, RECORD_OPTIONS("log-append", "on"));
    co_write_some(scene, 6);
    assert_int_equal(node_co_discard(scene->fixture->node, 2048, 1024, 0), 0);
    fixture_co_close(scene->fixture);
    record_co_open(scene, RECORD_OPTIONS("log-append", "on", "log-super-update-interval", "1"));
    co_write_some(scene, 8);
    record_open_log(scene, &log);
    assert_int_equal(log.super.sectorsize, 1024);
    assert_int_equal(log.super.nr_entries, before + 2 + 1 + 1); /* and the flush of the second */
    assert_int_equal(write_log_replay(&log, UINT64_MAX, image, RECORD_SIZE, NULL), 0);
    assert_memory_equal(image, scene->fixture->disk.data, RECORD_SIZE);
    free(image);
}
RECORD_TEST(a_log_goes_on_behind_what_is_there)

static void co_a_new_log_forgets_what_is_there(struct record_scene *scene)
{
    struct write_log log;
    record_co_open(scene, NULL);
    co_write_some(scene, 2);
    fixture_co_close(scene->fixture);
    record_co_open(scene, NULL);
    record_open_log(scene, &log);
    assert_int_equal(log.super.nr_entries, 0);
}
RECORD_TEST(a_new_log_forgets_what_is_there)

/* A log with one write, in scene->log; each case spoils one thing of it. */
static void co_expect_refused(struct record_scene *scene, unsigned at, uint64_t value,
                              const char *part)
{
    struct error err = {.message = ""};
    struct write_log log;
    struct write_log_entry entry;
    uint8_t *place = scene->log.data + at;
    uint64_t was = load_le64(place);
    store_le64(place, value);
    assert_int_equal(record_co_try_open(scene, RECORD_OPTIONS("log-append", "on"), &err),
                     value == 2 ? -ENOTSUP : -EINVAL);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in: %s", part, err.message);
    int rc = write_log_open_memory(&log, scene->log.data, scene->log.size_bytes, &err);
    while (rc >= 0 && (rc = write_log_next(&log, &entry, &err)) > 0)
        ;
    assert_int_equal(rc, -EINVAL);
    store_le64(place, was);
}

static void co_a_log_that_makes_no_sense_is_refused(struct record_scene *scene)
{
    record_co_open(scene, NULL);
    co_write_some(scene, 2);
    fixture_co_close(scene->fixture);
    co_expect_refused(scene, 0, 1, "is no log of writes");
    co_expect_refused(scene, 8, 2, "version 2");
    co_expect_refused(scene, 16, 3, "ends before entry 2");
    co_expect_refused(scene, 16, UINT64_MAX, "ends before entry");
    co_expect_refused(scene, 24, 513, "sectors of 513 bytes");
    co_expect_refused(scene, 24, 0, "sectors of 0 bytes");
    co_expect_refused(scene, 24, 2u << 20, "sectors of 2097152 bytes");
    co_expect_refused(scene, 512 + 8, 4, "past the log's end");
    co_expect_refused(scene, 512 + 8, UINT64_MAX, "past the log's end");
}
RECORD_TEST(a_log_that_makes_no_sense_is_refused)

static void co_a_reader_looks_at_every_number(struct record_scene *scene)
{
    struct write_log log;
    struct write_log_entry entry;
    struct error err;
    record_co_open(scene, NULL);
    co_write_some(scene, 2);
    fixture_co_close(scene->fixture);
    assert_int_equal(write_log_open_memory(&log, scene->log.data, 27, &err), -EINVAL);
    /* A discard has no data, so its length may be anything, but not past the end of numbers. */
    store_le64(scene->log.data + 512 + 16, LOG_WRITES_DISCARD);
    store_le64(scene->log.data + 512 + 8, UINT64_MAX / 512 - 1);
    record_open_log(scene, &log);
    assert_int_equal(write_log_next(&log, &entry, &err), -EINVAL);
    store_le64(scene->log.data + 512 + 8, 0);
    store_le64(scene->log.data + 512 + 16, LOG_WRITES_MARK);
    store_le64(scene->log.data + 512 + 24, 481);
    assert_int_equal(write_log_next(&log, &entry, &err), -EINVAL);
    assert_int_equal(write_log_open(&log, "/no/such/log", &err), -ENOENT);
}
RECORD_TEST(a_reader_looks_at_every_number)

/* --- files ----------------------------------------------------------------------------------- */

static int new_file(char *path, size_t size, const void *data, size_t length)
{
    const char *dir = getenv("TMPDIR");
    snprintf(path, size, "%s/platter-record.XXXXXX", dir ? dir : "/tmp");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, length, 0), (ssize_t)length);
    return fd;
}

static void co_files_are_replayed_like_memory(struct record_scene *scene)
{
    char log_path[200], image_path[200];
    uint8_t *image = calloc(2, RECORD_SIZE), *expected = image + RECORD_SIZE;
    struct write_log log;
    struct error err = {.message = ""};
    assert_non_null(image);
    record_co_open(scene, NULL);
    for (uint8_t i = 0; i < 40; i++) {
        co_write_some(scene, i);
        if (i % 7 == 0)
            assert_int_equal(node_co_discard(scene->fixture->node, i * 300ul, 1500, 0), 0);
        if (i % 5 == 0)
            assert_int_equal(node_co_flush(scene->fixture->node), 0);
    }
    fixture_co_close(scene->fixture);
    int log_fd = new_file(log_path, sizeof(log_path), scene->log.data, scene->log.size_bytes);
    int fd = new_file(image_path, sizeof(image_path), image, RECORD_SIZE);
    assert_int_equal(write_log_open(&log, log_path, &err), 0);
    for (uint64_t end = 0; end <= log.super.nr_entries; end += 11) {
        struct write_log in_memory;
        record_open_log(scene, &in_memory);
        memset(expected, 0, RECORD_SIZE);
        assert_int_equal(write_log_replay(&in_memory, end, expected, RECORD_SIZE, &err), 0);
        assert_int_equal(write_log_replay_to_file(&log, end, fd, &err), 0);
        assert_int_equal(pread(fd, image, RECORD_SIZE, 0), RECORD_SIZE);
        assert_memory_equal(image, expected, RECORD_SIZE);
    }
    assert_int_equal(write_log_replay_to_file(&log, UINT64_MAX, fd, &err), 0);
    assert_int_equal(pread(fd, image, RECORD_SIZE, 0), RECORD_SIZE);
    assert_memory_equal(image, scene->fixture->disk.data, RECORD_SIZE);
    write_log_close(&log);
    close(fd);
    close(log_fd);
    unlink(image_path);
    unlink(log_path);
    free(image);
}
RECORD_TEST(files_are_replayed_like_memory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_goes_on_behind_what_is_there),
        cmocka_unit_test(a_new_log_forgets_what_is_there),
        cmocka_unit_test(a_log_that_makes_no_sense_is_refused),
        cmocka_unit_test(a_reader_looks_at_every_number),
        cmocka_unit_test(files_are_replayed_like_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
