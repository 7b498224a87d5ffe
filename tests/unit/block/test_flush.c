/* SPDX-License-Identifier: BSD-3-Clause */
/* flush.c: how many driver calls flushes cost, whom they serve, and that a failed one is never
 * forgotten. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/coroutine.h"
#include "block/flush.h"
#include "tests/unit/block/block_fixture.h"

#define SIZE 65536

static unsigned flush_calls(struct fixture *fixture)
{
    return fixture->disk.counts[MEMORY_FLUSH];
}

static void co_write_something(struct fixture *fixture)
{
    uint8_t data[16] = {1};
    assert_int_equal(fixture_co_write(fixture->node, 0, data, sizeof(data), 0), 0);
}

struct flusher {
    struct fixture *fixture;
    int rc;
    bool is_done;
};

static void flusher_entry(void *arg)
{
    struct flusher *flusher = arg;
    flusher->rc = node_co_flush(flusher->fixture->node);
    flusher->is_done = true;
}

static void start_flushers(struct group *group, struct fixture *fixture, struct flusher *flushers,
                           unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        flushers[i] = (struct flusher){.fixture = fixture, .rc = 1};
        group_start(group, flusher_entry, &flushers[i]);
    }
}

static void co_a_flush_with_nothing_written_calls_nobody(struct fixture *fixture, void *arg)
{
    (void)arg;
    fixture_co_open(fixture, "file", false);
    co_write_something(fixture);
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_int_equal(flush_calls(fixture), 1);
    assert_int_equal(flush_skipped_count(fixture->node), 1);
    assert_int_equal(flush_grouped_count(fixture->node), 0);
}

/* A server was killed with acknowledged writes in the page cache; its client comes back here. */
static void co_the_first_flush_is_for_what_was_written_before_too(struct fixture *fixture,
                                                                  void *arg)
{
    (void)arg;
    fixture_co_open(fixture, "file", false);
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_int_equal(flush_calls(fixture), 1);
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_int_equal(flush_calls(fixture), 1);
}

static void co_closing_an_untouched_image_flushes_nothing(struct fixture *fixture, void *arg)
{
    (void)arg;
    fixture_co_open(fixture, "file", false);
    fixture_co_close(fixture);
    assert_int_equal(flush_calls(fixture), 0);
}

