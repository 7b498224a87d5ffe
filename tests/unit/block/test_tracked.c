/* SPDX-License-Identifier: BSD-3-Clause */
/* tracked.c: who waits for whom. Each actor begins, waits to be told, and ends; the trace says in
 * which order they got in. */
#include "tests/unit/unit.h"

#include <string.h>

#include "block/coroutine.h"
#include "block/tracked.h"
#include "tests/unit/block/block_fixture.h"

struct actor {
    struct fixture *fixture;
    char *trace;
    uint64_t offset, length;
    struct coroutine *co;
    char letter;
    bool serialising, is_in, may_end;
};

static void add_letter(char *trace, char letter)
{
    size_t length = strlen(trace);
    trace[length] = letter;
    trace[length + 1] = '\0';
}

static void actor_entry(void *arg)
{
    struct actor *actor = arg;
    struct tracked_request request;
    actor->co = coroutine_self();
    tracked_co_begin(actor->fixture->node, &request, actor->offset, actor->length,
                     actor->serialising);
    add_letter(actor->trace, actor->letter);
    actor->is_in = true;
    if (!actor->may_end)
        coroutine_yield();
    actor->is_in = false;
    tracked_end(actor->fixture->node, &request, false);
}

/* Enough turns for every wake-up on this loop to have its effect. */
static void co_settle(void)
{
    for (unsigned i = 0; i < 20; i++)
        coroutine_co_pause();
}

static void co_let_end(struct actor *actor)
{
    actor->may_end = true;
    if (actor->is_in)
        coroutine_wake(actor->co);
    co_settle();
}

struct scene {
    struct group group;
    struct actor actors[8];
    unsigned count;
    char trace[32];
};

/* Starts an actor and returns it after it is in or waits. */
static struct actor *co_enter(struct scene *scene, struct fixture *fixture, char letter,
                              uint64_t offset, uint64_t length)
{
    assert_true(scene->count < 8);
    struct actor *actor = &scene->actors[scene->count++];
    bool serialising = letter >= 'A' && letter <= 'Z';
    *actor = (struct actor){.fixture = fixture,
                            .trace = scene->trace,
                            .offset = offset,
                            .length = length,
                            .letter = letter,
                            .serialising = serialising};
    group_start(&scene->group, actor_entry, actor);
    co_settle();
    return actor;
}

static void scene_init(struct scene *scene, struct fixture *fixture)
{
    memset(scene, 0, sizeof(*scene));
    group_init(&scene->group, fixture->loop);
    fixture_co_open(fixture, "file", false);
}

static void co_plain_ones_never_wait_for_each_other(struct fixture *fixture, void *arg)
{
    struct scene scene;
    (void)arg;
    scene_init(&scene, fixture);
    struct actor *a = co_enter(&scene, fixture, 'a', 0, 4096);
    struct actor *b = co_enter(&scene, fixture, 'b', 0, 4096);
    assert_string_equal(scene.trace, "ab");
    co_let_end(b);
    co_let_end(a);
    group_co_wait(&scene.group);
}

static void co_a_serialising_one_waits_for_plain_ones_that_overlap(struct fixture *fixture,
                                                                   void *arg)
{
    struct scene scene;
    (void)arg;
    scene_init(&scene, fixture);
    struct actor *a = co_enter(&scene, fixture, 'a', 0, 512);
    struct actor *b = co_enter(&scene, fixture, 'b', 512, 512);
    struct actor *c = co_enter(&scene, fixture, 'c', 1024, 512);
    struct actor *s = co_enter(&scene, fixture, 'S', 256, 512);
    assert_string_equal(scene.trace, "abc");
    co_let_end(b);
    assert_string_equal(scene.trace, "abc");
    co_let_end(a);
    assert_string_equal(scene.trace, "abcS");
    co_let_end(c);
    co_let_end(s);
    group_co_wait(&scene.group);
}

static void co_a_plain_one_waits_for_a_serialising_one_only_where_they_overlap(
    struct fixture *fixture, void *arg)
{
    struct scene scene;
    (void)arg;
    scene_init(&scene, fixture);
    struct actor *s = co_enter(&scene, fixture, 'S', 512, 512);
    struct actor *a = co_enter(&scene, fixture, 'a', 0, 512);
    struct actor *b = co_enter(&scene, fixture, 'b', 1023, 1);
    struct actor *c = co_enter(&scene, fixture, 'c', 1024, 1);
    assert_string_equal(scene.trace, "Sac");
    co_let_end(s);
    assert_string_equal(scene.trace, "Sacb");
    co_let_end(a);
    co_let_end(b);
    co_let_end(c);
    group_co_wait(&scene.group);
}

