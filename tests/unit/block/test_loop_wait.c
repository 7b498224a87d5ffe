/* SPDX-License-Identifier: BSD-3-Clause */
/* loop_wait.c: a loop that looks on before it sleeps. The clock moves by 1 us a look. */
#include "tests/unit/block/loop_fixture.h"

#include <string.h>

#include "block/loop_room.h"

struct looks {
    struct fake_poller *poller;
    unsigned without_sleep;
    struct loop *post_to; /* at the third look */
    struct loop_job *job;
    uint64_t lost_ns; /* the processor, to somebody else, before that */
};

static void count_look(void *arg)
{
    struct looks *looks = arg;
    fake_now_ns += 1000;
    looks->without_sleep += looks->poller->timeout_ns == 0;
    if (looks->post_to && looks->without_sleep == 3) {
        fake_now_ns += looks->lost_ns;
        loop_post(looks->post_to, looks->job);
    }
}

static void busy_poll_of_50_us(struct loop *loop, struct looks *looks)
{
    loop_set_busy_poll(loop, 50000);
    *looks = (struct looks){.poller = loop_poller(loop)};
    looks->poller->on_wait = count_look;
    looks->poller->arg = looks;
}

static void a_busy_poll_ends_after_its_limit_in_a_sleep(void **state)
{
    struct looks looks;
    busy_poll_of_50_us(*state, &looks);
    loop_turn(*state, true);
    assert_int_equal(looks.poller->timeout_ns, -1);
    assert_in_range(looks.without_sleep, 45, 51);
}

static void a_job_posted_during_a_busy_poll_ends_it_without_a_wake_up(void **state)
{
    struct lettered_job job = {{.run = run_lettered_job}, 'j'};
    struct looks looks;
    busy_poll_of_50_us(*state, &looks);
    looks.post_to = *state;
    looks.job = &job.job;
    trace_reset();
    assert_true(loop_turn(*state, true));
    assert_int_equal(looks.without_sleep, 3);
    assert_int_equal(atomic_load(&looks.poller->wakes), 0);
    loop_turn(*state, false);
    assert_string_equal(trace, "j");
}

static void a_busy_poll_that_lost_the_processor_did_not_pay(void **state)
{
    struct lettered_job job = {{.run = run_lettered_job}, 'j'};
    struct looks looks;
    busy_poll_of_50_us(*state, &looks);
    looks.post_to = *state;
    looks.job = &job.job;
    looks.lost_ns = 3000000;
    assert_true(loop_turn(*state, true));
    loop_turn(*state, false); /* runs the job */
    looks.without_sleep = 3;
    looks.post_to = NULL;
    loop_turn(*state, true);
    assert_int_equal(looks.without_sleep, 3); /* it slept at once */
    assert_int_equal(looks.poller->timeout_ns, -1);
}

static void busy_polls_that_bring_nothing_become_rare(void **state)
{
    struct looks looks;
    busy_poll_of_50_us(*state, &looks);
    for (unsigned i = 0; i < 10000; i++)
        loop_turn(*state, true);
    assert_true(looks.without_sleep > 8 * 45); /* still tried */
    assert_true(looks.without_sleep < 60 * 51);
}

static void a_busy_poll_does_not_miss_a_timer(void **state)
{
    struct lettered_timer timer;
    struct looks looks;
    busy_poll_of_50_us(*state, &looks);
    timer_init(&timer, *state, 't');
    trace_reset();
    loop_timer_set(*state, &timer.timer, fake_now_ns + 10000);
    loop_turn(*state, true);
    assert_string_equal(trace, "t");
    assert_in_range(looks.without_sleep, 5, 11);
}

/* One that is expected, tried by the loop itself, at 1 us a time. */
struct expected {
    struct loop_watch watch;
    struct loop *loop;
    unsigned tried, comes_at; /* 0: never */
    struct loop_task *leaves; /* a task, the first time, and nothing else */
};

static void try_expected(struct loop_watch *watch, unsigned events)
{
    struct expected *expected = container_of(watch, struct expected, watch);
    assert_int_equal(events, LOOP_READABLE);
    fake_now_ns += 1000;
    expected->tried++;
    if (expected->tried == expected->comes_at)
        loop_watch_came(expected->loop, watch, 28, true);
    if (expected->tried == 1 && expected->leaves)
        loop_at_round_end(expected->loop, expected->leaves);
}

