/* SPDX-License-Identifier: BSD-3-Clause */
/* A timer that any loop may set: it runs on the first loop, once for each time it was set, and not
 * after its end. */
#include "tests/unit/block/device_fixture.h"

#include "block/home_timer.h"

static const struct block_driver *const no_drivers[] = {NULL};

static struct home_timer timer;
static unsigned expired;
static uint64_t again_ns; /* it sets itself again for then; 0: not */
static bool waits;        /* it waits for a worker meanwhile */
static struct block_env *env;
static struct loop *ran_on;

static int nothing(void *arg)
{
    (void)arg;
    usleep(1000);
    return 0;
}

static void count(struct home_timer *which)
{
    assert_ptr_equal(which, &timer);
    ran_on = loop_current();
    if (again_ns)
        home_timer_set(&timer, again_ns);
    again_ns = 0;
    if (waits)
        workers_co_run(env->workers, nothing, NULL);
    expired++;
}

static void init(struct posix_fixture *fixture)
{
    fake_now_ns = 1000;
    expired = 0;
    again_ns = 0;
    waits = false;
    env = &fixture->env;
    home_timer_init(&timer, env, count);
}

static void pass_to(struct posix_fixture *fixture, uint64_t now_ns)
{
    fake_pass(fixture, now_ns - fake_now_ns);
}

static void once_body(struct posix_fixture *fixture)
{
    init(fixture);
    home_timer_set(&timer, 5000);
    home_timer_set(&timer, 7000); /* moved */
    pass_to(fixture, 6000);
    assert_int_equal(expired, 0);
    pass_to(fixture, 7000);
    assert_int_equal(expired, 1);
    assert_ptr_equal(ran_on, fixture->loop);
    pass_to(fixture, 100000);
    assert_int_equal(expired, 1);
    again_ns = 300000;
    home_timer_set(&timer, 200000);
    pass_to(fixture, 250000);
    assert_int_equal(expired, 2);
    pass_to(fixture, 300000);
    assert_int_equal(expired, 3);
    home_timer_set(&timer, 400000);
    home_timer_co_fini(&timer);
    pass_to(fixture, 500000);
    assert_int_equal(expired, 3);
}

static void it_runs_once_for_each_time_it_is_set(void **state)
{
    with_device_drivers(state, no_drivers, once_body);
}

static void end_body(struct posix_fixture *fixture)
{
    for (int i = 0; i < 20; i++) {
        init(fixture);
        waits = true;
        again_ns = i % 2 ? 3000 : 0;
        home_timer_set(&timer, 2000);
        fake_now_ns = 2500;
        for (int turn = 0; turn < i / 2; turn++)
            coroutine_co_pause();
        home_timer_co_fini(&timer);
        unsigned at_end = expired;
        pass_to(fixture, 10000);
        assert_int_equal(expired, at_end);
    }
}

static void its_end_waits_for_what_runs_and_stops_the_rest(void **state)
{
    with_device_drivers(state, no_drivers, end_body);
}

/* --- from another loop -------------------------------------------------------------------------
 */

struct other {
    struct loop *loop;
    pthread_t thread;
};

static void set_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2000; i++) {
        home_timer_set(&timer, 1500);
        if (i % 16 == 0)
            coroutine_co_pause();
    }
}

static void *turn_other(void *arg)
{
    struct other *other = arg;
    assert_int_equal(loop_run_co(other->loop, set_many, NULL), 0);
    return NULL;
}

static void other_body(struct posix_fixture *fixture)
{
    struct other other;
    init(fixture);
    fake_now_ns = 2000;
    assert_int_equal(loop_new(&other.loop, 1, &poller_ev, &fake_clock, NULL), 0);
    assert_int_equal(pthread_create(&other.thread, NULL, turn_other, &other), 0);
    for (int i = 0; i < 3000; i++)
        coroutine_co_pause();
    assert_int_equal(pthread_join(other.thread, NULL), 0);
    pass_to(fixture, 3000);
    assert_true(expired >= 1 && expired <= 2000);
    assert_ptr_equal(ran_on, fixture->loop);
    home_timer_co_fini(&timer);
    loop_free(other.loop);
}

static void any_loop_may_set_it(void **state)
{
    with_device_drivers(state, no_drivers, other_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_runs_once_for_each_time_it_is_set),
        cmocka_unit_test(its_end_waits_for_what_runs_and_stops_the_rest),
        cmocka_unit_test(any_loop_may_set_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
