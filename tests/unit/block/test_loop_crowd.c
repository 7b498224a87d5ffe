/* SPDX-License-Identifier: BSD-3-Clause */
/* loop_crowd.c: when a loop is crowded, and what it then leaves out. */
#include "tests/unit/block/loop_fixture.h"

#include "block/loop_crowd.h"

/* --- numbers ------------------------------------------------------------------------------------
 */

static void an_eighth_of_a_window_makes_a_crowd_for_a_while(void **state)
{
    (void)state;
    struct loop_crowd crowd = {.window_began_ns = NS_PER_S};
    uint64_t end_ns = NS_PER_S + LOOP_CROWD_WINDOW_NS;
    assert_false(loop_crowd_is_due(&crowd, end_ns - 1));
    assert_true(loop_crowd_is_due(&crowd, end_ns));
    loop_crowd_learn(&crowd, end_ns, LOOP_CROWD_WINDOW_NS / 8 - 1);
    assert_false(loop_crowd_is_on(&crowd, end_ns));
    assert_false(loop_crowd_is_due(&crowd, end_ns));
    end_ns += LOOP_CROWD_WINDOW_NS;
    loop_crowd_learn(&crowd, end_ns, 2 * (LOOP_CROWD_WINDOW_NS / 8) - 1);
    assert_true(loop_crowd_is_on(&crowd, end_ns + LOOP_CROWDED_NS - 1));
    assert_false(loop_crowd_is_on(&crowd, end_ns + LOOP_CROWDED_NS));
}

static void a_kernel_that_does_not_count_makes_no_crowd(void **state)
{
    (void)state;
    struct loop_crowd crowd = {.window_began_ns = NS_PER_S, .waited_ns = NS_PER_S};
    loop_crowd_learn(&crowd, NS_PER_S + LOOP_CROWD_WINDOW_NS, 0); /* it did */
    assert_false(loop_crowd_is_on(&crowd, NS_PER_S + LOOP_CROWD_WINDOW_NS));
    loop_crowd_learn(&crowd, NS_PER_S + 2 * LOOP_CROWD_WINDOW_NS, 0);
    assert_false(loop_crowd_is_on(&crowd, NS_PER_S + 2 * LOOP_CROWD_WINDOW_NS));
}

/* --- a loop -------------------------------------------------------------------------------------
 */

static void let_pass(struct loop *loop, uint64_t span_ns, uint64_t waited_ns)
{
    struct fake_poller *poller = loop_poller(loop);
    fake_now_ns += span_ns;
    poller->waited_ns += waited_ns;
    loop_turn(loop, false);
}

static void a_loop_asks_once_a_window(void **state)
{
    struct fake_poller *poller = loop_poller(*state);
    let_pass(*state, NS_PER_S, 0);
    assert_false(loop_crowd_measure(*state));
    assert_int_equal(poller->waited_asked, 1);
    let_pass(*state, LOOP_CROWD_WINDOW_NS / 2, LOOP_CROWD_WINDOW_NS / 2);
    assert_false(loop_crowd_measure(*state));
    assert_int_equal(poller->waited_asked, 1);
    let_pass(*state, LOOP_CROWD_WINDOW_NS / 2, 0);
    assert_true(loop_crowd_measure(*state));
    assert_int_equal(poller->waited_asked, 2);
}

static void tick(void *arg)
{
    (void)arg;
    fake_now_ns += 1000;
}

static void a_crowded_loop_sleeps_without_looking_on(void **state)
{
    struct fake_poller *poller = loop_poller(*state);
    loop_set_busy_poll(*state, 50000);
    let_pass(*state, NS_PER_S, 0);
    assert_false(loop_crowd_measure(*state));
    let_pass(*state, LOOP_CROWD_WINDOW_NS, LOOP_CROWD_WINDOW_NS / 2);
    assert_true(loop_crowd_measure(*state));
    poller->on_wait = tick;
    poller->waits = 0;
    loop_turn(*state, true);
    assert_int_equal(poller->timeout_ns, -1);
    assert_in_range(poller->waits, 1, 2);
    let_pass(*state, LOOP_CROWDED_NS, 0);
    poller->waits = 0;
    loop_turn(*state, true);
    assert_in_range(poller->waits, 45, 53);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_eighth_of_a_window_makes_a_crowd_for_a_while),
        cmocka_unit_test(a_kernel_that_does_not_count_makes_no_crowd),
        on_fake(a_loop_asks_once_a_window),
        on_fake(a_crowded_loop_sleeps_without_looking_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