static void expect_watch(struct loop *loop, struct expected *expected)
{
    *expected = (struct expected){.loop = loop};
    loop_watch_init(&expected->watch, 7, try_expected);
    loop_watch_set(loop, &expected->watch, LOOP_READABLE);
    loop_watch_came(loop, &expected->watch, 28, true);
}

static void a_busy_poll_tries_who_is_expected_and_now_and_then_the_poller(void **state)
{
    struct expected expected;
    struct looks looks;
    busy_poll_of_50_us(*state, &looks);
    expect_watch(*state, &expected);
    loop_turn(*state, true); /* in vain: it sleeps in the end */
    assert_int_equal(looks.poller->timeout_ns, -1);
    assert_in_range(expected.tried, 35, 42);
    assert_in_range(looks.without_sleep, 9, 11);
    loop_turn(*state, true); /* the sleep between two tries */
    expected.comes_at = expected.tried + 3;
    looks.without_sleep = 0;
    assert_true(loop_turn(*state, true));
    assert_int_equal(expected.tried, expected.comes_at);
    assert_int_equal(looks.without_sleep, 1);
    loop_watch_set(*state, &expected.watch, 0);
}

static void who_is_off_or_no_longer_expected_is_not_tried(void **state)
{
    struct expected expected;
    struct looks looks;
    busy_poll_of_50_us(*state, &looks);
    expect_watch(*state, &expected);
    loop_watch_came(*state, &expected.watch, 280, false);
    loop_turn(*state, true);
    assert_int_equal(expected.tried, 0);
    assert_in_range(looks.without_sleep, 45, 51);
    expect_watch(*state, &expected);
    loop_watch_set(*state, &expected.watch, LOOP_WRITABLE);
    loop_turn(*state, true);
    loop_turn(*state, true);
    assert_int_equal(expected.tried, 0);
    loop_watch_set(*state, &expected.watch, 0);
}

/* Its owner reads at another time than it is told, and ends. */
static void who_came_while_he_was_off_is_forgotten_at_his_end(void **state)
{
    struct expected expected;
    struct looks looks;
    busy_poll_of_50_us(*state, &looks);
    expect_watch(*state, &expected);
    loop_watch_set(*state, &expected.watch, 0);
    loop_watch_came(*state, &expected.watch, 28, true);
    loop_watch_set(*state, &expected.watch, 0);
    memset(&expected.watch, 0xff, sizeof(expected.watch)); /* its memory is another's */
    loop_turn(*state, true);
    assert_in_range(looks.without_sleep, 45, 51);
}

static void what_a_try_in_vain_leaves_to_do_is_done_before_a_sleep(void **state)
{
    struct expected expected;
    struct lettered_task task = {.task = {.run = run_lettered_task}, .loop = *state, .letter = 't'};
    struct looks looks;
    busy_poll_of_50_us(*state, &looks);
    link_init(&task.task.link);
    expect_watch(*state, &expected);
    expected.leaves = &task.task;
    trace_reset();
    assert_true(loop_turn(*state, true));
    assert_int_equal(expected.tried, 1);
    loop_turn(*state, false);
    assert_string_equal(trace, "t");
    loop_watch_set(*state, &expected.watch, 0);
}

/* --- naps ---------------------------------------------------------------------------------------
 */

/* A client who always has so much left to read, and has a request ready when he is looked at for
 * the second time. */
struct reader {
    struct expected expected;
    size_t unread;
    unsigned asked;
};

static size_t unread_of_reader(struct loop_watch *watch)
{
    struct reader *reader = container_of(watch, struct reader, expected.watch);
    reader->asked++;
    return reader->unread;
}

static void reader_new(struct loop *loop, struct reader *reader)
{
    expect_watch(loop, &reader->expected);
    reader->expected.watch.unread = unread_of_reader;
    reader->unread = 40960;
    reader->asked = 0;
}

/* So many requests, one a turn. */
static void serve(struct loop *loop, struct reader *reader, unsigned turns)
{
    for (unsigned i = 0; i < turns; i++) {
        reader->expected.comes_at = reader->expected.tried + 2;
        assert_true(loop_turn(loop, true));
    }
}

