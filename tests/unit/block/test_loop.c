/* SPDX-License-Identifier: BSD-3-Clause */
/* loop.c: the order in a turn, timers, other threads' posts; on a poller and a clock of our own. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "block/coroutine.h"
#include "block/loop.h"
#include "block/loop_backlog.h"
#include "common/random.h"

/* A poller that only remembers how it was called; the clock moves by what it was told to sleep. */
struct fake_poller {
    int64_t timeout_ns;
    unsigned waits;
    atomic_uint wakes;
    void (*on_wait)(void *arg);
    void *arg;
};

static uint64_t fake_now_ns;
static unsigned fake_clock_readings;

static uint64_t fake_clock_now_ns(struct clock *clock)
{
    (void)clock;
    fake_clock_readings++;
    return fake_now_ns;
}

static struct clock fake_clock = {.now_ns = fake_clock_now_ns};

static int fake_open(struct loop *loop, void **ret_poller, struct error *err)
{
    (void)loop;
    (void)err;
    *ret_poller = calloc(1, sizeof(struct fake_poller));
    return 0;
}

static void fake_watch(void *poller, struct loop_watch *watch)
{
    (void)poller;
    (void)watch;
}

static bool fake_wait(void *opaque, int64_t timeout_ns)
{
    struct fake_poller *poller = opaque;
    poller->timeout_ns = timeout_ns;
    poller->waits++;
    if (timeout_ns > 0)
        fake_now_ns += (uint64_t)timeout_ns;
    if (poller->on_wait)
        poller->on_wait(poller->arg);
    return false;
}

static void fake_wake(void *opaque)
{
    struct fake_poller *poller = opaque;
    atomic_fetch_add(&poller->wakes, 1);
}

static const struct poller_ops poller_fake = {
    .name = "fake",
    .open = fake_open,
    .close = free,
    .watch = fake_watch,
    .wait = fake_wait,
    .wake = fake_wake,
};

static int fake_setup(void **state)
{
    struct loop *loop;
    fake_now_ns = 1000;
    fake_clock_readings = 0;
    int rc = loop_new(&loop, 3, &poller_fake, &fake_clock, NULL);
    *state = loop;
    return rc;
}

static int loop_teardown(void **state)
{
    loop_free(*state);
    return 0;
}

/* Who ran, in order. */
static char trace[256];
static unsigned trace_length;

static void trace_reset(void)
{
    trace_length = 0;
    trace[0] = 0;
}

static void trace_add(char letter)
{
    assert_true(trace_length + 1 < sizeof(trace));
    trace[trace_length++] = letter;
    trace[trace_length] = 0;
}

struct lettered_job {
    struct loop_job job;
    char letter;
};

static void run_lettered_job(struct loop_job *job)
{
    trace_add(container_of(job, struct lettered_job, job)->letter);
}

struct lettered_task {
    struct loop_task task;
    struct loop *loop;
    unsigned again;
    char letter;
};

static void run_lettered_task(struct loop_task *task)
{
    struct lettered_task *lettered = container_of(task, struct lettered_task, task);
    trace_add(lettered->letter);
    if (lettered->again > 0) {
        lettered->again--;
        loop_at_round_end(lettered->loop, task);
    }
}

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

struct worker {
    struct loop *loop;
    size_t bytes;
    bool is_counted; /* as backlog */
    unsigned done;
};

static void work_main(void *arg)
{
    struct worker *worker = arg;
    coroutine_co_pause(); /* into a turn */
    while (!loop_has_room(worker->loop))
        coroutine_co_pause();
    loop_count_work(worker->loop, worker->bytes);
    if (worker->is_counted)
        loop_backlog_fell(worker->loop, 1);
    worker->done++;
    trace_add('w');
}

#define ROUND "wwwwwwww" /* LOOP_ROUND_OPERATIONS of them */
static void work_on_the_spot_takes_turns_with_tasks(void **state)
{
    struct worker worker = {.loop = *state, .bytes = 1};
    struct lettered_task task = {
        .task = {.run = run_lettered_task}, .loop = *state, .again = 1, .letter = 't'};
    link_init(&task.task.link);
    trace_reset();
    loop_count_work(*state, LOOP_ROUND_BYTES); /* as by one whom the poller called */
    loop_at_round_end(*state, &task.task);
    for (unsigned i = 0; i < 2 * LOOP_ROUND_OPERATIONS; i++)
        assert_int_equal(coroutine_start(*state, work_main, &worker), 0);
    loop_turn(*state, false);
    assert_string_equal(trace, "t" ROUND "t" ROUND);
}

static void start_backlog(struct worker *worker, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        loop_backlog_grew(worker->loop);
        assert_int_equal(coroutine_start(worker->loop, work_main, worker), 0);
    }
}

static void a_backlog_is_worked_off_in_halves(void **state)
{
    struct worker worker = {.loop = *state, .bytes = 1, .is_counted = true};
    struct lettered_task task = {
        .task = {.run = run_lettered_task}, .loop = *state, .again = 1, .letter = 't'};
    link_init(&task.task.link);
    trace_reset();
    loop_count_work(*state, LOOP_ROUND_BYTES);
    loop_at_round_end(*state, &task.task);
    start_backlog(&worker, 6 * LOOP_ROUND_OPERATIONS);
    loop_turn(*state, false);
    assert_string_equal(trace, "t" ROUND ROUND ROUND "t" ROUND ROUND ROUND);
    trace_reset();
    task.again = 1;
    loop_at_round_end(*state, &task.task);
    start_backlog(&worker, 2 * LOOP_ROUND_OPERATIONS); /* of which a half is no more than ever */
    loop_turn(*state, false);
    assert_string_equal(trace, ROUND "tt" ROUND);
}

