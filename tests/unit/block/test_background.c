/* SPDX-License-Identifier: BSD-3-Clause */
/* background.c: on which loop work goes on behind a request. */
#include "tests/unit/unit.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/background.h"
#include "block/coroutine.h"

struct scene {
    struct loop *loops[2];
    struct block_env env; /* what background.c knows of it: the loop */
    struct background work;
    struct loop *ran_on;
    unsigned runs, refusals;
    bool waits;
};

static void co_run(struct background *work)
{
    struct scene *scene = container_of(work, struct scene, work);
    scene->ran_on = coroutine_loop(coroutine_self());
    if (scene->waits)
        coroutine_co_pause();
    scene->runs++;
}

static void refused(struct background *work)
{
    struct scene *scene = container_of(work, struct scene, work);
    assert_false(coroutine_inside());
    scene->refusals++;
}

static void scene_init(struct scene *scene)
{
    *scene = (struct scene){.work = {.co_run = co_run, .refused = refused}};
    scene->work.env = &scene->env;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(loop_new(&scene->loops[i], i, &poller_ev, &clock_monotonic, NULL), 0);
}

static void scene_fini(struct scene *scene)
{
    for (unsigned i = 0; i < 2; i++)
        loop_free(scene->loops[i]);
}

static void start_main(void *arg)
{
    struct scene *scene = arg;
    background_start(&scene->work);
}

static void it_is_at_home_where_it_was_begun(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene);
    assert_int_equal(loop_run_co(scene.loops[1], start_main, &scene), 0);
    assert_int_equal(scene.runs, 1);
    assert_ptr_equal(scene.ran_on, scene.loops[1]);
    scene_fini(&scene);
}

static void it_does_not_hold_up_who_began_it(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene);
    scene.waits = true;
    assert_int_equal(coroutine_start(scene.loops[1], start_main, &scene), 0);
    assert_int_equal(scene.runs, 0);
    while (scene.runs == 0)
        loop_turn(scene.loops[1], false);
    scene_fini(&scene);
}

static void a_background_loop_is_its_home_instead(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene);
    scene.env.background_loop = scene.loops[0];
    assert_int_equal(loop_run_co(scene.loops[1], start_main, &scene), 0);
    assert_int_equal(scene.runs, 0);
    assert_true(loop_has_posted(scene.loops[0]));
    loop_turn(scene.loops[0], false);
    assert_int_equal(scene.runs, 1);
    assert_ptr_equal(scene.ran_on, scene.loops[0]);
    assert_int_equal(loop_run_co(scene.loops[0], start_main, &scene), 0); /* begun there */
    assert_int_equal(scene.runs, 2);
    scene_fini(&scene);
}

static void without_a_stack_it_is_refused(void **state)
{
    (void)state;
    if (unit_tool_shares_memory())
        skip_because("the memory of a sanitizer or of valgrind does not fit into a limit");
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit limit = {0, 0};
        struct scene scene;
        scene_init(&scene);
        scene.env.background_loop = scene.loops[0];
        if (loop_run_co(scene.loops[1], start_main, &scene) < 0)
            _exit(1);
        setrlimit(RLIMIT_AS, &limit);
        loop_turn(scene.loops[0], false);
        _exit(scene.refusals == 1 && scene.runs == 0 ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_at_home_where_it_was_begun),
        cmocka_unit_test(it_does_not_hold_up_who_began_it),
        cmocka_unit_test(a_background_loop_is_its_home_instead),
        cmocka_unit_test(without_a_stack_it_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
