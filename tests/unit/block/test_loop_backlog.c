/* SPDX-License-Identifier: BSD-3-Clause */
/* loop.c, loop_room.c: who takes on more work waits while much is not begun. */
#include "tests/unit/unit.h"

#include <string.h>

#include "block/loop.h"
#include "block/loop_backlog.h"

struct scene {
    struct loop *loop;
    char trace[16];
};

/* Writes its letter, and takes on as much work as it is told to. */
struct taker {
    struct loop_task task;
    struct scene *scene;
    char letter;
    unsigned brings;
};

static void take_work(struct loop_task *task)
{
    struct taker *taker = container_of(task, struct taker, task);
    strncat(taker->scene->trace, &taker->letter, 1);
    for (unsigned i = 0; i < taker->brings; i++)
        loop_backlog_grew(taker->scene->loop);
}

static void taker_init(struct taker *taker, struct scene *scene, char letter, unsigned brings)
{
    *taker =
        (struct taker){.task.run = take_work, .scene = scene, .letter = letter, .brings = brings};
    link_init(&taker->task.link);
}

static void scene_init(struct scene *scene)
{
    *scene = (struct scene){0};
    assert_int_equal(loop_new(&scene->loop, 0, &poller_ev, &clock_monotonic, NULL), 0);
    for (unsigned i = 0; i < LOOP_BACKLOG_MAX; i++) {
        assert_false(loop_is_backlogged(scene->loop));
        loop_backlog_grew(scene->loop);
    }
    assert_true(loop_is_backlogged(scene->loop));
}

static void those_who_wait_run_in_order_until_the_backlog_is_back(void **state)
{
    struct scene scene;
    struct taker a, b, c;
    (void)state;
    scene_init(&scene);
    taker_init(&a, &scene, 'a', 0);
    taker_init(&b, &scene, 'b', 1);
    taker_init(&c, &scene, 'c', 0);
    loop_when_backlog_falls(scene.loop, &a.task);
    loop_when_backlog_falls(scene.loop, &b.task);
    loop_when_backlog_falls(scene.loop, &a.task); /* is in the list already */
    loop_when_backlog_falls(scene.loop, &c.task);
    loop_turn(scene.loop, false);
    assert_string_equal(scene.trace, "");
    loop_backlog_fell(scene.loop, 1);
    loop_turn(scene.loop, false);
    assert_string_equal(scene.trace, "ab");
    loop_backlog_fell(scene.loop, LOOP_BACKLOG_MAX);
    loop_turn(scene.loop, false);
    assert_string_equal(scene.trace, "abc");
    loop_free(scene.loop);
}

static void who_is_cancelled_does_not_run(void **state)
{
    struct scene scene;
    struct taker a;
    (void)state;
    scene_init(&scene);
    taker_init(&a, &scene, 'a', 0);
    loop_when_backlog_falls(scene.loop, &a.task);
    loop_task_cancel(&a.task);
    loop_backlog_fell(scene.loop, LOOP_BACKLOG_MAX);
    loop_turn(scene.loop, false);
    assert_string_equal(scene.trace, "");
    loop_free(scene.loop);
}

struct begin_all {
    struct loop_source source;
    struct scene *scene;
    unsigned left;
};

static bool begin_all(struct loop_source *source)
{
    struct begin_all *begin = container_of(source, struct begin_all, source);
    loop_backlog_fell(begin->scene->loop, begin->left);
    begin->left = 0;
    return false; /* nothing of it is done: there is nobody to resume */
}

static void a_loop_does_not_sleep_on_those_who_may_go_on(void **state)
{
    struct scene scene;
    struct taker a;
    struct begin_all begin = {.source.turn = begin_all, .left = LOOP_BACKLOG_MAX};
    (void)state;
    scene_init(&scene);
    begin.scene = &scene;
    link_init(&begin.source.link);
    loop_source_add(scene.loop, &begin.source);
    taker_init(&a, &scene, 'a', 0);
    loop_when_backlog_falls(scene.loop, &a.task);
    loop_turn(scene.loop, true); /* else for ever */
    assert_string_equal(scene.trace, "a");
    loop_source_remove(&begin.source);
    loop_free(scene.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_who_wait_run_in_order_until_the_backlog_is_back),
        cmocka_unit_test(who_is_cancelled_does_not_run),
        cmocka_unit_test(a_loop_does_not_sleep_on_those_who_may_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
