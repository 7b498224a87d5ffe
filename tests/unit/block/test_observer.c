/* SPDX-License-Identifier: BSD-3-Clause */
/* observer.c: who is told of which change, in which order, and what an error or a wait does. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "block/coroutine.h"
#include "block/observer.h"
#include "tests/unit/block/block_fixture.h"

#define BLOCK 512
#define SIZE (8 * BLOCK)

struct seen {
    char letter;
    enum block_change change;
    uint64_t offset, length;
};

/* Writes down what it sees; may wait, read, and fail. */
struct watcher {
    struct block_observer observer;
    struct seen *log;
    unsigned *log_count;
    char letter;
    int rc;
    struct coroutine *held; /* its call waits to be woken */
    bool holds;
    uint8_t *old; /* where the range's old bytes go; NULL: nowhere */
};

struct scene {
    struct seen log[32];
    unsigned log_count;
    struct watcher a, b;
};

static int watcher_co_before(struct block_observer *observer, struct block_node *node,
                             enum block_change change, uint64_t offset, uint64_t length)
{
    struct watcher *watcher = container_of(observer, struct watcher, observer);
    watcher->log[(*watcher->log_count)++] = (struct seen){watcher->letter, change, offset, length};
    if (watcher->old) {
        struct iovec iov;
        struct block_vec vec = vec_of_buffer(&iov, watcher->old, length);
        assert_int_equal(observer_co_read(node, offset, &vec), 0);
    }
    if (watcher->holds) {
        watcher->held = coroutine_self();
        coroutine_yield();
        watcher->held = NULL;
    }
    return watcher->rc;
}

static void watcher_init(struct watcher *watcher, struct scene *scene, char letter)
{
    *watcher = (struct watcher){.observer.co_before = watcher_co_before,
                                .log = scene->log,
                                .log_count = &scene->log_count,
                                .letter = letter};
}

static void scene_co_init(struct scene *scene, struct fixture *fixture, const char *driver)
{
    *scene = (struct scene){.log_count = 0};
    fixture->disk.limits.request_alignment = BLOCK;
    for (unsigned i = 0; i < SIZE; i++)
        fixture->disk.data[i] = (uint8_t)(i / 7 + 1);
    fixture_co_open(fixture, driver, false);
    watcher_init(&scene->a, scene, 'a');
    watcher_init(&scene->b, scene, 'b');
    observer_co_add(fixture->node, &scene->a.observer);
}

static void scene_co_fini(struct scene *scene, struct fixture *fixture)
{
    observer_co_remove(fixture->node, &scene->a.observer);
    fixture_co_close(fixture);
}

static void assert_seen(const struct scene *scene, unsigned index, char letter,
                        enum block_change change, uint64_t offset, uint64_t length)
{
    assert_true(index < scene->log_count);
    assert_int_equal(scene->log[index].letter, letter);
    assert_int_equal(scene->log[index].change, change);
    assert_int_equal(scene->log[index].offset, offset);
    assert_int_equal(scene->log[index].length, length);
}

static int co_write_block(struct block_node *node, uint64_t offset)
{
    static const uint8_t data[BLOCK] = {77};
    return fixture_co_write(node, offset, data, BLOCK, 0);
}

static void co_observers_are_called_in_the_order_they_were_added(struct fixture *fixture, void *arg)
{
    struct scene scene;
    (void)arg;
    scene_co_init(&scene, fixture, "file");
    assert_int_equal(co_write_block(fixture->node, 0), 0);
    observer_co_add(fixture->node, &scene.b.observer);
    assert_int_equal(co_write_block(fixture->node, BLOCK), 0);
    observer_co_remove(fixture->node, &scene.b.observer);
    assert_int_equal(co_write_block(fixture->node, 0), 0);
    assert_int_equal(scene.log_count, 4);
    assert_seen(&scene, 0, 'a', BLOCK_CHANGE_WRITE, 0, BLOCK);
    assert_seen(&scene, 1, 'a', BLOCK_CHANGE_WRITE, BLOCK, BLOCK);
    assert_seen(&scene, 2, 'b', BLOCK_CHANGE_WRITE, BLOCK, BLOCK);
    assert_seen(&scene, 3, 'a', BLOCK_CHANGE_WRITE, 0, BLOCK);
    scene_co_fini(&scene, fixture);
}
FIXTURE_TEST(observers_are_called_in_the_order_they_were_added, SIZE, SIZE)