#define TURNS_TO_THE_TRIAL 10000 /* and more: 3 us each */

static void a_client_with_unread_answers_is_left_to_them(void **state)
{
    struct reader reader;
    struct looks looks;
    busy_poll_of_50_us(*state, &looks);
    reader_new(*state, &reader);
    serve(*state, &reader, TURNS_TO_THE_TRIAL);
    assert_true(looks.poller->naps > 0);
    assert_in_range(looks.poller->nap_ns, 1, 50000);
    assert_int_equal(looks.poller->timeout_ns, 0); /* it never slept */
    loop_watch_set(*state, &reader.expected.watch, 0);
}

static void assert_no_naps(struct loop *loop, struct reader *reader)
{
    struct fake_poller *poller = loop_poller(loop);
    poller->naps = 0;
    serve(loop, reader, TURNS_TO_THE_TRIAL);
    assert_int_equal(poller->naps, 0);
}

static void who_has_read_all_or_is_not_alone_or_cannot_tell_is_looked_at(void **state)
{
    struct reader reader;
    struct looks looks;
    busy_poll_of_50_us(*state, &looks);
    reader_new(*state, &reader);
    reader.unread = 0;
    assert_no_naps(*state, &reader);
    assert_true(reader.asked > 0);

    reader.unread = 40960;
    reader.asked = 0;
    loop_watch_set(*state, &reader.expected.watch, LOOP_READABLE | LOOP_WRITABLE);
    assert_no_naps(*state, &reader); /* there is more to send */
    loop_watch_set(*state, &reader.expected.watch, LOOP_READABLE);
    assert_int_equal(reader.asked, 0);

    reader.expected.watch.unread = NULL;
    assert_no_naps(*state, &reader);
    loop_watch_set(*state, &reader.expected.watch, 0);
}

static void who_shares_the_loop_is_looked_at(void **state)
{
    struct reader reader;
    struct looks looks;
    busy_poll_of_50_us(*state, &looks);
    reader_new(*state, &reader);
    for (unsigned i = 0; i < TURNS_TO_THE_TRIAL; i++) {
        loop_client_came(*state, &looks);
        loop_client_came(*state, &reader);
        serve(*state, &reader, 1);
    }
    assert_int_equal(looks.poller->naps, 0);
    assert_int_equal(reader.asked, 0);
    loop_watch_set(*state, &reader.expected.watch, 0);
}

static void a_nap_does_not_miss_a_timer(void **state)
{
    struct lettered_timer timer;
    struct reader reader;
    struct looks looks;
    busy_poll_of_50_us(*state, &looks);
    reader_new(*state, &reader);
    timer_init(&timer, *state, 't');
    do {
        trace_reset();
        loop_timer_set(*state, &timer.timer, fake_now_ns + 1500);
        serve(*state, &reader, 1);
    } while (looks.poller->naps == 0);
    assert_in_range(looks.poller->nap_ns, 1, 1500);
    loop_timer_clear(&timer.timer);
    loop_watch_set(*state, &reader.expected.watch, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_fake(a_busy_poll_ends_after_its_limit_in_a_sleep),
        on_fake(a_job_posted_during_a_busy_poll_ends_it_without_a_wake_up),
        on_fake(a_busy_poll_that_lost_the_processor_did_not_pay),
        on_fake(busy_polls_that_bring_nothing_become_rare),
        on_fake(a_busy_poll_does_not_miss_a_timer),
        on_fake(a_busy_poll_tries_who_is_expected_and_now_and_then_the_poller),
        on_fake(who_is_off_or_no_longer_expected_is_not_tried),
        on_fake(who_came_while_he_was_off_is_forgotten_at_his_end),
        on_fake(what_a_try_in_vain_leaves_to_do_is_done_before_a_sleep),
        on_fake(a_client_with_unread_answers_is_left_to_them),
        on_fake(who_has_read_all_or_is_not_alone_or_cannot_tell_is_looked_at),
        on_fake(who_shares_the_loop_is_looked_at),
        on_fake(a_nap_does_not_miss_a_timer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
