/* SPDX-License-Identifier: BSD-3-Clause */
/* range_lock.c: who is inside with whom, and in which order they come. */
#include "tests/unit/unit.h"

#include <string.h>

#include "block/coroutine.h"
#include "block/range_lock.h"
#include "tests/unit/block/block_fixture.h"

struct scene {
    struct range_lock lock;
    struct group group;
    char trace[32];
};

/* A capital letter takes its range alone. */
struct actor {
    struct scene *scene;
    struct coroutine *co;
    uint64_t offset, length;
    char letter;
    bool is_in;
};

static void actor_entry(void *arg)
{
    struct actor *actor = arg;
    struct locked_range range;
    actor->co = coroutine_self();
    range_lock_co_take(&actor->scene->lock, &range, actor->offset, actor->length,
                       actor->letter < 'a');
    strncat(actor->scene->trace, &actor->letter, 1);
    actor->is_in = true;
    coroutine_yield();
    range_lock_release(&actor->scene->lock, &range);
}

static void co_settle(void)
{
    for (unsigned i = 0; i < 20; i++)
        coroutine_co_pause();
}

static void co_enter(struct scene *scene, struct actor *actor, char letter, uint64_t offset,
                     uint64_t length)
{
    *actor = (struct actor){.scene = scene, .offset = offset, .length = length, .letter = letter};
    group_start(&scene->group, actor_entry, actor);
    co_settle();
}

static void co_leave(struct actor *actor)
{
    assert_true(actor->is_in);
    coroutine_wake(actor->co);
    co_settle();
}

static void scene_init(struct scene *scene, struct fixture *fixture)
{
    memset(scene, 0, sizeof(*scene));
    range_lock_init(&scene->lock);
    group_init(&scene->group, fixture->loop);
}

static void scene_co_fini(struct scene *scene)
{
    group_co_wait(&scene->group);
    range_lock_fini(&scene->lock);
}

static void co_those_that_share_are_inside_together(struct fixture *fixture, void *arg)
{
    struct scene scene;
    struct actor a, b, c;
    (void)arg;
    scene_init(&scene, fixture);
    co_enter(&scene, &a, 'a', 0, 100);
    co_enter(&scene, &b, 'b', 50, 100);
    co_enter(&scene, &c, 'C', 150, 10); /* touches none */
    assert_string_equal(scene.trace, "abC");
    co_leave(&c);
    co_leave(&a);
    co_leave(&b);
    scene_co_fini(&scene);
}
FIXTURE_TEST(those_that_share_are_inside_together, 512, 512)

static void co_one_alone_waits_and_is_waited_for(struct fixture *fixture, void *arg)
{
    struct scene scene;
    struct actor a, b, c, d;
    (void)arg;
    scene_init(&scene, fixture);
    co_enter(&scene, &a, 'a', 0, 100);
    co_enter(&scene, &b, 'B', 99, 2);
    co_enter(&scene, &c, 'c', 100, 1); /* behind B, though a alone would let it in */
    co_enter(&scene, &d, 'D', 101, 1);
    assert_string_equal(scene.trace, "aD");
    co_leave(&a);
    assert_string_equal(scene.trace, "aDB");
    co_leave(&b);
    assert_string_equal(scene.trace, "aDBc");
    co_leave(&c);
    co_leave(&d);
    scene_co_fini(&scene);
}
FIXTURE_TEST(one_alone_waits_and_is_waited_for, 512, 512)

static void co_the_first_to_come_is_the_first_inside(struct fixture *fixture, void *arg)
{
    struct scene scene;
    struct actor actors[5];
    (void)arg;
    scene_init(&scene, fixture);
    for (unsigned i = 0; i < 5; i++)
        co_enter(&scene, &actors[i], (char)('A' + i), 0, UINT64_MAX);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(strlen(scene.trace), i + 1);
        co_leave(&actors[i]);
    }
    assert_string_equal(scene.trace, "ABCDE");
    scene_co_fini(&scene);
}
FIXTURE_TEST(the_first_to_come_is_the_first_inside, 512, 512)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_that_share_are_inside_together),
        cmocka_unit_test(one_alone_waits_and_is_waited_for),
        cmocka_unit_test(the_first_to_come_is_the_first_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
