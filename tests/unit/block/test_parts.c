/* SPDX-License-Identifier: BSD-3-Clause */
/* parts.c: how many are under way together, what a failure does, who is waited for. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "block/coroutine.h"
#include "block/parts.h"
#include "tests/unit/block/block_fixture.h"

struct scene {
    unsigned running, running_max, ended;
    uint64_t numbers; /* a bit for each that ran */
};

struct part {
    struct scene *scene;
    unsigned number, pauses;
    int ret;
};

static int co_run_part(void *arg)
{
    const struct part *part = arg;
    struct scene *scene = part->scene;
    scene->running++;
    if (scene->running > scene->running_max)
        scene->running_max = scene->running;
    for (unsigned i = 0; i < part->pauses; i++)
        coroutine_co_pause();
    scene->numbers |= UINT64_C(1) << part->number;
    scene->running--;
    scene->ended++;
    return part->ret;
}

static void co_some_run_together_and_all_are_waited_for(struct fixture *fixture, void *arg)
{
    struct scene scene = {0};
    struct parts *parts = parts_new(sizeof(struct part), co_run_part);
    (void)fixture;
    (void)arg;
    assert_non_null(parts);
    for (unsigned i = 0; i < 40; i++) {
        struct part part = {.scene = &scene, .number = i, .pauses = 1 + i * 7 % 11};
        parts_co_start(parts, &part); /* it is copied: the next one overwrites it */
    }
    assert_true(scene.ended < 40);
    assert_int_equal(parts_co_end(parts), 0);
    assert_int_equal(scene.ended, 40);
    assert_int_equal(scene.numbers, (UINT64_C(1) << 40) - 1);
    assert_int_equal(scene.running_max, PARTS_AT_ONCE);
}
FIXTURE_TEST(some_run_together_and_all_are_waited_for, 4096, 4096)

static void co_the_first_failure_is_told(struct fixture *fixture, void *arg)
{
    struct scene scene = {0};
    struct parts *parts = parts_new(sizeof(struct part), co_run_part);
    (void)fixture;
    (void)arg;
    struct part late = {.scene = &scene, .pauses = 20, .ret = -ENOSPC};
    struct part early = {.scene = &scene, .pauses = 2, .ret = -EIO};
    struct part good = {.scene = &scene, .pauses = 30};
    parts_co_start(parts, &late);
    parts_co_start(parts, &early);
    assert_false(parts_failed(parts));
    for (unsigned i = 0; i < 10; i++)
        coroutine_co_pause();
    assert_true(parts_failed(parts));
    parts_co_start(parts, &good);
    assert_int_equal(parts_co_end(parts), -EIO);
    assert_int_equal(scene.ended, 3);
}
FIXTURE_TEST(the_first_failure_is_told, 4096, 4096)

static void co_none_at_all_is_fine(struct fixture *fixture, void *arg)
{
    (void)fixture;
    (void)arg;
    assert_int_equal(parts_co_end(parts_new(1, co_run_part)), 0);
}
FIXTURE_TEST(none_at_all_is_fine, 4096, 4096)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(some_run_together_and_all_are_waited_for),
        cmocka_unit_test(the_first_failure_is_told),
        cmocka_unit_test(none_at_all_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