static void much_work_on_the_spot_lets_the_poller_look(void **state)
{
    struct fake_poller *poller = loop_poller(*state);
    struct worker worker = {.loop = *state, .bytes = LOOP_ROUND_BYTES};
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(coroutine_start(*state, work_main, &worker), 0);
    unsigned turns = 0;
    for (; worker.done < 10; turns++) {
        assert_true(loop_turn(*state, true));
        assert_int_equal(poller->timeout_ns, 0);
        assert_true(worker.done <= (turns + 1) * (LOOP_TURN_BYTES / LOOP_ROUND_BYTES));
    }
    assert_int_equal(turns, 5);
}

static void a_turn_that_may_not_sleep_only_looks(void **state)
{
    struct fake_poller *poller = loop_poller(*state);
    assert_false(loop_turn(*state, false));
    assert_int_equal(poller->timeout_ns, 0);
    assert_int_equal(poller->waits, 1);
}

struct lettered_timer {
    struct loop_timer timer;
    struct loop *loop;
    uint64_t again_ns;
    char letter;
};

static void expire_lettered_timer(struct loop_timer *timer)
{
    struct lettered_timer *lettered = container_of(timer, struct lettered_timer, timer);
    assert_false(link_is_listed(&timer->link));
    trace_add(lettered->letter);
    if (lettered->again_ns)
        loop_timer_set(lettered->loop, timer, loop_now_ns(lettered->loop) + lettered->again_ns);
}

static void timer_init(struct lettered_timer *timer, struct loop *loop, char letter)
{
    *timer = (struct lettered_timer){
        .timer = {.expired = expire_lettered_timer}, .loop = loop, .letter = letter};
    link_init(&timer->timer.link);
}

/* --- busy polling: here the clock moves by 1 us a look ------------------------------------------
 */

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

static struct looks busy_poll_of_50_us(struct loop *loop)
{
    loop_set_busy_poll(loop, 50000);
    return (struct looks){.poller = loop_poller(loop)};
}

static void a_busy_poll_ends_after_its_limit_in_a_sleep(void **state)
{
    struct looks looks = busy_poll_of_50_us(*state);
    looks.poller->on_wait = count_look;
    looks.poller->arg = &looks;
    loop_turn(*state, true);
    assert_int_equal(looks.poller->timeout_ns, -1);
    assert_in_range(looks.without_sleep, 45, 51);
}

static void a_job_posted_during_a_busy_poll_ends_it_without_a_wake_up(void **state)
{
    struct lettered_job job = {{.run = run_lettered_job}, 'j'};
    struct looks looks = busy_poll_of_50_us(*state);
    looks.poller->on_wait = count_look;
    looks.poller->arg = &looks;
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
    struct looks looks = busy_poll_of_50_us(*state);
    looks.poller->on_wait = count_look;
    looks.poller->arg = &looks;
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
    struct looks looks = busy_poll_of_50_us(*state);
    looks.poller->on_wait = count_look;
    looks.poller->arg = &looks;
    for (unsigned i = 0; i < 10000; i++)
        loop_turn(*state, true);
    assert_true(looks.without_sleep > 8 * 45); /* still tried */
    assert_true(looks.without_sleep < 60 * 51);
}

static void a_busy_poll_does_not_miss_a_timer(void **state)
{
    struct lettered_timer timer;
    struct looks looks = busy_poll_of_50_us(*state);
    looks.poller->on_wait = count_look;
    looks.poller->arg = &looks;
    timer_init(&timer, *state, 't');
    trace_reset();
    loop_timer_set(*state, &timer.timer, fake_now_ns + 10000);
    loop_turn(*state, true);
    assert_string_equal(trace, "t");
    assert_in_range(looks.without_sleep, 5, 11);
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

#define on_fake(test) cmocka_unit_test_setup_teardown(test, fake_setup, loop_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_fake(a_round_takes_posts_then_coroutines_then_tasks_then_sources),
        on_fake(a_task_may_ask_for_another_run),
        on_fake(a_busy_source_does_not_keep_the_poller_from_its_share),
        on_fake(a_busy_source_does_not_keep_the_tasks_from_theirs),
        on_fake(a_backlog_is_worked_off_in_halves),
        on_fake(work_on_the_spot_takes_turns_with_tasks),
        on_fake(much_work_on_the_spot_lets_the_poller_look),
        on_fake(a_turn_that_may_not_sleep_only_looks),
        on_fake(a_busy_poll_ends_after_its_limit_in_a_sleep),
        on_fake(a_job_posted_during_a_busy_poll_ends_it_without_a_wake_up),
        on_fake(a_busy_poll_that_lost_the_processor_did_not_pay),
        on_fake(busy_polls_that_bring_nothing_become_rare),
        on_fake(a_busy_poll_does_not_miss_a_timer),
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
