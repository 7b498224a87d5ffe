/* SPDX-License-Identifier: BSD-3-Clause */
/* loop_share.c: threads that come in for one call each, more of them than there are loops. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "block/coroutine.h"
#include "block/loop.h"
#include "block/loop_share.h"

#define LOOPS 3

struct scene {
    struct loop *loops[LOOPS];
    struct loop_share share;
    atomic_uint inside[LOOPS]; /* threads that turn that loop */
    atomic_uint entered, ended;
    atomic_bool may_leave;
};

static void scene_init(struct scene *scene)
{
    *scene = (struct scene){.entered = 0};
    for (unsigned i = 0; i < LOOPS; i++)
        assert_int_equal(loop_new(&scene->loops[i], i, &poller_ev, &clock_monotonic, NULL), 0);
    assert_int_equal(loop_share_init(&scene->share, scene->loops, LOOPS, NULL), 0);
}

static void scene_fini(struct scene *scene)
{
    loop_share_fini(&scene->share);
    for (unsigned i = 0; i < LOOPS; i++)
        loop_free(scene->loops[i]);
}

/* The index of the loop it runs on. */
static void note_loop(void *arg)
{
    unsigned *index = arg;
    *index = loop_index(loop_current());
}

static void a_thread_comes_back_to_its_loop(void **state)
{
    struct scene scene;
    (void)state;
    scene_init(&scene);
    unsigned first = LOOPS, index;
    assert_int_equal(loop_share_run_co(&scene.share, note_loop, &first), 0);
    assert_in_range(first, 0, LOOPS - 1);
    for (unsigned i = 0; i < 10; i++) {
        index = LOOPS;
        assert_int_equal(loop_share_run_co(&scene.share, note_loop, &index), 0);
        assert_int_equal(index, first);
    }
    loop_share_end(&scene.share);
    scene_fini(&scene);
}

/* Alone on its loop, and still so after waits. */
static void busy_main(void *arg)
{
    struct scene *scene = arg;
    unsigned index = loop_index(loop_current());
    assert_int_equal(atomic_fetch_add(&scene->inside[index], 1), 0);
    for (unsigned i = 0; i < 5; i++) {
        coroutine_co_pause();
        assert_int_equal(loop_index(loop_current()), index);
    }
    atomic_fetch_add(&scene->ended, 1);
    assert_int_equal(atomic_fetch_sub(&scene->inside[index], 1), 1);
}

#define CALLS 200

static void *busy_thread(void *arg)
{
    struct scene *scene = arg;
    for (unsigned i = 0; i < CALLS; i++)
        assert_int_equal(loop_share_run_co(&scene->share, busy_main, scene), 0);
    return NULL;
}

static void more_threads_than_loops_take_turns(void **state)
{
    struct scene scene;
    pthread_t threads[4 * LOOPS];
    (void)state;
    scene_init(&scene);
    for (unsigned i = 0; i < 4 * LOOPS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, busy_thread, &scene), 0);
    for (unsigned i = 0; i < 4 * LOOPS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(scene.ended, 4 * LOOPS * CALLS);
    loop_share_end(&scene.share);
    scene_fini(&scene);
}

static void left_behind_main(void *arg)
{
    unsigned *steps = arg;
    for (unsigned i = 0; i < 20; i++) {
        coroutine_co_pause();
        ++*steps;
    }
}

static void leaving_main(void *arg)
{
    assert_int_equal(coroutine_start(loop_current(), left_behind_main, arg), 0);
}

static void nothing_is_left_on_a_loop_behind_the_call(void **state)
{
    struct scene scene;
    unsigned steps = 0;
    (void)state;
    scene_init(&scene);
    assert_int_equal(loop_share_run_co(&scene.share, leaving_main, &steps), 0);
    assert_int_equal(steps, 20);
    loop_share_end(&scene.share);
    scene_fini(&scene);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void held_main(void *arg)
{
    struct scene *scene = arg;
    atomic_fetch_add(&scene->entered, 1);
    while (!atomic_load(&scene->may_leave)) {
        usleep(1000);
        coroutine_co_pause();
    }
    atomic_fetch_add(&scene->ended, 1);
}

static void *held_thread(void *arg)
{
    struct scene *scene = arg;
    return (void *)(intptr_t)loop_share_run_co(&scene->share, held_main, scene);
}

static void *end_thread(void *arg)
{
    struct scene *scene = arg;
    loop_share_end(&scene->share);
    return (void *)(intptr_t)atomic_load(&scene->ended);
}

static void wait_until(const atomic_uint *count, unsigned wanted)
{
    while (atomic_load(count) < wanted)
        usleep(1000);
}

static void the_end_waits_for_who_is_inside_and_lets_nobody_in(void **state)
{
    struct scene scene;
    pthread_t held[2 * LOOPS], end;
    void *result;
    unsigned refused = 0, index = LOOPS;
    (void)state;
    scene_init(&scene);
    for (unsigned i = 0; i < 2 * LOOPS; i++)
        assert_int_equal(pthread_create(&held[i], NULL, held_thread, &scene), 0);
    wait_until(&scene.entered, LOOPS);
    wait_until(&scene.share.waiting_count, LOOPS); /* the others */
    assert_int_equal(pthread_create(&end, NULL, end_thread, &scene), 0);
    while (!atomic_load(&scene.share.is_over))
        usleep(1000);
    assert_int_equal(loop_share_run_co(&scene.share, note_loop, &index), -ESHUTDOWN);
    assert_int_equal(index, LOOPS);
    atomic_store(&scene.may_leave, true);
    pthread_join(end, &result);
    assert_int_equal((intptr_t)result, LOOPS);
    for (unsigned i = 0; i < 2 * LOOPS; i++) {
        pthread_join(held[i], &result);
        refused += (intptr_t)result == -ESHUTDOWN;
    }
    assert_int_equal(refused, LOOPS);
    assert_int_equal(scene.ended, LOOPS);
    scene_fini(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_comes_back_to_its_loop),
        cmocka_unit_test(more_threads_than_loops_take_turns),
        cmocka_unit_test(nothing_is_left_on_a_loop_behind_the_call),
        cmocka_unit_test(the_end_waits_for_who_is_inside_and_lets_nobody_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