static void co_zero_and_discard_are_flushed_too(struct fixture *fixture, void *arg)
{
    (void)arg;
    fixture_co_open(fixture, "file", false);
    assert_int_equal(node_co_zero(fixture->node, 0, 512, 0), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_int_equal(flush_calls(fixture), 1);
    assert_int_equal(node_co_discard(fixture->node, 0, 512, 0), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_int_equal(flush_calls(fixture), 2);
}

static void co_a_write_that_failed_is_flushed_too(struct fixture *fixture, void *arg)
{
    uint8_t data[16] = {1};
    (void)arg;
    fixture_co_open(fixture, "file", false);
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_ops = 1u << MEMORY_WRITE;
    assert_int_equal(fixture_co_write(fixture->node, 0, data, sizeof(data), 0), -EIO);
    fixture->disk.fail_code = 0;
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_int_equal(flush_calls(fixture), 1);
}

static void co_flushes_of_one_turn_share_one_call(struct fixture *fixture, void *arg)
{
    struct group group;
    struct flusher flushers[20];
    (void)arg;
    fixture_co_open(fixture, "file", false);
    co_write_something(fixture);
    group_init(&group, fixture->loop);
    start_flushers(&group, fixture, flushers, 20);
    group_co_wait(&group);
    assert_int_equal(flush_calls(fixture), 1);
    assert_int_equal(flush_grouped_count(fixture->node), 19);
    assert_int_equal(flush_skipped_count(fixture->node), 0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(flushers[i].rc, 0);
}

static void write_and_flush_entry(void *arg)
{
    struct flusher *flusher = arg;
    coroutine_co_pause(); /* so that all are ready in one turn */
    co_write_something(flusher->fixture);
    flusher_entry(flusher);
}

static void co_who_is_ready_in_this_turn_joins_before_the_group_closes(struct fixture *fixture,
                                                                       void *arg)
{
    struct group group;
    struct flusher flushers[20];
    (void)arg;
    fixture_co_open(fixture, "file", false);
    group_init(&group, fixture->loop);
    for (unsigned i = 0; i < 20; i++) {
        flushers[i] = (struct flusher){.fixture = fixture, .rc = 1};
        group_start(&group, write_and_flush_entry, &flushers[i]);
    }
    group_co_wait(&group);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 20);
    assert_int_equal(flush_calls(fixture), 1);
}

static void co_a_flush_that_has_started_is_not_joined(struct fixture *fixture, void *arg)
{
    struct group group;
    struct flusher first, late[10];
    (void)arg;
    fixture_co_open(fixture, "file", false);
    co_write_something(fixture);
    group_init(&group, fixture->loop);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_FLUSH);
    start_flushers(&group, fixture, &first, 1);
    memory_disk_co_wait_held(&fixture->disk, 1);

    co_write_something(fixture); /* after the first flush has started */
    start_flushers(&group, fixture, late, 10);
    for (unsigned i = 0; i < 10; i++)
        coroutine_co_pause();
    assert_int_equal(flush_calls(fixture), 1);
    assert_false(first.is_done);
    memory_disk_release(&fixture->disk);
    group_co_wait(&group);
    assert_int_equal(flush_calls(fixture), 2);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(late[i].rc, 0);
}

static void co_writes_go_on_while_a_flush_runs(struct fixture *fixture, void *arg)
{
    struct group group;
    struct flusher flusher;
    (void)arg;
    fixture_co_open(fixture, "file", false);
    co_write_something(fixture);
    group_init(&group, fixture->loop);
    memory_disk_hold(&fixture->disk, 1u << MEMORY_FLUSH);
    start_flushers(&group, fixture, &flusher, 1);
    memory_disk_co_wait_held(&fixture->disk, 1);
    co_write_something(fixture);
    assert_false(flusher.is_done);
    memory_disk_release(&fixture->disk);
    group_co_wait(&group);
}

static void co_a_failed_flush_fails_all_who_joined_and_all_who_come_later(struct fixture *fixture,
                                                                          void *arg)
{
    struct group group;
    struct flusher flushers[5];
    uint8_t data[16] = {1};
    (void)arg;
    fixture_co_open(fixture, "file", false);
    co_write_something(fixture);
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_ops = 1u << MEMORY_FLUSH;
    group_init(&group, fixture->loop);
    start_flushers(&group, fixture, flushers, 5);
    group_co_wait(&group);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(flushers[i].rc, -EIO);
    assert_int_equal(flush_calls(fixture), 1);

    /* The kernel would say success now; nobody believes it. */
    fixture->disk.fail_code = 0;
    assert_int_equal(node_co_flush(fixture->node), -EIO);
    co_write_something(fixture);
    assert_int_equal(node_co_flush(fixture->node), -EIO);
    assert_int_equal(fixture_co_write(fixture->node, 0, data, sizeof(data), BLOCK_FUA), -EIO);
    assert_int_equal(node_co_zero(fixture->node, 0, 512, BLOCK_FUA), -EIO);
    assert_int_equal(node_co_discard(fixture->node, 0, 512, BLOCK_FUA), -EIO);
    assert_int_equal(fixture_co_write(fixture->node, 0, data, sizeof(data), 0), 0);
    assert_int_equal(flush_calls(fixture), 1);
}

static void co_opening_anew_forgets_a_failed_flush(struct fixture *fixture, void *arg)
{
    (void)arg;
    fixture_co_open(fixture, "file", false);
    co_write_something(fixture);
    fixture->disk.fail_code = -ENOSPC;
    fixture->disk.fail_ops = 1u << MEMORY_FLUSH;
    assert_int_equal(node_co_flush(fixture->node), -ENOSPC);
    fixture->disk.fail_code = 0;
    fixture_co_close(fixture);
    fixture_co_open(fixture, "file", false);
    co_write_something(fixture);
    assert_int_equal(node_co_flush(fixture->node), 0);
}

static void co_a_driver_with_fua_is_not_believed_either_after_a_failed_flush(
    struct fixture *fixture, void *arg)
{
    uint8_t data[16] = {1};
    (void)arg;
    fixture_co_open(fixture, "growing", false);
    assert_int_equal(fixture_co_write(fixture->node, 0, data, sizeof(data), BLOCK_FUA), 0);
    assert_int_equal(flush_calls(fixture), 0);
    fixture->disk.fail_code = -EIO;
    fixture->disk.fail_ops = 1u << MEMORY_FLUSH;
    assert_int_equal(node_co_flush(fixture->node), -EIO);
    fixture->disk.fail_code = 0;
    assert_int_equal(fixture_co_write(fixture->node, 0, data, sizeof(data), BLOCK_FUA), -EIO);
}

static void co_fua_costs_one_flush_where_the_driver_lacks_it(struct fixture *fixture, void *arg)
{
    uint8_t data[16] = {1};
    (void)arg;
    fixture_co_open(fixture, "file", true);
    assert_int_equal(fixture_co_write(fixture->node, 0, data, sizeof(data), BLOCK_FUA), 0);
    assert_int_equal(flush_calls(fixture), 1);
    assert_int_equal(node_co_discard(fixture->node, 0, 512, BLOCK_FUA), 0);
    assert_int_equal(flush_calls(fixture), 2);
    for (unsigned i = 0; i < fixture->disk.log_count; i++)
        assert_int_equal(fixture->disk.log[i].flags & BLOCK_FUA, 0);
}

static void co_a_format_without_flush_has_its_child_flushed(struct fixture *fixture, void *arg)
{
    (void)arg;
    fixture_co_open(fixture, "file", true);
    co_write_something(fixture);
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_int_equal(flush_calls(fixture), 1);
    assert_int_equal(node_co_flush(fixture->node->file), 0);
    assert_int_equal(flush_calls(fixture), 1);
}

static void co_closing_flushes_what_was_written(struct fixture *fixture, void *arg)
{
    (void)arg;
    fixture_co_open(fixture, "file", true);
    co_write_something(fixture);
    fixture_co_close(fixture);
    const struct memory_disk *disk = &fixture->disk;
    assert_int_equal(flush_calls(fixture), 1);
    assert_int_equal(disk->log[disk->log_count - 1].op, MEMORY_CLOSE);
    assert_int_equal(disk->log[disk->log_count - 2].op, MEMORY_FLUSH);
}

#define TESTS(X)                                                     \
    X(a_flush_with_nothing_written_calls_nobody)                     \
    X(the_first_flush_is_for_what_was_written_before_too)            \
    X(closing_an_untouched_image_flushes_nothing)                    \
    X(zero_and_discard_are_flushed_too)                              \
    X(a_write_that_failed_is_flushed_too)                            \
    X(flushes_of_one_turn_share_one_call)                            \
    X(who_is_ready_in_this_turn_joins_before_the_group_closes)       \
    X(a_flush_that_has_started_is_not_joined)                        \
    X(writes_go_on_while_a_flush_runs)                               \
    X(a_failed_flush_fails_all_who_joined_and_all_who_come_later)    \
    X(opening_anew_forgets_a_failed_flush)                           \
    X(a_driver_with_fua_is_not_believed_either_after_a_failed_flush) \
    X(fua_costs_one_flush_where_the_driver_lacks_it)                 \
    X(a_format_without_flush_has_its_child_flushed)                  \
    X(closing_flushes_what_was_written)

#define DEFINE_TEST(name) FIXTURE_TEST(name, SIZE, SIZE)
TESTS(DEFINE_TEST)

int main(void)
{
#define LIST_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {TESTS(LIST_TEST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
