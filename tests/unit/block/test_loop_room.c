/* SPDX-License-Identifier: BSD-3-Clause */
/* loop_room.c: work that is done on the spot has room in a round, and then others have their turn.
 */
#include "tests/unit/block/loop_fixture.h"

#include "block/coroutine.h"
#include "block/loop_backlog.h"
#include "block/loop_room.h"

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

static void a_loop_is_shared_while_two_clients_come_to_it(void **state)
{
    struct loop *loop = *state;
    int first = 0, second = 0;
    assert_false(loop_is_shared(loop));
    loop_client_came(loop, &first);
    loop_client_came(loop, &first);
    assert_false(loop_is_shared(loop)); /* it has the loop for itself */
    loop_client_came(loop, &second);
    assert_true(loop_is_shared(loop));
    fake_now_ns += LOOP_SHARED_NS / 2;
    loop_turn(loop, false); /* the time is read once a turn */
    loop_client_came(loop, &first);
    fake_now_ns += LOOP_SHARED_NS - 1;
    loop_turn(loop, false);
    loop_client_came(loop, &first);
    assert_true(loop_is_shared(loop));
    fake_now_ns += 1;
    loop_turn(loop, false);
    assert_false(loop_is_shared(loop)); /* the second has been quiet for so long */
    loop_client_came(loop, &second);
    assert_true(loop_is_shared(loop));
    fake_now_ns += LOOP_SHARED_NS;
    loop_turn(loop, false);
    loop_client_came(loop, &first); /* long after the other */
    assert_false(loop_is_shared(loop));
}

static void what_waits_elsewhere_deepens_a_round_too(void **state)
{
    struct loop *loop = *state;
    unsigned done = 0;
    loop_room_begin_round(loop_room(loop));
    while (loop_has_room_among(loop, 40)) {
        loop_count_work(loop, 1);
        done++;
    }
    assert_int_equal(done, 20);
    assert_true(loop_has_room_among(loop, 100)); /* it has become more */
    loop_room_begin_round(loop_room(loop));
    for (done = 0; loop_has_room_among(loop, 2 * LOOP_ROUND_OPERATIONS - 1); done++)
        loop_count_work(loop, 1);
    assert_int_equal(done, LOOP_ROUND_OPERATIONS);
    loop_room_begin_round(loop_room(loop));
    for (done = 0; loop_has_room_among(loop, 100000); done++)
        loop_count_work(loop, 1);
    assert_int_equal(done, LOOP_ROUND_OPERATIONS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_fake(work_on_the_spot_takes_turns_with_tasks),
        on_fake(a_backlog_is_worked_off_in_halves),
        on_fake(a_loop_is_shared_while_two_clients_come_to_it),
        on_fake(much_work_on_the_spot_lets_the_poller_look),
        on_fake(what_waits_elsewhere_deepens_a_round_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
