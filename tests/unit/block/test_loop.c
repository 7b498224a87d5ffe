/* SPDX-License-Identifier: BSD-3-Clause */
/* loop.c: the order in a turn, timers, other threads' posts; on a poller and a clock of our own. */
#include "tests/unit/block/loop_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/coroutine.h"
#include "common/random.h"

struct lettered_source {
    struct loop_source source;
    unsigned busy_rounds;
    char letter;
};

static bool turn_lettered_source(struct loop_source *source)
{
    struct lettered_source *lettered = container_of(source, struct lettered_source, source);
    trace_add(lettered->letter);
    if (lettered->busy_rounds == 0)
        return false;
    lettered->busy_rounds--;
    return true;
}

static void pausing_main(void *arg)
{
    for (unsigned i = *(unsigned *)arg; i > 0; i--) {
        coroutine_co_pause();
        trace_add('c');
    }
}

static void a_round_takes_posts_then_coroutines_then_tasks_then_sources(void **state)
{
    struct loop *loop = *state;
    struct lettered_job job = {{.run = run_lettered_job}, 'j'};
    struct lettered_task task = {.task = {.run = run_lettered_task}, .loop = loop, .letter = 't'};
    struct lettered_source source = {{.turn = turn_lettered_source}, 0, 's'};
    unsigned pauses = 1;
    link_init(&task.task.link);
    trace_reset();
    loop_source_add(loop, &source.source);
    loop_at_round_end(loop, &task.task);
    loop_at_round_end(loop, &task.task); /* already waits: stays where it is */
    assert_int_equal(coroutine_start(loop, pausing_main, &pauses), 0);
    loop_post(loop, &job.job);
    assert_true(loop_turn(loop, true));
    /* the second round moves nothing more */
    assert_string_equal(trace, "jctss");
    loop_source_remove(&source.source);
    assert_false(loop_turn(loop, false));
}

static void a_task_may_ask_for_another_run(void **state)
{
    struct lettered_task task = {
        .task = {.run = run_lettered_task}, .loop = *state, .again = 2, .letter = 't'};
    link_init(&task.task.link);
    trace_reset();
    loop_at_round_end(*state, &task.task);
    loop_turn(*state, false);
    assert_string_equal(trace, "ttt");
    loop_at_round_end(*state, &task.task);
    loop_task_cancel(&task.task);
    loop_turn(*state, false);
    assert_string_equal(trace, "ttt");
}

static void a_busy_source_does_not_keep_the_poller_from_its_share(void **state)
{
    struct fake_poller *poller = loop_poller(*state);
    struct lettered_source source = {{.turn = turn_lettered_source}, 100, 's'};
    trace_reset();
    loop_source_add(*state, &source.source);
    assert_true(loop_turn(*state, true));
    assert_int_equal(poller->waits, 1);
    assert_int_equal(poller->timeout_ns, 0);
    assert_true(source.busy_rounds > 50);
    while (source.busy_rounds > 0)
        loop_turn(*state, true);
    assert_true(poller->waits < 12);
    loop_source_remove(&source.source);
    loop_turn(*state, true);
    assert_int_equal(poller->timeout_ns, -1);
}

static void a_busy_source_does_not_keep_the_tasks_from_theirs(void **state)
{
    struct lettered_source source = {{.turn = turn_lettered_source}, 100, 's'};
    struct lettered_task task = {.task = {.run = run_lettered_task}, .loop = *state, .letter = 't'};
    link_init(&task.task.link);
    trace_reset();
    loop_source_add(*state, &source.source);
    loop_at_round_end(*state, &task.task);
    loop_turn(*state, true);
    assert_non_null(strchr(trace, 't'));
    loop_source_remove(&source.source);
}

static void a_turn_that_may_not_sleep_only_looks(void **state)
{
    struct fake_poller *poller = loop_poller(*state);
    assert_false(loop_turn(*state, false));
    assert_int_equal(poller->timeout_ns, 0);
    assert_int_equal(poller->waits, 1);
}

static void timers_expire_by_due_time_and_then_in_the_order_they_were_set(void **state)
{
    struct fake_poller *poller = loop_poller(*state);
    struct lettered_timer timers[5];
    const uint64_t due_ns[5] = {3000, 2000, 3000, 5000, 2000};
    trace_reset();
    for (unsigned i = 0; i < 5; i++) {
        timer_init(&timers[i], *state, (char)('0' + i));
        loop_timer_set(*state, &timers[i].timer, due_ns[i]);
    }
    loop_timer_clear(&timers[4].timer);
    loop_turn(*state, true);
    assert_int_equal(poller->timeout_ns, 1000);
    assert_string_equal(trace, "1");
    loop_turn(*state, true);
    assert_string_equal(trace, "102");
    loop_timer_set(*state, &timers[3].timer, 9000); /* moves it */
    loop_turn(*state, true);
    assert_int_equal(poller->timeout_ns, 6000);
    assert_string_equal(trace, "1023");
}

static void a_timer_that_is_set_again_in_the_past_does_not_hold_the_turn(void **state)
{
    struct lettered_timer timer;
    timer_init(&timer, *state, 't');
    trace_reset();
    loop_timer_set(*state, &timer.timer, 500);
    for (unsigned i = 1; i <= 3; i++) {
        loop_turn(*state, true);
        assert_int_equal(trace_length, i);
        loop_timer_set(*state, &timer.timer, 500);
    }
    loop_timer_clear(&timer.timer);
}