static void co_an_error_fails_the_request_before_the_driver(struct fixture *fixture, void *arg)
{
    struct scene scene;
    (void)arg;
    scene_co_init(&scene, fixture, "file");
    observer_co_add(fixture->node, &scene.b.observer);
    scene.a.rc = -ENOSPC;
    memory_disk_forget_calls(&fixture->disk);
    assert_int_equal(co_write_block(fixture->node, 0), -ENOSPC);
    assert_int_equal(node_co_zero(fixture->node, 0, BLOCK, 0), -ENOSPC);
    assert_int_equal(node_co_discard(fixture->node, 0, BLOCK, 0), -ENOSPC);
    assert_int_equal(fixture->disk.call_count, 0);
    assert_int_equal(scene.log_count, 3); /* never b */
    observer_co_remove(fixture->node, &scene.b.observer);
    scene_co_fini(&scene, fixture);
}
FIXTURE_TEST(an_error_fails_the_request_before_the_driver, SIZE, SIZE)

static void co_an_observer_sees_what_the_driver_will_touch(struct fixture *fixture, void *arg)
{
    struct scene scene;
    static const uint8_t data[3 * BLOCK];
    (void)arg;
    fixture->disk.limits.transfer_bytes_max = 2 * BLOCK;
    scene_co_init(&scene, fixture, "file");
    uint8_t byte = 0;
    assert_int_equal(fixture_co_read(fixture->node, 3, &byte, 1), 0);
    assert_int_equal(node_co_flush(fixture->node), 0);
    assert_int_equal(scene.log_count, 0);
    assert_int_equal(fixture_co_write(fixture->node, BLOCK + 5, &byte, 1, 0), 0);
    assert_seen(&scene, 0, 'a', BLOCK_CHANGE_WRITE, BLOCK, BLOCK);
    assert_int_equal(fixture_co_write(fixture->node, 0, data, sizeof(data), 0), 0);
    assert_seen(&scene, 1, 'a', BLOCK_CHANGE_WRITE, 0, 2 * BLOCK);
    assert_seen(&scene, 2, 'a', BLOCK_CHANGE_WRITE, 2 * BLOCK, BLOCK);
    assert_int_equal(node_co_zero(fixture->node, BLOCK, 4 * BLOCK, 0), 0);
    assert_seen(&scene, 3, 'a', BLOCK_CHANGE_ZERO, BLOCK, 4 * BLOCK);
    assert_int_equal(node_co_discard(fixture->node, BLOCK - 1, BLOCK + 2, 0), 0);
    assert_seen(&scene, 4, 'a', BLOCK_CHANGE_DISCARD, BLOCK, BLOCK);
    assert_int_equal(scene.log_count, 5);
    scene_co_fini(&scene, fixture);
}
FIXTURE_TEST(an_observer_sees_what_the_driver_will_touch, SIZE, SIZE)

static void co_zeroes_that_are_written_are_seen_as_a_write_too(struct fixture *fixture, void *arg)
{
    struct scene scene;
    (void)arg;
    fixture->disk.refuses_zero = true;
    scene_co_init(&scene, fixture, "file");
    assert_int_equal(node_co_zero(fixture->node, 0, BLOCK, 0), 0);
    assert_int_equal(scene.log_count, 2);
    assert_seen(&scene, 0, 'a', BLOCK_CHANGE_ZERO, 0, BLOCK);
    assert_seen(&scene, 1, 'a', BLOCK_CHANGE_WRITE, 0, BLOCK);
    scene_co_fini(&scene, fixture);
}
FIXTURE_TEST(zeroes_that_are_written_are_seen_as_a_write_too, SIZE, SIZE)

static void co_what_a_driver_cannot_do_is_not_observed(struct fixture *fixture, void *arg)
{
    struct scene scene;
    (void)arg;
    scene_co_init(&scene, fixture, "bare");
    assert_int_equal(node_co_discard(fixture->node, 0, BLOCK, 0), 0);
    assert_int_equal(node_co_zero(fixture->node, 0, BLOCK, BLOCK_FAST), -ENOTSUP);
    assert_int_equal(scene.log_count, 0);
    assert_int_equal(node_co_zero(fixture->node, 0, BLOCK, 0), 0);
    assert_int_equal(scene.log_count, 1);
    assert_seen(&scene, 0, 'a', BLOCK_CHANGE_WRITE, 0, BLOCK);
    scene_co_fini(&scene, fixture);
}
FIXTURE_TEST(what_a_driver_cannot_do_is_not_observed, SIZE, SIZE)