static void co_serialising_ones_go_in_the_order_they_came(struct fixture *fixture, void *arg)
{
    struct scene scene;
    (void)arg;
    scene_init(&scene, fixture);
    struct actor *a = co_enter(&scene, fixture, 'A', 0, 1024);
    struct actor *b = co_enter(&scene, fixture, 'B', 512, 1024);
    struct actor *c = co_enter(&scene, fixture, 'C', 0, 2048);
    struct actor *d = co_enter(&scene, fixture, 'D', 4096, 512);
    assert_string_equal(scene.trace, "AD");
    co_let_end(c);
    assert_string_equal(scene.trace, "AD");
    co_let_end(a);
    assert_string_equal(scene.trace, "ADB");
    co_let_end(b);
    assert_string_equal(scene.trace, "ADBC");
    co_let_end(d);
    group_co_wait(&scene.group);
}

/* A stream of read-modify-writes must not keep a plain request out for ever, nor the reverse. */
static void co_a_plain_one_that_waited_is_not_overtaken(struct fixture *fixture, void *arg)
{
    struct scene scene;
    (void)arg;
    scene_init(&scene, fixture);
    struct actor *s = co_enter(&scene, fixture, 'S', 0, 512);
    struct actor *a = co_enter(&scene, fixture, 'a', 0, 512);
    struct actor *b = co_enter(&scene, fixture, 'b', 0, 512);
    struct actor *t = co_enter(&scene, fixture, 'T', 0, 512);
    struct actor *c = co_enter(&scene, fixture, 'c', 0, 512);
    assert_string_equal(scene.trace, "S");
    co_let_end(s);
    assert_string_equal(scene.trace, "Sab");
    co_let_end(a);
    assert_string_equal(scene.trace, "Sab");
    co_let_end(b);
    assert_string_equal(scene.trace, "SabT");
    co_let_end(t);
    assert_string_equal(scene.trace, "SabTc");
    co_let_end(c);
    group_co_wait(&scene.group);
}

static void exclusive_entry(void *arg)
{
    struct actor *actor = arg;
    struct tracked_request request;
    tracked_co_begin_exclusive(actor->fixture->node, &request);
    add_letter(actor->trace, actor->letter);
    tracked_end(actor->fixture->node, &request, false);
}

static void co_an_exclusive_one_waits_for_all(struct fixture *fixture, void *arg)
{
    struct scene scene;
    (void)arg;
    scene_init(&scene, fixture);
    struct actor *a = co_enter(&scene, fixture, 'a', 0, 1);
    struct actor *b = co_enter(&scene, fixture, 'b', UINT64_C(1) << 60, 1);
    struct actor exclusive = {.fixture = fixture, .trace = scene.trace, .letter = 'X'};
    group_start(&scene.group, exclusive_entry, &exclusive);
    co_settle();
    struct actor *c = co_enter(&scene, fixture, 'c', 4096, 1);
    assert_string_equal(scene.trace, "ab");
    co_let_end(a);
    assert_string_equal(scene.trace, "ab");
    co_let_end(b);
    assert_string_equal(scene.trace, "abXc");
    co_let_end(c);
    group_co_wait(&scene.group);
}

static void co_only_changes_raise_the_generation(struct fixture *fixture, void *arg)
{
    struct tracked_request request;
    (void)arg;
    fixture_co_open(fixture, "file", false);
    struct node_lane *lane = tracked_lane(fixture->node);
    tracked_co_begin(fixture->node, &request, 0, 1, false);
    tracked_end(fixture->node, &request, false);
    assert_int_equal(atomic_load(&lane->write_generation), 0);
    tracked_co_begin(fixture->node, &request, 0, 1, false);
    tracked_end(fixture->node, &request, true);
    tracked_co_begin(fixture->node, &request, 0, 1, true);
    tracked_end(fixture->node, &request, true);
    assert_int_equal(atomic_load(&lane->write_generation), 2);
    assert_int_equal(atomic_load(&fixture->node->serialising.count), 0);
}

#define TEST(name) FIXTURE_TEST(name, 65536, 65536)

TEST(plain_ones_never_wait_for_each_other)
TEST(a_serialising_one_waits_for_plain_ones_that_overlap)
TEST(a_plain_one_waits_for_a_serialising_one_only_where_they_overlap)
TEST(serialising_ones_go_in_the_order_they_came)
TEST(a_plain_one_that_waited_is_not_overtaken)
TEST(an_exclusive_one_waits_for_all)
TEST(only_changes_raise_the_generation)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_ones_never_wait_for_each_other),
        cmocka_unit_test(a_serialising_one_waits_for_plain_ones_that_overlap),
        cmocka_unit_test(a_plain_one_waits_for_a_serialising_one_only_where_they_overlap),
        cmocka_unit_test(serialising_ones_go_in_the_order_they_came),
        cmocka_unit_test(a_plain_one_that_waited_is_not_overtaken),
        cmocka_unit_test(an_exclusive_one_waits_for_all),
        cmocka_unit_test(only_changes_raise_the_generation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