static void random_timers_expire_in_order(void **state)
{
    struct lettered_timer timers[200];
    struct random random;
    const char *given = getenv("PLATTER_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    print_message("PLATTER_SEED=%llu\n", (unsigned long long)seed);
    random_seed(&random, seed);
    for (unsigned i = 0; i < 200; i++)
        timer_init(&timers[i], *state, 't');
    trace_reset();
    for (unsigned i = 0; i < 1000; i++) {
        struct lettered_timer *timer = &timers[random_below(&random, 200)];
        if (random_once_in(&random, 4))
            loop_timer_clear(&timer->timer);
        else
            loop_timer_set(*state, &timer->timer, 2000 + random_below(&random, 100));
    }
    unsigned left = 0;
    for (unsigned i = 0; i < 200; i++)
        left += link_is_listed(&timers[i].timer.link);
    while (trace_length < left) {
        loop_turn(*state, true);
        for (unsigned i = 0; i < 200; i++)
            assert_int_equal(
                link_is_listed(&timers[i].timer.link) && timers[i].timer.due_ns <= fake_now_ns, 0);
    }
    assert_int_equal(trace_length, left);
}

static void the_clock_is_read_once_a_turn_at_most_and_afresh_after_a_sleep(void **state)
{
    struct loop *loop = *state;
    struct lettered_timer timer;
    loop_turn(loop, true);
    assert_int_equal(fake_clock_readings, 0); /* nobody asked */
    timer_init(&timer, loop, 't');
    timer.again_ns = 700;
    trace_reset();
    loop_timer_set(loop, &timer.timer, 5000);
    loop_turn(loop, true);
    assert_int_equal(timer.timer.due_ns, 5700); /* from the moment after the sleep */
    assert_int_equal(fake_clock_readings, 2);   /* how long to sleep, and what has expired */
    loop_timer_clear(&timer.timer);
}

static void jobs_of_one_thread_run_in_the_order_they_were_posted(void **state)
{
    struct lettered_job jobs[5];
    trace_reset();
    for (unsigned i = 0; i < 5; i++) {
        jobs[i] = (struct lettered_job){{.run = run_lettered_job}, (char)('0' + i)};
        loop_post(*state, &jobs[i].job);
    }
    assert_true(loop_turn(*state, false));
    assert_string_equal(trace, "01234");
}

struct sleeper {
    struct loop *loop;
    struct lettered_job jobs[3];
};

static void post_three(void *arg)
{
    struct sleeper *sleeper = arg;
    for (unsigned i = 0; i < 3; i++)
        loop_post(sleeper->loop, &sleeper->jobs[i].job);
}

static void a_sleeping_loop_is_woken_once_for_a_batch_and_a_waking_one_never(void **state)
{
    struct fake_poller *poller = loop_poller(*state);
    struct sleeper sleeper = {.loop = *state};
    for (unsigned i = 0; i < 3; i++)
        sleeper.jobs[i] = (struct lettered_job){{.run = run_lettered_job}, (char)('0' + i)};
    trace_reset();
    poller->on_wait = post_three;
    poller->arg = &sleeper;
    loop_turn(*state, true);
    assert_int_equal(poller->timeout_ns, -1);
    assert_int_equal(atomic_load(&poller->wakes), 1);
    poller->on_wait = NULL;
    loop_turn(*state, false);
    assert_string_equal(trace, "012");
    post_three(&sleeper); /* between turns nobody sleeps */
    loop_turn(*state, true);
    assert_int_equal(atomic_load(&poller->wakes), 1);
    poller->on_wait = post_three;
    loop_turn(*state, false); /* and nobody sleeps when told not to */
    assert_int_equal(atomic_load(&poller->wakes), 1);
    poller->on_wait = NULL;
    loop_turn(*state, false);
    assert_string_equal(trace, "012012012");
}

static void stop_after_two(struct loop_timer *timer)
{
    struct lettered_timer *lettered = container_of(timer, struct lettered_timer, timer);
    trace_add('t');
    loop_timer_set(lettered->loop, timer, loop_now_ns(lettered->loop) + 10);
    if (trace_length == 2)
        loop_stop(lettered->loop);
}

static void a_stop_ends_the_run_and_the_loop_can_run_again(void **state)
{
    struct lettered_timer timer;
    timer_init(&timer, *state, 't');
    timer.timer.expired = stop_after_two;
    trace_reset();
    loop_timer_set(*state, &timer.timer, 10);
    loop_run(*state);
    assert_true(trace_length == 2 || trace_length == 3);
    trace_reset();
    loop_run(*state);
    assert_true(trace_length >= 2);
    loop_timer_clear(&timer.timer);
    loop_stop(*state); /* before it runs: it returns soon */
    loop_stop(*state);
    loop_run(*state);
}

static void loops_know_their_index_and_who_turns(void **state)
{
    assert_int_equal(loop_index(*state), 3);
    assert_null(loop_current());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_fake(a_round_takes_posts_then_coroutines_then_tasks_then_sources),
        on_fake(a_task_may_ask_for_another_run),
        on_fake(a_busy_source_does_not_keep_the_poller_from_its_share),
        on_fake(a_busy_source_does_not_keep_the_tasks_from_theirs),
        on_fake(a_turn_that_may_not_sleep_only_looks),
        on_fake(timers_expire_by_due_time_and_then_in_the_order_they_were_set),
        on_fake(a_timer_that_is_set_again_in_the_past_does_not_hold_the_turn),
        on_fake(random_timers_expire_in_order),
        on_fake(the_clock_is_read_once_a_turn_at_most_and_afresh_after_a_sleep),
        on_fake(jobs_of_one_thread_run_in_the_order_they_were_posted),
        on_fake(a_sleeping_loop_is_woken_once_for_a_batch_and_a_waking_one_never),
        on_fake(a_stop_ends_the_run_and_the_loop_can_run_again),
        on_fake(loops_know_their_index_and_who_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