static void co_an_observer_can_read_the_old_bytes(struct fixture *fixture, void *arg)
{
    struct scene scene;
    uint8_t before[SIZE], old[2 * BLOCK];
    (void)arg;
    scene_co_init(&scene, fixture, "file");
    memcpy(before, fixture->disk.data, SIZE);
    scene.a.old = old;
    uint8_t bytes[4] = {1, 2, 3, 4};
    /* A read-modify-write: it keeps all others out of its blocks, but not its own observer. */
    assert_int_equal(fixture_co_write(fixture->node, 2 * BLOCK - 2, bytes, 4, 0), 0);
    assert_memory_equal(old, before + BLOCK, 2 * BLOCK);
    assert_int_equal(fixture->disk.data[2 * BLOCK], 3);
    scene_co_fini(&scene, fixture);
}
FIXTURE_TEST(an_observer_can_read_the_old_bytes, SIZE, SIZE)

static void writer_entry(void *arg)
{
    struct fixture *fixture = arg;
    assert_int_equal(co_write_block(fixture->node, 0), 0);
}

struct change {
    struct fixture *fixture;
    struct scene *scene;
    bool done;
};

static void adder_entry(void *arg)
{
    struct change *change = arg;
    observer_co_add(change->fixture->node, &change->scene->b.observer);
    change->done = true;
}

static void remover_entry(void *arg)
{
    struct change *change = arg;
    observer_co_remove(change->fixture->node, &change->scene->a.observer);
    change->done = true;
}

static void co_settle(void)
{
    for (unsigned i = 0; i < 20; i++)
        coroutine_co_pause();
}

static void co_adding_waits_for_the_changes_under_way(struct fixture *fixture, void *arg)
{
    struct scene scene;
    struct group group;
    (void)arg;
    scene_co_init(&scene, fixture, "file");
    group_init(&group, fixture->loop);
    struct change change = {.fixture = fixture, .scene = &scene};
    memory_disk_hold(&fixture->disk, 1u << MEMORY_WRITE);
    group_start(&group, writer_entry, fixture);
    memory_disk_co_wait_held(&fixture->disk, 1);
    group_start(&group, adder_entry, &change);
    group_start(&group, writer_entry, fixture); /* behind the adder: b sees it */
    co_settle();
    assert_false(change.done);
    assert_int_equal(scene.log_count, 1);
    memory_disk_release(&fixture->disk);
    group_co_wait(&group);
    assert_true(change.done);
    assert_int_equal(scene.log_count, 3);
    assert_seen(&scene, 2, 'b', BLOCK_CHANGE_WRITE, 0, BLOCK);
    observer_co_remove(fixture->node, &scene.b.observer);
    scene_co_fini(&scene, fixture);
}
FIXTURE_TEST(adding_waits_for_the_changes_under_way, SIZE, SIZE)

static void co_removing_waits_for_the_call_under_way(struct fixture *fixture, void *arg)
{
    struct scene scene;
    struct group group;
    (void)arg;
    scene_co_init(&scene, fixture, "file");
    group_init(&group, fixture->loop);
    struct change change = {.fixture = fixture, .scene = &scene};
    scene.a.holds = true;
    group_start(&group, writer_entry, fixture);
    group_start(&group, remover_entry, &change);
    co_settle();
    assert_false(change.done);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 0);
    coroutine_wake(scene.a.held);
    group_co_wait(&group);
    assert_true(change.done);
    assert_int_equal(fixture->disk.counts[MEMORY_WRITE], 1);
    assert_int_equal(co_write_block(fixture->node, 0), 0);
    assert_int_equal(scene.log_count, 1);
    fixture_co_close(fixture);
}
FIXTURE_TEST(removing_waits_for_the_call_under_way, SIZE, SIZE)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(observers_are_called_in_the_order_they_were_added),
        cmocka_unit_test(an_error_fails_the_request_before_the_driver),
        cmocka_unit_test(an_observer_sees_what_the_driver_will_touch),
        cmocka_unit_test(zeroes_that_are_written_are_seen_as_a_write_too),
        cmocka_unit_test(what_a_driver_cannot_do_is_not_observed),
        cmocka_unit_test(an_observer_can_read_the_old_bytes),
        cmocka_unit_test(adding_waits_for_the_changes_under_way),
        cmocka_unit_test(removing_waits_for_the_call_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
